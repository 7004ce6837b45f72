//! Which maps without types are made: one row each.
//!
//! A further map is a further row. A further map type that takes keys and values is a row with
//! that type; one that works otherwise gets its own [`Fill`].

use libbpf_sys::{
    BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC, BPF_F_NUMA_NODE,
    BPF_F_RDONLY_PROG, BPF_F_WRONLY, BPF_F_WRONLY_PROG, BPF_F_ZERO_SEED,
    BPF_MAP_TYPE_ARRAY as ARRAY, BPF_MAP_TYPE_HASH as HASH, BPF_MAP_TYPE_LPM_TRIE as LPM,
    BPF_MAP_TYPE_LRU_HASH as LRU, BPF_MAP_TYPE_LRU_PERCPU_HASH as LRU_PERCPU,
    BPF_MAP_TYPE_PERCPU_ARRAY as PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH as PERCPU_HASH,
};

/// The resizable hash, which is younger than libbpf's list.
const RHASH: u32 = 35;

/// A row of the plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) kind: u32,
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
    /// A trie ends with `keep` prefixes, some of which were overwritten, after `churn` others
    /// have come and gone.
    Prefixes { keep: u32, churn: u32 },
}

/// A row with neither flags nor a freeze.
const fn row(
    name: &'static str,
    kind: u32,
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

const fn prefixes(keep: u32, churn: u32) -> Fill {
    Fill::Prefixes { keep, churn }
}

/// A trie, whose nodes are always allocated one by one.
const fn trie(name: &'static str, sizes: (u32, u32, u32), fill: Fill) -> Spec {
    row(name, LPM, sizes, fill).flags(BPF_F_NO_PREALLOC)
}

/// A resizable hash, whose elements are too.
const fn rhash(name: &'static str, sizes: (u32, u32, u32), fill: Fill) -> Spec {
    row(name, RHASH, sizes, fill).flags(BPF_F_NO_PREALLOC)
}

/// Tries: a key is a `u32` with the prefix's length, then the data.
#[rustfmt::skip]
pub(crate) const TRIES: &[Spec] = &[
    trie("lpm_v4", (8, 8, 300), prefixes(90, 40)),
    trie("lpm_v6", (20, 16, 600), prefixes(250, 60)),
    trie("lpm_odd", (7, 13, 200), prefixes(80, 30)),
    trie("lpm_byte", (5, 1, 600), prefixes(300, 100)),
    trie("lpm_long", (260, 4, 60), prefixes(40, 10)),
    trie("lpm_pages", (8, 1200, 60), prefixes(30, 10)),
    trie("lpm_full", (8, 4, 50), prefixes(50, 0)),
    trie("lpm_one", (8, 8, 1), prefixes(1, 0)),
    trie("lpm_empty", (8, 8, 20), Fill::Nothing),
    trie("lpm_emptied", (8, 8, 60), prefixes(0, 40)),
    trie("lpm_frozen", (8, 8, 60), prefixes(20, 5)).frozen(),
];

/// Resizable hashes.
#[rustfmt::skip]
pub(crate) const RHASHES: &[Spec] = &[
    rhash("rh", (4, 8, 64), keys(20, 10)),
    rhash("rh_odd", (5, 13, 500), keys(300, 100)),
    rhash("rh_word_key", (8, 16, 500), keys(200, 50)),
    rhash("rh_large", (16, 24, 131_072), keys(9000, 2000)),
    rhash("rh_pages", (4, 1200, 300), keys(200, 50)),
    rhash("rh_long_key", (300, 4, 50), keys(40, 10)),
    rhash("rh_full", (8, 16, 100), keys(100, 0)),
    rhash("rh_one", (1, 1, 1), keys(1, 0)),
    rhash("rh_empty", (4, 8, 64), Fill::Nothing),
    rhash("rh_emptied", (4, 8, 3000), keys(0, 700)),
    rhash("rh_frozen", (4, 4, 10), keys(7, 2)).frozen(),
];

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
