//! One set of page tables, as memory.

use std::fmt;

use guestmem::{Address, Cause, Fault, Gpa, Kva, Memory, MemoryExt};

use crate::format::{ENTRY_SIZE, Entry, Format};
use crate::mappings::Mappings;
use crate::presence::Stretches;
use crate::tlb::Tlb;

/// Where one virtual address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// The physical address.
    pub gpa: Gpa,
    /// Bytes of the page or block that the address lies in.
    pub leaf_size: u64,
}

/// The virtual memory that a root table describes, over physical memory `M`.
///
/// Translations are remembered, so the memory must stand still between two
/// calls of [`forget`](AddressSpace::forget).
pub struct AddressSpace<M> {
    physical: M,
    root: Gpa,
    format: Format,
    tlb: Tlb,
}

impl<M> fmt::Debug for AddressSpace<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace")
            .field("root", &self.root)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

impl<M: Memory<Gpa>> AddressSpace<M> {
    /// The address space of the tables at `root`.
    pub fn new(physical: M, root: Gpa, format: Format) -> Self {
        Self {
            physical,
            root,
            format,
            tlb: Tlb::new(format.page_size()),
        }
    }

    /// The physical memory beneath.
    pub fn physical(&self) -> &M {
        &self.physical
    }

    /// The physical address of the root table.
    pub fn root(&self) -> Gpa {
        self.root
    }

    /// The shape of the tables.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Forgets the translations, for memory that changes.
    pub fn forget(&self) {
        self.tlb.clear();
    }

    /// Walks the tables for one address.
    ///
    /// The page that it is found in need not be in the image.
    ///
    /// # Errors
    ///
    /// [`Cause::NotCanonical`], [`Cause::NotPresent`],
    /// [`Cause::MalformedEntry`] or [`Cause::TableUnbacked`].
    pub fn translate(&self, va: Kva) -> Result<Translation, Fault<Kva>> {
        if !self.format.covers(va) {
            return Err(Fault::new(va, Cause::NotCanonical));
        }
        let mut table = self.root;
        let mut level = self.format.levels();
        loop {
            let unbacked = Cause::TableUnbacked { level, table };
            let at = table
                .checked_add(self.format.index(va.get(), level) * ENTRY_SIZE)
                .ok_or(Fault::new(va, unbacked))?;
            let raw = self
                .physical
                .load_u64(at)
                .map_err(|fault| Fault::new(va, lost_table(fault.cause, unbacked)))?;
            match self.format.decode(raw, level) {
                Entry::NotPresent => return Err(Fault::new(va, Cause::NotPresent { level })),
                Entry::Table(next) if level > 1 => {
                    table = next;
                    level -= 1;
                }
                Entry::Table(_) | Entry::Malformed => {
                    return Err(Fault::new(va, Cause::MalformedEntry { level }));
                }
                Entry::Leaf(start) => {
                    let leaf_size = self.format.span(level);
                    let gpa = Gpa::new(start.get() | (va.get() & (leaf_size - 1)));
                    return Ok(Translation { gpa, leaf_size });
                }
            }
        }
    }

    /// Where `va` is, and how many bytes of its page begin there.
    fn leaf(&self, va: Kva) -> Result<(Gpa, u64), Fault<Kva>> {
        if let Some(known) = self.tlb.lookup(va.get()) {
            return Ok(known);
        }
        let Translation { gpa, leaf_size } = self.translate(va)?;
        self.tlb.insert(va.get(), gpa, leaf_size);
        Ok((gpa, leaf_size - (va.get() & (leaf_size - 1))))
    }

    /// The `len` bytes from `start` on as runs and gaps: see [`Mappings`].
    pub fn mappings(&self, start: Kva, len: u64) -> Mappings<'_, M> {
        Mappings::new(self, start, len)
    }

    /// Which of the `len` bytes from `start` on are mapped, and which of them
    /// to the page at `frame`: see [`Stretches`].
    pub fn presence(&self, start: Kva, len: u64, frame: Option<Gpa>) -> Stretches<'_, M> {
        Stretches::new(self, start, len, frame)
    }
}

/// Why a page is not there is worth more in a message than that it is a table.
pub(crate) fn lost_table(cause: Cause, unbacked: Cause) -> Cause {
    match cause {
        Cause::Vanished { .. }
        | Cause::Excluded { .. }
        | Cause::Damaged { .. }
        | Cause::Late { .. } => cause,
        _ => unbacked,
    }
}

impl<M: Memory<Gpa>> Memory<Kva> for AddressSpace<M> {
    fn read(&self, addr: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let (gpa, mut run) = self.leaf(at)?;
            // Frames in a row are one read.
            while run < rest.len() as u64
                && let Some(next) = at.checked_add(run)
                && let Ok((frame, more)) = self.leaf(next)
                && gpa.checked_add(run) == Some(frame)
            {
                run += more;
            }
            let step = usize::try_from(run).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(step);
            self.physical.read(gpa, now).map_err(|fault| {
                let good = fault.addr.checked_offset_from(gpa).unwrap_or(0);
                Fault::new(at.checked_add(good).unwrap_or(at), fault.cause)
            })?;
            rest = later;
            if !rest.is_empty() {
                at = at
                    .checked_add(step as u64)
                    .ok_or(Fault::new(at, Cause::EndOfSpace))?;
            }
        }
        Ok(())
    }
}
