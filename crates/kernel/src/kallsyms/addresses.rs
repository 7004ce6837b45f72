//! The addresses of symbols, in one of four encodings.

use std::fmt;
use std::rc::Rc;

use guestmem::{Address, Kva, Memory, MemoryExt};

use super::{KallsymsError, unreadable};
use crate::Vmcoreinfo;

/// How the addresses of symbols are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// A table of addresses (without `KALLSYMS_BASE_RELATIVE`, until 6.11).
    Absolute,
    /// Unsigned offsets from a base (until 7.0).
    BaseRelative,
    /// Signed offsets: absolute values if not negative, else
    /// `base - 1 - offset` (`KALLSYMS_ABSOLUTE_PERCPU`, until 6.15).
    AbsolutePercpu,
    /// Signed offsets from the place where they stand (since 7.0,
    /// a081b5789255).
    PlaceRelative,
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Absolute => "absolute",
            Self::BaseRelative => "base-relative",
            Self::AbsolutePercpu => "absolute-percpu",
            Self::PlaceRelative => "place-relative",
        })
    }
}

/// The addresses, still encoded.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) encoding: Encoding,
    raw: Rc<[u8]>,
    /// `kallsyms_relative_base`, or the place of the table itself.
    base: u64,
}

impl Addresses {
    pub(super) fn none() -> Self {
        Self {
            encoding: Encoding::Absolute,
            raw: [].into(),
            base: 0,
        }
    }

    /// The table under every encoding that the note allows.
    pub(super) fn load(
        memory: &dyn Memory<Kva>,
        note: &Vmcoreinfo,
        count: u32,
    ) -> Result<Vec<Self>, KallsymsError> {
        let mut choices = Vec::new();
        if let Some(table) = note.symbol("kallsyms_addresses") {
            let part = "kallsyms_addresses";
            choices.push(Self {
                encoding: Encoding::Absolute,
                raw: read_table(memory, table, u64::from(count) * 8, part)?,
                base: 0,
            });
        }
        if let Some(table) = note.symbol("kallsyms_offsets") {
            let part = "kallsyms_offsets";
            let raw = read_table(memory, table, u64::from(count) * 4, part)?;
            let mut choice = |encoding, base| {
                let raw = raw.clone();
                choices.push(Self {
                    encoding,
                    raw,
                    base,
                });
            };
            if let Some(base) = note.symbol("kallsyms_relative_base") {
                let base = memory
                    .load_u64(base)
                    .map_err(unreadable("kallsyms_relative_base"))?;
                choice(Encoding::AbsolutePercpu, base);
                choice(Encoding::BaseRelative, base);
            }
            choice(Encoding::PlaceRelative, table.get());
        }
        if choices.is_empty() {
            let key = "kallsyms_offsets";
            return Err(KallsymsError::NotNoted { key });
        }
        Ok(choices)
    }

    pub(super) fn get(&self, index: u32) -> Option<Kva> {
        let index = usize::try_from(index).ok()?;
        if self.encoding == Encoding::Absolute {
            let raw = self.raw.get(index.checked_mul(8)?..)?.first_chunk()?;
            return Some(Kva::new(u64::from_le_bytes(*raw)));
        }
        let place = index.checked_mul(4)?;
        let raw = *self.raw.get(place..)?.first_chunk()?;
        let signed = i64::from(i32::from_le_bytes(raw));
        let address = match self.encoding {
            Encoding::Absolute => return None,
            Encoding::BaseRelative => self.base.wrapping_add(u32::from_le_bytes(raw).into()),
            Encoding::AbsolutePercpu if signed >= 0 => signed.unsigned_abs(),
            Encoding::AbsolutePercpu => self.base.wrapping_add_signed(-1 - signed),
            Encoding::PlaceRelative => self
                .base
                .wrapping_add(place as u64)
                .wrapping_add_signed(signed),
        };
        Some(Kva::new(address))
    }
}

pub(super) fn read_table(
    memory: &dyn Memory<Kva>,
    at: Kva,
    len: u64,
    part: &'static str,
) -> Result<Rc<[u8]>, KallsymsError> {
    let read = memory.read_up_to(at, len);
    match read.fault {
        Some(fault) => Err(KallsymsError::Unreadable { part, fault }),
        None => Ok(read.bytes.into()),
    }
}
