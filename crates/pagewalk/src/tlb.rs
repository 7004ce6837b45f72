//! A translation look-aside buffer in software.

use std::cell::Cell;

use guestmem::{Address, Gpa};

/// Slots of each part; a power of two. 4096 pages of 4 KiB are what the
/// elements of a hash of some 100,000 entries cover, which a walk along the
/// buckets visits in random order.
const SLOTS: usize = 4096;

/// Leaves of at least this size go to the part for large ones.
const LARGE_SHIFT: u32 = 21;

/// Remembers the leaves that were walked to last, by the virtual address.
/// It is not told of changes: what it serves stands still, or clears it.
#[derive(Debug)]
pub(crate) struct Tlb {
    page_shift: u32,
    pages: Box<[Cell<Slot>]>,
    large: Box<[Cell<Slot>]>,
}

/// A granule's number plus one (so that 0 is empty), and its first byte.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u64,
    gpa: Gpa,
}

impl Tlb {
    pub(crate) fn new(page_size: u64) -> Self {
        let slots = || vec![Cell::new(Slot::default()); SLOTS].into_boxed_slice();
        Self {
            page_shift: page_size.trailing_zeros(),
            pages: slots(),
            large: slots(),
        }
    }

    /// The physical address of `va` and the bytes left in its granule.
    pub(crate) fn lookup(&self, va: u64) -> Option<(Gpa, u64)> {
        hit(&self.pages, self.page_shift, va).or_else(|| hit(&self.large, LARGE_SHIFT, va))
    }

    pub(crate) fn clear(&self) {
        for slot in self.pages.iter().chain(&self.large) {
            slot.take();
        }
    }

    /// Notes that `va` is at `gpa`, in a leaf of `leaf_size` bytes.
    pub(crate) fn insert(&self, va: u64, gpa: Gpa, leaf_size: u64) {
        let (slots, shift) = if leaf_size >> LARGE_SHIFT != 0 {
            (&self.large, LARGE_SHIFT)
        } else {
            (&self.pages, self.page_shift)
        };
        let offset = va & ((1 << shift) - 1);
        let Some(start) = gpa.get().checked_sub(offset) else {
            return;
        };
        if let Some(slot) = slots.get(index(va >> shift)) {
            slot.set(Slot {
                tag: (va >> shift) + 1,
                gpa: Gpa::new(start),
            });
        }
    }
}

fn hit(slots: &[Cell<Slot>], shift: u32, va: u64) -> Option<(Gpa, u64)> {
    let granule = va >> shift;
    let slot = slots.get(index(granule))?.get();
    if slot.tag != granule + 1 {
        return None;
    }
    let offset = va & ((1 << shift) - 1);
    Some((slot.gpa.checked_add(offset)?, (1 << shift) - offset))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only the low bits, below SLOTS, are kept"
)]
fn index(granule: u64) -> usize {
    granule as usize & (SLOTS - 1)
}
