//! Slots by index: an array of pointers, null where a slot is free.

use std::ops::ControlFlow;

use btf_layout::{Member, Type};
use guestmem::{Address, Cause, Fault, Kva, MemoryExt};

use super::refers::Refers;
use crate::entry::SlotAt;
use crate::structures::place::{self, Elements, POINTER};
use crate::target::Target;
use crate::walk::Walker;
use crate::{Error, MapInfo};

/// Visits the slots of `map` at `at`, of which `slots` is the member that has
/// them or points at them, as its type tells.
pub(super) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    slots: &Member,
    refers: &Refers,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let elsewhere = matches!(target.btf().resolve(slots.ty)?.1, Type::Ptr { .. });
    let first = at
        .checked_add(slots.offset)
        .ok_or(Fault::new(at, Cause::EndOfSpace))
        .and_then(|first| match elsewhere {
            true => target.load_u64(first).map(Kva::at),
            false => Ok(first),
        })
        .map_err(|source| {
            let what = "the pointer to a map's slots";
            Error::Unreadable { what, source }
        })?;
    let slots = Elements {
        memory: target,
        at: first,
        count: map.max_entries,
        stride: POINTER,
    };
    let slots = slots.bounded(target.memory_size(), "number of slots", walker);
    slots.walk(walker, &mut |index, slot, fault, walker| {
        if let Some(fault) = fault {
            walker.walk.fault(fault);
        }
        match slot.first_chunk().map(|slot| u64::from_le_bytes(*slot)) {
            None | Some(0) => ControlFlow::Continue(()),
            Some(pointer) => {
                let link = place::element(first, index.into(), POINTER);
                let slot = SlotAt::Index(index);
                refers.visit_at(target, map, slot, (link, Kva::at(pointer)), walker)
            }
        }
    });
    Ok(())
}
