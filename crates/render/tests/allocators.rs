#![cfg(test)]
//! An allocator in an arena, with slots of every sort. `UPDATE_EXPECT=1`
//! rewrites the expectations.

#[path = "common/schema.rs"]
mod schema;

use std::rc::Rc;

use bpfmaps::arena::Window;
use bpfmaps::{BpfMapAccessor, MapState, MapType, Object, ObjectKind, ProgInfo, Progs};
use btf_layout::build::Builder;
use btf_layout::{Btf, TypeId};
use expect_test::expect_file;
use guestmem::{ArenaPtr, Kva};
use render::fake::{Fake, FakeMap};
use render::{Format, Options, Outcome, Source, Wanted};
use schema::{check, schema};

const START: u64 = 0x1000_0000_0000;
/// The tree: the descriptors and chunks of the root and of one leaf.
const ROOT: u64 = START;
const ROOT_CHUNK: u64 = START + 0x100;
const LEAF: u64 = START + 0x400;
const LEAF_CHUNK: u64 = START + 0x500;
/// The slots: a header of 8 bytes and a payload of 16.
const SLOTS: u64 = START + 0x1000;
const ELEM_SIZE: u64 = 24;
/// Variables in the arena, at its end.
const VARIABLES: u64 = START + 0xf000;
/// A page that nothing points to.
const LOST: u64 = START + 0x5000;

fn slot(idx: u64) -> u64 {
    SLOTS + idx * ELEM_SIZE
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

struct Types {
    btf: Rc<Btf>,
    u32_: TypeId,
    bss: TypeId,
    claim: TypeId,
}

fn types() -> Types {
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
    let members = [
        ("allocated", bits, 0),
        ("nr_free", u64_, 64),
        ("chunk", to_chunk, 128),
    ];
    let desc = types.record("sdt_desc", 24, &members);
    let to_desc = types.ptr(desc);
    let members = [
        ("slab", u64_, 0),
        ("elem_size", u64_, 64),
        ("max_elems", u64_, 128),
        ("idx", u64_, 192),
    ];
    let pool = types.record("sdt_pool", 32, &members);
    let members = [("pool", pool, 0), ("root", to_desc, 256)];
    let allocator = types.record("scx_allocator", 40, &members);
    // A pointer to the struct that comes next.
    let to_task = types.ptr(TypeId(allocator.0 + 2));
    let members = [
        ("weight", u32_, 0),
        ("cpu", u32_, 32),
        ("waker", to_task, 64),
    ];
    let task = types.record("task_ctx", 16, &members);
    let to_nothing = types.ptr(TypeId::VOID);
    let members = [("tid", id, 0), ("data", to_nothing, 64)];
    let claim = types.record("claim", 16, &members);
    let tasks = types.variable("scx_task_allocator", allocator);
    let last = types.variable("last", to_task);
    let nobody = types.variable("nobody", task);
    let first = types.variable("first", to_task);
    types.section(".addr_space.1", 24, &[(nobody, 0, 16), (first, 16, 8)]);
    let bss = types.section(".bss", 48, &[(tasks, 0, 40), (last, 40, 8)]);
    Types {
        btf: Rc::new(Btf::parse(types.finish(), "a program").unwrap()),
        u32_,
        bss,
        claim,
    }
}

/// Slots 0 to 2 are live, #2 without owner; #3 was given back and is still
/// owned, #4 says that it is #40, and #5 has no memory.
fn arena() -> FakeMap {
    let window = Window::new(START, 16, Kva::at(0xffff_c900_0000_8000), 4096).unwrap();
    let header = |idx: u64| idx | 7 << 32;
    let payload = |weight: u64, cpu: u64, waker: u64| [weight | cpu << 32, waker];
    let put = |arena: FakeMap, idx: u64, says: u64, payload: [u64; 2]| {
        arena
            .holds(slot(idx), &words(&[header(says), payload[0], payload[1]]))
            .holds(LEAF_CHUNK + idx * 8, &words(&[slot(idx)]))
    };
    let state = MapState::Arena {
        user_start: Some(ArenaPtr::at(START)),
        kernel_base: Some(Kva::at(0xffff_c900_0000_8000)),
        page_size: 4096,
        declared_pages: 16,
        runs: vec![
            bpfmaps::arena::Run { pgoff: 0, pages: 2 },
            bpfmaps::arena::Run { pgoff: 5, pages: 1 },
            bpfmaps::arena::Run {
                pgoff: 15,
                pages: 1,
            },
        ],
        faulted: Vec::new(),
        complete: true,
        pages_from: bpfmaps::PagesFrom::PageTables,
    };
    let arena = FakeMap::new(2, "arena", MapType::ARENA, 0, 0)
        .arena(window)
        .state(state)
        .holds(ROOT, &words(&[0, 64, ROOT_CHUNK]))
        .holds(ROOT_CHUNK, &words(&[LEAF]))
        // One more bit is set than nr_free says.
        .holds(LEAF, &words(&[0b11_0111, 60, LEAF_CHUNK]))
        .holds(LEAF_CHUNK + 5 * 8, &words(&[START + 0x8000]))
        .holds(LOST, &[1])
        .holds(VARIABLES, &words(&[1, VARIABLES, slot(0) + 8]));
    let arena = put(arena, 0, 0, payload(100, 1, slot(1) + 8));
    let arena = put(arena, 1, 1, payload(100, 0, 0));
    let arena = put(arena, 2, 2, payload(90, 1, slot(0) + 8));
    let arena = put(arena, 3, 3, payload(0, 0, 0));
    put(arena, 4, 40, payload(1, 1, VARIABLES))
}

fn kernel() -> Fake {
    let types = types();
    let allocator = words(&[SLOTS, ELEM_SIZE, 100, 5, ROOT, slot(0) + 8]);
    let mut bss = FakeMap::new(1, "sched.bss", MapType::ARRAY, 4, 48)
        .typed(&types.btf, TypeId::VOID, types.bss)
        .entry(&[0; 4], allocator.as_slice());
    bss.info.max_entries = 1;
    let task = |pid| Object {
        kva: None,
        kind: ObjectKind::Task {
            pid: Some(pid),
            tgid: Some(pid),
            comm: Some("stress".to_owned()),
        },
    };
    let claims = FakeMap::new(3, "tasks", MapType::TASK_STORAGE, 4, 16).typed(
        &types.btf,
        types.u32_,
        types.claim,
    );
    let claims =
        [(812, 0), (813, 1), (814, 3), (815, 4)]
            .into_iter()
            .fold(claims, |map, (pid, idx)| {
                let value = words(&[idx | 7 << 32, slot(idx)]);
                map.owned(task(pid), None, value.as_slice())
            });
    let progs = Progs {
        progs: vec![ProgInfo {
            id: 1,
            name: "enqueue".to_owned(),
            map_ids: vec![1, 2, 3],
            ..ProgInfo::default()
        }],
        ..Progs::default()
    };
    Fake::new(vec![bss, arena(), claims]).with_progs(progs)
}

fn dump(format: Format, wanted: Wanted) -> (String, Outcome) {
    let kernel = kernel();
    let mut options = Options::new(Source::new("raw"));
    options.format = format;
    let mut maps = kernel.maps().unwrap();
    if wanted.is_narrow() {
        maps.maps.clear();
    }
    options.wanted = wanted;
    let mut out = Vec::new();
    let outcome = render::dump(&kernel, &maps, &options, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), outcome)
}

/// All, and some by each way to ask.
fn wanted() -> [Wanted; 4] {
    [
        Wanted::default(),
        Wanted {
            allocators: vec!["scx_task_allocator".to_owned()],
            ..Wanted::default()
        },
        Wanted {
            pid: Some(812),
            ..Wanted::default()
        },
        Wanted {
            addr: Some(slot(2) + 16),
            ..Wanted::default()
        },
    ]
}

#[test]
fn text() {
    let texts = wanted().map(|wanted| dump(Format::Text, wanted).0);
    expect_file!["golden/allocators.txt"].assert_eq(&texts.join("\n---\n"));
}

#[test]
fn json() {
    let (text, _) = dump(Format::Json, Wanted::default());
    let lines = text
        .replace("{\"idx\":", "\n{\"idx\":")
        .replace("{\"owner\":", "\n{\"owner\":");
    expect_file!["golden/allocators.json"].assert_eq(&lines);
}

#[test]
fn documents_and_lines_are_valid() {
    let (document, line) = (schema(None), schema(Some("line")));
    for wanted in wanted() {
        check(&document, &dump(Format::Json, wanted.clone()).0);
        for text in dump(Format::Jsonl, wanted).0.lines() {
            check(&line, text);
        }
    }
}

#[test]
fn bpftool_shows_nothing_of_them() {
    let (text, _) = dump(Format::Bpftool, Wanted::default());
    assert!(!text.contains("stress"), "{text}");
}
