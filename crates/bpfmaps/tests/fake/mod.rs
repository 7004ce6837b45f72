//! Maps made by hand, in a kernel whose layouts no real kernel has.

pub(crate) mod prog_records;
pub(crate) mod records;
pub(crate) mod table;

use std::rc::Rc;

use bpfmaps::{Guest, MapType};
use btf_layout::TypeId;
use btf_layout::build::Builder;
use guestmem::{Address, Fake, Gpa, Kva, Physical};
use kernel::build::Machine;
use kernel::{Encoding, Finder};

/// Offsets in the made-up kernel. Each differs from all real ones.
pub(crate) const MAP_SIZE: u64 = 160;
pub(crate) const MAP_KEY_SIZE: u64 = 28;
pub(crate) const MAP_VALUE_SIZE: u64 = 32;
pub(crate) const HTAB_BUCKETS: u64 = 176;
pub(crate) const HTAB_ELEM_SIZE: u64 = 184;
pub(crate) const HTAB_COUNT: u64 = 188;
pub(crate) const BUCKET_SIZE: u64 = 24;
pub(crate) const BUCKET_FIRST: u64 = 8;
pub(crate) const ELEM_NEXT: u64 = 16;
pub(crate) const ELEM_HASH: u64 = 32;
pub(crate) const ELEM_KEY: u64 = 40;
pub(crate) const ARRAY_ELEM_SIZE: u64 = 164;
pub(crate) const ARRAY_VALUES: u64 = 200;
pub(crate) const NODE_SIZE: u64 = 24 + 64 * 8;
pub(crate) const CPU_OFFSETS: [(u32, u64); 2] = [(0, 0x10_0000), (3, 0x40_0000)];

/// Members by (name, type, byte offset).
fn record(types: &mut Builder, name: &str, size: u64, members: &[(&str, TypeId, u64)]) -> TypeId {
    let members: Vec<(&str, TypeId, u32)> = members
        .iter()
        .map(|&(name, ty, offset)| (name, ty, u32::try_from(offset * 8).unwrap()))
        .collect();
    types.record(name, u32::try_from(size).unwrap(), &members)
}

fn kernel_btf(without: &[&str]) -> Vec<u8> {
    let mut types = Builder::new();
    let b = &mut types;
    let u8_ = b.int("u8", 1);
    let u32_ = b.int("u32", 4);
    let u64_ = b.int("u64", 8);
    let name = b.array(u8_, 16);
    let pointer = b.ptr(TypeId(0));
    let root = record(b, "xarray", 16, &[("xa_head", pointer, 8)]);
    record(b, "idr", 24, &[("idr_rt", root, 0), ("idr_base", u32_, 16)]);
    let slots = b.array(pointer, 64);
    let node = [
        ("shift", u64_, 0),
        ("parent", pointer, 8),
        ("offset", u8_, 16),
        ("slots", slots, 24),
    ];
    record(b, "xa_node", NODE_SIZE, &node);
    let map = [
        ("name", name, 0),
        ("map_type", u32_, 20),
        ("id", u32_, 24),
        ("key_size", u32_, MAP_KEY_SIZE),
        ("value_size", u32_, MAP_VALUE_SIZE),
        ("max_entries", u32_, 36),
        ("map_flags", u32_, 40),
        ("btf_key_type_id", u32_, 44),
        ("btf_value_type_id", u32_, 48),
        ("btf_vmlinux_value_type_id", u32_, 52),
        ("map_extra", u64_, 56),
        ("btf", pointer, 64),
        ("frozen", u8_, 72),
    ];
    let map = record(b, "bpf_map", MAP_SIZE, &map);
    let btf = [
        ("data", pointer, 8),
        ("data_size", u32_, 16),
        ("id", u32_, 20),
        ("base_btf", pointer, 24),
        ("kernel_btf", u8_, 32),
        ("name", name, 33),
    ];
    record(b, "btf", 56, &btf);
    let head = record(b, "hlist_nulls_head", 8, &[("first", pointer, 0)]);
    let bucket = record(b, "bucket", BUCKET_SIZE, &[("head", head, BUCKET_FIRST)]);
    let buckets = b.ptr(bucket);
    let htab = [
        ("map", map, 0),
        ("buckets", buckets, HTAB_BUCKETS),
        ("elem_size", u32_, HTAB_ELEM_SIZE),
        ("n_buckets", u32_, HTAB_COUNT),
    ];
    record(b, "bpf_htab", 192, &htab);
    let link = record(b, "hlist_nulls_node", 16, &[("next", pointer, 0)]);
    let flexible = b.array(u8_, 0);
    let element = [
        ("hash_node", link, ELEM_NEXT),
        ("hash", u32_, ELEM_HASH),
        ("key", flexible, ELEM_KEY),
    ];
    record(b, "htab_elem", ELEM_KEY, &element);
    let array = [
        ("map", map, 0),
        ("elem_size", u32_, ARRAY_ELEM_SIZE),
        ("value", flexible, ARRAY_VALUES),
        ("pptrs", flexible, ARRAY_VALUES),
        ("ptrs", flexible, ARRAY_VALUES),
    ];
    record(b, "bpf_array", ARRAY_VALUES, &array);
    table::types(b, without);
    enums(b, without);
    types.finish()
}

/// The enums of the made-up kernel, without the enumerators in `without`.
fn enums(b: &mut Builder, without: &[&str]) {
    for (name, enumerators) in [
        ("btf_field_type", FIELD_TYPES),
        (
            "bpf_task_work_state",
            &["BPF_TW_STANDBY", "BPF_TW_SCHEDULED"],
        ),
    ] {
        let kept = enumerators.iter().filter(|name| !without.contains(name));
        let values: Vec<(&str, i64)> = kept.copied().zip(0..).collect();
        b.enumeration(name, 4, &values);
    }
}

/// The kinds of special field that the kernel knows.
const FIELD_TYPES: &[&str] = &[
    "BPF_SPIN_LOCK",
    "BPF_TIMER",
    "BPF_KPTR_UNREF",
    "BPF_KPTR_REF",
    "BPF_KPTR_PERCPU",
    "BPF_LIST_HEAD",
    "BPF_LIST_NODE",
    "BPF_RB_ROOT",
    "BPF_RB_NODE",
    "BPF_REFCOUNT",
    "BPF_WORKQUEUE",
    "BPF_UPTR",
    "BPF_RES_SPIN_LOCK",
    "BPF_TASK_WORK",
];

/// A kernel to which maps are added.
pub(crate) struct Maps {
    pub(crate) machine: Machine,
    listed: Vec<(u32, Kva)>,
}

/// A map's numbers.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) map_type: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
}

impl Maps {
    pub(crate) fn new() -> Self {
        Self::without(&[])
    }

    /// A kernel whose BTF lacks these records, or members as `record.member`.
    pub(crate) fn without(missing: &[&str]) -> Self {
        let mut machine = Machine::new(Fake::new(), Gpa::at(0), 4, "6.66.0-made");
        machine.btf(&kernel_btf(missing));
        machine.cpus(&CPU_OFFSETS);
        Self {
            machine,
            listed: Vec::new(),
        }
    }

    /// `struct bpf_map` and what follows it, `size` bytes, listed under `id`.
    pub(crate) fn map(&mut self, id: u32, name: &str, shape: Shape, size: u64) -> Kva {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let Shape {
            map_type,
            key_size,
            value_size,
            max_entries,
        } = shape;
        for (at, word) in [
            (20, map_type.0),
            (24, id),
            (28, key_size),
            (32, value_size),
            (36, max_entries),
        ] {
            bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        let at = self.machine.allocate(&bytes);
        self.list(id, at);
        at
    }

    /// Puts the map at `at` into the list.
    pub(crate) fn list(&mut self, id: u32, at: Kva) {
        self.listed.push((id, at));
    }

    /// A hash table of `buckets` with these (hash, key, value) in it. Gives
    /// the table, its buckets, and its elements.
    pub(crate) fn hash(
        &mut self,
        id: u32,
        shape: Shape,
        buckets: u32,
        entries: &[(u32, &[u8], &[u8])],
    ) -> (Kva, Kva, Vec<Kva>) {
        let table = self.map(id, "hash", shape, 192);
        let heads_size = u64::from(buckets) * BUCKET_SIZE;
        let heads = self
            .machine
            .allocate(&vec![0; usize::try_from(heads_size).unwrap()]);
        self.machine.place_u64(on(table, HTAB_BUCKETS), heads.get());
        self.machine
            .place(on(table, HTAB_COUNT), &buckets.to_le_bytes());
        let value_size = match shape.map_type.is_per_cpu() {
            true => 8,
            false => u64::from(shape.value_size).next_multiple_of(8),
        };
        let elem_size = ELEM_KEY + u64::from(shape.key_size).next_multiple_of(8) + value_size;
        let elem_size = u32::try_from(elem_size).unwrap();
        self.machine
            .place(on(table, HTAB_ELEM_SIZE), &elem_size.to_le_bytes());
        let mut ends: Vec<u64> = (0..u64::from(buckets))
            .map(|index| index << 1 | 1)
            .collect();
        let mut elements = Vec::new();
        for (hash, key, value) in entries {
            let bucket = usize::try_from(hash & (buckets - 1)).unwrap();
            let mut bytes = vec![0; usize::try_from(ELEM_KEY).unwrap()];
            let next = usize::try_from(ELEM_NEXT).unwrap();
            bytes[next..next + 8].copy_from_slice(&ends[bucket].to_le_bytes());
            let at = usize::try_from(ELEM_HASH).unwrap();
            bytes[at..at + 4].copy_from_slice(&hash.to_le_bytes());
            bytes.extend(*key);
            bytes.resize(bytes.len().next_multiple_of(8), 0xdd);
            bytes.extend(*value);
            let element = self.machine.allocate(&bytes);
            ends[bucket] = element.get();
            elements.push(element);
        }
        for (index, end) in ends.iter().enumerate() {
            let head = on(heads, index as u64 * BUCKET_SIZE + BUCKET_FIRST);
            self.machine.place_u64(head, *end);
        }
        (table, heads, elements)
    }

    /// An array of values, or of per-CPU pointers, that are `each` bytes.
    pub(crate) fn array(&mut self, id: u32, shape: Shape, values: &[u8]) -> Kva {
        let table = self.map(id, "array", shape, ARRAY_VALUES + values.len() as u64);
        let elem_size = shape.value_size.next_multiple_of(8);
        self.machine
            .place(on(table, ARRAY_ELEM_SIZE), &elem_size.to_le_bytes());
        self.machine.place(on(table, ARRAY_VALUES), values);
        table
    }

    /// `struct btf` with these bytes and the base at `base`.
    pub(crate) fn btf(&mut self, id: u32, data: &[u8], base: Kva) -> Kva {
        let data_at = self.machine.allocate(data);
        let at = self.machine.allocate(&[0; 56]);
        self.machine.place_u64(on(at, 8), data_at.get());
        let size = u32::try_from(data.len()).unwrap();
        self.machine.place(on(at, 16), &size.to_le_bytes());
        self.machine.place(on(at, 20), &id.to_le_bytes());
        self.machine.place_u64(on(at, 24), base.get());
        at
    }

    /// Writes the tree of ids and gives the backend.
    pub(crate) fn finish(mut self) -> Guest {
        let listed = std::mem::take(&mut self.listed);
        self.idr("map_idr", &listed);
        self.open()
    }

    /// Writes a tree of ids under the name `symbol`.
    pub(crate) fn idr(&mut self, symbol: &str, listed: &[(u32, Kva)]) {
        let idr = self.machine.allocate(&[0; 24]);
        self.machine.symbol(symbol, idr);
        let last = listed.iter().map(|(id, _)| *id).max().unwrap_or(0);
        let mut shift = 0;
        while u64::from(last) >> shift >= 64 {
            shift += 6;
        }
        let root = self.node(listed, shift, 0, None);
        self.machine.place_u64(on(idr, 8), root.get() | 2);
    }

    /// The backend as things stand, without a tree of its own.
    pub(crate) fn open(self) -> Guest {
        let ram = self.machine.finish(Encoding::AbsolutePercpu);
        let kernel = Finder::new().find(&[Rc::new(ram) as Physical]).unwrap();
        Guest::new(kernel).unwrap()
    }

    /// A node of the tree: the ids from `first` on, and all below it.
    pub(crate) fn node(
        &mut self,
        listed: &[(u32, Kva)],
        shift: u32,
        first: u32,
        parent: Option<(Kva, u8)>,
    ) -> Kva {
        let mut bytes = vec![0; usize::try_from(NODE_SIZE).unwrap()];
        bytes[0] = u8::try_from(shift).unwrap();
        if let Some((parent, slot)) = parent {
            bytes[16] = slot;
            bytes[8..16].copy_from_slice(&parent.get().to_le_bytes());
        }
        let node = self.machine.allocate(&bytes);
        for slot in 0..64u32 {
            let start = first + (slot << shift);
            let below: Vec<(u32, Kva)> = listed
                .iter()
                .copied()
                .filter(|(id, _)| *id >= start && id - start < 1 << shift)
                .collect();
            let entry = match below.first() {
                None => continue,
                Some((_, at)) if shift == 0 => at.get(),
                Some(_) => {
                    let place = Some((node, u8::try_from(slot).unwrap()));
                    self.node(&below, shift - 6, start, place).get() | 2
                }
            };
            self.machine
                .place_u64(on(node, 24 + u64::from(slot) * 8), entry);
        }
        node
    }
}

/// `offset` bytes behind `at`.
pub(crate) fn on(at: Kva, offset: u64) -> Kva {
    at.checked_add(offset).unwrap()
}
