//! Maps whose slots refer to other objects of the kernel: by index, in an
//! array that is part of the map or that it points at, or by key, in a hash.

mod entries;
mod index;
mod key;
mod refers;

use guestmem::Kva;

use crate::target::Target;
use crate::walk::Walker;
use crate::{Error, MapInfo, MapType};
use refers::Refers;

/// Visits the entries of `map` at `at`.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let refers = Refers::new(target, map)?;
    // Where the first slot is. Each of these structs has its own offset.
    let (record, slots) = match map.map_type {
        MapType::HASH_OF_MAPS => return key::hash_of_maps(target, map, at, &refers, walker),
        MapType::DEVMAP_HASH => return key::devmap_hash(target, map, at, &refers, walker),
        MapType::SOCKHASH => return key::sockhash(target, map, at, &refers, walker),
        MapType::DEVMAP => ("bpf_dtab", "netdev_map"),
        MapType::CPUMAP => ("bpf_cpu_map", "cpu_map"),
        MapType::XSKMAP => ("xsk_map", "xsk_map"),
        MapType::SOCKMAP => ("bpf_stab", "sks"),
        MapType::REUSEPORT_SOCKARRAY => ("reuseport_array", "ptrs"),
        _ => ("bpf_array", "ptrs"),
    };
    let slots = target.btf().record(record)?.member(slots)?;
    index::walk(target, map, at, &slots, &refers, walker)
}
