//! What a capture says of itself: an ELF note whose content is text.
//!
//! Lines of `KEY=VALUE`: `VERSION=1`, `SIZE=` the source's RAM in bytes,
//! `SOURCE=` the name of its [`Format`](crate::Format), `PAUSED_NS=` how long
//! the machine stood still for it (absent if it did anyway), `ROOT=` the root
//! table by which the kernel was found, if VMCOREINFO does not lead to it, and
//! any number of `FAULT=<start>-<end> <why>`, with `end` exclusive: memory that
//! could not be read when the capture was made. Addresses are hexadecimal
//! without `0x`. Other keys are passed over, so that a later version may add
//! some.

use std::fmt::Write;
use std::time::Duration;

use thiserror::Error;

use crate::absence::{Absence, AbsentRun, absence_at};
use crate::{Address, Cause, Gpa};

/// The version that this crate writes, and the highest that it reads.
const VERSION: u64 = 1;

/// What a capture says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureNote {
    size: u64,
    source: String,
    paused: Option<Duration>,
    root: Option<Gpa>,
    absent: Vec<AbsentRun>,
}

/// A capture's note that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CaptureNoteError {
    /// It is not text.
    #[error("the capture's note is not text")]
    NotText,
    /// A later version of this crate wrote it.
    #[error("version {version} of the capture's note is later than {VERSION}, the last one known")]
    Later {
        /// The version.
        version: u64,
    },
    /// A line that every capture has is missing.
    #[error("the capture's note has no {key}")]
    Absent {
        /// The key of the line.
        key: &'static str,
    },
    /// The value of a known key has no sense.
    #[error("line {line} of the capture's note is malformed")]
    Malformed {
        /// The line, counted from 1.
        line: usize,
    },
    /// Two runs hold the same address.
    #[error("the capture's note says twice why physical {gpa} is missing")]
    Overlap {
        /// The address.
        gpa: Gpa,
    },
}

impl CaptureNote {
    /// The name of the ELF note, without its NUL.
    pub const NAME: &'static str = "BPFREEZE";

    /// The type of the ELF note.
    pub const TYPE: u32 = 1;

    /// The note of a capture of a source with `size` bytes of RAM, of the
    /// format with this name, that stood `paused` for it.
    #[must_use]
    pub fn new(size: u64, source: &str, paused: Option<Duration>) -> Self {
        Self {
            size,
            source: source.to_owned(),
            paused,
            root: None,
            absent: Vec::new(),
        }
    }

    /// The same, with the root table by which the kernel was found.
    #[must_use]
    pub fn with_root(mut self, root: Option<Gpa>) -> Self {
        self.root = root;
        self
    }

    /// The same, with what could not be read.
    ///
    /// # Errors
    ///
    /// If two runs overlap.
    pub fn with_absent(mut self, mut runs: Vec<AbsentRun>) -> Result<Self, CaptureNoteError> {
        runs.retain(|run| run.start < run.end);
        runs.sort_by_key(|run| run.start);
        let mut last = Gpa::at(0);
        for run in &runs {
            if run.start < last {
                return Err(CaptureNoteError::Overlap { gpa: run.start });
            }
            last = run.end;
        }
        self.absent = runs;
        Ok(self)
    }

    /// How many bytes of RAM the source has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The name of the source's format.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// How long the machine stood still for the capture, if it ran before.
    #[must_use]
    pub fn paused(&self) -> Option<Duration> {
        self.paused
    }

    /// The root table by which the kernel was found, if it is needed.
    #[must_use]
    pub fn root(&self) -> Option<Gpa> {
        self.root
    }

    /// What could not be read, by address.
    #[must_use]
    pub fn absent(&self) -> &[AbsentRun] {
        &self.absent
    }

    /// Why `gpa`, which is not in the capture, is not.
    #[must_use]
    pub fn cause(&self, gpa: Gpa) -> Cause {
        let why = absence_at(&self.absent, gpa);
        why.unwrap_or(Absence::Excluded).cause(gpa)
    }

    /// The content of the ELF note.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { size, source, .. } = self;
        let mut text = format!("VERSION={VERSION}\nSIZE={size}\nSOURCE={source}\n");
        // Writing to a string does not fail.
        if let Some(paused) = self.paused {
            let _ = writeln!(text, "PAUSED_NS={}", paused.as_nanos());
        }
        if let Some(root) = self.root {
            let _ = writeln!(text, "ROOT={:x}", root.get());
        }
        for AbsentRun { start, end, why } in &self.absent {
            let _ = writeln!(
                text,
                "FAULT={:x}-{:x} {}",
                start.get(),
                end.get(),
                why.name()
            );
        }
        text
    }

    /// Reads the content of the ELF note.
    ///
    /// # Errors
    ///
    /// A version that is not known, or text that makes no sense.
    pub fn parse(text: &[u8]) -> Result<Self, CaptureNoteError> {
        let text = str::from_utf8(text).map_err(|_invalid| CaptureNoteError::NotText)?;
        let (mut version, mut size, mut source) = (None, None, None);
        let (mut paused, mut root, mut absent) = (None, None, Vec::new());
        for (index, line) in text.trim_end_matches('\0').lines().enumerate() {
            let malformed = CaptureNoteError::Malformed { line: index + 1 };
            let (key, value) = line.split_once('=').ok_or(malformed.clone())?;
            let number = || value.parse::<u64>().map_err(|_invalid| malformed.clone());
            match key {
                "VERSION" => match number()? {
                    VERSION => version = Some(VERSION),
                    version => return Err(CaptureNoteError::Later { version }),
                },
                "SIZE" => size = Some(number()?),
                "SOURCE" if is_name(value) => source = Some(value.to_owned()),
                "SOURCE" => return Err(malformed),
                "PAUSED_NS" => paused = Some(Duration::from_nanos(number()?)),
                "ROOT" => root = Some(address(value).ok_or(malformed)?),
                "FAULT" => absent.push(absent_run(value).ok_or(malformed)?),
                _ => {}
            }
        }
        let absent_key = |key| CaptureNoteError::Absent { key };
        version.ok_or(absent_key("VERSION"))?;
        Self {
            size: size.ok_or(absent_key("SIZE"))?,
            source: source.ok_or(absent_key("SOURCE"))?,
            paused,
            root,
            absent: Vec::new(),
        }
        .with_absent(absent)
    }
}

/// A name is shown as it stands.
fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=32).contains(&text.len()) && text.bytes().all(fits)
}

fn address(text: &str) -> Option<Gpa> {
    u64::from_str_radix(text, 16).ok().map(Gpa::new)
}

fn absent_run(text: &str) -> Option<AbsentRun> {
    let (run, why) = text.split_once(' ')?;
    let (start, end) = run.split_once('-')?;
    let run = AbsentRun {
        start: address(start)?,
        end: address(end)?,
        why: Absence::named(why)?,
    };
    (run.start < run.end).then_some(run)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(start: u64, end: u64, why: Absence) -> AbsentRun {
        let (start, end) = (Gpa::new(start), Gpa::new(end));
        AbsentRun { start, end, why }
    }

    #[test]
    fn what_is_written_is_read() {
        let runs = Absence::ALL.into_iter().zip((0x1000..).step_by(0x2000));
        let runs: Vec<_> = runs
            .map(|(why, start)| run(start, start + 0x1000, why))
            .collect();
        for paused in [None, Some(Duration::from_nanos(3_141_592))] {
            let note = CaptureNote::new(1 << 30, "qmp", paused);
            let note = note.with_root(paused.map(|_| Gpa::at(0x1000)));
            let note = note.with_absent(runs.clone()).unwrap();
            assert_eq!(CaptureNote::parse(note.to_text().as_bytes()), Ok(note));
        }
    }

    #[test]
    fn what_is_missing_says_why() {
        let runs = vec![
            run(0x3000, 0x4000, Absence::Unbacked),
            run(0x1000, 0x3000, Absence::Late),
        ];
        let note = CaptureNote::new(0, "raw", None).with_absent(runs).unwrap();
        let check = |gpa, why: Absence| {
            let gpa = Gpa::new(gpa);
            assert_eq!(note.cause(gpa), why.cause(gpa));
            assert_eq!(Absence::of(note.cause(gpa)), why);
        };
        check(0xfff, Absence::Excluded);
        check(0x1000, Absence::Late);
        check(0x2fff, Absence::Late);
        check(0x3000, Absence::Unbacked);
        check(0x4000, Absence::Excluded);
    }

    #[test]
    fn texts_that_make_no_sense_are_refused() {
        let check = |text: &str, expected: &str| {
            let error = CaptureNote::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text:?}");
        };
        let head = "VERSION=1\nSIZE=4096\nSOURCE=raw\n";
        check("", "the capture's note has no VERSION");
        check("VERSION=1\n", "the capture's note has no SIZE");
        check(
            "VERSION=2\nSIZE=ten\n",
            "version 2 of the capture's note is later than 1, the last one known",
        );
        check(
            "VERSION=1\nSIZE=-1\n",
            "line 2 of the capture's note is malformed",
        );
        check(
            "VERSION=1\nSOURCE=\x1b[2J\n",
            "line 2 of the capture's note is malformed",
        );
        for fault in [
            "1000",
            "1000-2000",
            "1000-2000 gone",
            "2000-1000 late",
            "x-y late",
        ] {
            check(
                &format!("{head}FAULT={fault}\n"),
                "line 4 of the capture's note is malformed",
            );
        }
        check(
            &format!("{head}FAULT=0-2000 late\nFAULT=1000-3000 late\n"),
            "the capture's note says twice why physical 0x1000 is missing",
        );
        let later_key = format!("{head}COLOUR=green\n\0\0");
        assert!(CaptureNote::parse(later_key.as_bytes()).is_ok());
        assert_eq!(CaptureNote::parse(b"\xff"), Err(CaptureNoteError::NotText));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_note_or_an_error(bytes: Vec<u8>, cut in 0usize..120) {
            let _ = CaptureNote::parse(&bytes);
            let run = run(0x1000, 0x2000, Absence::Damaged);
            let note = CaptureNote::new(1, "elf", Some(Duration::MAX)).with_absent(vec![run]);
            let mut text = note.unwrap().to_text().into_bytes();
            text.truncate(cut);
            text.extend(bytes);
            let _ = CaptureNote::parse(&text);
        }
    }
}
