//! A range of virtual addresses as runs and gaps.

use guestmem::{Address, Cause, Gpa, Kva, Memory};

use crate::format::{ENTRY_SIZE, Entry};
use crate::space::lost_table;
use crate::{AddressSpace, Format};

/// A stretch of virtual addresses that has one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// Mapped to consecutive physical addresses.
    Run {
        /// The first virtual address.
        va: Kva,
        /// The physical address of it.
        gpa: Gpa,
        /// How many bytes; never 0.
        len: u64,
    },
    /// Not mapped, all of it for the same reason.
    Gap {
        /// The first virtual address.
        va: Kva,
        /// How many bytes; never 0.
        len: u64,
        /// The reason.
        cause: Cause,
    },
}

impl Mapping {
    /// The first virtual address.
    #[must_use]
    pub fn va(&self) -> Kva {
        match *self {
            Self::Run { va, .. } | Self::Gap { va, .. } => va,
        }
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match *self {
            Self::Run { len, .. } | Self::Gap { len, .. } => len,
        }
    }

    /// Never: there are no empty stretches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Adds `next` if it goes on where this one ends; gives it back if not.
    pub(crate) fn join(&mut self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Run { gpa, len, .. }, Self::Run { gpa: g, len: l, .. })
                if gpa.checked_add(*len) == Some(g) =>
            {
                *len += l;
                None
            }
            (
                Self::Gap { len, cause, .. },
                Self::Gap {
                    len: l, cause: c, ..
                },
            ) if *cause == c => {
                *len += l;
                None
            }
            (_, next) => Some(next),
        }
    }
}

/// The runs and gaps of a range, in ascending order.
///
/// # Contract
///
/// The stretches cover the range exactly, without overlap, and neighbours
/// differ: two runs that follow each other are not physically consecutive,
/// two gaps have different causes. Each table page is read once, however many
/// of its entries are looked at, and a gap at a high level costs one entry.
/// A range that reaches past the last address ends there.
#[derive(Debug)]
pub struct Mappings<'s, M> {
    space: &'s AddressSpace<M>,
    /// The next address to look at; `None` when the range is done.
    at: Option<u64>,
    /// The last address of the range.
    last: u64,
    /// The table of each level, by `level - 1`, as far as one is loaded.
    tables: Vec<Option<Table>>,
    /// A stretch that later ones may still join.
    pending: Option<Mapping>,
}

/// A table page, as far as it could be read.
#[derive(Debug)]
struct Table {
    gpa: Gpa,
    /// The part of the address that all entries share.
    prefix: u64,
    entries: Vec<u8>,
    /// Why `entries` is short, if it is.
    lost: Cause,
}

impl<'s, M: Memory<Gpa>> Mappings<'s, M> {
    pub(crate) fn new(space: &'s AddressSpace<M>, start: Kva, len: u64) -> Self {
        let levels = usize::from(space.format().levels());
        Self {
            space,
            at: (len > 0).then_some(start.get()),
            last: start.get().saturating_add(len.saturating_sub(1)),
            tables: std::iter::repeat_with(|| None).take(levels).collect(),
            pending: None,
        }
    }

    /// The shape of the tables.
    pub(crate) fn format(&self) -> Format {
        self.space.format()
    }

    /// The next address to look at; `None` when the range is done.
    pub(crate) fn position(&self) -> Option<u64> {
        self.at
    }

    /// Goes on behind the `len` bytes at `va`.
    pub(crate) fn advance(&mut self, va: u64, len: u64) {
        self.at = va.checked_add(len).filter(|&next| next <= self.last);
    }

    /// The stretch at `va` that one entry, or the hole, answers for.
    pub(crate) fn step(&mut self, va: u64) -> Mapping {
        let format = self.space.format();
        let (hole_start, hole_end) = format.hole();
        if va >= hole_start && va < hole_end {
            let cause = Cause::NotCanonical;
            return self.gap(va, hole_end - va, cause);
        }
        if let Some(found) = self.stretch(va) {
            return found;
        }
        let mut level = format.levels();
        let mut table = self.space.root();
        loop {
            let span = format.span(level);
            let left = span - (va & (span - 1));
            let raw = match self.entry(va, level, table) {
                Ok(raw) => raw,
                Err(cause) => return self.gap(va, left, cause),
            };
            match format.decode(raw, level) {
                Entry::NotPresent => return self.gap(va, left, Cause::NotPresent { level }),
                Entry::Table(next) if level > 1 => {
                    table = next;
                    level -= 1;
                }
                Entry::Table(_) | Entry::Malformed => {
                    return self.gap(va, left, Cause::MalformedEntry { level });
                }
                Entry::Leaf(start) => {
                    return Mapping::Run {
                        va: Kva::new(va),
                        gpa: Gpa::new(start.get() | (va & (span - 1))),
                        len: self.clip(va, left),
                    };
                }
            }
        }
    }

    /// The stretch at `va` as far as the last table of PTEs tells it, without
    /// a descent; `None` if that table is not the one for `va`.
    ///
    /// What a range costs is this loop: a table of PTEs has hundreds of
    /// entries, all others together hardly count.
    fn stretch(&self, va: u64) -> Option<Mapping> {
        let format = self.space.format();
        let page = format.span(1);
        let mut entries = self.leaves(va)?.iter();
        let mut decode = || Some(format.decode(u64::from_le_bytes(*entries.next()?), 1));
        let offset = va & (page - 1);
        let mut left = page - offset;
        match decode()? {
            Entry::NotPresent => {
                while decode() == Some(Entry::NotPresent) {
                    left += page;
                }
                Some(self.gap(va, left, Cause::NotPresent { level: 1 }))
            }
            Entry::Leaf(start) => {
                let mut end = start.get().checked_add(page)?;
                while let Some(Entry::Leaf(next)) = decode()
                    && next.get() == end
                {
                    left += page;
                    end = end.checked_add(page)?;
                }
                Some(Mapping::Run {
                    va: Kva::new(va),
                    gpa: Gpa::new(start.get() | offset),
                    len: self.clip(va, left),
                })
            }
            Entry::Table(_) | Entry::Malformed => None,
        }
    }

    /// The PTEs from that of `va` on, if their table is the one at hand.
    pub(crate) fn leaves(&self, va: u64) -> Option<&[[u8; 8]]> {
        let format = self.space.format();
        let table = self.tables.first()?.as_ref()?;
        let shared = format
            .entries(1)
            .checked_mul(format.span(1))?
            .wrapping_sub(1);
        if table.prefix != va & !shared {
            return None;
        }
        let first = usize::try_from(format.index(va, 1)).ok()?;
        table.entries.as_chunks().0.get(first..)
    }

    fn gap(&self, va: u64, left: u64, cause: Cause) -> Mapping {
        Mapping::Gap {
            va: Kva::new(va),
            len: self.clip(va, left),
            cause,
        }
    }

    /// `left` bytes from `va` on, but not past the range.
    pub(crate) fn clip(&self, va: u64, left: u64) -> u64 {
        left.min((self.last - va).saturating_add(1))
    }

    /// The entry for `va` of the table at `gpa`, which is loaded if it is not
    /// the one at hand.
    fn entry(&mut self, va: u64, level: u8, gpa: Gpa) -> Result<u64, Cause> {
        let format = self.space.format();
        let count = format.entries(level);
        let prefix = va & !(format.span(level).saturating_mul(count).wrapping_sub(1));
        let unbacked = Cause::TableUnbacked { level, table: gpa };
        let Some(slot) = self.tables.get_mut(usize::from(level) - 1) else {
            return Err(unbacked);
        };
        let table = match slot {
            Some(table) if table.gpa == gpa && table.prefix == prefix => table,
            _ => {
                let size = usize::try_from(count * ENTRY_SIZE).unwrap_or(0);
                let mut entries = slot.take().map(|old| old.entries).unwrap_or_default();
                // What a read leaves as it was is cut off below.
                entries.resize(size, 0);
                let read = self.space.physical().read(gpa, &mut entries);
                let mut lost = unbacked;
                if let Err(fault) = read {
                    let good = fault.addr.checked_offset_from(gpa).unwrap_or(0);
                    entries.truncate(usize::try_from(good).unwrap_or(0));
                    lost = lost_table(fault.cause, unbacked);
                }
                slot.insert(Table {
                    gpa,
                    prefix,
                    entries,
                    lost,
                })
            }
        };
        let offset = format.index(va, level) * ENTRY_SIZE;
        usize::try_from(offset)
            .ok()
            .and_then(|offset| table.entries.get(offset..)?.first_chunk())
            .map(|raw| u64::from_le_bytes(*raw))
            .ok_or(table.lost)
    }
}

impl<M: Memory<Gpa>> Iterator for Mappings<'_, M> {
    type Item = Mapping;

    fn next(&mut self) -> Option<Mapping> {
        while let Some(va) = self.at {
            let found = self.step(va);
            self.advance(va, found.len());
            let ended = match &mut self.pending {
                None => {
                    self.pending = Some(found);
                    None
                }
                Some(pending) => pending
                    .join(found)
                    .map(|found| std::mem::replace(pending, found)),
            };
            if ended.is_some() {
                return ended;
            }
        }
        self.pending.take()
    }
}
