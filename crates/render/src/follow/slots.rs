//! Where allocators keep their slots in an arena, for pointers that lead there.

use std::rc::Rc;

use bpfmaps::Object;

/// The slots of all allocators in an arena, and the allocators' own indices.
#[derive(Clone, Debug, Default)]
pub(crate) struct SlotIndex {
    /// By ascending start, none inside of another.
    places: Vec<Place>,
}

/// A stretch of an arena that is an allocator's.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The first user address.
    pub(crate) start: u64,
    /// The first one behind it.
    pub(crate) end: u64,
    /// The allocator, as its variable is called.
    pub(crate) allocator: Rc<str>,
    pub(crate) use_: Use,
}

/// What an allocator uses a place for.
#[derive(Clone, Debug)]
pub(crate) enum Use {
    Slot(Slot),
    /// A part of the tree that finds slots.
    Index,
}

/// A slot of an allocator.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Its position in the tree.
    pub(crate) idx: u64,
    /// The user address of its payload.
    pub(crate) payload: u64,
    /// What it was allocated for.
    pub(crate) owner: Option<Rc<Object>>,
}

/// A pointer that leads to a place of an allocator.
#[derive(Clone, Debug)]
pub(crate) struct InSlot {
    pub(crate) allocator: Rc<str>,
    /// `None` for an allocator's index.
    pub(crate) slot: Option<Slot>,
    /// Bytes from the start of the payload, or of the part of the index.
    pub(crate) offset: i64,
}

impl SlotIndex {
    /// The places in any order. Of overlapping ones the first counts.
    pub(crate) fn new(mut places: Vec<Place>) -> Self {
        places.sort_by_key(|place| place.start);
        let mut end = 0;
        places.retain(|place| {
            let is_apart = place.start >= end && place.start < place.end;
            if is_apart {
                end = place.end;
            }
            is_apart
        });
        Self { places }
    }

    /// What `at` leads to.
    pub(super) fn find(&self, at: u64) -> Option<InSlot> {
        let after = self.places.partition_point(|place| place.start <= at);
        let place = self.places.get(after.checked_sub(1)?)?;
        if at >= place.end {
            return None;
        }
        let (slot, start) = match &place.use_ {
            Use::Slot(slot) => (Some(slot.clone()), slot.payload),
            Use::Index => (None, place.start),
        };
        Some(InSlot {
            allocator: Rc::clone(&place.allocator),
            slot,
            offset: at.wrapping_sub(start).cast_signed(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_find_their_slots() {
        let place = |start, end, use_| Place {
            start,
            end,
            allocator: "tasks".into(),
            use_,
        };
        let slot = |idx, payload| {
            Use::Slot(Slot {
                idx,
                payload,
                owner: None,
            })
        };
        let index = SlotIndex::new(vec![
            place(0x2000, 0x2040, slot(7, 0x2010)),
            place(0x1000, 0x1100, Use::Index),
            place(0x2040, 0x2080, slot(8, 0x2050)),
            place(0x2060, 0x3000, slot(9, 0x2060)),
            place(0x4000, 0x4000, slot(10, 0x4000)),
        ]);
        let check = |at, want: Option<(Option<u64>, i64)>| {
            let found = index.find(at);
            let found = found.map(|found| (found.slot.map(|slot| slot.idx), found.offset));
            assert_eq!(found, want, "{at:#x}");
        };
        check(0xfff, None);
        check(0x1008, Some((None, 8)));
        check(0x1100, None);
        check(0x2000, Some((Some(7), -16)));
        check(0x2010, Some((Some(7), 0)));
        check(0x2070, Some((Some(8), 32)));
        check(0x2080, None);
        check(0x4000, None);
    }
}
