#![cfg(test)]
//! What is asked of an allocator in an arena.

use std::rc::Rc;

use bpfmaps::arena::Window;
use bpfmaps::{MapType, Object, ObjectKind, ProgInfo, Progs};
use bpfreeze_freeze::{Dump, QueryError};
use btf_layout::build::Builder;
use btf_layout::{Btf, TypeId};
use guestmem::Kva;
use render::fake::{Fake, FakeMap};

const START: u64 = 0x1000_0000_0000;
/// The tree: the descriptors and chunks of the root and of one leaf.
const ROOT: u64 = START;
const ROOT_CHUNK: u64 = START + 0x100;
const LEAF: u64 = START + 0x400;
const LEAF_CHUNK: u64 = START + 0x500;
/// The slots: a header of 8 bytes and a payload of 16.
const SLOTS: u64 = START + 0x1000;
const ELEM_SIZE: u64 = 24;

fn slot(idx: u64) -> u64 {
    SLOTS + idx * ELEM_SIZE
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The types of a program, and those of its section, of a key and of what a task keeps.
fn types() -> (Rc<Btf>, TypeId, TypeId, TypeId) {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let u64_ = types.int("u64", 8);
    let halves = types.record("", 8, &[("idx", u32_, 0), ("genn", u32_, 32)]);
    let id = types.union("sdt_id", 8, &[("val", u64_, 0), ("", halves, 0)]);
    let payload = types.array(u64_, 0);
    types.record("sdt_data", 8, &[("tid", id, 0), ("payload", payload, 64)]);
    types.enumeration("sdt_consts", 4, &[("SDT_TASK_LEVELS", 2)]);
    let bits = types.array(u64_, 1);
    let chunk = types.forward("sdt_chunk");
    let to_chunk = types.ptr(chunk);
    let desc = [
        ("allocated", bits, 0),
        ("nr_free", u64_, 64),
        ("chunk", to_chunk, 128),
    ];
    let desc = types.record("sdt_desc", 24, &desc);
    let to_desc = types.ptr(desc);
    let pool = ["slab", "elem_size", "max_elems", "idx"];
    let pool: Vec<_> = (0..)
        .zip(pool)
        .map(|(at, name)| (name, u64_, at * 64))
        .collect();
    let pool = types.record("sdt_pool", 32, &pool);
    let allocator = [("pool", pool, 0), ("root", to_desc, 256)];
    let allocator = types.record("scx_allocator", 40, &allocator);
    let task = [("weight", u32_, 0), ("cpu", u32_, 32), ("vtime", u64_, 64)];
    let task = types.record("task_ctx", 16, &task);
    let to_task = types.ptr(task);
    let to_nothing = types.ptr(TypeId::VOID);
    let claim = types.record("claim", 16, &[("tid", id, 0), ("data", to_nothing, 64)]);
    let tasks = types.variable("scx_task_allocator", allocator);
    let last = types.variable("last", to_task);
    let bss = types.section(".bss", 48, &[(tasks, 0, 40), (last, 40, 8)]);
    let btf = Rc::new(Btf::parse(types.finish(), "a program").unwrap());
    (btf, bss, u32_, claim)
}

/// A scheduler with three slots: #0 is of thread 812, #1 and #2 are of 813.
fn scheduler(first_id: u32) -> [FakeMap; 3] {
    let (btf, bss, key, claim) = types();
    let window = Window::new(START, 16, Kva::at(0xffff_c900_0000_8000), 4096).unwrap();
    let arena = FakeMap::new(first_id + 1, "arena", MapType::ARENA, 0, 0)
        .arena(window)
        .holds(ROOT, &words(&[0, 64, ROOT_CHUNK]))
        .holds(ROOT_CHUNK, &words(&[LEAF]))
        .holds(LEAF, &words(&[0b111, 61, LEAF_CHUNK]));
    let arena = (0..3).fold(arena, |arena, idx| {
        arena
            .holds(slot(idx), &words(&[idx | 7 << 32, 100 + idx, 5]))
            .holds(LEAF_CHUNK + idx * 8, &words(&[slot(idx)]))
    });
    let value = words(&[SLOTS, ELEM_SIZE, 100, 5, ROOT, slot(0) + 8]);
    let mut section = FakeMap::new(first_id, "sched.bss", MapType::ARRAY, 4, 48)
        .typed(&btf, TypeId::VOID, bss)
        .entry(&[0; 4], &value[..]);
    section.info.max_entries = 1;
    let task = |pid| Object {
        kva: None,
        kind: ObjectKind::Task {
            pid: Some(pid),
            tgid: Some(pid),
            comm: Some("stress".to_owned()),
        },
    };
    let claims = FakeMap::new(first_id + 2, "tasks", MapType::TASK_STORAGE, 4, 16);
    let claims = [(812, 0), (813, 1), (813, 2)].into_iter().fold(
        claims.typed(&btf, key, claim),
        |claims, (pid, idx)| {
            let value = words(&[idx | 7 << 32, slot(idx)]);
            claims.owned(task(pid), None, &value[..])
        },
    );
    [section, arena, claims]
}

/// The dump of so many schedulers.
fn dump(count: u32) -> Dump {
    let progs = (0..count).map(|at| ProgInfo {
        id: at + 1,
        name: "enqueue".to_owned(),
        map_ids: (1..=3).map(|id| at * 3 + id).collect(),
        ..ProgInfo::default()
    });
    let progs = Progs {
        progs: progs.collect(),
        ..Progs::default()
    };
    let maps = (0..count).flat_map(|at| scheduler(at * 3 + 1)).collect();
    Dump::new(Box::new(Fake::new(maps).with_progs(progs))).unwrap()
}

#[test]
fn slots_are_found_by_their_owners() {
    let dump = dump(1);
    let slots = dump.slots("scx_task_allocator").unwrap();
    assert!(slots.is_complete(), "{:?}", slots.gaps());
    let owners: Vec<_> = slots.iter().map(|slot| (slot.idx(), slot.pid())).collect();
    assert_eq!(owners, [(0, Some(812)), (1, Some(813)), (2, Some(813))]);
    let slot = slots.of_pid(812).unwrap();
    assert_eq!((slot.state(), slot.comm()), ("live", Some("stress")));
    assert_eq!(slot.field("weight").unwrap().as_u64(), Ok(100));
    // The same through what the scheduler itself keeps.
    let entry = dump.map("tasks").unwrap().entry(812).unwrap();
    assert_eq!(entry.field("data.vtime").unwrap().as_u64(), Ok(5));
}

#[test]
fn what_is_no_slot_or_several_says_so() {
    let check = |found: Result<(), QueryError>, said: &str| {
        assert_eq!(found.unwrap_err().to_string(), said);
    };
    let one = dump(1);
    let slots = one.slots("scx_task_allocator").unwrap();
    check(
        slots.of_pid(813).map(drop),
        "slot of scx_task_allocator for pid 813 is ambiguous: there are #1, #2",
    );
    check(
        slots.of_pid(814).map(drop),
        "there is no slot of scx_task_allocator for pid 814; there are 812, 813",
    );
    check(
        one.slots("scx_task").map(drop),
        "there is no allocator `scx_task`; there is scx_task_allocator",
    );
    let two = dump(2);
    check(
        two.slots("scx_task_allocator").map(drop),
        "allocator `scx_task_allocator` is ambiguous: there are `1::scx_task_allocator`, \
         `4::scx_task_allocator`",
    );
    assert_eq!(two.slots("4::scx_task_allocator").unwrap().len(), 3);
}
