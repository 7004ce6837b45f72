//! What bpf(2) answers when bpftool walks over a map and looks up each key.

use bpfmaps::{MapInfo, MapType};

// As the C library says them (`strerror`).
const ENOENT: &str = "No such file or directory";
const ENOSPC: &str = "No space left on device";
const EOPNOTSUPP: &str = "Operation not supported";
/// What the C library says of the kernel's own 524, "not supported".
const ENOTSUPP: &str = "Unknown error 524";

/// What look-ups in a map of slots say instead of a value.
pub(super) struct Lookup {
    /// Of slots that are taken.
    pub(super) taken: Option<&'static str>,
    /// Of slots that are free, where they are looked up and shown.
    pub(super) free: Option<&'static str>,
}

impl Lookup {
    pub(super) fn of(info: &MapInfo) -> Self {
        let all = |why| Self {
            taken: Some(why),
            free: Some(why),
        };
        let free = |free| Self { taken: None, free };
        let has_cookies = info.value_size == 8;
        match info.map_type {
            MapType::PERF_EVENT_ARRAY | MapType::CGROUP_ARRAY => all(ENOTSUPP),
            MapType::XSKMAP => all(EOPNOTSUPP),
            MapType::SOCKMAP | MapType::REUSEPORT_SOCKARRAY if !has_cookies => all(ENOSPC),
            MapType::SOCKHASH if !has_cookies => Self {
                taken: Some(ENOSPC),
                free: None,
            },
            MapType::SOCKMAP | MapType::REUSEPORT_SOCKARRAY | MapType::DEVMAP | MapType::CPUMAP => {
                free(Some(ENOENT))
            }
            // bpftool passes over the free slots of arrays of programs and
            // maps, and hashes have none.
            _ => free(None),
        }
    }
}

/// Whether such a map has keys that can be walked over.
pub(super) fn has_place(map_type: MapType) -> bool {
    !matches!(
        map_type,
        MapType::QUEUE
            | MapType::STACK
            | MapType::BLOOM_FILTER
            | MapType::RINGBUF
            | MapType::USER_RINGBUF
            | MapType::TASK_STORAGE
            | MapType::INODE_STORAGE
            | MapType::SK_STORAGE
            | MapType::CGRP_STORAGE
            | MapType::ARENA
    )
}
