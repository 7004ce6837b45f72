//! The map types by number and name (`enum bpf_map_type` of the UAPI).

use std::fmt;

/// A map's type. Numbers that this list does not know are kept as they are;
/// the default is 0, which no map has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MapType(pub u32);

macro_rules! map_types {
    ($($number:literal $constant:ident $name:literal,)*) => {
        impl MapType {
            $(
                #[doc = concat!("`", $name, "`, number ", stringify!($number), ".")]
                pub const $constant: Self = Self($number);
            )*

            /// Every known type, by number.
            pub const KNOWN: &'static [Self] = &[$(Self::$constant),*];

            /// The name that bpftool gives the type, or `None` for a number
            /// that this list does not know.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$constant => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

map_types! {
    1 HASH "hash",
    2 ARRAY "array",
    3 PROG_ARRAY "prog_array",
    4 PERF_EVENT_ARRAY "perf_event_array",
    5 PERCPU_HASH "percpu_hash",
    6 PERCPU_ARRAY "percpu_array",
    7 STACK_TRACE "stack_trace",
    8 CGROUP_ARRAY "cgroup_array",
    9 LRU_HASH "lru_hash",
    10 LRU_PERCPU_HASH "lru_percpu_hash",
    11 LPM_TRIE "lpm_trie",
    12 ARRAY_OF_MAPS "array_of_maps",
    13 HASH_OF_MAPS "hash_of_maps",
    14 DEVMAP "devmap",
    15 SOCKMAP "sockmap",
    16 CPUMAP "cpumap",
    17 XSKMAP "xskmap",
    18 SOCKHASH "sockhash",
    19 CGROUP_STORAGE "cgroup_storage",
    20 REUSEPORT_SOCKARRAY "reuseport_sockarray",
    21 PERCPU_CGROUP_STORAGE "percpu_cgroup_storage",
    22 QUEUE "queue",
    23 STACK "stack",
    24 SK_STORAGE "sk_storage",
    25 DEVMAP_HASH "devmap_hash",
    26 STRUCT_OPS "struct_ops",
    27 RINGBUF "ringbuf",
    28 INODE_STORAGE "inode_storage",
    29 TASK_STORAGE "task_storage",
    30 BLOOM_FILTER "bloom_filter",
    31 USER_RINGBUF "user_ringbuf",
    32 CGRP_STORAGE "cgrp_storage",
    33 ARENA "arena",
    34 INSN_ARRAY "insn_array",
    35 RHASH "rhash",
}

impl MapType {
    /// Whether each entry holds one value for each possible CPU.
    #[must_use]
    pub fn is_per_cpu(self) -> bool {
        matches!(
            self,
            Self::PERCPU_HASH
                | Self::PERCPU_ARRAY
                | Self::LRU_PERCPU_HASH
                | Self::PERCPU_CGROUP_STORAGE
        )
    }
}

impl fmt::Display for MapType {
    /// The name, or `type N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {}", self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_run_without_a_hole_and_unknown_ones_print() {
        for (index, map_type) in MapType::KNOWN.iter().enumerate() {
            assert_eq!(map_type.0 as usize, index + 1);
        }
        assert_eq!(MapType(9).to_string(), "lru_hash");
        assert_eq!(format!("{:<9}|", MapType(77)), "type 77  |");
    }
}
