//! Programs made by hand, and what they tell.

mod asm;
mod hostile;

use btf_layout::build::Builder;
use btf_layout::{Btf, Kind, TypeId};

use super::{Site, Stored, Verdict, analyse};
use asm::Asm;

const BSS: u32 = 3;
const STORAGE: u32 = 5;
/// Where the two allocators are in the section.
const FIRST: u32 = 16;
const SECOND: u32 = 64;

/// The types of the programs.
struct Types {
    btf: Btf,
    main: TypeId,
    /// `u64 alloc(struct scx_allocator *)`
    alloc: TypeId,
    /// `struct task_ctx *look_up(struct task_struct *)`
    look_up: TypeId,
    /// `void *data(struct task_struct *)`
    data: TypeId,
    /// `int update(int, task_ptr)`, of a typedef of a pointer
    update: TypeId,
    /// `void other(struct other_ctx *)`
    other: TypeId,
    /// `void inner(struct inner *)`, which `task_ctx` begins with
    inner: TypeId,
    /// `void nameless(nameless_t *)`, of a struct without a name
    nameless: TypeId,
    /// Functions of what no payload can be.
    foreign: [TypeId; 4],
}

impl Types {
    fn new() -> Self {
        let mut b = Builder::new();
        let [u8_, u32_, u64_] = [1, 4, 8].map(|size| b.int("int", size));
        let allocator = b.record("scx_allocator", 48, &[]);
        let task = b.record("task_struct", 16, &[("pid", u32_, 0)]);
        let inner = b.record("inner", 8, &[("a", u32_, 0), ("b", u32_, 32)]);
        let words = b.array(u64_, 2);
        let members = [("inner", inner, 0), ("id", u32_, 64), ("sums", words, 128)];
        let task_ctx = b.record("task_ctx", 32, &members);
        let other_ctx = b.record("other_ctx", 16, &[("x", u64_, 0), ("y", u64_, 64)]);
        let large = b.record("large", 128, &[("x", u64_, 0)]);
        let header = b.record("sdt_data", 8, &[("tid", u64_, 0)]);
        let declared = b.forward("unknown");
        let nameless = b.record("", 16, &[("flag", u8_, 0), ("sum", u64_, 64)]);
        let nameless = b.typedef("nameless_t", nameless);
        let arena = b.wrap(Kind::TypeTag, "arena", task_ctx);
        let task_ptr = b.ptr(arena);
        let task_ptr = b.typedef("task_ptr", task_ptr);
        let void_ptr = b.ptr(TypeId::VOID);
        let mut function = |name: &str, ret: TypeId, params: &[TypeId]| {
            let params: Vec<_> = params.iter().map(|&ty| ("p", ty)).collect();
            let proto = b.prototype(ret, &params);
            b.function(name, proto)
        };
        let main = function("main", u32_, &[void_ptr]);
        let data_types = [void_ptr];
        let void_function = function("anything", u32_, &data_types);
        let mut pointer = |ty| b.ptr(ty);
        let pointers = [allocator, task, task_ctx, other_ctx, inner, nameless].map(&mut pointer);
        let [allocator, task, task_ctx, other_ctx, inner, nameless] = pointers;
        let foreign = [large, header, declared].map(&mut pointer);
        let mut function = |name: &str, ret: TypeId, params: &[TypeId]| {
            let params: Vec<_> = params.iter().map(|&ty| ("p", ty)).collect();
            let proto = b.prototype(ret, &params);
            b.function(name, proto)
        };
        let alloc = function("alloc", u64_, &[allocator]);
        let look_up = function("look_up", task_ctx, &[task]);
        let data = function("data", void_ptr, &[task]);
        let update = function("update", u32_, &[u32_, task_ptr]);
        let other = function("other", TypeId::VOID, &[other_ctx]);
        let inner = function("inner", TypeId::VOID, &[inner]);
        let nameless = function("nameless", TypeId::VOID, &[nameless]);
        let [large, header, declared] = foreign.map(|ty| function("foreign", TypeId::VOID, &[ty]));
        Self {
            btf: Btf::parse(b.finish(), "a test").unwrap(),
            main,
            alloc,
            look_up,
            data,
            update,
            other,
            inner,
            nameless,
            foreign: [large, header, declared, void_function],
        }
    }

    fn analyse(&self, programs: &[Asm], stored: &[Stored], payload_at: u32) -> [Verdict; 2] {
        let references: Vec<_> = programs.iter().map(Asm::references).collect();
        let parts = programs.iter().zip(&references);
        let programs: Vec<_> = parts.map(|(asm, all)| asm.program(all)).collect();
        let site = |offset| Site {
            map: BSS,
            offset,
            payload_size: 32,
            payload_at,
        };
        let sites = [site(FIRST), site(SECOND)];
        let is_kernel = |name: &str, size| (name, size) == ("task_struct", 16);
        let verdicts = analyse(&self.btf, &is_kernel, &programs, &sites, stored);
        verdicts.try_into().unwrap()
    }

    fn name(&self, ty: TypeId) -> String {
        self.btf.type_name(ty)
    }
}

/// What the slots of the first allocator are, and how that is known.
#[track_caller]
fn check(make: impl Fn(&Types, Asm) -> Asm, expected: Option<(&str, &str)>) {
    let types = Types::new();
    let asm = make(&types, Asm::default().function(types.main));
    let [verdict, second] = types.analyse(&[asm], &[], 0);
    let found = verdict.ty.map(|ty| types.name(ty));
    let found = found.as_deref().map(|name| (name, verdict.from.as_str()));
    assert_eq!(found, expected, "{verdict:?}");
    assert!(verdict.complete && second.ty.is_none(), "{second:?}");
}

/// A new slot of the first allocator in register 0; `alloc` is function 1.
fn slot(asm: Asm) -> Asm {
    asm.section(1, BSS, FIRST).call(1)
}

/// The functions that all programs here have behind the first one.
fn library(types: &Types, asm: Asm) -> Asm {
    asm.exit().function(types.alloc).set(0, 0).exit()
}

#[test]
fn prototypes_name_what_slots_hold() {
    let by_parameter = |asm: Asm, types: &Types, ty: TypeId, register: u8| {
        let asm = slot(asm).mov(register, 0).call(2);
        library(types, asm).function(ty).exit()
    };
    let task_ctx = Some(("struct task_ctx", "a parameter of update"));
    check(|t, asm| by_parameter(asm, t, t.update, 2), task_ctx);
    check(|t, asm| by_parameter(asm, t, t.update, 1), None);
    let nameless = Some(("nameless_t", "a parameter of nameless"));
    check(|t, asm| by_parameter(asm, t, t.nameless, 1), nameless);
    for index in 0..4 {
        check(|t, asm| by_parameter(asm, t, t.foreign[index], 1), None);
    }
    check(
        |t, asm| {
            let asm = library(t, asm.call(2)).function(t.look_up);
            slot(asm).cast(6, 0).mov(0, 6).exit()
        },
        Some(("struct task_ctx", "the prototype of look_up")),
    );
}

#[test]
fn pointers_are_followed() {
    let update = Some(("struct task_ctx", "a parameter of update"));
    let check = |way: &dyn Fn(Asm) -> Asm, expected| {
        check(
            |t, asm| {
                let asm = way(slot(asm)).call(2);
                library(t, asm).function(t.update).exit()
            },
            expected,
        );
    };
    // Through registers and the stack.
    check(&|asm| asm.mov(6, 0).helper().cast(2, 6), update);
    check(&|asm| asm.mov(1, 0).helper().mov(2, 1), None);
    check(&|asm| asm.store(10, -8, 0).load(2, 10, -8), update);
    check(&|asm| asm.store(10, -8, 0).load(2, 10, -16), None);
    // Something else is written there, or may be.
    let kept = |asm: Asm| asm.store(10, -16, 0);
    check(
        &|asm| kept(asm).insn(0x73, 10, 3, -9, 0).load(2, 10, -16),
        None,
    );
    let lent = |asm: Asm, off| kept(asm).mov(1, 10).add(1, off).helper();
    check(&|asm| lent(asm, -24).load(2, 10, -16), None);
    check(&|asm| lent(asm, -8).load(2, 10, -16), update);
    // To the payload's start and away from it.
    check(&|asm| asm.add(0, 24).mov(2, 0), None);
    check(&|asm| asm.add(0, 24).add(0, -24).mov(2, 0), update);
    check(
        &|asm| {
            asm.set(3, 8)
                .insn(0x0f, 0, 3, 0, 0)
                .insn(0x1f, 0, 3, 0, 0)
                .mov(2, 0)
        },
        update,
    );
    check(&|asm| asm.insn(0x67, 0, 0, 0, 3).mov(2, 0), None);
    // Null on one of two ways, and something else on one.
    let either = |asm: Asm, other: i32| asm.mov(2, 0).if_zero(0, 1).jump(1).set(2, other);
    check(&|asm| either(asm, 0), update);
    check(&|asm| asm.mov(2, 0).if_zero(7, 1).load(2, 8, 0), None);
}

#[test]
fn pointers_are_found_where_they_were_put() {
    let types = Types::new();
    let place = |asm: Asm, kind: u32| match kind {
        0 => asm.section(6, BSS, 128).mov(0, 6),
        1 => asm.map(1, STORAGE).helper(),
        // An inlined look-up in an array.
        _ => asm
            .map(1, STORAGE)
            .add(1, 200)
            .load4(0, 2, 0)
            .insn(0x0f, 0, 1, 0, 0),
    };
    for kind in 0..3 {
        // One program puts it there, another one takes it.
        let putter = slot(Asm::default().function(types.main)).mov(7, 0);
        let putter = place(putter, kind).store(0, 16, 7);
        let putter = library(&types, putter);
        let taker = Asm::default().function(types.main);
        let taker = place(taker, kind).load(2, 0, 16).call(1).exit();
        let taker = taker.function(types.update).exit();
        let [verdict, _] = types.analyse(&[taker, putter], &[], 0);
        assert_eq!(verdict.from, "a parameter of update", "{kind}");
    }
    // An update, with a value on the stack; other helpers take such, too.
    for (key, expected) in [(10, "a parameter of update"), (8, "")] {
        let putter = slot(Asm::default().function(types.main));
        let putter = putter.store(10, -16, 0).mov(2, key).add(2, -4);
        let putter = putter.mov(3, 10).add(3, -32).map(1, STORAGE).helper();
        let putter = library(&types, putter);
        let taker = Asm::default().function(types.main);
        let taker = place(taker, 1).load(2, 0, 16).call(1).exit();
        let taker = taker.function(types.update).exit();
        let [verdict, _] = types.analyse(&[taker, putter], &[], 0);
        assert_eq!(verdict.from, expected);
    }
    // Somebody puts something else there.
    let putter = slot(Asm::default().function(types.main)).section(6, BSS, 128);
    let putter = library(&types, putter.store(6, 0, 0).store(6, 0, 9));
    let taker = Asm::default().function(types.main).section(6, BSS, 128);
    let taker = taker.load(2, 6, 0).call(1).exit();
    let taker = taker.function(types.update).exit();
    let [verdict, _] = types.analyse(&[taker, putter], &[], 0);
    assert_eq!(verdict.ty, None);
}

#[test]
fn what_the_caller_knows_is_believed() {
    let types = Types::new();
    let stored = |site| Stored {
        map: STORAGE,
        offset: 16,
        site,
    };
    let asm = || {
        let asm = Asm::default().function(types.main).map(1, STORAGE).helper();
        let asm = asm.if_zero(0, 3).load(2, 0, 16).add(2, 8).call(1).exit();
        asm.function(types.update).exit()
    };
    // Eight bytes on is the payload, if it has a header.
    let [first, second] = types.analyse(&[asm()], &[stored(1)], 8);
    assert_eq!(
        (first.ty, second.from.as_str()),
        (None, "a parameter of update")
    );
    let [first, second] = types.analyse(&[asm()], &[stored(0)], 0);
    assert_eq!((first.ty, second.ty), (None, None));
}

#[test]
fn functions_that_several_call_are_told_apart() {
    // The library's function to look up data gives a slot of one allocator,
    // a function that passes on what it is given tells nothing.
    check(
        |t, asm| {
            let asm = asm.call(2).mov(2, 0).call(3).exit();
            let asm = asm.function(t.alloc).set(0, 0).exit();
            let asm = slot(asm.function(t.data)).exit();
            asm.function(t.update).exit()
        },
        Some(("struct task_ctx", "a parameter of update")),
    );
    check(
        |t, asm| {
            let asm = slot(asm).mov(1, 0).call(3).section(1, BSS, SECOND).call(1);
            let asm = library(t, asm.mov(1, 0).call(3));
            let asm = asm.function(t.other).exit();
            asm.function(t.data).mov(2, 1).call(2).exit()
        },
        None,
    );
    // A callback is given what it may be, and is gone through all the same.
    check(
        |t, asm| {
            let asm = library(t, asm.callback(2, 2).helper());
            let asm = slot(asm.function(t.data)).mov(2, 0).call(3).exit();
            asm.function(t.update).exit()
        },
        Some(("struct task_ctx", "a parameter of update")),
    );
}

#[test]
fn different_structs_are_a_conflict_unless_one_begins_with_the_other() {
    let types = Types::new();
    let analyse = |second: TypeId| {
        let asm = slot(Asm::default().function(types.main)).mov(6, 0);
        let asm = asm.mov(2, 6).call(2).mov(1, 6).call(3);
        let asm = library(&types, asm).function(types.update).exit();
        types.analyse(&[asm.function(second).exit()], &[], 0)[0].clone()
    };
    let conflict = analyse(types.other);
    let candidates = conflict.candidates.iter().map(|&ty| types.name(ty));
    let candidates: Vec<String> = candidates.collect();
    assert_eq!(candidates, ["struct task_ctx", "struct other_ctx"]);
    assert_eq!(
        (conflict.ty, conflict.from.as_str()),
        (None, "2 structs are possible")
    );
    let nested = analyse(types.inner);
    assert_eq!(types.name(nested.ty.unwrap()), "struct task_ctx");
    assert_eq!(nested.from, "a parameter of update");
}

#[test]
fn members_tell_where_only_one_struct_has_them() {
    let fits = |accesses: &[(u8, i16)], expected: Option<&str>| {
        check(
            |t, asm| {
                let asm = slot(asm).mov(6, 0);
                let asm = accesses
                    .iter()
                    .fold(asm, |asm, &(code, off)| asm.insn(code, 3, 6, off, 0));
                library(t, asm)
            },
            expected.map(|from| ("struct task_ctx", from)),
        );
    };
    const FOUR: [(u8, i16); 4] = [(0x61, 0), (0x61, 4), (0x61, 8), (0x79, 24)];
    fits(&FOUR, Some("the only struct that fits 4 accesses"));
    // Too few; past the end; across two members.
    fits(&FOUR[..3], None);
    for other in [(0x79, 32), (0x79, 0), (0x61, 24), (0x61, 12)] {
        fits(&[FOUR[0], FOUR[1], FOUR[2], other], None);
    }
}

#[test]
fn every_access_is_noted() {
    let types = Types::new();
    let asm = slot(Asm::default().function(types.main)).mov(6, 0);
    // Loads and stores of all sizes; atomic ones; before the payload.
    let asm = asm
        .insn(0x71, 3, 6, 1, 0)
        .insn(0x6b, 6, 3, 2, 0)
        .insn(0x62, 6, 0, 4, 7);
    let asm = asm
        .insn(0xdb, 6, 3, 8, 0)
        .insn(0xdb, 6, 3, 16, 0xe1)
        .insn(0xc3, 6, 3, 24, 0xf1);
    let asm = asm.insn(0xd3, 3, 6, 28, 0x100).load(3, 6, -8);
    let [verdict, _] = types.analyse(&[library(&types, asm)], &[], 0);
    let expected = [(1, 1), (2, 2), (4, 4), (8, 8), (16, 8), (24, 4), (28, 1)];
    assert!(verdict.accesses.iter().copied().eq(expected), "{verdict:?}");
}
