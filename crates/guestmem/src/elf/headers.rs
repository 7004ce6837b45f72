//! The ELF header and the program headers.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::ElfError;

/// Bytes of the ELF header, of a program header and of a section header.
const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;

/// In `e_phnum`: the number is in the first section header.
const PN_XNUM: u16 = 0xffff;

/// More segments than any dumper makes: one for each page of 16 GiB.
const MOST_SEGMENTS: u64 = 1 << 22;

/// How many program headers are read at a time.
const AT_A_TIME: u64 = 1024;

/// Where all architectures' physical memory ends.
const PHYSICAL_END: u64 = 1 << 52;

/// The address of what has no physical one (`fs/proc/kcore.c`).
const NO_ADDRESS: u64 = u64::MAX;

/// A part of the file that stands for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it is in the file.
    pub(crate) offset: u64,
    /// How many bytes the file has, by the header.
    pub(crate) in_file: u64,
    /// Its first physical address.
    pub(crate) start: u64,
    /// How many bytes it has in memory; `start + in_memory` does not overflow.
    pub(crate) in_memory: u64,
}

impl Segment {
    /// How many of its bytes the header says the file has.
    pub(crate) fn promised(&self) -> u64 {
        self.in_file.min(self.in_memory)
    }

    /// How many of its bytes a file of `len` bytes can have.
    pub(crate) fn held(&self, len: u64) -> u64 {
        self.promised().min(len.saturating_sub(self.offset))
    }

    /// Whether a file of `len` bytes ends before it does.
    pub(crate) fn is_cut(&self, len: u64) -> bool {
        self.held(len) < self.promised()
    }
}

/// What the headers tell.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    /// The memory.
    pub(crate) loads: Vec<Segment>,
    /// The notes.
    pub(crate) notes: Vec<Segment>,
    /// Whether any memory has a physical address.
    physical: bool,
}

impl Headers {
    /// Reads those of `file`, which has `len` bytes.
    pub(crate) fn read(file: &File, len: u64) -> Result<Self, ElfError> {
        let header: [u8; EHDR] = load(file, 0, "ELF header")?;
        let word = |at: usize| field(&header, at).map(u64::from_le_bytes);
        let half = |at: usize| field(&header, at).map(u16::from_le_bytes);
        let nonsense = ElfError::Header {
            what: "ELF header",
            problem: "makes no sense",
        };
        match header.get(4..6) {
            Some([_, 2]) => return Err(ElfError::BigEndian),
            Some([1, _]) => return Err(ElfError::Not64Bit),
            Some([2, 1]) => {}
            _ => return Err(nonsense),
        }
        let (Some(phoff), Some(shoff)) = (word(32), word(40)) else {
            return Err(nonsense);
        };
        let (Some(phentsize), Some(phnum)) = (half(54), half(56)) else {
            return Err(nonsense);
        };
        if phnum > 0 && usize::from(phentsize) != PHDR {
            return Err(ElfError::Header {
                what: "ELF header",
                problem: "has another size of program headers than 56 bytes",
            });
        }
        let count = match phnum {
            PN_XNUM if shoff == 0 => {
                return Err(ElfError::Header {
                    what: "ELF header",
                    problem: "leaves the number of segments to a section header that is not there",
                });
            }
            PN_XNUM => {
                let section: [u8; SHDR] = load(file, shoff, "first section header")?;
                field(&section, 44).map_or(0, u32::from_le_bytes).into()
            }
            count => u64::from(count),
        };
        if count > MOST_SEGMENTS {
            return Err(ElfError::TooMany {
                count,
                most: MOST_SEGMENTS,
            });
        }
        let table_len = count * PHDR as u64;
        if phoff.checked_add(table_len).is_none_or(|end| end > len) {
            return Err(ElfError::Header {
                what: "program headers",
                problem: "reach past the end of the file",
            });
        }
        let mut headers = Self::default();
        let mut table = Vec::new();
        // In parts: what is no segment takes no room, of however many headers.
        for first in (0..count).step_by(usize::try_from(AT_A_TIME).unwrap_or(1)) {
            let part = AT_A_TIME.min(count - first) * PHDR as u64;
            table.resize(usize::try_from(part).unwrap_or(0), 0);
            let at = phoff + first * PHDR as u64;
            read(file, at, &mut table, "program headers")?;
            headers.take(first, &table)?;
        }
        match headers.loads.len() {
            0 => Err(ElfError::NoMemory),
            2.. if !headers.physical => Err(ElfError::Process),
            _ => Ok(headers),
        }
    }

    /// Takes what is told by the headers from the one with number `first` on.
    fn take(&mut self, first: u64, table: &[u8]) -> Result<(), ElfError> {
        const PT_LOAD: u32 = 1;
        const PT_NOTE: u32 = 4;
        for (index, header) in (first..).zip(table.chunks_exact(PHDR)) {
            let kind = field(header, 0).map(u32::from_le_bytes);
            let word = |at: usize| field(header, at).map_or(0, u64::from_le_bytes);
            let segment = Segment {
                offset: word(8),
                start: word(24),
                in_file: word(32),
                in_memory: word(40),
            };
            match kind {
                Some(PT_NOTE) => self.notes.push(segment),
                Some(PT_LOAD) if segment.start != NO_ADDRESS && segment.in_memory > 0 => {
                    let Segment {
                        start,
                        in_memory: len,
                        ..
                    } = segment;
                    if start.checked_add(len).is_none_or(|end| end > PHYSICAL_END) {
                        return Err(ElfError::PastSpace { index, start, len });
                    }
                    self.physical |= start != 0 || word(16) == 0;
                    self.loads.push(segment);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The field at `at`.
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn load<const N: usize>(file: &File, at: u64, what: &'static str) -> Result<[u8; N], ElfError> {
    let mut bytes = [0; N];
    read(file, at, &mut bytes, what)?;
    Ok(bytes)
}

fn read(file: &File, at: u64, into: &mut [u8], what: &'static str) -> Result<(), ElfError> {
    let problem = "cannot be read: is the file whole?";
    file.read_exact_at(into, at)
        .map_err(|_lost| ElfError::Header { what, problem })
}
