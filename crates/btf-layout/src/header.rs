//! The header: where the sections are.

use std::ops::Range;

use crate::Error;
use crate::btf::u32_at;

/// The sections, as ranges of the BTF's bytes that are known to exist.
pub(crate) struct Header {
    pub(crate) types: Range<usize>,
    pub(crate) strings: Range<usize>,
    /// For each kind, the size of what follows a type's fixed part; empty in
    /// BTF that does not carry it.
    layouts: Range<usize>,
}

/// Bytes of the header that every version has.
const MIN_HEADER: u32 = 24;

/// Bytes of one entry of the layout section.
const LAYOUT: usize = 4;

impl Header {
    pub(crate) fn parse(data: &[u8], origin: &str) -> Result<Self, Error> {
        let unsupported = |what| Error::Unsupported {
            what,
            origin: origin.to_owned(),
        };
        let malformed = |offset, what| Error::Malformed {
            what,
            offset,
            origin: origin.to_owned(),
        };
        match data {
            [0x9f, 0xeb, 1, ..] => {}
            [0x9f, 0xeb, ..] => return Err(unsupported("its version is not 1")),
            [0xeb, 0x9f, ..] => return Err(unsupported("it is big-endian")),
            _ => return Err(unsupported("it does not start with the magic number")),
        }
        let word = |at| u32_at(data, at).ok_or_else(|| malformed(0, "the header is cut off"));
        let len = word(4)?;
        if len < MIN_HEADER {
            return Err(malformed(4, "the header is too short"));
        }
        let section = |at: usize, what| {
            let start = u64::from(len) + u64::from(word(at)?);
            let end = start + u64::from(word(at + 4)?);
            match (usize::try_from(start), usize::try_from(end)) {
                (Ok(start), Ok(end)) if end <= data.len() => Ok(start..end),
                _ => Err(malformed(at as u64, what)),
            }
        };
        Ok(Self {
            types: section(8, "the types reach past the end")?,
            strings: section(16, "the strings reach past the end")?,
            layouts: match len {
                32.. => section(24, "the kinds' layouts reach past the end")?,
                _ => 0..0,
            },
        })
    }

    /// How many bytes follow the fixed part of a type of this kind: a number
    /// of bytes, and bytes for each of its `vlen` items. `None` if this BTF
    /// does not say.
    pub(crate) fn layout_of(&self, data: &[u8], kind: u8) -> Option<(u32, u32)> {
        let table = data.get(self.layouts.clone())?;
        let entry = table.chunks_exact(LAYOUT).nth(usize::from(kind))?;
        let [fixed, each, ..] = entry.first_chunk::<LAYOUT>()?;
        Some((u32::from(*fixed), u32::from(*each)))
    }
}
