//! Makes ELF cores by hand.

use std::io::Write;

use guestmem::{Image, OpenError};
use tempfile::NamedTempFile;

/// Bytes of the ELF header and of a program or section header.
pub(crate) const EHDR: usize = 64;
pub(crate) const PHDR: usize = 56;
const SHDR: usize = 64;

/// A loadable segment.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) gpa: u64,
    pub(crate) bytes: Vec<u8>,
    /// How many bytes it has in memory.
    pub(crate) in_memory: u64,
    pub(crate) kva: u64,
}

/// A segment of these bytes.
pub(crate) fn load(gpa: u64, bytes: &[u8]) -> Load {
    Load {
        gpa,
        bytes: bytes.to_vec(),
        in_memory: bytes.len() as u64,
        kva: 0,
    }
}

/// An ELF core: header, notes, program headers, memory, in this order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Core {
    pub(crate) loads: Vec<Load>,
    pub(crate) notes: Vec<u8>,
    /// Whether the number of segments is in a section header.
    pub(crate) xnum: bool,
}

impl Core {
    pub(crate) fn new(loads: impl IntoIterator<Item = Load>) -> Self {
        Self {
            loads: loads.into_iter().collect(),
            ..Self::default()
        }
    }

    pub(crate) fn note(mut self, name: &str, kind: u32, content: &[u8]) -> Self {
        let words = [name.len() + 1, content.len(), kind as usize];
        for word in words {
            self.notes
                .extend(u32::try_from(word).unwrap().to_le_bytes());
        }
        self.notes.extend(name.as_bytes());
        self.notes.push(0);
        self.pad();
        self.notes.extend(content);
        self.pad();
        self
    }

    fn pad(&mut self) {
        let padded = self.notes.len().next_multiple_of(4);
        self.notes.resize(padded, 0);
    }

    /// Where the program headers are.
    pub(crate) fn table_at(&self) -> usize {
        let section = if self.xnum { SHDR } else { 0 };
        EHDR + section + self.notes.len()
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let headers = self.loads.len() + 1;
        let table = self.table_at();
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        for half in [4u16, 62] {
            file.extend(half.to_le_bytes());
        }
        file.extend(1u32.to_le_bytes());
        let sections = if self.xnum { EHDR } else { 0 };
        for word in [0, table, sections] {
            file.extend((word as u64).to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        let count = if self.xnum { 0xffff } else { headers };
        for half in [EHDR, PHDR, count, SHDR, usize::from(self.xnum), 0] {
            file.extend(u16::try_from(half).unwrap().to_le_bytes());
        }
        if self.xnum {
            let mut section = [0; SHDR];
            let count = u32::try_from(headers).unwrap();
            section[44..48].copy_from_slice(&count.to_le_bytes());
            file.extend(section);
        }
        let notes_at = file.len();
        file.extend(&self.notes);
        let mut header = |kind: u32, words: [u64; 6]| {
            file.extend(kind.to_le_bytes());
            file.extend(0u32.to_le_bytes());
            for word in words {
                file.extend(word.to_le_bytes());
            }
        };
        let len = self.notes.len() as u64;
        header(4, [notes_at as u64, 0, 0, len, 0, 0]);
        let mut offset = (table + headers * PHDR) as u64;
        for load in &self.loads {
            let len = load.bytes.len() as u64;
            header(1, [offset, load.kva, load.gpa, len, load.in_memory, 0]);
            offset += len;
        }
        for load in &self.loads {
            file.extend(&load.bytes);
        }
        file
    }

    pub(crate) fn open(&self) -> Result<Image, OpenError> {
        open(&self.build())
    }
}

/// Opens a file of these bytes, which lives as long as the image needs it.
pub(crate) fn open(bytes: &[u8]) -> Result<Image, OpenError> {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    Image::open(file.path())
}

/// The error and its causes, without the name of the file.
pub(crate) fn refusal(bytes: &[u8]) -> String {
    let error = open(bytes).unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let words = text.split(' ').filter(|word| !word.starts_with('/'));
    words.collect::<Vec<_>>().join(" ")
}

/// What `info` tells under this name.
pub(crate) fn fact<'i>(image: &'i Image, name: &str) -> Option<&'i str> {
    let facts = image.facts().iter();
    let mut named = facts.filter(|(of, _)| *of == name);
    named.next().map(|(_, text)| text.as_str())
}
