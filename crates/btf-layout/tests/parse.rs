#![cfg(test)]
//! Loading: split BTF, sizes, names, and bytes that are no BTF.

use std::rc::Rc;

use btf_layout::build::Builder;
use btf_layout::{Btf, Error, Kind, TypeId};

fn parse(types: &Builder) -> Btf {
    Btf::parse(types.finish(), "a test").unwrap()
}

#[test]
fn split_btf_goes_on_where_its_base_ends() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    types.record("shared", 4, &[("a", int, 0)]);
    let base = Rc::new(parse(&types));

    let mut types = Builder::split(&base);
    let own = types.record("own", 8, &[("base", TypeId(2), 0), ("b", int, 32)]);
    let shadow = types.record("shared", 8, &[]);
    let split = Btf::parse_split(types.finish(), Rc::clone(&base), "a program").unwrap();

    assert_eq!(split.ids().collect::<Vec<_>>(), [own, shadow]);
    assert_eq!(own, TypeId(3));
    assert_eq!(split.type_name(int), "int");
    assert_eq!(split.find(Kind::Int, "int"), Some(int));
    assert_eq!(split.find(Kind::Struct, "shared"), Some(shadow));
    assert_eq!(base.find(Kind::Struct, "shared"), Some(TypeId(2)));
    assert_eq!(base.find(Kind::Struct, "own"), None);
    let own = split.record("own").unwrap();
    assert_eq!(own.member("base.a").unwrap().offset, 0);
    assert_eq!(
        split.get(TypeId(5)).unwrap_err().to_string(),
        "no type 5 in the BTF of a program"
    );
}

#[test]
fn sizes_multiply_and_do_not_overflow() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let row = types.array(int, 3);
    let named = types.typedef("row_t", row);
    let table = types.array(named, 5);
    let ptr = types.ptr(TypeId::VOID);
    let large = types.array(ptr, u32::MAX);
    let larger = types.array(large, u32::MAX);
    let fwd = types.forward("hidden");
    let cycle = TypeId(fwd.0 + 2);
    let volatile = types.wrap(Kind::Volatile, "", cycle);
    types.typedef("ouroboros", volatile);
    let nest = types.array(TypeId(fwd.0 + 3), 1);
    let btf = parse(&types);

    assert_eq!(btf.size_of(table), Ok(60));
    assert_eq!(btf.size_of(ptr), Ok(8));
    assert_eq!(btf.size_of(large), Ok(8 * u64::from(u32::MAX)));
    let check = |id, text: &str| {
        let error = btf.size_of(id).unwrap_err().to_string();
        assert!(error.ends_with(text), "{error}");
    };
    check(larger, "an array larger than memory");
    check(
        fwd,
        "a forward declaration (type 8) has no size in the BTF of a test",
    );
    check(
        TypeId::VOID,
        "a void (type 0) has no size in the BTF of a test",
    );
    check(cycle, "typedefs and qualifiers without end");
    check(nest, "arrays of arrays without end");
}

#[test]
fn the_wide_info_word_is_read() {
    let mut types = Builder::new();
    let int = types.int("int", 4);
    let names: Vec<String> = (0..70_000).map(|index| format!("m{index}")).collect();
    let members: Vec<_> = names.iter().map(|name| (name.as_str(), int, 0)).collect();
    types.union("wide", 4, &members);
    let btf = parse(&types);
    assert!(btf.record("wide").unwrap().member("m69999").is_ok());
}

#[test]
fn an_unknown_kind_ends_loading_unless_its_size_is_known() {
    let mut types = Builder::new();
    types.add_raw(99 << 24 | 2, "future", 0, &[7, 8, 9]);
    let int = types.int("int", 4);
    let mut data = types.finish();
    let error = Btf::parse(data.clone(), "a test").unwrap_err();
    assert_eq!(
        error.to_string(),
        "type 1 at byte 0x18 has unknown kind 99 in the BTF of a test"
    );

    // A longer header with a layout section: kind 99 has 4 bytes once and
    // 4 for each of its items.
    let end = u32::try_from(data.len()).unwrap() - 24;
    data[4] = 32;
    let section = [end.to_le_bytes(), 400_u32.to_le_bytes()].concat();
    data.splice(24..24, section);
    data.extend([0; 396]);
    data.extend([4, 4, 0, 0]);
    let btf = Btf::parse(data, "a test").unwrap();
    assert_eq!(btf.find(Kind::Int, "int"), Some(int));
    assert!(matches!(
        btf.get(TypeId(1)),
        Err(Error::UnknownKind { kind: 99, .. })
    ));
}

#[test]
fn what_is_no_btf_is_told() {
    let check = |data: &[u8], text| {
        let error = Btf::parse(data.to_vec(), "x").unwrap_err();
        assert_eq!(error.to_string(), text);
    };
    let magic = "the BTF of x cannot be read: it does not start with the magic number";
    check(&[], magic);
    check(b"\x7fELF", magic);
    check(
        &[0xeb, 0x9f, 1, 0],
        "the BTF of x cannot be read: it is big-endian",
    );
    check(
        &[0x9f, 0xeb, 2, 0],
        "the BTF of x cannot be read: its version is not 1",
    );
    let cut = "the BTF of x is malformed at byte 0x0: the header is cut off";
    check(&[0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0], cut);
    let mut types = Builder::new();
    types.int("int", 4);
    let mut data = types.finish();
    data.pop();
    check(
        &data,
        "the BTF of x is malformed at byte 0x10: the strings reach past the end",
    );
    data.push(0);
    data[24 + 7] = 4;
    data[24 + 4] = 9;
    check(
        &data,
        "the BTF of x is malformed at byte 0x18: a type reaches past the type section",
    );
}

#[test]
fn names_are_text_whatever_the_bytes() {
    let mut types = Builder::new();
    let int = types.int("na?e", 4);
    let long = types.typedef(&"x".repeat(2000), int);
    let mut data = types.finish();
    let at = data.iter().position(|&byte| byte == b'?').unwrap();
    data[at] = 0xff;
    let btf = Btf::parse(data, "a test").unwrap();
    assert_eq!(btf.type_name(int), "na?e");
    assert!(matches!(btf.get(long), Err(Error::Malformed { .. })));
    assert_eq!(btf.type_name(long), "…");
}
