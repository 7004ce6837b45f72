//! Rows in columns, written while they come: the first rows decide the
//! widths, and later ones that need more push their line to the right.

use std::borrow::Cow;
use std::io;

use super::page::{Page, Role, columns};

/// How many rows are held back to learn the widths from.
const HELD: usize = 64;

/// Between two columns.
const GAP: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) title: Cow<'static, str>,
    pub(super) align: Align,
    /// The width that its cells are likely to have.
    pub(super) likely: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) role: Role,
    pub(super) text: String,
}

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) cells: Vec<Cell>,
    /// What is said behind the cells.
    pub(super) note: Option<String>,
}

pub(super) struct Table {
    columns: Vec<Column>,
    widths: Vec<usize>,
    /// `None` once the widths are settled.
    held: Option<Vec<Row>>,
    indent: usize,
}

impl Table {
    pub(super) fn new(columns: Vec<Column>, indent: usize) -> Self {
        Self {
            widths: columns.iter().map(|column| width(&column.title)).collect(),
            columns,
            held: Some(Vec::new()),
            indent,
        }
    }

    /// The width that the table is likely to have.
    pub(super) fn likely_width(columns: &[Column]) -> usize {
        let widths = columns
            .iter()
            .map(|column| width(&column.title).max(column.likely) + GAP);
        widths.sum()
    }

    pub(super) fn push(&mut self, page: &mut Page<'_>, row: Row) -> io::Result<()> {
        match &mut self.held {
            Some(held) => {
                held.push(row);
                match held.len() < HELD {
                    true => Ok(()),
                    false => self.settle(page),
                }
            }
            None => self.write_row(page, &row),
        }
    }

    /// Writes what is held back.
    pub(super) fn settle(&mut self, page: &mut Page<'_>) -> io::Result<()> {
        let Some(rows) = self.held.take().filter(|rows| !rows.is_empty()) else {
            return Ok(());
        };
        widen(&mut self.widths, &rows);
        self.write_row(page, &titles(&self.columns))?;
        rows.iter().try_for_each(|row| self.write_row(page, row))
    }

    fn write_row(&self, page: &mut Page<'_>, row: &Row) -> io::Result<()> {
        write_cells(page, self.indent, &self.columns, &self.widths, row)?;
        page.end_line()
    }
}

/// A table inside a value, all of whose rows are known.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    columns: Vec<Column>,
    widths: Vec<usize>,
    rows: Vec<Row>,
}

impl Grid {
    pub(super) fn new(columns: Vec<Column>, rows: Vec<Row>) -> Self {
        let mut widths: Vec<usize> = columns.iter().map(|column| width(&column.title)).collect();
        widen(&mut widths, &rows);
        Self {
            columns,
            widths,
            rows,
        }
    }

    /// How many rows it has, its titles apart.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The columns of the page that it takes.
    pub(super) fn width(&self) -> usize {
        self.widths.iter().sum::<usize>() + GAP * self.widths.len().saturating_sub(1)
    }

    /// Its lines. The first one is indented already, and the last one is not ended.
    pub(super) fn write(&self, page: &mut Page<'_>, indent: usize) -> io::Result<()> {
        write_cells(page, 0, &self.columns, &self.widths, &titles(&self.columns))?;
        for row in &self.rows {
            page.end_line()?;
            write_cells(page, indent, &self.columns, &self.widths, row)?;
        }
        Ok(())
    }
}

fn titles(columns: &[Column]) -> Row {
    let titles = columns.iter().map(|column| Cell {
        role: Role::Name,
        text: column.title.clone().into_owned(),
    });
    Row {
        cells: titles.collect(),
        note: None,
    }
}

fn widen(widths: &mut [usize], rows: &[Row]) {
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(&row.cells) {
            *widest = (*widest).max(columns(&cell.text));
        }
    }
}

/// A row on the current line, after so many blanks.
fn write_cells(
    page: &mut Page<'_>,
    blanks: usize,
    layout: &[Column],
    widths: &[usize],
    row: &Row,
) -> io::Result<()> {
    // Blanks are owed until something follows them.
    let mut owed = blanks;
    let layout = layout.iter().zip(widths);
    for ((column, &width), cell) in layout.zip(&row.cells) {
        let fill = width.saturating_sub(columns(&cell.text));
        let (before, behind) = match column.align {
            Align::Left => (0, fill),
            Align::Right => (fill, 0),
        };
        owed += before;
        if cell.text.is_empty() {
            owed += behind;
        } else {
            page.space(owed)?;
            page.word(cell.role, &cell.text)?;
            owed = behind;
        }
        owed += GAP;
    }
    if let Some(note) = &row.note {
        page.space(owed)?;
        page.word(Role::Problem, note)?;
    }
    Ok(())
}

fn width(title: &str) -> usize {
    columns(title)
}
