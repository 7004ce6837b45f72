//! Which way the contents of a map are read.

use super::shape::Shape;
use super::source::Source;
use super::sys::OpenMap;
use super::{Fetch, Live, array, hash, keys};
use crate::structures;
use crate::walk::Walker;
use crate::{Error, GapAt, MapInfo, MapState, MapType, NoMemory, Reason};

/// What tells the entries of a map.
enum Way {
    /// bpf(2), which copies keys and values.
    Bpf,
    /// The kernel's memory alone.
    Memory,
}

/// The way for maps of a type.
fn way(map_type: MapType) -> Way {
    match map_type {
        MapType::HASH
        | MapType::LRU_HASH
        | MapType::PERCPU_HASH
        | MapType::LRU_PERCPU_HASH
        | MapType::ARRAY
        | MapType::PERCPU_ARRAY => Way::Bpf,
        _ => Way::Memory,
    }
}

/// Visits the entries of `map`, which is `opened`.
pub(super) fn walk(
    live: &Live,
    map: &MapInfo,
    opened: &OpenMap,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    match way(map.map_type) {
        Way::Bpf if live.fetch != Fetch::Memory => {
            walk_bpf(live, map, opened, walker);
            Ok(())
        }
        Way::Bpf | Way::Memory => match live.source() {
            Ok(source) => walk_memory(source, map, opened, walker),
            Err(why) => {
                unread(map, why, walker);
                Ok(())
            }
        },
    }
}

/// The state of `map`, which is `opened`.
pub(super) fn state(
    live: &Live,
    map: &MapInfo,
    opened: &OpenMap,
) -> Result<Option<MapState>, Error> {
    let source = live.source().map_err(|why| Error::NoMemory(why.clone()))?;
    let at = source.map(opened, map)?;
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
        MapType::ARRAY | MapType::PERCPU_ARRAY => array::walk(opened, &shape, live.fetch, walker),
        _ => {
            let in_batches = live.fetch == Fetch::Batches;
            if !in_batches || !hash::walk(opened, &shape, map.max_entries, walker) {
                keys::walk(opened, &shape, walker);
            }
        }
    }
}
