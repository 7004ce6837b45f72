#![cfg(test)]
//! Damaged BTF: every call ends, and none panics.

use std::rc::Rc;

use btf_layout::build::Builder;
use btf_layout::{Btf, IntEncoding, Kind, Type, TypeId};
use proptest::prelude::*;

/// BTF with every kind in it.
fn every_kind() -> Builder {
    let mut types = Builder::new();
    let int = types.int_as("int", 4, IntEncoding::Signed);
    let bits = types.int_bits("bits", 4, IntEncoding::Unsigned, 2, 5);
    let ptr = types.ptr(int);
    let array = types.array(int, 4);
    let union = types.union("", 4, &[("u", int, 0), ("v", bits, 0)]);
    let record = types.record(
        "record",
        32,
        &[("a", int, 0), ("", union, 32), ("b", array, 64)],
    );
    types.bitfields("packed", 4, &[("x", int, 0, 3), ("y", int, 3, 29)]);
    types.enumeration("color", 4, &[("RED", 0), ("BLUE", -1)]);
    types.enumeration64("wide", &[("ALL", -1)]);
    types.forward("hidden");
    let typedef = types.typedef("record_t", record);
    let wrapped = types.wrap(Kind::Volatile, "", typedef);
    let wrapped = types.wrap(Kind::Const, "", wrapped);
    let wrapped = types.wrap(Kind::Restrict, "", wrapped);
    let wrapped = types.wrap(Kind::TypeTag, "tag", wrapped);
    let proto = types.prototype(ptr, &[("arg", wrapped)]);
    types.function("function", proto);
    let var = types.variable("variable", wrapped);
    types.section(".bss", 32, &[(var, 0, 32)]);
    types.float("double", 8);
    types.decl_tag("tag", record, Some(1));
    types
}

/// Asks everything that can be asked of every type.
fn ask(btf: &Btf) {
    for id in btf.ids().chain([TypeId(0), TypeId(u32::MAX)]) {
        let _ = btf.type_name(id);
        let _ = btf.size_of(id);
        let _ = btf.resolve(id);
        let _ = format!("{:?}", btf.get(id));
        if let Ok(Type::Enum { values, .. }) = btf.get(id) {
            assert!(values.count() <= 1 << 24);
        }
        if let Ok(record) = btf.record_by_id(id) {
            for path in ["a", "u", "b.c", "x", "absent"] {
                let _ = record.member(path);
            }
            for (_, member) in record.members().flatten() {
                assert!(member.offset + member.size <= record.size());
            }
        }
    }
    for kind in Kind::ALL {
        let _ = btf.find(*kind, "record");
    }
}

proptest! {
    #[test]
    fn damaged_btf_is_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut data = every_kind().finish();
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        if is_cut {
            data.truncate(cut.index(data.len()));
        }
        if let Ok(btf) = Btf::parse(data.clone(), "a test") {
            ask(&btf);
        }
        let base = Btf::parse(every_kind().finish(), "base").unwrap();
        if let Ok(btf) = Btf::parse_split(data, Rc::new(base), "a test") {
            ask(&btf);
        }
    }

    #[test]
    fn any_words_as_types_are_survived(
        words in prop::collection::vec((0..20_u32, 0..4_u32, 0..24_u32, any::<bool>()), 1..24),
    ) {
        let mut types = Builder::new();
        for (kind, vlen, word, flag) in words {
            let info = kind << 24 | vlen | u32::from(flag) << 31;
            let more = match kind {
                1 | 14 | 17 => 1,
                3 => 3,
                6 | 13 => vlen * 2,
                4 | 5 | 15 | 19 => vlen * 3,
                _ => 0,
            };
            let more: Vec<u32> = (0..more).map(|index| (word + index * 7) % 24).collect();
            types.add_raw(info, "record", word, &more);
        }
        if let Ok(btf) = Btf::parse(types.finish(), "a test") {
            ask(&btf);
        }
    }
}

#[test]
fn undamaged_btf_answers() {
    let btf = Btf::parse(every_kind().finish(), "a test").unwrap();
    ask(&btf);
    for id in btf.ids() {
        btf.get(id).unwrap();
    }
}
