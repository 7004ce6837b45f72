#![cfg(test)]
//! Whatever BTF says and whatever the bytes are: rendering ends, what it
//! writes is in proportion to what it read, and JSON is JSON.

use std::rc::Rc;

use bpfmaps::arena::Window;
use bpfmaps::{BpfMapAccessor, MapType, Object, ObjectKind, ProgInfo, Progs, RecordState};
use btf_layout::build::Builder;
use btf_layout::{Btf, Kind, TypeId};
use guestmem::Kva;
use proptest::prelude::*;
use render::fake::{Fake, FakeBytes, FakeMap};
use render::{Format, Options, Source};

/// Renders values of one type in all formats, and returns how much the
/// longest is.
fn render_all(btf: &Rc<Btf>, ty: TypeId, values: &[FakeBytes]) -> usize {
    let mut hash = FakeMap::new(1, "h", MapType::HASH, 4, 8).typed(btf, ty, ty);
    let mut array = FakeMap::new(2, "a", MapType::ARRAY, 4, 8).typed(btf, TypeId::VOID, ty);
    let mut percpu = FakeMap::new(3, "p", MapType::PERCPU_ARRAY, 4, 8).typed(btf, ty, ty);
    array.info.max_entries = 1;
    let owner = Object {
        kva: None,
        kind: ObjectKind::Cgroup {
            id: None,
            path: Some("/\u{1b}[2J ".to_owned()),
        },
    };
    let mut storage = FakeMap::new(4, "s", MapType::CGROUP_STORAGE, 4, 8).typed(btf, ty, ty);
    let mut queue = FakeMap::new(5, "q", MapType::QUEUE, 0, 8).typed(btf, TypeId::VOID, ty);
    let mut ring = FakeMap::new(6, "r", MapType::RINGBUF, 0, 0).typed(btf, TypeId::VOID, ty);
    let mut slots = FakeMap::new(7, "i", MapType::INSN_ARRAY, 4, 8).typed(btf, ty, ty);
    let mut ops = FakeMap::new(8, "o", MapType::STRUCT_OPS, 4, 8);
    ops.info.btf_vmlinux_value_type_id = ty.0;
    for value in values {
        storage = storage.owned(owner.clone(), Some(&[1, 2, 3]), value.clone());
        queue = queue.element(value.clone());
        ring = ring.record(u64::MAX, RecordState::Busy, value.clone());
        slots = slots.slot(u32::MAX, owner.clone(), Some(value.clone()));
        slots = slots.keyed_slot(&[1, 2, 3], owner.clone(), Some(value.clone()));
        ops = ops.entry(&[0; 4], value.clone());
        hash = hash.entry(&[1, 2, 3, 4], value.clone());
        array = array.entry(&[0; 4], value.clone());
        percpu = percpu.percpu(&[0; 4], vec![(0, value.clone()), (1, value.clone())]);
    }
    let maps = vec![hash, array, percpu, storage, queue, ring, slots, ops];
    let kernel = Fake::new(maps).with_vmlinux(btf);
    let maps = kernel.maps().unwrap();
    let mut longest = 0;
    for format in [Format::Text, Format::Json, Format::Jsonl, Format::Bpftool] {
        let mut options = Options::new(Source::new("raw"));
        options.format = format;
        let mut out = Vec::new();
        let outcome = render::dump(&kernel, &maps, &options, &mut out).unwrap();
        assert!(
            outcome.gaps == 0 && outcome.errors.is_empty(),
            "{outcome:?}"
        );
        longest = longest.max(out.len());
        let text = String::from_utf8(out).unwrap();
        match format {
            Format::Text => text.lines().for_each(|line| {
                assert_eq!(line, line.trim_end());
                assert!(!line.contains('\u{1b}'));
            }),
            _ => text.lines().for_each(|line| {
                serde_json::from_str::<serde::de::IgnoredAny>(line).unwrap();
            }),
        }
    }
    longest
}

fn values(bytes: &[u8]) -> [FakeBytes; 3] {
    let half = bytes.get(..bytes.len() / 2).unwrap();
    [
        FakeBytes::whole(bytes),
        FakeBytes::cut(half, bytes.len() as u64, None),
        FakeBytes::cut(&[], u64::MAX, None),
    ]
}

/// Types of any kinds, from (kind, number of items, size or type, flag).
fn random_types(words: &[(u32, u32, u32, bool)], bits: [u8; 4]) -> Rc<Btf> {
    let mut types = Builder::new();
    for &(kind, vlen, word, flag) in words {
        let info = kind << 24 | vlen | u32::from(flag) << 31;
        let more: Vec<u32> = match kind {
            1 => vec![u32::from_le_bytes(bits) >> (word % 8) & 0x0f1f_00ff],
            3 => vec![word, word, vlen],
            4 | 5 => (0..vlen)
                .flat_map(|member| [0, word + member, member * (word % 9) * 4])
                .collect(),
            6 | 13 => (0..vlen).flat_map(|value| [0, value * word]).collect(),
            14 | 17 => vec![0],
            15 | 19 => (0..vlen)
                .flat_map(|item| [word + item, item * 4, 4])
                .collect(),
            _ => vec![],
        };
        types.add_raw(info, "name", word, &more);
    }
    Rc::new(Btf::parse(types.finish(), "a test").unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_types_are_survived(
        words in prop::collection::vec((1..20_u32, 0..5_u32, 0..30_u32, any::<bool>()), 1..28),
        bytes in prop::collection::vec(any::<u8>(), 0..80),
        bits in any::<[u8; 4]>(),
    ) {
        let btf = random_types(&words, bits);
        for id in btf.ids() {
            let longest = render_all(&btf, id, &values(&bytes));
            prop_assert!(longest < 1 << 22, "{longest} bytes of output");
        }
    }
}

#[test]
fn overlapping_members_do_not_multiply() {
    let mut types = Builder::new();
    let mut id = types.int("u32", 4);
    for _ in 0..30 {
        id = types.union("", 4, &[("a", id, 0), ("b", id, 0)]);
    }
    let bomb = types.record("bomb", 4, &[("bomb", id, 0)]);
    let mut id = types.int("u32", 4);
    for _ in 0..30 {
        id = types.union("", 4, &[("", id, 0), ("", id, 0)]);
    }
    let btf = Rc::new(Btf::parse(types.finish(), "a test").unwrap());
    for id in [bomb, id] {
        assert!(render_all(&btf, id, &values(&[1, 2, 3, 4])) < 1 << 20);
    }
}

#[test]
fn arrays_end_where_the_value_ends() {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let nothing = types.record("nothing", 0, &[]);
    let long = types.array(u32_, u32::MAX);
    let empty = types.array(nothing, u32::MAX);
    let flexible = types.array(nothing, 0);
    let outer = types.record("outer", 4, &[("n", u32_, 0), ("rest", flexible, 32)]);
    let btf = Rc::new(Btf::parse(types.finish(), "a test").unwrap());
    for id in [long, empty, outer] {
        assert!(render_all(&btf, id, &values(&[1, 2, 3, 4, 5, 6])) < 1 << 14);
    }
}

#[test]
fn types_that_contain_themselves_are_told() {
    let mut types = Builder::new();
    let own = TypeId(1);
    types.record("own", 8, &[("own", own, 0), ("next", TypeId(3), 0)]);
    let mut deep = types.array(own, 1);
    types.ptr(own);
    for _ in 0..100 {
        deep = types.record("deep", 8, &[("deep", deep, 0)]);
    }
    let loops = types.wrap(Kind::Const, "", TypeId(deep.0 + 1));
    let btf = Rc::new(Btf::parse(types.finish(), "a test").unwrap());
    for id in [own, deep, loops] {
        assert!(render_all(&btf, id, &values(&[7; 8])) < 1 << 16);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the types are of what lies in an arena that is full of pointers
    /// into itself.
    #[test]
    fn any_objects_are_survived(
        words in prop::collection::vec((1..20_u32, 0..5_u32, 0..30_u32, any::<bool>()), 1..28),
        offsets in prop::collection::vec(0..0x3000_u64, 1..40),
        objects in 0..40_u64,
    ) {
        let btf = random_types(&words, [0, 8, 0, 0]);
        let start = 0x1000_0000_0000;
        let base = Kva::at(0xffff_c900_0000_8000);
        let window = Window::new(start, 16, base, 4096).unwrap();
        let pointers = offsets.iter().map(|offset| start + offset);
        let bytes: Vec<u8> = pointers.flat_map(u64::to_le_bytes).collect();
        let mut arena = FakeMap::new(2, "arena", MapType::ARENA, 0, 0).arena(window);
        for page in 0..2 {
            arena = arena.holds(start + page * 0x1000 + 0xf80, &bytes);
        }
        let progs = Progs {
            progs: vec![ProgInfo { id: 1, map_ids: vec![1, 2], ..ProgInfo::default() }],
            ..Progs::default()
        };
        for id in btf.ids() {
            let values = FakeMap::new(1, "v", MapType::HASH, 4, 8)
                .typed(&btf, TypeId::VOID, id)
                .entry(&[1, 2, 3, 4], bytes.as_slice());
            let kernel = Fake::new(vec![values, arena.clone()]).with_progs(progs.clone());
            for format in [Format::Text, Format::Json, Format::Jsonl] {
                let mut options = Options::new(Source::new("raw"));
                options.format = format;
                options.follow.objects = objects;
                let mut out = Vec::new();
                let maps = kernel.maps().unwrap();
                let outcome = render::dump(&kernel, &maps, &options, &mut out).unwrap();
                prop_assert!(outcome.is_complete(), "{outcome:?}");
                prop_assert!(out.len() < 1 << 24, "{} bytes of output", out.len());
                let text = String::from_utf8(out).unwrap();
                for line in text.lines().filter(|_| format != Format::Text) {
                    serde_json::from_str::<serde::de::IgnoredAny>(line).unwrap();
                }
            }
        }
    }
}
