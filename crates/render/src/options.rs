//! What a caller chooses, and what it learns at the end.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use crate::Wanted;
use crate::walk::{Described, Visited};

/// How output is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people: short, aligned, zeros and repetitions folded, the ends of
    /// long arrays only counted.
    #[default]
    Text,
    /// One document, as the schema in the repository defines it.
    Json,
    /// The same in lines: each map, entry and end of a map is one object.
    Jsonl,
    /// What `bpftool -j` prints.
    Bpftool,
}

/// A text that names no [`Format`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no format: text, json, jsonl or bpftool")]
pub struct ParseFormatError {
    text: String,
}

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "text" => Self::Text,
            "json" => Self::Json,
            "jsonl" => Self::Jsonl,
            "bpftool" => Self::Bpftool,
            _ => {
                return Err(ParseFormatError {
                    text: text.to_owned(),
                });
            }
        })
    }
}

/// Whether text is coloured. Whether the output is a terminal is for the
/// caller to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Letters only.
    #[default]
    Plain,
    /// With ANSI colours.
    Ansi,
}

/// Where a dump was read from, as JSON states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What it is, such as `raw` or `live`.
    pub kind: String,
    /// More about it by name, such as `file`.
    pub details: Vec<(String, String)>,
    /// How long a machine stood still for it that runs again.
    pub paused: Option<Duration>,
}

impl Source {
    /// A source of this kind, of which nothing more is told.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self {
            kind: kind.to_owned(),
            details: Vec::new(),
            paused: None,
        }
    }

    /// The same with one more detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.details.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, for which a machine stood still so long.
    #[must_use]
    pub fn paused(mut self, paused: Option<Duration>) -> Self {
        self.paused = paused;
        self
    }
}

/// How much a dump follows pointers, all of them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Objects; 0 for not following pointers.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

impl Budget {
    /// Nothing is followed.
    pub const NONE: Self = Self {
        objects: 0,
        bytes: 0,
    };
}

impl Default for Budget {
    /// A million objects, or 256 MiB of them.
    fn default() -> Self {
        Self {
            objects: 1_000_000,
            bytes: 256 << 20,
        }
    }
}

/// What is written of the pages of an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArenaPages {
    /// Which of them exist.
    #[default]
    Listed,
    /// Their bytes, too.
    Bytes,
    /// Nothing is read of them: no allocators and variables in them, and no
    /// pointers into them.
    Unread,
}

/// How to render.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The format.
    pub format: Format,
    /// How many entries of each map to render at most.
    pub limit: Option<u64>,
    /// Colours of text.
    pub style: Style,
    /// Columns that text tries to stay within.
    pub width: usize,
    /// Where the maps come from.
    pub source: Source,
    /// The maps that are there as inner maps of another, and which that is.
    pub inner_of: BTreeMap<u32, u32>,
    /// Which allocators in arenas, and which slots of them.
    pub wanted: Wanted,
    /// The types that payloads of allocators have: the symbol of the
    /// allocator, and the struct.
    pub types: Vec<(String, String)>,
    /// How much pointers are followed.
    pub follow: Budget,
    /// What of the pages of arenas.
    pub arena_pages: ArenaPages,
}

impl Options {
    /// All entries, as plain text 100 columns wide.
    #[must_use]
    pub fn new(source: Source) -> Self {
        Self {
            format: Format::Text,
            limit: None,
            style: Style::Plain,
            width: 100,
            source,
            inner_of: BTreeMap::new(),
            wanted: Wanted::default(),
            types: Vec::new(),
            follow: Budget::default(),
            arena_pages: ArenaPages::default(),
        }
    }
}

/// What was rendered.
#[derive(Debug, Default)]
#[must_use = "a dump may be incomplete"]
pub struct Outcome {
    /// How many entries of all maps.
    pub entries: u64,
    /// How many things could not be read, in the list of maps and in the maps.
    pub gaps: u64,
    /// The maps of which the limit left entries out.
    pub limited: Vec<u32>,
    /// The maps that could not be read, or whose types or state could not, and
    /// why.
    pub errors: Vec<(u32, bpfmaps::Error)>,
    /// Why the programs that use the maps could not be listed.
    pub progs_error: Option<bpfmaps::Error>,
    /// The maps for whose contents the format has no place.
    pub unplaced: Vec<u32>,
    /// The names of all allocators in arenas, if nothing is there of what was
    /// asked for.
    pub instead: Option<Vec<String>>,
}

impl Outcome {
    /// Whether everything that was asked for is there: a limit is not a lack.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gaps == 0
            && self.errors.is_empty()
            && self.progs_error.is_none()
            && self.unplaced.is_empty()
    }

    pub(crate) fn add_gaps(&mut self, walk: &bpfmaps::Walk) {
        let gaps = (walk.gaps.len() as u64).saturating_add(walk.unlisted_gaps);
        self.gaps = self.gaps.saturating_add(gaps);
    }

    pub(crate) fn add(&mut self, map: Described<'_>, visited: Visited) {
        let id = map.info.id;
        self.entries = self.entries.saturating_add(visited.count);
        if visited.limited {
            self.limited.push(id);
        }
        self.gaps = self.gaps.saturating_add(visited.gaps());
        self.errors.extend(map.btf_error.map(|error| (id, error)));
        self.errors.extend(map.state.err().map(|error| (id, error)));
        self.errors
            .extend(visited.result.err().map(|error| (id, error)));
    }
}
