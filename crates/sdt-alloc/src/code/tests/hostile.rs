//! Instructions that no kernel would accept: the analysis ends, and says if
//! it saw less than all.

use proptest::prelude::*;

use super::asm::Asm;
use super::{BSS, FIRST, Types, slot};
use crate::code::{Program, Reference, Site, analyse};

/// Any instruction, most often one that means something.
fn insn() -> impl Strategy<Value = [u8; 8]> {
    let codes = [
        0x18u8, 0x85, 0x95, 0x05, 0x15, 0x1d, 0x06, 0x0d, 0xbf, 0xbc, 0xb7, 0x07, 0x0f, 0x1f, 0x79,
        0x7b, 0x7a, 0xdb, 0x61, 0x20,
    ];
    let code = prop_oneof![4 => prop::sample::select(codes.to_vec()), 1 => any::<u8>()];
    let imm = prop_oneof![-32i32..32, any::<i32>()];
    let off = prop_oneof![4 => -20i16..20, 1 => any::<i16>()];
    (code, any::<u8>(), off, imm).prop_map(|(code, registers, off, imm)| {
        let ([a, b], [c, d, e, f]) = (off.to_le_bytes(), imm.to_le_bytes());
        [code, registers, a, b, c, d, e, f]
    })
}

fn reference() -> impl Strategy<Value = Reference> {
    prop_oneof![
        Just(Reference::Map(5)),
        (0u32..200).prop_map(|offset| Reference::Value { map: BSS, offset }),
        Just(Reference::Value {
            map: BSS,
            offset: FIRST
        }),
        (0u32..300).prop_map(Reference::Function),
    ]
}

proptest! {
    #[test]
    fn any_instructions_end(
        insns in prop::collection::vec(insn(), 0..300),
        references in prop::collection::btree_map(0u32..300, reference(), 0..100),
        starts in prop::collection::vec((0u32..400, 0u32..60), 0..8),
        payload_at in prop_oneof![Just(0), Just(8), any::<u32>()],
    ) {
        let types = Types::new();
        let references: Vec<_> = references.into_iter().collect();
        // In no order, too.
        let functions: Vec<_> = starts
            .into_iter()
            .map(|(start, ty)| (start, btf_layout::TypeId(ty)))
            .collect();
        let program = Program {
            insns: &insns,
            functions: &functions,
            references: &references,
        };
        let site = Site { map: BSS, offset: FIRST, payload_size: 32, payload_at };
        let verdicts = analyse(&types.btf, &|_, _| false, &[program.clone(), program], &[site], &[]);
        prop_assert_eq!(verdicts.len(), 1);
    }
}

#[test]
fn what_would_take_too_long_is_cut() {
    let types = Types::new();
    // Each instruction is reached from two others.
    let asm = slot(Asm::default().function(types.main)).mov(6, 0);
    let asm = (0..20_000).fold(asm, |asm, _| asm.if_zero(3, 1));
    let asm = asm.load(3, 6, 0);
    let [verdict, _] = types.analyse(&[super::library(&types, asm)], &[], 0);
    assert!(!verdict.complete && verdict.ty.is_none());
}

#[test]
fn loops_end() {
    let types = Types::new();
    let asm = slot(Asm::default().function(types.main));
    let asm = asm.load(3, 0, 8).add(0, 8).if_zero(3, -3).jump(-1);
    let [verdict, _] = types.analyse(&[super::library(&types, asm)], &[], 0);
    assert!(verdict.complete);
    assert!(verdict.accesses.contains(&(8, 8)), "{verdict:?}");
}
