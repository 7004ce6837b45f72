//! The memory that a map takes, as the kernel itself reckons it for
//! `/proc/PID/fdinfo` (`bpf_map_memory_usage`).
//!
//! Since 6.4 each type of map has its own way (`map_mem_usage`, 90a5527d7686);
//! before, one formula served them all. Kernels from 6.15 to somewhere before
//! 7.1 go on counting 32 bytes a CPU for lock counters that their hash tables
//! no longer have; nothing in BTF tells them from later ones, so that what
//! stands here is what the table takes.

use btf_layout::{Btf, Error, Member};
use guestmem::{Address, Fault, Kva, Memory, MemoryExt};
use kernel::PerCpu;

use super::copied::{Copied, pointee};
use super::place::POINTER;
use crate::{MapInfo, MapType};

const MMAPABLE: u32 = 1 << 10;
const NO_PREALLOC: u32 = 1;

/// `HASHTAB_MAP_LOCK_COUNT` counters of 4 bytes.
const LOCKS: u64 = 8 * 4;

/// How this kernel reckons.
#[derive(Debug)]
pub(crate) enum Footprint {
    /// One formula for all types.
    Uniform,
    /// Each type has its own.
    ByType {
        array_size: u64,
        hash: Box<HashMembers>,
    },
}

/// What the reckoning needs of `struct bpf_htab`.
#[derive(Debug)]
pub(crate) struct HashMembers {
    size: u64,
    bucket_size: u64,
    n_buckets: Member,
    elem_size: Member,
    /// Per-CPU lock counters, until the table's locks could say themselves
    /// that they are held (6.15, 4fa8d68aa53e).
    has_locks: bool,
    use_percpu_counter: Member,
    count: Member,
    sum: Member,
    counters: Member,
}

impl Footprint {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        if btf.record("bpf_map_ops")?.find("map_mem_usage").is_none() {
            return Ok(Self::Uniform);
        }
        let hash = btf.record("bpf_htab")?;
        let buckets = hash.member("buckets")?;
        Ok(Self::ByType {
            array_size: btf.record("bpf_array")?.size(),
            hash: Box::new(HashMembers {
                size: hash.size(),
                bucket_size: pointee(btf, &buckets)?.size(),
                n_buckets: hash.member("n_buckets")?,
                elem_size: hash.member("elem_size")?,
                has_locks: hash.find("map_locked").is_some(),
                use_percpu_counter: hash.member("use_percpu_counter")?,
                count: hash.member("count.counter")?,
                sum: hash.member("pcount.count")?,
                counters: hash.member("pcount.counters")?,
            }),
        })
    }

    /// The bytes that `map` at `at` takes; `None` for types that are not
    /// reckoned here, and for numbers that no memory could hold.
    pub(crate) fn of(
        &self,
        memory: &dyn Memory<Kva>,
        map: &MapInfo,
        at: Kva,
        page_size: u64,
        per_cpu: &PerCpu,
    ) -> Result<Option<u64>, Fault<Kva>> {
        let cpus = per_cpu.cpus().count() as u64;
        match self {
            Self::Uniform => Ok(uniform(map, page_size, cpus)),
            Self::ByType { array_size, hash } => match map.map_type {
                MapType::ARRAY | MapType::PERCPU_ARRAY => {
                    Ok(array(map, *array_size, page_size, cpus))
                }
                MapType::HASH
                | MapType::PERCPU_HASH
                | MapType::LRU_HASH
                | MapType::LRU_PERCPU_HASH => {
                    let table = Copied::load(memory, at, hash.size)?;
                    let stored = if map.flags & NO_PREALLOC == 0 {
                        None
                    } else {
                        Some(hash.stored(memory, &table, per_cpu)?)
                    };
                    Ok(hash.of(map, &table, stored, cpus))
                }
                _ => Ok(None),
            },
        }
    }
}

fn uniform(map: &MapInfo, page_size: u64, cpus: u64) -> Option<u64> {
    let value = u64::from(map.value_size);
    let value = if map.map_type.is_per_cpu() {
        value.next_multiple_of(8).checked_mul(cpus)?
    } else {
        value
    };
    u64::from(map.key_size)
        .checked_add(value)?
        .checked_next_multiple_of(8)?
        .checked_mul(map.max_entries.into())?
        .checked_next_multiple_of(page_size)
}

fn array(map: &MapInfo, header: u64, page_size: u64, cpus: u64) -> Option<u64> {
    let entries = u64::from(map.max_entries);
    let values = entries.checked_mul(u64::from(map.value_size).next_multiple_of(8))?;
    if map.map_type.is_per_cpu() {
        let pointers = entries.checked_mul(POINTER)?;
        header
            .checked_add(pointers)?
            .checked_add(values.checked_mul(cpus)?)
    } else if map.flags & MMAPABLE != 0 {
        header
            .checked_next_multiple_of(page_size)?
            .checked_add(values.checked_next_multiple_of(page_size)?)
    } else {
        header.checked_add(values)
    }
}

impl HashMembers {
    /// How many elements a table that is not preallocated has now.
    fn stored(
        &self,
        memory: &dyn Memory<Kva>,
        table: &Copied,
        per_cpu: &PerCpu,
    ) -> Result<u64, Fault<Kva>> {
        if table.uint(&self.use_percpu_counter) == 0 {
            return Ok(table.uint(&self.count));
        }
        let mut sum = table.uint(&self.sum).cast_signed();
        for (_, at) in per_cpu.addresses(table.pointer(&self.counters).get()) {
            let part = memory.load_u32(at)?.cast_signed();
            sum = sum.wrapping_add(part.into());
        }
        Ok(u64::try_from(sum).unwrap_or(0))
    }

    /// The bytes of a table with `stored` elements, or of a preallocated one.
    fn of(&self, map: &MapInfo, table: &Copied, stored: Option<u64>, cpus: u64) -> Option<u64> {
        let is_per_cpu = map.map_type.is_per_cpu();
        let is_lru = matches!(map.map_type, MapType::LRU_HASH | MapType::LRU_PERCPU_HASH);
        let values = u64::from(map.value_size)
            .next_multiple_of(8)
            .checked_mul(cpus)?;
        let mut each = table.uint(&self.elem_size);
        if is_per_cpu {
            each = each.checked_add(values)?;
        }
        let buckets = self.bucket_size.checked_mul(table.uint(&self.n_buckets))?;
        let mut bytes = self.size.checked_add(buckets)?;
        if self.has_locks {
            bytes = bytes.checked_add(LOCKS.checked_mul(cpus)?)?;
        }
        let elements = match stored {
            // The list node in front of each is a pointer.
            Some(stored) => {
                each = each.checked_add(POINTER)?;
                if is_per_cpu {
                    each = each.checked_add(2 * POINTER)?;
                }
                stored
            }
            // A plain table keeps a spare element for each CPU, and a pointer
            // to it.
            None if !is_per_cpu && !is_lru => {
                bytes = bytes.checked_add(POINTER.checked_mul(cpus)?)?;
                u64::from(map.max_entries).checked_add(cpus)?
            }
            None => map.max_entries.into(),
        };
        bytes.checked_add(each.checked_mul(elements)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(map_type: MapType, flags: u32) -> MapInfo {
        MapInfo {
            map_type,
            key_size: 5,
            value_size: 13,
            max_entries: 3,
            flags,
            ..MapInfo::default()
        }
    }

    #[test]
    fn formulas() {
        assert_eq!(array(&map(MapType::ARRAY, 0), 264, 4096, 2), Some(264 + 48));
        assert_eq!(
            array(&map(MapType::ARRAY, MMAPABLE), 264, 4096, 2),
            Some(8192)
        );
        let per_cpu = map(MapType::PERCPU_ARRAY, 0);
        assert_eq!(array(&per_cpu, 264, 4096, 2), Some(264 + 24 + 96));
        assert_eq!(uniform(&map(MapType::HASH, 0), 4096, 2), Some(4096));
        let absurd = MapInfo {
            max_entries: u32::MAX,
            value_size: u32::MAX,
            ..map(MapType::PERCPU_ARRAY, 0)
        };
        assert_eq!(array(&absurd, 264, 4096, 1 << 16), None);
    }
}
