#![cfg(test)]
//! Members by path.

use btf_layout::build::Builder;
use btf_layout::{Btf, IntEncoding, TypeId};

fn parse(types: &Builder) -> Btf {
    Btf::parse(types.finish(), "a test").unwrap()
}

#[test]
fn paths_lead_through_anonymous_members_at_every_level() {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let inner = types.record("", 8, &[("x", u32_, 0), ("y", u32_, 32)]);
    let middle = types.union("", 8, &[("", inner, 0), ("z", u32_, 0)]);
    let named = types.record("named", 12, &[("a", u32_, 0), ("", middle, 32)]);
    let alias = types.typedef("named_t", named);
    types.record("outer", 24, &[("", middle, 0), ("in", alias, 64)]);
    let btf = parse(&types);
    let outer = btf.record("outer").unwrap();
    let check = |path, offset| assert_eq!(outer.find(path).map(|m| m.offset), offset);
    check("y", Some(4));
    check("z", Some(0));
    check("in", Some(8));
    check("in.y", Some(16));
    check("in.z", Some(12));
    for absent in ["", ".", "in.", "in.b", "y.x", ".in", "in..y"] {
        check(absent, None);
    }
    assert_eq!(
        outer
            .member_any(&["gone", "in.gone"])
            .unwrap_err()
            .to_string(),
        "struct outer has no member `gone` or `in.gone` in the BTF of a test"
    );
    assert_eq!(outer.member_any(&["gone", "in.a"]).unwrap().offset, 8);
    assert_eq!(
        btf.record("nothing").unwrap_err().to_string(),
        "no type `struct nothing` in the BTF of a test"
    );
    assert_eq!(
        btf.record_by_id(u32_).unwrap_err().to_string(),
        "`u32` is no struct or union in the BTF of a test"
    );
    let names: Vec<_> = outer.members().map(|member| member.unwrap().0).collect();
    assert_eq!(names, ["", "in"]);
}

#[test]
fn bit_fields_of_both_encodings_agree() {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let of_3 = types.int_bits("u32", 4, IntEncoding::Unsigned, 0, 3);
    let of_5 = types.int_bits("u32", 4, IntEncoding::Unsigned, 3, 5);
    types.record("old", 4, &[("a", of_3, 0), ("b", of_5, 0), ("c", u32_, 0)]);
    types.bitfields(
        "new",
        4,
        &[("a", u32_, 0, 3), ("b", u32_, 3, 5), ("c", u32_, 0, 0)],
    );
    types.bitfields("far", 4, &[("a", u32_, 14, 12)]);
    let btf = parse(&types);
    for (path, bits, size) in [
        ("a", Some((0, 3)), 1),
        ("b", Some((3, 5)), 1),
        ("c", None, 4),
    ] {
        for record in ["old", "new"] {
            let member = btf.record(record).unwrap().member(path).unwrap();
            assert_eq!(member.bits.map(|bits| (bits.offset, bits.len)), bits);
            assert_eq!((member.offset, member.size), (0, size));
        }
    }
    let far = btf.record("far").unwrap().member("a").unwrap();
    assert_eq!((far.offset, far.size), (1, 3));
}

#[test]
fn a_member_past_its_record_is_malformed() {
    let mut types = Builder::new();
    let u64_ = types.int("u64", 8);
    let flexible = types.array(u64_, 0);
    types.record("ends", 8, &[("a", u64_, 0), ("rest", flexible, 64)]);
    types.record("lies", 8, &[("a", u64_, 8), ("b", u64_, u32::MAX)]);
    types.record("odd", 16, &[("a", flexible, 4)]);
    types.record("bits", 1, &[("a", u64_, 4)]);
    let btf = parse(&types);
    assert_eq!(btf.record("ends").unwrap().member("rest").unwrap().size, 0);
    for (record, path) in [("lies", "a"), ("lies", "b"), ("odd", "a"), ("bits", "a")] {
        let error = btf.record(record).unwrap().member(path).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("a member reaches past its record")
        );
    }
}

#[test]
fn anonymous_members_that_nest_without_end_are_refused() {
    let mut types = Builder::new();
    let mut id = types.int("u32", 4);
    for _ in 0..40 {
        id = types.union("", 4, &[("", id, 0), ("", id, 0)]);
    }
    types.union("bomb", 4, &[("", id, 0)]);
    let own = TypeId(id.0 + 2);
    types.union("self", 4, &[("", own, 0)]);
    let btf = parse(&types);
    let error = btf.record("bomb").unwrap().member("x").unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("anonymous members nest without end")
    );
    assert_eq!(btf.record("self").unwrap().find("x"), None);
}
