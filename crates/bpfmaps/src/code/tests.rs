//! Instructions as each kernel keeps and copies them come out in one form.

use btf_layout::TypeId;
use proptest::prelude::*;

use super::{Addresses, Code, Form, Function, Refers};

const MAP: u64 = 0xffff_8880_1234_5600;
const VALUE: u64 = 0xffff_c900_0001_0100;

fn insn(code: u8, registers: u8, off: i16, imm: i32) -> [u8; 8] {
    let ([a, b], [c, d, e, f]) = (off.to_le_bytes(), imm.to_le_bytes());
    [code, registers, a, b, c, d, e, f]
}

/// The two instructions of a constant for register 1.
fn constant(src: u8, low: u32, high: u32) -> [[u8; 8]; 2] {
    [
        insn(0x18, 1 | src << 4, 0, low.cast_signed()),
        insn(0, 0, 0, high.cast_signed()),
    ]
}

fn address(at: u64) -> [[u8; 8]; 2] {
    let [low, high] = [at, at >> 32].map(|half| u32::try_from(half & 0xffff_ffff).unwrap());
    constant(0, low, high)
}

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

/// Reads instructions of a program of three functions, at 0, 2 and 40,000.
fn read(form: Form, insns: &[[u8; 8]]) -> (Vec<[u8; 8]>, Vec<(u32, Refers)>) {
    let functions = [0, 2, 40_000].map(|start| Function {
        start,
        type_id: TypeId(start),
    });
    let mut addresses = Addresses::default();
    addresses.value(7, VALUE, 64);
    addresses.map(5, MAP);
    let raw = insns.concat();
    let code = Code::new(form, &raw, functions.to_vec(), addresses, None);
    (code.insns, code.refers)
}

#[test]
fn constants_refer_to_maps_and_values() {
    let check = |memory: [[u8; 8]; 2], dump: [[u8; 8]; 2], expected: Option<Refers>| {
        for (form, raw) in [(Form::Memory, memory), (Form::Dump, dump)] {
            let (insns, refers) = read(form, &raw);
            let found = refers.first().map(|(_, refers)| *refers);
            assert_eq!(found, expected, "{form:?}");
            let plain = match expected {
                Some(Refers::Function(_)) => constant(4, 0, 0),
                Some(_) => constant(0, 0, 0),
                None => raw,
            };
            assert_eq!(insns, plain, "{form:?}");
        }
    };
    let value = |offset| Some(Refers::MapValue { map: 7, offset });
    check(address(MAP), constant(1, 5, 0), Some(Refers::Map(5)));
    check(address(VALUE), constant(2, 7, 0), value(0));
    check(address(VALUE + 63), constant(2, 7, 63), value(63));
    check(address(VALUE + 64), address(VALUE + 64), None);
    check(address(MAP + 8), address(MAP + 8), None);
    check(address(12), address(12), None);
    let function = constant(4, 1, 1);
    check(function, function, Some(Refers::Function(2)));
}

#[test]
fn calls_lead_to_functions() {
    let check = |form, code, off, imm, expected: Option<u32>| {
        let (insns, refers) = read(form, &[insn(code, 0x10, off, imm), EXIT]);
        let found: Vec<Refers> = refers.iter().map(|(_, refers)| *refers).collect();
        let wanted = expected.map(Refers::Function);
        assert_eq!(found, wanted.into_iter().collect::<Vec<_>>());
        if expected.is_some() {
            assert_eq!(insns, [insn(0x85, 0x10, 0, 0), EXIT]);
        }
    };
    for form in [Form::Memory, Form::Dump] {
        check(form, 0x85, 1, 1, Some(2));
        check(form, 0x85, -1, 0, Some(0));
        // 39,999 in 16 bits.
        check(form, 0x85, -25_537, 2, Some(40_000));
        check(form, 0x85, 17, 5, None);
        check(form, 0x85, 17, -1, None);
    }
    // The other way round.
    check(Form::Memory, 0x85, 2, 39_999, Some(40_000));
    check(Form::Memory, 0x85, 0, -1, Some(0));
    // Too far to be told.
    check(Form::Dump, 0x85, 0, 2, Some(40_000));
    // Without rights.
    check(Form::Dump, 0x85, 1, 0, Some(2));
    // Interpreted.
    check(Form::Memory, 0xe5, 1, 0x1234_5678, Some(2));
    check(Form::Memory, 0xe5, 3, 1, Some(2));
}

#[test]
fn what_the_verifier_marked_is_plain() {
    let check = |memory: [u8; 8], dump: [u8; 8]| {
        assert_eq!(read(Form::Memory, &[memory]).0, [dump]);
        assert_eq!(read(Form::Dump, &[dump]).0, [dump]);
    };
    // Of 8, 4, 2 and 1 bytes.
    for (size, width) in [(0x18, 8), (0x00, 4), (0x08, 2), (0x10, 1)] {
        let load = |mode: u8| insn(0x01 | size | mode, 0x21, width, 0);
        check(load(0x20), load(0x60));
        check(load(0xa0), load(0x60));
        check(load(0x40), load(0x80));
        check(load(0xc0), load(0x80));
        for class in [0x02, 0x03] {
            let store = |mode: u8| insn(class | size | mode, 0x21, width, 0);
            check(store(0xa0), store(0x60));
        }
    }
    check(insn(0xfb, 0x21, 8, 0), insn(0xdb, 0x21, 8, 0));
    check(insn(0xf5, 0, 0, 0), insn(0x85, 0, 0, 12));
    // A helper's distance, and what has no mode.
    for same in [insn(0x85, 0, 0, -77), insn(0x2f, 0x21, 0, 0), EXIT] {
        check(same, same);
    }
}

#[test]
fn a_constant_without_its_second_half_refers_to_nothing() {
    let half = constant(1, 5, 0)[0];
    assert_eq!(read(Form::Dump, &[half]), (vec![half], vec![]));
}

proptest! {
    /// Whatever the kernel's memory holds, there are as many instructions as
    /// before, and references at instructions to functions that there are.
    #[test]
    fn any_instructions_are_read(
        form in prop::sample::select(vec![Form::Memory, Form::Dump]),
        raw in prop::collection::vec(
            (prop::sample::select(vec![0x18u8, 0x85, 0xe5, 0xf5, 0x39, 0]), any::<u8>(), -9i16..9,
                prop_oneof![-9i32..9, any::<i32>()]),
            0..40,
        ),
        starts in prop::collection::vec(0u32..40, 0..5),
    ) {
        let raw: Vec<[u8; 8]> = raw
            .into_iter()
            .map(|(code, registers, off, imm)| insn(code, registers, off, imm))
            .collect();
        let functions = starts.iter().map(|&start| Function { start, type_id: TypeId(0) });
        let mut addresses = Addresses::default();
        addresses.value(1, 0, 4);
        addresses.map(2, 5);
        let code = Code::new(form, &raw.concat(), functions.collect(), addresses, None);
        prop_assert_eq!(code.insns.len(), raw.len());
        prop_assert!(code.refers.is_sorted_by(|a, b| a.0 < b.0));
        for (at, to) in code.refers {
            prop_assert!((at as usize) < raw.len());
            if let Refers::Function(start) = to {
                prop_assert!(starts.contains(&start));
            }
        }
    }
}
