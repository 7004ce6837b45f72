//! Which way the contents of a map are read.

use btf_layout::TypeId;

use super::shape::Shape;
use super::source::Source;
use super::sys::OpenMap;
use super::trie::Trie;
use super::{Fetch, Live, array, hash, keys, slots};
use crate::special::Fields;
use crate::structures;
use crate::walk::Walker;
use crate::{BpfMapAccessor, Error, GapAt, MapInfo, MapState, MapType, NoMemory, Reason};

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
    let source = live.source().map_err(|why| Error::NoMemory(why.clone()))?;
    let at = source.map(&open()?, map)?;
    structures::state(source.target(), map, at)
}

fn walk_memory(
    source: &Source,
    map: &MapInfo,
    opened: &OpenMap,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let at = source.map(opened, map)?;
    structures::walk(source.target(), map, at, walker)
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
