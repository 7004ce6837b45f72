//! Trees made by hand: every generation's layout, every state of a slot, and
//! memory that lies.
#![cfg(test)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use btf_layout::Btf;
use btf_layout::build::Builder;
use guestmem::{Address, ArenaPtr, Fake};
use proptest::prelude::*;
use sdt_alloc::{Allocator, DataLayout, Evidence, Node, Pool, Problem, Slot, State, Tree};
use sdt_alloc::{Types, Visit};

/// Slots or children of a chunk.
const ENTRIES: u64 = 512;
const LEVELS: u32 = 3;
const BASE: u64 = 0x1000_0000_0000;

/// How much the BTF of a program says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Btfs {
    /// Slots and constants.
    Full,
    /// Neither, as of published schedulers.
    Published,
}

const HEADER: DataLayout = DataLayout::Header { size: 8 };
const TRAILER: DataLayout = DataLayout::Trailer { size: 16 };

fn btf(layout: DataLayout, says: Btfs) -> Btf {
    let mut types = Builder::new();
    let u64_ = types.int("u64", 8);
    let s32 = types.int("s32", 4);
    let halves = types.record("", 8, &[("idx", s32, 0), ("genn", s32, 32)]);
    let id = types.union("sdt_id", 8, &[("val", u64_, 0), ("", halves, 0)]);
    let bits = types.array(u64_, u32::try_from(ENTRIES / 64).unwrap());
    let chunk = types.forward("sdt_chunk");
    let pointer = types.ptr(chunk);
    let members = [
        ("allocated", bits, 0),
        ("nr_free", u64_, 512),
        ("chunk", pointer, 576),
    ];
    types.record("sdt_desc", 80, &members);
    if says == Btfs::Full {
        let many = types.array(u64_, 0);
        match layout {
            DataLayout::Header { .. } => {
                types.record("sdt_data", 8, &[("tid", id, 0), ("payload", many, 64)])
            }
            DataLayout::Trailer { .. } => {
                types.record("sdt_data", 16, &[("tid", id, 0), ("urcu_link", u64_, 64)])
            }
        };
        types.enumeration("sdt_consts", 4, &[("SDT_TASK_LEVELS", LEVELS.into())]);
    }
    Btf::parse(types.finish(), "a test").unwrap()
}

/// A tree that grows in memory.
struct Grown {
    memory: Fake<ArenaPtr>,
    layout: DataLayout,
    elem_size: u64,
    next: u64,
    /// By level and index of the first slot below.
    descs: BTreeMap<(u32, u64), (u64, u64)>,
    bits: BTreeMap<u64, u64>,
}

impl Grown {
    fn new(layout: DataLayout, elem_size: u64) -> Self {
        let mut grown = Self {
            memory: Fake::new(),
            layout,
            elem_size,
            next: BASE,
            descs: BTreeMap::new(),
            bits: BTreeMap::new(),
        };
        grown.desc(LEVELS, 0);
        grown
    }

    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.memory.write(ArenaPtr::at(at), bytes);
    }

    fn word(&mut self, at: u64, word: u64) {
        self.put(at, &word.to_le_bytes());
    }

    fn take(&mut self, len: u64) -> u64 {
        let at = self.next;
        self.next += len.next_multiple_of(8);
        self.put(at, &vec![0; usize::try_from(len).unwrap()]);
        at
    }

    /// The descriptor and the chunk above a slot at a level.
    fn desc(&mut self, level: u32, idx: u64) -> (u64, u64) {
        let below = ENTRIES.pow(level);
        let first = idx - idx % below;
        if let Some(&known) = self.descs.get(&(level, first)) {
            return known;
        }
        let (chunk, desc) = (self.take(ENTRIES * 8), self.take(80));
        self.word(desc + 64, ENTRIES);
        self.word(desc + 72, chunk);
        self.descs.insert((level, first), (desc, chunk));
        if level < LEVELS {
            let (_, parent) = self.desc(level + 1, idx);
            let position = first / below % ENTRIES;
            self.word(parent + position * 8, desc);
        }
        (desc, chunk)
    }

    /// Gives out the slot `idx`, whose id says `says`.
    fn slot(&mut self, idx: u64, says: u32, generation: u32) -> u64 {
        let data = self.take(self.elem_size);
        let id = match self.layout {
            DataLayout::Header { .. } => data,
            DataLayout::Trailer { size } => data + self.elem_size - size,
        };
        self.put(id, &[says.to_le_bytes(), generation.to_le_bytes()].concat());
        self.point(idx, data);
        self.mark(idx);
        data
    }

    fn point(&mut self, idx: u64, data: u64) {
        let (_, chunk) = self.desc(1, idx);
        self.word(chunk + idx % ENTRIES * 8, data);
    }

    /// Says that a slot is given out.
    fn mark(&mut self, idx: u64) {
        let (desc, _) = self.desc(1, idx);
        let at = desc + idx % ENTRIES / 64 * 8;
        let bits = self.bits.entry(at).or_default();
        *bits |= 1 << (idx % 64);
        let bits = *bits;
        self.word(at, bits);
        let set: u32 = (0..8)
            .map(|word| {
                self.bits
                    .get(&(desc + word * 8))
                    .map_or(0, |bits| bits.count_ones())
            })
            .sum();
        self.word(desc + 64, ENTRIES - u64::from(set));
    }

    fn allocator(&mut self) -> Allocator {
        let (root, _) = self.desc(LEVELS, 0);
        Allocator {
            pool: Pool {
                slab: ArenaPtr::at(0),
                reserve: ArenaPtr::at(0),
                elem_size: self.elem_size,
                max_elems: 0,
                idx: 0,
            },
            root: ArenaPtr::at(root),
        }
    }

    fn size(&self) -> u64 {
        self.next - BASE
    }
}

#[derive(Default)]
struct Seen {
    nodes: Vec<Node>,
    slots: Vec<Slot>,
    problems: Vec<Problem>,
}

/// Finds the layout by the BTF or by evidence, and walks.
fn walk(grown: &mut Grown, types: &Types) -> (Option<DataLayout>, Seen) {
    let (allocator, size) = (grown.allocator(), grown.size());
    let mut seen = Seen::default();
    let Some((levels, evidence)) = Evidence::of(&grown.memory, types, allocator, size) else {
        return (None, seen);
    };
    let data = types.data_layout().or_else(|| evidence.layout(types));
    Tree::new(&grown.memory, types, allocator, levels, data, size).walk(&mut |part| {
        match part {
            Visit::Node(node) => seen.nodes.push(node),
            Visit::Slot(slot) => seen.slots.push(slot),
            Visit::Problem(problem) => seen.problems.push(problem),
        }
        ControlFlow::Continue(())
    });
    (data, seen)
}

const LAYOUTS: [(DataLayout, Btfs); 4] = [
    (HEADER, Btfs::Full),
    (HEADER, Btfs::Published),
    (TRAILER, Btfs::Full),
    (TRAILER, Btfs::Published),
];

#[test]
fn slots_are_found_with_their_states() {
    for (layout, says) in LAYOUTS {
        let types = Types::new(&btf(layout, says)).unwrap();
        let mut grown = Grown::new(layout, 64);
        let live = [0, 1, 63, 64, 511, 512, 700, 262_144, 134_217_727];
        for idx in live {
            grown.slot(idx, u32::try_from(idx).unwrap(), 5);
        }
        grown.slot(2, 90, 1);
        grown.mark(3);
        grown.point(4, BASE);
        grown.mark(5);
        grown.point(5, 0x10);
        let (data, seen) = walk(&mut grown, &types);
        assert_eq!(data, Some(layout), "{says:?}");
        let states: Vec<(u32, State)> = seen
            .slots
            .iter()
            .map(|slot| (slot.idx, slot.state))
            .collect();
        let at = |idx: u32| (idx, State::Live);
        let want = [
            at(0),
            at(1),
            (2, State::Misplaced { found: 90 }),
            (3, State::Torn),
            (4, State::Freed),
            (5, State::Torn),
            at(63),
            at(64),
            at(511),
            at(512),
            at(700),
            at(262_144),
            at(134_217_727),
        ];
        assert_eq!(states, want, "{layout:?} {says:?}");
        assert_eq!(seen.problems.len(), 1, "the slot outside of the arena");
        assert!(seen.nodes.iter().all(Node::is_consistent));
        // Root, three below it, four leaves of which two are below the first.
        assert_eq!(seen.nodes.len(), 1 + 3 + 4);
        for slot in seen.slots.iter().filter(|slot| slot.state == State::Live) {
            assert_eq!(slot.generation, Some(5));
            let (before, size) = match layout {
                DataLayout::Header { size } => (size, 64 - size),
                DataLayout::Trailer { size } => (0, 64 - size),
            };
            assert_eq!(slot.payload.get() - slot.data.get(), before);
            assert_eq!(slot.payload_size, size);
        }
    }
}

/// The first slot alone proves nothing, and an allocator without slots has no
/// layout; neither is guessed.
#[test]
fn too_few_slots_prove_no_layout() {
    let types = Types::new(&btf(TRAILER, Btfs::Published)).unwrap();
    let mut grown = Grown::new(TRAILER, 64);
    let (data, seen) = walk(&mut grown, &types);
    assert_eq!((data, seen.slots.len()), (None, 0));
    grown.slot(0, 0, 0);
    let (data, seen) = walk(&mut grown, &types);
    let states: Vec<State> = seen.slots.iter().map(|slot| slot.state).collect();
    assert_eq!((data, states), (None, vec![State::Unproved]));
    grown.slot(1, 1, 0);
    assert_eq!(walk(&mut grown, &types).0, Some(TRAILER));
}

#[test]
fn a_descriptor_that_contradicts_itself_is_told() {
    let types = Types::new(&btf(HEADER, Btfs::Full)).unwrap();
    let mut grown = Grown::new(HEADER, 64);
    grown.slot(9, 9, 0);
    let (desc, _) = grown.desc(1, 9);
    grown.word(desc + 64, 500);
    let (_, seen) = walk(&mut grown, &types);
    let wrong: Vec<&Node> = seen
        .nodes
        .iter()
        .filter(|node| !node.is_consistent())
        .collect();
    let [node] = wrong.as_slice() else {
        panic!("{wrong:?}");
    };
    assert_eq!((node.nr_free, node.free_bits, node.level), (500, 511, 1));
}

#[test]
fn cycles_and_missing_parts_are_problems() {
    let types = Types::new(&btf(HEADER, Btfs::Full)).unwrap();
    let check = |spoil: &dyn Fn(&mut Grown), problem: &str| {
        let mut grown = Grown::new(HEADER, 64);
        for idx in [1, 600, 262_144] {
            grown.slot(idx, u32::try_from(idx).unwrap(), 0);
        }
        spoil(&mut grown);
        let (_, seen) = walk(&mut grown, &types);
        let texts: Vec<String> = seen.problems.iter().map(ToString::to_string).collect();
        let [text] = texts.as_slice() else {
            panic!("{texts:?}");
        };
        assert!(text.contains(problem), "{text}");
    };
    check(
        &|grown| {
            let ((root, _), (_, chunk)) = (grown.desc(3, 0), grown.desc(2, 0));
            grown.word(chunk + 8 * 7, root);
        },
        "is linked twice",
    );
    check(
        &|grown| {
            let (desc, _) = grown.desc(1, 600);
            grown.word(desc + 72, 0x20);
        },
        "a chunk: ",
    );
    check(
        &|grown| {
            let (_, chunk) = grown.desc(3, 0);
            grown.word(chunk + 8 * 9, !0);
        },
        "a descriptor: ",
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever replaces words of a tree, the walk ends and visits no more
    /// than memory holds.
    #[test]
    fn spoiled_trees_end(
        words in prop::collection::vec((any::<prop::sample::Index>(), 0..6_u8, any::<u64>()), 1..40),
        published: bool,
    ) {
        let says = if published { Btfs::Published } else { Btfs::Full };
        let types = Types::new(&btf(TRAILER, says)).unwrap();
        let mut grown = Grown::new(TRAILER, 64);
        for idx in [0, 1, 513, 262_145] {
            grown.slot(idx, u32::try_from(idx).unwrap(), 0);
        }
        let (size, root) = (grown.size(), grown.desc(3, 0).0);
        for (place, kind, random) in words {
            let at = BASE + 8 * place.index(usize::try_from(size / 8).unwrap()) as u64;
            let word = match kind {
                0 => 0,
                1 => !0,
                2 => root,
                3 => at,
                4 => BASE + random % size,
                _ => random,
            };
            grown.word(at, word);
        }
        let (_, seen) = walk(&mut grown, &types);
        prop_assert!(seen.nodes.len() as u64 <= size / 80 + 1);
    }
}
