//! The kernel's own structures, read from its memory: what maps, BTF and
//! programs look like there.
//!
//! The readers know a [`Target`]'s memory and layouts from its BTF, whether
//! the kernel stands still or runs; where a layout differs between kernels,
//! the alternatives stand beside the code that uses them.

mod arena;
mod array;
mod bloom;
mod btf_object;
mod bytes;
mod copied;
mod cycle;
mod fields;
mod footprint;
mod hash;
mod hlist;
mod idr;
mod insn_array;
mod lpm_trie;
mod map_object;
pub(crate) mod objects;
mod per_cpu;
mod place;
mod progs;
mod queue;
mod rhash;
mod ring_buffer;
mod slots;
mod stack_trace;
mod state;
mod storage;
mod struct_ops;
#[cfg(test)]
mod tests;
mod words;

use guestmem::Kva;
use kernel::PerCpu;

use crate::target::Target;
use crate::walk::Walker;
use crate::{Error, MapInfo, MapType};
use array::ArrayLayout;
use hash::HashLayout;

pub(crate) use arena::open as arena;
#[cfg(feature = "live")]
pub(crate) use arena::{state as arena_state, walk as walk_arena};
pub(crate) use btf_object::{BtfObjectLayout, Parsed};
pub(crate) use copied::Copied;
pub(crate) use footprint::Footprint;
pub(crate) use idr::{Layout as IdrLayout, walk as walk_idr};
pub(crate) use map_object::MapLayout;
#[cfg(feature = "live")]
pub(crate) use progs::attach as prog_attach;
pub(crate) use progs::{CodeReader, ProgLayout, list as progs};
#[cfg(feature = "live")]
pub(crate) use state::has_state;
pub(crate) use state::state;

/// Visits every entry of `map`, whose `struct bpf_map` is at `at`.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    match map.map_type {
        MapType::HASH | MapType::LRU_HASH | MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH => {
            let per_cpu = per_cpu(target, map)?;
            HashLayout::new(target.btf())?
                .table(target, map, at, per_cpu, target.memory_size())?
                .moving(target.is_running())
                .walk(walker);
            Ok(())
        }
        MapType::ARRAY | MapType::PERCPU_ARRAY => {
            let per_cpu = per_cpu(target, map)?;
            ArrayLayout::new(target.btf())?
                .array(target, map, at, per_cpu, target.memory_size(), walker)?
                .walk(walker);
            Ok(())
        }
        MapType::LPM_TRIE => lpm_trie::walk(target, map, at, walker),
        MapType::RHASH => rhash::walk(target, map, at, walker),
        MapType::QUEUE | MapType::STACK => queue::walk(target, map, at, walker),
        MapType::BLOOM_FILTER => bloom::walk(target, map, at, walker),
        MapType::RINGBUF | MapType::USER_RINGBUF => ring_buffer::walk(target, map, at, walker),
        MapType::STACK_TRACE => stack_trace::walk(target, map, at, walker),
        MapType::STRUCT_OPS => struct_ops::walk(target, map, at, walker),
        MapType::INSN_ARRAY => insn_array::walk(target, map, at, walker),
        MapType::PROG_ARRAY
        | MapType::PERF_EVENT_ARRAY
        | MapType::CGROUP_ARRAY
        | MapType::ARRAY_OF_MAPS
        | MapType::HASH_OF_MAPS
        | MapType::DEVMAP
        | MapType::DEVMAP_HASH
        | MapType::CPUMAP
        | MapType::XSKMAP
        | MapType::SOCKMAP
        | MapType::SOCKHASH
        | MapType::REUSEPORT_SOCKARRAY => slots::walk(target, map, at, walker),
        MapType::TASK_STORAGE
        | MapType::INODE_STORAGE
        | MapType::SK_STORAGE
        | MapType::CGRP_STORAGE
        | MapType::CGROUP_STORAGE
        | MapType::PERCPU_CGROUP_STORAGE => storage::walk(target, map, at, walker),
        MapType::ARENA => {
            arena::walk(&arena::open(target, map, at)?, walker);
            Ok(())
        }
        map_type => {
            walker.unread_type(map_type);
            Ok(())
        }
    }
}

/// Where the parts of per-CPU data are, for maps whose values are.
fn per_cpu<'t>(target: &'t dyn Target, map: &MapInfo) -> Result<Option<&'t PerCpu>, Error> {
    if !map.map_type.is_per_cpu() {
        return Ok(None);
    }
    target.per_cpu().map(Some)
}
