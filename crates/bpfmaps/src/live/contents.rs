//! Which way the contents of a map are read.

use btf_layout::TypeId;

use super::shape::Shape;
use super::source::Source;
use super::sys::OpenMap;
use super::trie::Trie;
use super::{Fetch, Live, array, hash, keys, slots, users};
use crate::special::Fields;
use crate::structures;
use crate::walk::Walker;
use crate::{BpfMapAccessor, Entry, Error, GapAt, MapInfo, MapState, MapType, NoMemory, Reason};

/// What tells the entries of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// bpf(2), which copies keys and values.
    Bpf,
    /// The kernel's memory.
    Memory,
}

/// The way to the entries of `map`.
///
/// What bpf(2) tells whole, it tells: it copies whole entries, and goes on
/// well in a map that changes meanwhile. Of others it knows too little, or
/// asking changes something: a look-up in a stack trace map takes a trace out
/// for a moment, one in a map of sockets gives the socket a cookie, and an
/// element of a queue is seen by taking it.
pub(super) fn way(live: &Live, map: &MapInfo) -> Way {
    match map.map_type {
        _ if live.fetch == Fetch::Memory => Way::Memory,
        MapType::HASH
        | MapType::LRU_HASH
        | MapType::PERCPU_HASH
        | MapType::LRU_PERCPU_HASH
        | MapType::ARRAY
        | MapType::PERCPU_ARRAY
        | MapType::LPM_TRIE
        | MapType::RHASH => {
            // bpf(2) puts zeros in the place of locks, timers and pointers.
            if has_special_fields(live, map) && live.source().is_ok() {
                Way::Memory
            } else {
                Way::Bpf
            }
        }
        MapType::STRUCT_OPS => Way::Bpf,
        _ => Way::Memory,
    }
}

fn has_special_fields(live: &Live, map: &MapInfo) -> bool {
    if map.btf_value_type_id == 0 {
        return false;
    }
    let fields = || {
        let btf = live.btf(map).ok()??;
        let vmlinux = live.vmlinux_btf().ok()?;
        Some(Fields::of(&vmlinux, &btf, TypeId(map.btf_value_type_id)))
    };
    // Without BTF nobody tells what is special.
    fields().is_some_and(|fields| !fields.is_empty())
}

/// Visits the entries of `map`, which is `opened`.
pub(super) fn walk(
    live: &Live,
    map: &MapInfo,
    opened: &OpenMap,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    match (way(live, map), live.source()) {
        (Way::Bpf, _) => walk_bpf(live, map, opened, walker),
        (Way::Memory, Ok(source)) => return walk_memory(source, map, opened, walker),
        (Way::Memory, Err(why)) => match map.map_type {
            MapType::PROG_ARRAY
            | MapType::ARRAY_OF_MAPS
            | MapType::HASH_OF_MAPS
            | MapType::DEVMAP
            | MapType::DEVMAP_HASH
            | MapType::CPUMAP
            | MapType::INSN_ARRAY => slots::walk(map, opened, walker),
            MapType::ARENA => match users::open(map, live.kernel.page_size, why) {
                Ok((arena, _)) => structures::walk_arena(&arena, walker),
                Err(Error::NoMemory(why)) => unread(map, &why, walker),
                Err(error) => return Err(error),
            },
            map_type if map_type.name().is_none() => walker.unread_type(map_type),
            _ => unread(map, why, walker),
        },
    }
    Ok(())
}

/// The state of `map`; `open` opens it.
pub(super) fn state(
    live: &Live,
    map: &MapInfo,
    open: impl FnOnce() -> Result<OpenMap, Error>,
) -> Result<Option<MapState>, Error> {
    if !structures::has_state(map.map_type) {
        return Ok(None);
    }
    let opened = open()?;
    match live.source() {
        Ok(source) => structures::state(source.target(), map, source.map(&opened, map)?),
        Err(why) if map.map_type == MapType::ARENA => {
            let (arena, pages_from) = users::open(map, live.kernel.page_size, why)?;
            Ok(Some(structures::arena_state(&arena, pages_from)))
        }
        Err(why) => Err(Error::NoMemory(why.clone())),
    }
}

/// How often a map is read anew that contradicts itself before its first
/// entry: it may have changed between two words.
const ATTEMPTS: u32 = 8;

fn walk_memory(
    source: &Source,
    map: &MapInfo,
    opened: &OpenMap,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let at = source.map(opened, map)?;
    let target = source.target();
    let state = || structures::state(target, map, at).ok().flatten();
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        let before = state();
        let mut visit = |entry: Entry<'_>| walker.visit(entry);
        let mut inner = Walker::new(&mut visit);
        structures::walk(target, map, at, &mut inner)?;
        let walk = inner.finish();
        if walk.visited > 0 || walk.is_complete() || attempts == 0 {
            let stopped = walk.stopped;
            walker.walk.append(walk);
            if !stopped && overtaken(before.as_ref(), state().as_ref()) {
                walker.walk.gap(GapAt::Map, Reason::Outrun);
            }
            return Ok(());
        }
    }
}

/// Whether entries that were read between the one state and the other may
/// have been others by then.
fn overtaken(before: Option<&MapState>, after: Option<&MapState>) -> bool {
    match (before, after) {
        (Some(MapState::Queue { .. }), _) => before != after,
        (
            Some(MapState::RingBuffer {
                size,
                consumer_pos,
                overwrite_pos,
                overwrite,
                ..
            }),
            Some(MapState::RingBuffer { producer_pos, .. }),
        ) => {
            let overwritten = overwrite_pos.filter(|_| *overwrite).unwrap_or(0);
            let start = overwritten.max(*consumer_pos);
            *producer_pos > start.saturating_add(*size)
        }
        _ => false,
    }
}

/// Says why the contents of `map` are not read.
fn unread(map: &MapInfo, why: &NoMemory, walker: &mut Walker<'_, '_>) {
    let reason = Reason::NeedsMemory {
        map_type: map.map_type,
        why: why.clone(),
    };
    walker.walk.gap(GapAt::Map, reason);
}

fn walk_bpf(live: &Live, map: &MapInfo, opened: &OpenMap, walker: &mut Walker<'_, '_>) {
    let cpus = live.kernel.possible_cpus.0.as_slice();
    let cpus = map.map_type.is_per_cpu().then_some(cpus);
    let shape = Shape::new(map.key_size, map.value_size, cpus);
    match map.map_type {
        // Of one element, the struct.
        MapType::ARRAY | MapType::PERCPU_ARRAY | MapType::STRUCT_OPS => {
            array::walk(opened, &shape, live.fetch, walker);
        }
        MapType::LPM_TRIE => keys::walk(&Trie(opened), &shape, walker),
        MapType::RHASH => keys::walk(opened, &shape, walker),
        _ => {
            let in_batches = live.fetch == Fetch::Batches;
            if !in_batches || !hash::walk(opened, &shape, map.max_entries, walker) {
                keys::walk(opened, &shape, walker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_on_is_noticed() {
        let queue = |head| MapState::Queue {
            head,
            tail: 0,
            slots: 8,
        };
        let ring = |consumer_pos, producer_pos, overwrite_pos: Option<u64>| MapState::RingBuffer {
            size: 4096,
            consumer_pos,
            producer_pos,
            pending_pos: None,
            overwrite_pos,
            overwrite: overwrite_pos.is_some(),
        };
        let check = |before: MapState, after: MapState, expected| {
            assert_eq!(overtaken(Some(&before), Some(&after)), expected);
        };
        check(queue(3), queue(3), false);
        check(queue(3), queue(4), true);
        check(ring(0, 48, None), ring(48, 4096, None), false);
        check(ring(0, 48, None), ring(48, 4104, None), true);
        check(ring(0, 48, Some(96)), ring(0, 4192, Some(120)), false);
        check(ring(0, 48, Some(96)), ring(0, 4200, Some(120)), true);
        assert!(!overtaken(None, None));
    }
}
