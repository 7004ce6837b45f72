//! Values as words and lists, laid out on one line where they fit and on
//! several where they do not.

use std::borrow::Cow;
use std::io;

use super::page::{Page, Role, columns};
use super::table::Grid;

/// A value ready to be laid out.
#[derive(Clone, Debug)]
pub(super) enum Doc<'a> {
    Word(Role, Cow<'a, str>),
    List(List<'a>),
}

#[derive(Clone, Debug)]
pub(super) struct List<'a> {
    pub(super) kind: ListKind,
    pub(super) items: Vec<Item<'a>>,
    /// The first items as a table, which takes their place where the list takes several lines.
    pub(super) grid: Option<Grid>,
    /// How many elements of an array have no item.
    pub(super) left_out: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListKind {
    /// `{a 1, b 2}` inside another value, `a 1   b 2` on its own.
    Fields,
    /// `[1, 2]`.
    Elements,
    /// `[0] {a 1}, [1..3] {a 2}`, or one on each line.
    Labelled,
    /// One on each line, with the values aligned.
    Variables,
    /// `a, b, c`.
    Names,
}

#[derive(Clone, Debug)]
pub(super) struct Item<'a> {
    /// Empty for none.
    pub(super) label: Cow<'a, str>,
    pub(super) doc: Doc<'a>,
}

/// How far what belongs to a line is moved in below it.
const STEP: usize = 4;

/// Labels longer than this do not align the others.
const MAX_LABEL: usize = 32;

impl<'a> Doc<'a> {
    pub(super) fn word(role: Role, text: impl Into<Cow<'a, str>>) -> Self {
        Self::Word(role, text.into())
    }

    /// The same without what it borrows.
    pub(super) fn into_owned(self) -> Doc<'static> {
        let list = match self {
            Self::Word(role, text) => return Doc::Word(role, text.into_owned().into()),
            Self::List(list) => list,
        };
        let items = list.items.into_iter().map(|item| Item {
            label: item.label.into_owned().into(),
            doc: item.doc.into_owned(),
        });
        Doc::List(List {
            kind: list.kind,
            items: items.collect(),
            grid: list.grid,
            left_out: list.left_out,
        })
    }

    /// All of it on one line, as plain text.
    pub(super) fn flat(&self) -> io::Result<String> {
        let mut text = Vec::new();
        let mut page = Page::new(&mut text, crate::Style::Plain, usize::MAX);
        self.write(&mut page, true)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Columns on one line, if they are no more than `limit`.
    pub(super) fn width(&self, limit: usize, nested: bool) -> Option<usize> {
        let width = match self {
            Self::Word(_, text) => columns(text),
            Self::List(list) => {
                if list.kind == ListKind::Variables {
                    return None;
                }
                let (open, close, separator) = list.kind.signs(nested);
                let mut width = open.len() + close.len();
                for (index, item) in list.items.iter().enumerate() {
                    if index > 0 {
                        width += separator.len();
                    }
                    width += item.width(limit.checked_sub(width)?)?;
                }
                width
            }
        };
        (width <= limit).then_some(width)
    }

    /// Everything on the current line.
    pub(super) fn write(&self, page: &mut Page<'_>, nested: bool) -> io::Result<()> {
        let list = match self {
            Self::Word(role, text) => return page.word(*role, text),
            Self::List(list) => list,
        };
        let (open, close, separator) = list.kind.signs(nested);
        page.left_out = page.left_out.saturating_add(list.left_out);
        page.plain(open)?;
        for (index, item) in list.items.iter().enumerate() {
            if index > 0 {
                page.plain(separator)?;
            }
            item.write(page, true)?;
        }
        page.plain(close)
    }

    /// Behind the current line, after so many blanks, if it fits; else on
    /// lines of its own below it.
    pub(super) fn write_below(
        &self,
        page: &mut Page<'_>,
        indent: usize,
        blanks: usize,
    ) -> io::Result<()> {
        let left = page.width.saturating_sub(page.column + blanks);
        match self {
            Self::List(list) if self.width(left, false).is_none() => {
                page.next_line(indent + STEP)?;
                list.write_block(page, indent + STEP)
            }
            _ => {
                page.space(blanks)?;
                self.write(page, false)
            }
        }
    }
}

impl Item<'_> {
    fn width(&self, limit: usize) -> Option<usize> {
        let label = match columns(&self.label) {
            0 => 0,
            label => label + 1,
        };
        let doc = self.doc.width(limit.checked_sub(label)?, true)?;
        Some(label + doc)
    }

    fn write(&self, page: &mut Page<'_>, nested: bool) -> io::Result<()> {
        if !self.label.is_empty() {
            page.word(Role::Name, &self.label)?;
            page.space(1)?;
        }
        self.doc.write(page, nested)
    }
}

impl ListKind {
    /// What stands before, behind and between the items.
    fn signs(self, nested: bool) -> (&'static str, &'static str, &'static str) {
        match (self, nested) {
            (Self::Fields, true) => ("{", "}", ", "),
            (Self::Fields | Self::Variables, _) => ("", "", "   "),
            (Self::Elements, _) => ("[", "]", ", "),
            (Self::Labelled | Self::Names, _) => ("", "", ", "),
        }
    }
}

impl List<'_> {
    /// The items on as many lines as they need. The current line is indented
    /// already, and the last one is not ended.
    pub(super) fn write_block(&self, page: &mut Page<'_>, indent: usize) -> io::Result<()> {
        page.left_out = page.left_out.saturating_add(self.left_out);
        match self.kind {
            ListKind::Labelled | ListKind::Variables => self.write_lines(page, indent),
            ListKind::Fields | ListKind::Elements | ListKind::Names => {
                self.write_packed(page, indent)
            }
        }
    }

    fn write_lines(&self, page: &mut Page<'_>, indent: usize) -> io::Result<()> {
        let mut items = self.items.as_slice();
        if let Some(grid) = &self.grid
            && indent + grid.width() <= page.width
        {
            grid.write(page, indent)?;
            items = items.get(grid.len()..).unwrap_or_default();
            if !items.is_empty() {
                page.next_line(indent)?;
            }
        }
        let labels = self.items.iter().map(|item| columns(&item.label));
        let aligned = labels.filter(|&label| label <= MAX_LABEL).max();
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                page.next_line(indent)?;
            }
            page.word(Role::Name, &item.label)?;
            let used = columns(&item.label);
            let blanks = match self.kind {
                _ if used == 0 => 0,
                ListKind::Variables => aligned.unwrap_or(0).saturating_sub(used) + 1,
                _ => 1,
            };
            item.doc.write_below(page, indent, blanks)?;
        }
        Ok(())
    }

    /// As many items on a line as fit.
    fn write_packed(&self, page: &mut Page<'_>, indent: usize) -> io::Result<()> {
        let (open, close, separator) = self.kind.signs(false);
        page.plain(open)?;
        let room = page.width.saturating_sub(indent);
        // Whether something stands on the line that the next item must be
        // kept apart from.
        let mut is_open = false;
        for (index, item) in self.items.iter().enumerate() {
            let width = item.width(room);
            if is_open {
                let left = page.width.saturating_sub(page.column + separator.len());
                match width {
                    Some(width) if width <= left => page.plain(separator)?,
                    _ => {
                        page.plain(separator.trim_end())?;
                        page.next_line(indent)?;
                    }
                }
            }
            match (&item.doc, width) {
                (Doc::List(list), None) => {
                    let mut indent_inside = indent;
                    if !item.label.is_empty() {
                        page.word(Role::Name, &item.label)?;
                        indent_inside += STEP;
                        page.next_line(indent_inside)?;
                    }
                    list.write_block(page, indent_inside)?;
                    if index + 1 < self.items.len() {
                        page.plain(separator.trim_end())?;
                        page.next_line(indent)?;
                    }
                    is_open = false;
                }
                _ => {
                    item.write(page, true)?;
                    is_open = true;
                }
            }
        }
        page.plain(close)
    }
}
