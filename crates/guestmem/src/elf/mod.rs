//! ELF cores: what QEMU's `dump-guest-memory`, kdump's `/proc/vmcore`,
//! `virsh dump --memory-only` and captures write.
//!
//! Its loadable segments say which part of the file lies where in physical
//! memory, its notes what the machine or the dumper had to say. Fields are by
//! the System V ABI, the contents of notes by who writes them.

pub(crate) mod headers;
mod memory;
pub(crate) mod notes;

use std::fs::File;
use std::path::Path;
use std::rc::Rc;

use thiserror::Error;

use self::headers::Headers;
use self::memory::ElfCore;
use self::notes::Notes;
use crate::open::mib;
use crate::{CaptureNoteError, Format, Image, OpenError, RawImage};

/// What is the matter with an ELF core.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ElfError {
    /// Only 64-bit ones are read.
    #[error("it is a 32-bit one: only those of 64-bit machines are read")]
    Not64Bit,
    /// Only little-endian ones are read.
    #[error("it is a big-endian one: only those of little-endian machines are read")]
    BigEndian,
    /// A part of its headers is beyond its end, or makes no sense.
    #[error("its {what} {problem}")]
    Header {
        /// Which part.
        what: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// It has more segments than any machine's.
    #[error("it claims {count} segments, more than {most}")]
    TooMany {
        /// How many it claims.
        count: u64,
        /// How many are read.
        most: u64,
    },
    /// A segment is where no machine has memory.
    #[error("segment {index} ends beyond all physical memory, at {start:#x} + {len:#x}")]
    PastSpace {
        /// Which of them, from 0.
        index: u64,
        /// Its first physical address.
        start: u64,
        /// How long it is in memory.
        len: u64,
    },
    /// It has no memory.
    #[error("it has no segment with memory in it")]
    NoMemory,
    /// Its segments have virtual addresses only.
    #[error("it is a process's, not a machine's: it has no physical addresses")]
    Process,
    /// The note that a capture left in it is of no use.
    #[error(transparent)]
    Capture(#[from] CaptureNoteError),
}

/// Opens the ELF core in `file`, which is, or came out of, the one at `path`.
pub(crate) fn open(file: File, len: u64, path: &Path) -> Result<Image, OpenError> {
    let refuse = |source| OpenError::Elf {
        path: path.to_owned(),
        source,
    };
    let headers = Headers::read(&file, len).map_err(refuse)?;
    let notes = Notes::read(&file, len, &headers.notes).map_err(refuse)?;
    let segments = headers.loads.len();
    let cut = headers.loads.iter().filter(|load| load.is_cut(len)).count();
    let file = RawImage::new(file, len, path)?;
    let format = match &notes.capture {
        Some(_) => Format::Capture,
        None => Format::Elf,
    };
    let facts = notes.facts();
    let core = ElfCore::new(&file, headers.loads, notes.capture);
    let held = core.held();
    let mut image = Image::new(format, Rc::new(core))
        .with_vmcoreinfo(notes.vmcoreinfo)
        .with_roots(notes.roots)
        .with_fact("segments", format!("{segments} with {}", mib(held)));
    if cut > 0 {
        let text = format!("the file ends before {cut} of its segments do");
        image = image.with_fact("incomplete", text);
    }
    for (name, text) in facts {
        image = image.with_fact(name, text);
    }
    Ok(image)
}
