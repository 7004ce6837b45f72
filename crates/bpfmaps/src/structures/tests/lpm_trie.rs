//! Tries of prefixes.

use btf_layout::build::Builder;
use guestmem::{Address, Kva};

use super::{MAP, Made, NOWHERE, check, on, read, record};
use crate::{MapInfo, MapType};

const INTERMEDIATE: u32 = 1;

fn map() -> MapInfo {
    MapInfo {
        map_type: MapType::LPM_TRIE,
        key_size: 6,
        value_size: 3,
        ..MapInfo::default()
    }
}

/// Where the members of a node are: before and since 6.13.
struct Node {
    child: u32,
    prefixlen: u32,
    data: u32,
}

const NODES: [Node; 2] = [
    Node {
        child: 16,
        prefixlen: 32,
        data: 40,
    },
    Node {
        child: 0,
        prefixlen: 16,
        data: 24,
    },
];

/// The node `index` of a trie.
fn node(index: u64) -> Kva {
    Kva::at(0xffff_8880_0001_0000 + index * 0x100)
}

impl Node {
    fn made(&self) -> Made {
        let mut types = Builder::new();
        let (u8_, u32_, u64_) = (types.int("u8", 1), types.int("u32", 4), types.int("u64", 8));
        let pointers = types.array(u64_, 2);
        let flexible = types.array(u8_, 0);
        let trie = [
            ("root", u64_, 8),
            ("data_size", u64_, 24),
            ("max_prefixlen", u64_, 16),
        ];
        record(&mut types, "lpm_trie", 48, &trie);
        let node = [
            ("child", pointers, self.child),
            ("prefixlen", u32_, self.prefixlen),
            ("flags", u32_, self.prefixlen + 4),
            ("data", flexible, self.data),
        ];
        record(&mut types, "lpm_trie_node", self.data, &node);
        let mut made = Made::new(&types);
        made.zeros(MAP, 48);
        made.u64(on(MAP, 8), self::node(0).get());
        made.u64(on(MAP, 24), 2);
        made.u64(on(MAP, 16), 16);
        made
    }

    /// Puts a node there: its prefix, flags and children.
    fn put(
        &self,
        made: &mut Made,
        index: u64,
        prefix: ([u8; 2], u32),
        flags: u32,
        children: [u64; 2],
    ) {
        let at = node(index);
        made.zeros(at, 48);
        for (place, child) in (0u64..).zip(children) {
            let child = if child == 0 { 0 } else { node(child).get() };
            made.u64(on(at, u64::from(self.child) + place * 8), child);
        }
        made.u32(on(at, self.prefixlen.into()), prefix.1);
        made.u32(on(at, u64::from(self.prefixlen) + 4), flags);
        let mut data = prefix.0.to_vec();
        if flags & INTERMEDIATE == 0 {
            data.extend(format!("v{index:02}").bytes());
        }
        made.bytes(on(at, self.data.into()), &data);
    }

    /// 10.0/8, below it 10.128/9 and, by an intermediate node, 10.0/15 and
    /// 10.1/16.
    fn filled(&self) -> Made {
        let mut made = self.made();
        self.put(&mut made, 0, ([10, 0], 8), 0, [1, 4]);
        self.put(&mut made, 1, ([10, 0], 14), INTERMEDIATE, [2, 3]);
        self.put(&mut made, 2, ([10, 1], 15), 0, [0, 0]);
        self.put(&mut made, 3, ([10, 3], 16), 0, [0, 0]);
        self.put(&mut made, 4, ([10, 200], 9), 0, [0, 0]);
        made
    }
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    (NODES[1].filled(), map())
}

const FOUND: [&str; 4] = [
    "080000000a00 763030",
    "0f0000000a01 763032",
    "100000000a03 763033",
    "090000000ac8 763034",
];

#[test]
fn both_layouts_read_back_without_intermediate_nodes() {
    for layout in NODES {
        check(&layout.filled(), &map(), &FOUND, &[]);
        let mut empty = layout.made();
        empty.u64(on(MAP, 8), 0);
        check(&empty, &map(), &[], &[]);
    }
}

/// Corrupts the trie and compares what is left and why.
#[track_caller]
fn corrupt(change: impl FnOnce(&mut Made, &Node), lines: &[&str], gap: &str) {
    let [_, layout] = NODES;
    let mut made = layout.filled();
    change(&mut made, &layout);
    check(&made, &map(), lines, &[gap]);
}

#[test]
fn a_child_must_be_longer_than_its_parent() {
    // A cycle: the intermediate node's child is the root.
    corrupt(
        |made, _| made.u64(node(1), node(0).get()),
        &[FOUND[0], FOUND[2], FOUND[3]],
        "0xffff888000010000: lpm_trie_node.prefixlen: expected 0xf, found 0x8",
    );
    corrupt(
        |made, layout| made.u32(on(node(3), layout.prefixlen.into()), 17),
        &[FOUND[0], FOUND[1], FOUND[3]],
        "0xffff888000010300: lpm_trie_node.prefixlen: expected 0x10, found 0x11",
    );
}

#[test]
fn a_child_must_go_on_from_its_parent() {
    // The same child twice: it has the wrong bit for one of the two.
    let what = "bits of lpm_trie_node.data that are as the parent says";
    corrupt(
        |made, _| made.u64(on(node(1), 8), node(2).get()),
        &[FOUND[0], FOUND[1], FOUND[3]],
        &format!("0xffff888000010200: {what}: expected 0xf, found 0xe"),
    );
    corrupt(
        |made, layout| made.bytes(on(node(4), layout.data.into()), &[2, 200]),
        &FOUND[..3],
        &format!("0xffff888000010400: {what}: expected 0x9, found 0x4"),
    );
}

#[test]
fn a_wild_pointer_costs_what_is_below_it() {
    corrupt(
        |made, _| made.u64(node(0), NOWHERE),
        &[FOUND[0], FOUND[3]],
        "0xffff8880dead0000: physical 0xffff8880dead0000 is not in the image",
    );
}

#[test]
fn sizes_that_contradict_each_other_are_gaps() {
    corrupt(
        |made, _| made.u64(on(MAP, 24), 3),
        &[],
        "0xffff888000001000: lpm_trie.data_size: expected 0x2, found 0x3",
    );
    corrupt(
        |made, _| made.u64(on(MAP, 16), 32),
        &[],
        "0xffff888000001000: lpm_trie.max_prefixlen: expected 0x10, found 0x20",
    );
    for (key_size, expected) in [(4, 5), (0, 5), (u32::MAX, 260)] {
        let map = MapInfo { key_size, ..map() };
        let gap = format!(
            "{MAP}: bpf_map.key_size of an lpm_trie: expected {expected:#x}, found {key_size:#x}"
        );
        check(&NODES[0].filled(), &map, &[], &[&gap]);
    }
    let huge = MapInfo {
        value_size: u32::MAX,
        ..map()
    };
    let gap = "0xffff888000001000: bpf_map.value_size 0xffffffff is more than memory holds";
    check(&NODES[0].filled(), &huge, &[], &[gap]);
}

#[test]
fn more_nodes_than_memory_holds_end_the_walk() {
    let mut made = NODES[1].filled();
    made.size = 60;
    let (found, gaps) = read(&made, &map());
    assert_eq!((found.len(), gaps.len()), (1, 1));
    assert_eq!(
        gaps[0],
        "map: nodes of an lpm_trie 0x3 is more than memory holds"
    );
}
