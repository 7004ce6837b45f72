//! kdump files: what makedumpfile, QEMU's `dump-guest-memory` and
//! `virsh dump --memory-only` write when asked to compress.
//!
//! A file is a header, a second header, two bitmaps (pages that exist, pages
//! that were dumped), a descriptor for each dumped page, and the pages, each
//! compressed by itself. It may be *flattened*: a stream of records that say
//! where in the file their bytes belong, made for pipes. And it may be *split*
//! into files that hold a range of pages each.
//!
//! The format is makedumpfile's (`IMPLEMENTATION`, `diskdump_mod.h`); a page
//! that the dumper left out is [`Cause::Excluded`](crate::Cause::Excluded),
//! one that does not unpack [`Cause::Damaged`](crate::Cause::Damaged).

mod bitmap;
mod cache;
mod header;
mod lzo;
mod memory;
mod split;
mod stream;
mod unpack;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use thiserror::Error;

use self::header::Header;
use self::memory::{KdumpMemory, Part};
use self::stream::Stream;
use crate::elf::notes::{MOST_BYTES, Notes};
use crate::open::mib;
use crate::{Format, Image, OpenError, PhysicalMemory};

/// Why a kdump file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KdumpError {
    /// A structure is not there.
    #[error("its {what} cannot be read")]
    Cut {
        /// Which one.
        what: &'static str,
    },
    /// The machine stored its numbers the other way round.
    #[error("it is of a big-endian machine, which is not read")]
    BigEndian,
    /// It was made by a 32-bit program.
    #[error("it is of a 32-bit kernel, which is not read")]
    Not64Bit,
    /// A header of a later version.
    #[error("its header is of version {version}, and 6 is the last that is known")]
    Version {
        /// The version.
        version: u32,
    },
    /// A number in a header cannot be true.
    #[error("its header states a {what} of {value:#x}")]
    Nonsense {
        /// Of what.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A record of a flattened file cannot be true.
    #[error("its record at {at:#x} makes no sense")]
    Record {
        /// Where it is.
        at: u64,
    },
    /// A flattened file is too long to be read as it is.
    #[error("it is flattened into more than {most} records")]
    TooManyRecords {
        /// How many are taken.
        most: usize,
    },
    /// A file of a split dump is not there.
    #[error(
        "it is one of the files that a dump was split into, and none beside it has the pages \
         {:#x} to {:#x}",
        pages.start,
        pages.end.saturating_sub(1)
    )]
    Missing {
        /// The numbers of the first pages that are missing.
        pages: Range<u64>,
    },
}

impl KdumpError {
    fn nonsense(what: &'static str, value: u64) -> Self {
        Self::Nonsense { what, value }
    }
}

/// Opens `file`, which has `len` bytes and is, or came out of, the one at
/// `path`, as a kdump file. The other files of a split dump are looked for
/// beside it.
///
/// # Errors
///
/// What the operating system says, or what is the matter with the headers.
pub(crate) fn open(file: File, len: u64, path: &Path) -> Result<Image, OpenError> {
    let refused = |source| OpenError::Kdump {
        path: path.to_owned(),
        source,
    };
    let stream = Stream::new(file, len).map_err(|source| OpenError::Io {
        operation: "map",
        path: path.to_owned(),
        source,
    })?;
    let stream = stream.map_err(refused)?;
    let header = Header::read(&stream).map_err(refused)?;
    let mut notes = Notes::default();
    let read = bytes(&stream, header.notes.as_ref());
    // Memory is there without them; a capture's are in no dump.
    let _ = notes.parse(&read.unwrap_or_default());
    let vmcoreinfo = bytes(&stream, header.vmcoreinfo.as_ref()).or(notes.vmcoreinfo.take());
    let mut parts = Vec::new();
    if header.split.is_some() {
        parts = split::siblings(path, &header);
    }
    parts.insert(0, Part { stream, header });
    let facts = facts(&parts);
    let memory = KdumpMemory::new(parts).map_err(refused)?;
    if let Some(pages) = memory.missing() {
        return Err(refused(KdumpError::Missing { pages }));
    }
    let dumped = format!("{} of {}", mib(memory.dumped()), mib(memory.size()));
    let mut image = Image::new(Format::Kdump, Rc::new(memory))
        .with_fact("dumped", dumped)
        .with_vmcoreinfo(vmcoreinfo)
        .with_roots(std::mem::take(&mut notes.roots));
    for (name, text) in facts.into_iter().chain(notes.facts()) {
        image = image.with_fact(name, text);
    }
    Ok(image)
}

/// What is worth telling of the files.
fn facts(parts: &[Part]) -> Vec<(&'static str, String)> {
    let mut form = Vec::new();
    if parts.iter().any(|part| part.stream.is_flattened()) {
        form.push("flattened".to_owned());
    }
    if let 2.. = parts.len() {
        form.push(format!("split into {} files", parts.len()));
    }
    let mut facts = Vec::new();
    if !form.is_empty() {
        facts.push(("form", form.join(", ")));
    }
    if parts.iter().any(|part| part.stream.is_cut()) {
        facts.push((
            "incomplete",
            "the file ends before its last record does".to_owned(),
        ));
    }
    facts
}

/// This part of the file, if there is one and the file has all of it.
fn bytes(stream: &Stream, place: Option<&Range<u64>>) -> Option<Vec<u8>> {
    let len = place?.end.checked_sub(place?.start)?;
    let len = usize::try_from(len).ok().filter(|_| len <= MOST_BYTES)?;
    let mut bytes = vec![0; len];
    stream.read(place?.start, &mut bytes).ok()?;
    Some(bytes)
}

/// The field at `at`.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}
