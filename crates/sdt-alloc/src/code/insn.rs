//! `struct bpf_insn` (`include/uapi/linux/bpf.h`), taken apart.

/// A register that holds the frame's end.
pub(crate) const FRAME: u8 = 10;
/// Registers that an instruction can name; those behind the frame's are the
/// verifier's own.
pub(crate) const REGISTERS: usize = 16;
/// Registers that pass arguments, from 1 on.
pub(crate) const ARGUMENTS: usize = 5;

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    pub(crate) dst: u8,
    pub(crate) src: u8,
    pub(crate) off: i16,
    pub(crate) imm: i32,
}

/// What an instruction does, as far as pointers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A constant of 64 bits, which has two instructions.
    Constant,
    /// `dst = src`; all of it, or its lower half.
    Move { wide: bool },
    /// `dst = imm`, whose sign is extended to all of it or to its lower half.
    MoveImm { wide: bool },
    /// `dst += src`, or less it.
    Add { minus: bool },
    /// `dst += imm`, or less it.
    AddImm { minus: bool },
    /// Another operation on `dst`.
    Other,
    /// `dst = *(src + off)`, of so many bytes; a sign is extended or not.
    Load { size: u8 },
    /// `*(dst + off) = src`
    Store { size: u8 },
    /// `*(dst + off) = imm`
    StoreImm { size: u8 },
    /// An operation on `*(dst + off)` that reads and writes.
    Atomic { size: u8 },
    /// Puts `src` into `*(dst + off)`, what was there into `src`.
    Exchange { size: u8 },
    /// Puts `src` into `*(dst + off)` if register 0 was there, and what was
    /// there into register 0.
    CompareExchange { size: u8 },
    /// `dst = *(src + off)`, in order.
    LoadAcquire { size: u8 },
    /// A load from a packet, which clobbers as a call does.
    Packet,
    /// Goes on behind so many instructions.
    Jump(i64),
    /// Goes on behind so many instructions, or with the next one.
    Branch(i64),
    /// Goes on nobody knows where.
    Indirect,
    /// A call.
    Call,
    /// The end of the function.
    Exit,
}

impl Insn {
    pub(crate) fn parse([code, registers, off0, off1, imm @ ..]: [u8; 8]) -> Self {
        Self {
            code,
            dst: registers & 0xf,
            src: registers >> 4,
            off: i16::from_le_bytes([off0, off1]),
            imm: i32::from_le_bytes(imm),
        }
    }

    /// Bytes that a load or store moves.
    fn size(self) -> u8 {
        match self.code & 0x18 {
            0x00 => 4,
            0x08 => 2,
            0x10 => 1,
            _ => 8,
        }
    }

    pub(crate) fn op(self) -> Op {
        let size = self.size();
        match self.code & 0x07 {
            0x00 if self.code == 0x18 => Op::Constant,
            // The second half of a constant does nothing.
            0x00 if self.code == 0 => Op::Jump(0),
            0x00 => Op::Packet,
            0x01 => Op::Load { size },
            0x02 => Op::StoreImm { size },
            0x03 => match (self.code & 0xe0, self.imm) {
                // BPF_LOAD_ACQ, BPF_STORE_REL.
                (0xc0 | 0xe0, 0x100) => Op::LoadAcquire { size },
                (0xc0 | 0xe0, 0x110) => Op::Store { size },
                (0xc0 | 0xe0, 0xe1) => Op::Exchange { size },
                (0xc0 | 0xe0, 0xf1) => Op::CompareExchange { size },
                (0xc0 | 0xe0, _) => Op::Atomic { size },
                _ => Op::Store { size },
            },
            0x04 | 0x07 => self.arithmetic(),
            _ => self.jump(),
        }
    }

    fn arithmetic(self) -> Op {
        let wide = self.code & 0x07 == 0x07;
        let by_register = self.code & 0x08 != 0;
        match (self.code & 0xf0, by_register, wide) {
            // BPF_ADDR_SPACE_CAST has 1 in `off`; moves that extend a sign
            // have the number of bits there.
            (0xb0, true, _) if self.off <= 1 => Op::Move { wide },
            (0xb0, false, _) => Op::MoveImm { wide },
            (0x00 | 0x10, true, true) => Op::Add {
                minus: self.code & 0xf0 == 0x10,
            },
            (0x00 | 0x10, false, true) => Op::AddImm {
                minus: self.code & 0xf0 == 0x10,
            },
            _ => Op::Other,
        }
    }

    fn jump(self) -> Op {
        let wide = self.code & 0x07 == 0x05;
        match (self.code & 0xf0, wide) {
            (0x00, true) if self.code & 0x08 != 0 => Op::Indirect,
            (0x00, true) => Op::Jump(self.off.into()),
            (0x00, false) => Op::Jump(self.imm.into()),
            (0x80, true) => Op::Call,
            (0x90, true) => Op::Exit,
            _ => Op::Branch(self.off.into()),
        }
    }

    /// Whether an atomic operation leaves the old value in `src`.
    pub(crate) fn fetches(self) -> bool {
        self.imm & 1 != 0
    }
}
