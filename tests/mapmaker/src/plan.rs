//! Which maps without types are made: one row each.
//!
//! A further map is a further row. A further map type that takes keys and values is a row with
//! that type; one that works otherwise gets its own [`Fill`].

use libbpf_rs::MapType;
use libbpf_sys::{
    BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC, BPF_F_NUMA_NODE,
    BPF_F_RDONLY_PROG, BPF_F_WRONLY, BPF_F_WRONLY_PROG, BPF_F_ZERO_SEED,
};

/// A row of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) kind: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) fill: Fill,
    /// Whether the map is frozen when it has been filled.
    pub(crate) frozen: bool,
}

/// How a map gets its contents.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fill {
    /// Nothing is put in. (Arrays hold zeroes then.)
    Nothing,
    /// Every `step`th slot of an array is written.
    Slots { step: u32 },
    /// A hash ends with `keep` entries. On the way, `churn` others come and go: keys are
    /// deleted, some are put in again, and values are overwritten.
    Keys { keep: u32, churn: u32 },
    /// More distinct keys are inserted than an LRU map has room for.
    Overflow { inserted: u32 },
}

const HASH: MapType = MapType::Hash;
const ARRAY: MapType = MapType::Array;
const PERCPU_HASH: MapType = MapType::PercpuHash;
const PERCPU_ARRAY: MapType = MapType::PercpuArray;
const LRU: MapType = MapType::LruHash;
const LRU_PERCPU: MapType = MapType::LruPercpuHash;

/// A row with neither flags nor a freeze.
const fn row(
    name: &'static str,
    kind: MapType,
    (key_size, value_size, max_entries): (u32, u32, u32),
    fill: Fill,
) -> Spec {
    Spec {
        name,
        kind,
        key_size,
        value_size,
        max_entries,
        flags: 0,
        fill,
        frozen: false,
    }
}

impl Spec {
    const fn flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    const fn frozen(self) -> Self {
        Self {
            frozen: true,
            ..self
        }
    }
}

const fn keys(keep: u32, churn: u32) -> Fill {
    Fill::Keys { keep, churn }
}

const fn slots(step: u32) -> Fill {
    Fill::Slots { step }
}

const fn overflow(inserted: u32) -> Fill {
    Fill::Overflow { inserted }
}

/// The maps of the test guests.
#[rustfmt::skip]
pub(crate) const FULL: &[Spec] = &[
    row("h", HASH, (4, 8, 64), keys(20, 10)),
    row("h_empty", HASH, (4, 8, 64), Fill::Nothing),
    row("h_emptied", HASH, (4, 8, 64), keys(0, 40)),
    row("h_full", HASH, (8, 16, 100), keys(100, 0)),
    row("h_one", HASH, (1, 1, 1), keys(1, 0)),
    row("h_bytes", HASH, (1, 3, 256), keys(256, 0)),
    row("h_odd", HASH, (5, 13, 500), keys(300, 100)),
    row("h_long_key", HASH, (300, 4, 50), keys(40, 10)),
    row("h_key_512", HASH, (512, 512, 300), keys(250, 50)),
    row("h_no_prealloc", HASH, (12, 40, 2000), keys(700, 300)).flags(BPF_F_NO_PREALLOC),
    row("h_zero_seed", HASH, (4, 4, 1000), keys(600, 200)).flags(BPF_F_ZERO_SEED),
    row("h_big_table", HASH, (16, 24, 131_072), keys(5000, 1000)),
    row("h_big_table_np", HASH, (16, 24, 131_072), keys(5000, 1000)).flags(BPF_F_NO_PREALLOC),
    row("h_pages", HASH, (4, 1200, 300), keys(200, 50)),
    row("h_pages_np", HASH, (4, 1200, 300), keys(200, 50)).flags(BPF_F_NO_PREALLOC),
    row("h_3mib", HASH, (4, (3 << 20) + 12, 2), keys(2, 0)),
    row("h_frozen", HASH, (4, 4, 10), keys(7, 2)).frozen(),
    row("h_wronly", HASH, (4, 4, 10), keys(6, 2)).flags(BPF_F_WRONLY),
    row("h_numa", HASH, (4, 4, 10), keys(6, 2)).flags(BPF_F_NUMA_NODE),
    row("h_name_as_long_", HASH, (4, 4, 10), keys(2, 0)),
    row("twin", HASH, (4, 4, 10), keys(3, 0)),
    row("twin", HASH, (8, 4, 10), keys(4, 0)),
    row("", HASH, (4, 4, 10), keys(5, 0)),
    row("a", ARRAY, (4, 8, 16), slots(1)),
    row("a_zero", ARRAY, (4, 8, 16), Fill::Nothing),
    row("a_one", ARRAY, (4, 1, 1), slots(1)),
    row("a_odd", ARRAY, (4, 13, 77), slots(3)),
    row("a_long", ARRAY, (4, 24, 6000), slots(7)),
    row("a_pages", ARRAY, (4, 1200, 100), slots(1)),
    row("a_17mib", ARRAY, (4, (17 << 20) + 12, 1), slots(1)),
    row("a_mmap", ARRAY, (4, 12, 1000), slots(5)).flags(BPF_F_MMAPABLE),
    row("a_mmap_page", ARRAY, (4, 4096, 3), slots(2)).flags(BPF_F_MMAPABLE),
    row("a_inner", ARRAY, (4, 8, 5), slots(2)).flags(BPF_F_INNER_MAP),
    row("a_frozen", ARRAY, (4, 32, 8), slots(2)).frozen(),
    row("a_rdonly_prog", ARRAY, (4, 32, 8), slots(1)).flags(BPF_F_RDONLY_PROG),
    row("a_wronly_prog", ARRAY, (4, 32, 8), slots(1)).flags(BPF_F_WRONLY_PROG),
    row("ph", PERCPU_HASH, (4, 8, 50), keys(30, 10)),
    row("ph_odd", PERCPU_HASH, (5, 13, 50), keys(30, 10)),
    row("ph_pages", PERCPU_HASH, (8, 1200, 40), keys(20, 5)),
    row("ph_no_prealloc", PERCPU_HASH, (4, 20, 100), keys(60, 20)).flags(BPF_F_NO_PREALLOC),
    row("ph_empty", PERCPU_HASH, (4, 8, 50), Fill::Nothing),
    row("pa", PERCPU_ARRAY, (4, 8, 10), slots(1)),
    row("pa_odd", PERCPU_ARRAY, (4, 3, 9), slots(2)),
    row("pa_big", PERCPU_ARRAY, (4, 32_768, 2), slots(1)),
    row("pa_long", PERCPU_ARRAY, (4, 4, 3000), slots(11)),
    row("lru", LRU, (4, 8, 100), keys(10, 0)),
    row("lru_evicted", LRU, (4, 8, 500), overflow(2000)),
    row("lru_own", LRU, (4, 8, 600), overflow(1500)).flags(BPF_F_NO_COMMON_LRU),
    row("lru_pages", LRU, (6, 1200, 300), keys(20, 5)),
    row("lru_empty", LRU, (4, 8, 100), Fill::Nothing),
    row("lru_pc", LRU_PERCPU, (4, 8, 100), keys(10, 0)),
    row("lru_pc_evicted", LRU_PERCPU, (8, 20, 300), overflow(900)),
];

/// The maps that are made when ids have passed 65,536.
pub(crate) const LATE: &[Spec] = &[
    row("late_hash", HASH, (4, 8, 64), keys(33, 5)),
    row("late_array", ARRAY, (4, 8, 5), slots(1)),
    row("late_ph", PERCPU_HASH, (4, 8, 50), keys(11, 3)),
];

/// The map whose only purpose is to use up an id.
pub(crate) const PASSING: Spec = row("passing", ARRAY, (4, 4, 1), Fill::Nothing);
