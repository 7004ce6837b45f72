//! What is known of a kernel and of a map before its entries are read.

use guestmem::Kva;
use std::fmt;

use crate::{MapType, Walk};

pub use kernel::Arch;

/// The kernel whose maps are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelInfo {
    /// `uname -r`.
    pub release: String,
    /// Its architecture.
    pub arch: Arch,
    /// Its page size in bytes.
    pub page_size: u64,
    /// Levels of its page tables, where known.
    pub paging_levels: Option<u8>,
    /// The CPUs that per-CPU data exists for.
    pub possible_cpus: Cpus,
}

/// A set of CPU numbers, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub Vec<u32>);

impl fmt::Display for Cpus {
    /// As the kernel prints a CPU list: `0-3,8`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let contiguous = |a: &u32, b: &u32| a.checked_add(1) == Some(*b);
        for run in self.0.chunk_by(contiguous) {
            match run {
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                [only] => write!(f, "{separator}{only}")?,
                [] => {}
            }
            separator = ",";
        }
        Ok(())
    }
}

/// A map's description, as `bpf_map_info` and `struct bpf_map` have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapInfo {
    /// The id, unique in its kernel.
    pub id: u32,
    /// The name as the kernel keeps it: up to 15 bytes, not unique. Bytes
    /// that are no UTF-8 are replaced.
    pub name: String,
    /// The type.
    pub map_type: MapType,
    /// Bytes of a key; 0 for maps without keys.
    pub key_size: u32,
    /// Bytes of a value, as the map was created.
    pub value_size: u32,
    /// The number of entries that the map was created for.
    pub max_entries: u32,
    /// `BPF_F_*` flags of the map's creation.
    pub flags: u32,
    /// `map_extra` of the map's creation; its meaning is the type's.
    pub map_extra: u64,
    /// Id of the BTF that describes keys and values; `None` without BTF.
    pub btf_id: Option<u32>,
    /// Type of a key in that BTF; 0 for none.
    pub btf_key_type_id: u32,
    /// Type of a value in that BTF; 0 for none.
    pub btf_value_type_id: u32,
    /// Type of a `struct_ops` map's value in the kernel's own BTF; 0 for none.
    pub btf_vmlinux_value_type_id: u32,
    /// Whether the map is read-only for bpf(2) from now on
    /// (`BPF_MAP_FREEZE`); `None` where the backend cannot tell.
    pub frozen: Option<bool>,
    /// Bytes of memory that the kernel charges for the map, where known.
    pub memory: Option<u64>,
    /// Where `struct bpf_map` is, where known.
    pub kva: Option<Kva>,
}

/// The maps of a kernel, and the account of looking for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maps {
    /// Every map that could be described, by ascending id.
    pub maps: Vec<MapInfo>,
    /// What is missing from the list.
    pub walk: Walk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_print_as_ranges() {
        let check = |cpus: &[u32], text| assert_eq!(Cpus(cpus.to_vec()).to_string(), text);
        check(&[], "");
        check(&[3], "3");
        check(&[0, 1, 2, 3, 8], "0-3,8");
        check(&[0, 2, 3], "0,2-3");
    }
}
