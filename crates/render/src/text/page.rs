//! Where text goes: colours, the column that was reached, and the width.

use std::io::{self, Write};

use crate::Style;

/// What a word is, which decides its colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Plain,
    /// What a paragraph is about.
    Title,
    /// The name of a field, variable or column.
    Name,
    /// Text out of the value.
    Text,
    Address,
    /// What matters less, such as what is folded away.
    Faint,
    /// What is missing or wrong.
    Problem,
}

impl Role {
    /// The ANSI sequence that starts the colour.
    fn start(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Title => Some("\x1b[1m"),
            Self::Name => Some("\x1b[36m"),
            Self::Text => Some("\x1b[32m"),
            Self::Address => Some("\x1b[33m"),
            Self::Faint => Some("\x1b[2m"),
            Self::Problem => Some("\x1b[31m"),
        }
    }
}

const END: &str = "\x1b[0m";

/// The output of all text.
pub(super) struct Page<'o> {
    out: &'o mut dyn Write,
    style: Style,
    pub(super) width: usize,
    /// How many columns of the current line are used.
    pub(super) column: usize,
    /// How many elements of arrays were left out since this was taken.
    pub(super) left_out: u64,
}

impl<'o> Page<'o> {
    pub(super) fn new(out: &'o mut dyn Write, style: Style, width: usize) -> Self {
        Self {
            out,
            style,
            width,
            column: 0,
            left_out: 0,
        }
    }

    /// Writes a piece of a line. Names come from the kernel that is read, and
    /// must not command the terminal: control characters are replaced.
    pub(super) fn word(&mut self, role: Role, text: &str) -> io::Result<()> {
        let replaced;
        let text = match text.chars().any(char::is_control) {
            true => {
                replaced = text.replace(char::is_control, "\u{fffd}");
                &replaced
            }
            false => text,
        };
        self.column += columns(text);
        match role.start().filter(|_| self.style == Style::Ansi) {
            Some(start) => {
                self.out.write_all(start.as_bytes())?;
                self.out.write_all(text.as_bytes())?;
                self.out.write_all(END.as_bytes())
            }
            None => self.out.write_all(text.as_bytes()),
        }
    }

    pub(super) fn plain(&mut self, text: &str) -> io::Result<()> {
        self.word(Role::Plain, text)
    }

    /// Writes blanks.
    pub(super) fn space(&mut self, count: usize) -> io::Result<()> {
        self.column += count;
        write!(self.out, "{:count$}", "")
    }

    /// Ends the line.
    pub(super) fn end_line(&mut self) -> io::Result<()> {
        self.column = 0;
        self.out.write_all(b"\n")
    }

    /// Ends the line and begins the next one.
    pub(super) fn next_line(&mut self, indent: usize) -> io::Result<()> {
        self.end_line()?;
        self.space(indent)
    }

    /// A whole line.
    pub(super) fn line(&mut self, indent: usize, role: Role, text: &str) -> io::Result<()> {
        self.space(indent)?;
        self.word(role, text)?;
        self.end_line()
    }
}

/// How many columns a text takes, to a good approximation.
pub(super) fn columns(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => text.chars().count(),
    }
}
