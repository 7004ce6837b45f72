#![cfg(test)]
//! Special fields of values. `UPDATE_EXPECT=1` rewrites the expectations.

#[path = "common/schema.rs"]
mod schema;

use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, MapType, Symbol};
use btf_layout::build::Builder;
use btf_layout::{Btf, IntEncoding, Kind, TypeId};
use expect_test::expect_file;
use guestmem::Kva;
use render::fake::{Fake, FakeMap};
use render::{Format, Options, Outcome, Source};
use schema::{check, schema};

const TASK: u64 = 0xffff_8880_0000_1000;
const TIMER: u64 = 0xffff_8880_0000_2000;
const CLOCK: u64 = 0xffff_8880_0000_3000;
const HEAD: u64 = 0xffff_8880_0000_4000;
const FIRST: u64 = 0xffff_8880_0000_5000;
const SECOND: u64 = 0xffff_8880_0000_6000;
const CALLBACK: u64 = 0xffff_ffff_c000_0010;
/// Nothing is there.
const NOWHERE: u64 = 0xffff_8880_0000_7000;

/// Where `link` is in `struct item`.
const LINK: u64 = 8;

fn vmlinux() -> Rc<Btf> {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let u64_ = types.int("u64", 8);
    let char_ = types.int_as("char", 1, IntEncoding::Signed);
    let comm = types.array(char_, 16);
    let known = [
        "BPF_SPIN_LOCK",
        "BPF_TIMER",
        "BPF_KPTR_UNREF",
        "BPF_KPTR_REF",
        "BPF_LIST_HEAD",
        "BPF_LIST_NODE",
        "BPF_REFCOUNT",
    ];
    types.enumeration("btf_field_type", 4, &known.map(|name| (name, 1)));
    let members = [("pid", u32_, 0), ("tgid", u32_, 32), ("comm", comm, 64)];
    types.record("task_struct", 24, &members);
    types.record("list_head", 16, &[("next", u64_, 0), ("prev", u64_, 64)]);
    types.record("bpf_async_kern", 8, &[("timer", u64_, 0)]);
    types.record("hrtimer_clock_base", 4, &[("clockid", u32_, 0)]);
    let members = [("callback_fn", u64_, 0), ("prog", u64_, 64)];
    let callback = types.record("bpf_async_cb", 16, &members);
    let node = types.record("timerqueue_node", 8, &[("expires", u64_, 0)]);
    let members = [
        ("node", node, 0),
        ("base", u64_, 64),
        ("is_queued", u64_, 128),
    ];
    let hrtimer = types.record("hrtimer", 24, &members);
    let members = [("cb", callback, 0), ("timer", hrtimer, 128)];
    types.record("bpf_hrtimer", 40, &members);
    Rc::new(Btf::parse(types.finish(), "vmlinux").unwrap())
}

/// A map's types; of them that of its values.
fn types() -> (Rc<Btf>, TypeId) {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let u64_ = types.int("u64", 8);
    let opaque = types.array(u64_, 2);
    let lock = types.record("bpf_spin_lock", 4, &[("val", u32_, 0)]);
    let refs = types.record("bpf_refcount", 4, &[("val", u32_, 0)]);
    let timer = types.record("bpf_timer", 16, &[("__opaque", opaque, 0)]);
    let head = types.record("bpf_list_head", 16, &[("__opaque", opaque, 0)]);
    let node = types.record("bpf_list_node", 16, &[("__opaque", opaque, 0)]);
    let kptr = |types: &mut Builder, target| {
        let tagged = types.wrap(Kind::TypeTag, "kptr", target);
        types.ptr(tagged)
    };
    let task = types.record("task_struct", 4, &[("pid", u32_, 0)]);
    let task = kptr(&mut types, task);
    // Its own number comes two later.
    let next = types.int("gap", 1);
    let item = TypeId(next.0 + 3);
    let own = kptr(&mut types, item);
    let members = [
        ("key", u32_, 0),
        ("refs", refs, 32),
        ("link", node, 64),
        ("next", own, 192),
    ];
    assert_eq!(types.record("item", 32, &members), item);
    let members = [
        ("lock", lock, 0),
        ("runs", u32_, 32),
        ("timer", timer, 64),
        ("task", task, 192),
        ("own", own, 256),
        ("items", head, 320),
    ];
    let state = types.record("state", 56, &members);
    types.decl_tag("contains:item:link", state, Some(5));
    (Rc::new(Btf::parse(types.finish(), "a map").unwrap()), state)
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// An item of a list, with its neighbours there.
fn item(key: u64, next: u64, before: u64, own: u64) -> Vec<u8> {
    words(&[key | 2 << 32, next, before, own])
}

fn kernel() -> Fake {
    let (btf, state) = types();
    let at = Kva::at;
    let mut comm = *b"stress\0\0\0\0\0\0\0\0\0\0";
    comm[15] = 0;
    let memory = guestmem::Fake::new()
        .with(at(TASK), &[words(&[812 | 812 << 32]), comm.to_vec()].concat())
        .with(at(TIMER), &words(&[CALLBACK, 0, 5_000_000, CLOCK, 1]))
        .with(at(CLOCK), &1_u32.to_le_bytes())
        .with(at(HEAD), &words(&[FIRST + LINK, SECOND + LINK]))
        .with(at(FIRST), &item(1, SECOND + LINK, HEAD, 0))
        // This one leads to itself.
        .with(at(SECOND), &item(2, HEAD, FIRST + LINK, SECOND));
    let full = words(&[
        1 | 7 << 32,
        TIMER,
        0,
        TASK,
        SECOND,
        FIRST + LINK,
        SECOND + LINK,
    ]);
    let broken = words(&[7 << 32, NOWHERE, 0, NOWHERE, NOWHERE, NOWHERE, NOWHERE]);
    let map = FakeMap::new(1, "states", MapType::HASH, 4, 56)
        .typed(&btf, TypeId::VOID, state)
        .entry(&[1, 0, 0, 0], full.as_slice())
        .entry(&[2, 0, 0, 0], [0; 56].as_slice())
        .entry(&[3, 0, 0, 0], broken.as_slice())
        .entry(&[4, 0, 0, 0], &full[..20]);
    let symbol = Symbol {
        name: "bpf_prog_0011223344556677_tick".to_owned(),
        offset: 0,
        module: None,
    };
    Fake::new(vec![map])
        .with_vmlinux(&vmlinux())
        .with_symbol(at(CALLBACK), symbol)
        .with_memory(memory)
}

fn dump(kernel: &Fake, format: Format) -> (String, Outcome) {
    let mut options = Options::new(Source::new("raw"));
    options.format = format;
    let mut out = Vec::new();
    let outcome = render::dump(kernel, &kernel.maps().unwrap(), &options, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    (text.replace("{\"key\":", "\n{\"key\":"), outcome)
}

#[test]
fn what_they_hold_is_told() {
    let kernel = kernel();
    let (json, outcome) = dump(&kernel, Format::Json);
    check(&schema(None), &json);
    // Four fields that lead nowhere.
    assert_eq!(outcome.gaps, 4);
    expect_file!["golden/special.json"].assert_eq(&json);
    let (text, outcome) = dump(&kernel, Format::Text);
    assert_eq!(outcome.gaps, 4);
    expect_file!["golden/special.txt"].assert_eq(&text);
}

/// Ten objects, each of which owns the next one.
#[test]
fn long_chains_end() {
    let at = |index: u64| FIRST + index * 32;
    let memory = (0..10).fold(guestmem::Fake::new(), |memory, index| {
        memory.with(Kva::at(at(index)), &item(index, 0, 0, at(index + 1)))
    });
    let (btf, state) = types();
    let map = FakeMap::new(1, "chain", MapType::HASH, 4, 56)
        .typed(&btf, TypeId::VOID, state)
        .entry(&[0; 4], words(&[0, 0, 0, 0, at(0), 0, 0]).as_slice());
    let kernel = Fake::new(vec![map])
        .with_vmlinux(&vmlinux())
        .with_memory(memory);
    for format in [Format::Text, Format::Json] {
        let (text, outcome) = dump(&kernel, format);
        assert_eq!((outcome.gaps, outcome.is_complete()), (1, false));
        assert_eq!(text.matches("linked").count(), 8, "{text}");
        assert_eq!(text.matches("too long").count(), 1, "{text}");
    }
}

#[test]
fn bpftool_shows_nothing_of_them() {
    let (text, outcome) = dump(&kernel(), Format::Bpftool);
    assert!(outcome.is_complete());
    expect_file!["golden/special.bpftool.json"].assert_eq(&text);
}

#[test]
fn what_bpf_hides_is_not_zero() {
    let kernel = kernel().hiding_special();
    let (text, outcome) = dump(&kernel, Format::Text);
    assert!(outcome.is_complete());
    expect_file!["golden/hidden.txt"].assert_eq(&text);
    let (json, _) = dump(&kernel, Format::Json);
    assert!(json.contains(r#""timer":{"hidden":"bpf_timer"}"#), "{json}");
}
