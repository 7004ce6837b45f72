//! Programs made by hand.

use btf_layout::TypeId;

use crate::code::{Program, Reference};

/// A program that grows instruction by instruction.
#[derive(Default)]
pub(crate) struct Asm {
    pub(crate) insns: Vec<[u8; 8]>,
    pub(crate) functions: Vec<(u32, TypeId)>,
    references: Vec<(u32, Reference)>,
    /// Calls of functions that come later, by number.
    calls: Vec<(u32, usize)>,
}

impl Asm {
    fn at(&self) -> u32 {
        u32::try_from(self.insns.len()).unwrap()
    }

    pub(crate) fn insn(mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        let ([a, b], [c, d, e, f]) = (off.to_le_bytes(), imm.to_le_bytes());
        self.insns.push([code, dst | src << 4, a, b, c, d, e, f]);
        self
    }

    /// The next instruction is the first of a function.
    pub(crate) fn function(mut self, ty: TypeId) -> Self {
        self.functions.push((self.at(), ty));
        self
    }

    fn refer(mut self, to: Reference) -> Self {
        self.references.push((self.at(), to));
        self
    }

    /// `dst` = a map.
    pub(crate) fn map(self, dst: u8, map: u32) -> Self {
        let refer = self.refer(Reference::Map(map));
        refer.insn(0x18, dst, 0, 0, 0).insn(0, 0, 0, 0, 0)
    }

    /// `dst` = an address in a data section.
    pub(crate) fn section(self, dst: u8, map: u32, offset: u32) -> Self {
        let refer = self.refer(Reference::Value { map, offset });
        refer.insn(0x18, dst, 0, 0, 0).insn(0, 0, 0, 0, 0)
    }

    /// `dst` = the address of the function with this number.
    pub(crate) fn callback(mut self, dst: u8, function: usize) -> Self {
        self.calls.push((self.at(), function));
        self.insn(0x18, dst, 4, 0, 0).insn(0, 0, 0, 0, 0)
    }

    /// Calls the function with this number.
    pub(crate) fn call(mut self, function: usize) -> Self {
        self.calls.push((self.at(), function));
        self.insn(0x85, 0, 1, 0, 0)
    }

    /// Calls the kernel.
    pub(crate) fn helper(self) -> Self {
        self.insn(0x85, 0, 0, 0, 0x1234)
    }

    pub(crate) fn mov(self, dst: u8, src: u8) -> Self {
        self.insn(0xbf, dst, src, 0, 0)
    }

    /// The verifier's form of a cast to the kernel's address.
    pub(crate) fn cast(self, dst: u8, src: u8) -> Self {
        self.insn(0xbc, dst, src, 0, 0)
    }

    pub(crate) fn set(self, dst: u8, imm: i32) -> Self {
        self.insn(0xb7, dst, 0, 0, imm)
    }

    pub(crate) fn add(self, dst: u8, imm: i32) -> Self {
        self.insn(0x07, dst, 0, 0, imm)
    }

    /// A load of 8 bytes.
    pub(crate) fn load(self, dst: u8, src: u8, off: i16) -> Self {
        self.insn(0x79, dst, src, off, 0)
    }

    /// A load of 4 bytes.
    pub(crate) fn load4(self, dst: u8, src: u8, off: i16) -> Self {
        self.insn(0x61, dst, src, off, 0)
    }

    /// A store of 8 bytes.
    pub(crate) fn store(self, dst: u8, off: i16, src: u8) -> Self {
        self.insn(0x7b, dst, src, off, 0)
    }

    /// Goes on behind `by` instructions if the register is 0.
    pub(crate) fn if_zero(self, register: u8, by: i16) -> Self {
        self.insn(0x15, register, 0, by, 0)
    }

    pub(crate) fn jump(self, by: i16) -> Self {
        self.insn(0x05, 0, 0, by, 0)
    }

    pub(crate) fn exit(self) -> Self {
        self.insn(0x95, 0, 0, 0, 0)
    }

    /// Every reference, with calls of what has been made meanwhile.
    pub(crate) fn references(&self) -> Vec<(u32, Reference)> {
        let calls = self.calls.iter().map(|&(at, function)| {
            let start = self.functions[function].0;
            (at, Reference::Function(start))
        });
        let mut all: Vec<_> = self.references.iter().copied().chain(calls).collect();
        all.sort_by_key(|reference| reference.0);
        all
    }

    pub(crate) fn program<'a>(&'a self, references: &'a [(u32, Reference)]) -> Program<'a> {
        Program {
            insns: &self.insns,
            functions: &self.functions,
            references,
        }
    }
}
