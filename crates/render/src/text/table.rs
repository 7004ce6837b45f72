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
        for row in &rows {
            for (widest, cell) in self.widths.iter_mut().zip(&row.cells) {
                *widest = (*widest).max(columns(&cell.text));
            }
        }
        let titles = self.columns.iter().map(|column| Cell {
            role: Role::Name,
            text: column.title.clone().into_owned(),
        });
        let titles = Row {
            cells: titles.collect(),
            note: None,
        };
        self.write_row(page, &titles)?;
        rows.iter().try_for_each(|row| self.write_row(page, row))
    }

    fn write_row(&self, page: &mut Page<'_>, row: &Row) -> io::Result<()> {
        // Blanks are owed until something follows them.
        let mut owed = self.indent;
        let layout = self.columns.iter().zip(&self.widths);
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
        page.end_line()
    }
}

fn width(title: &str) -> usize {
    columns(title)
}
