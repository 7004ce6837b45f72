//! A program's instructions, in one form whatever they were read from.

#[cfg(test)]
mod tests;

use std::rc::Rc;

use btf_layout::{Btf, TypeId};

/// The instructions of a program after the verifier's rewriting, its
/// subprograms one after the other.
///
/// Their form is that of `BPF_OBJ_GET_INFO_BY_FD`, except that what an
/// instruction [refers](Code::refers) to is not in it: the immediate and the
/// source register of a constant that is a map's or a value's, and the
/// immediate and the offset of a call of a subprogram are 0. Loads and stores
/// that the verifier made safe have their plain modes. The immediate of a
/// call of a helper or of a function of the kernel is its distance from
/// `__bpf_call_base`; 0 from bpf(2) where symbols are hidden from the caller.
#[derive(Clone, Debug, Default)]
pub struct Code {
    /// `struct bpf_insn` each (`include/uapi/linux/bpf.h`).
    pub insns: Vec<[u8; 8]>,
    /// The functions, by ascending start; none for programs without BTF.
    pub functions: Vec<Function>,
    /// What instructions refer to, by ascending instruction. The second half
    /// of a constant of 64 bits refers to nothing by itself.
    pub refers: Vec<(u32, Refers)>,
    /// The program's BTF, where it has any.
    pub btf: Option<Rc<Btf>>,
}

/// A function of a program (`struct bpf_func_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its first instruction.
    pub start: u32,
    /// Its type in the program's BTF.
    pub type_id: TypeId,
}

/// What an instruction refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refers {
    /// The map with this id.
    Map(u32),
    /// A byte in the value of an array map that has one element, such as a
    /// data section.
    MapValue {
        /// The map's id.
        map: u32,
        /// Bytes from the value's start.
        offset: u32,
    },
    /// The function of the program that starts at this instruction: it is
    /// called, or its address is taken.
    Function(u32),
}

/// Where instructions are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The kernel's memory (`bpf_prog.insnsi`).
    Memory,
    /// bpf(2) (`bpf_insn_prepare_dump` in `kernel/bpf/syscall.c`).
    #[cfg_attr(
        not(any(test, feature = "live")),
        expect(dead_code, reason = "only the running kernel is asked by bpf(2)")
    )]
    Dump,
}

/// `struct bpf_insn`, taken apart.
#[derive(Clone, Copy, Debug)]
struct Insn {
    code: u8,
    dst: u8,
    src: u8,
    off: i16,
    imm: i32,
}

// Of `include/uapi/linux/bpf.h` and `include/linux/filter.h`.
const LD_IMM64: u8 = 0x18;
const CALL: u8 = 0x85;
const CALL_ARGS: u8 = 0xe5;
const TAIL_CALL: u8 = 0xf5;
const HELPER_TAIL_CALL: i32 = 12;
const PSEUDO_CALL: u8 = 1;
const PSEUDO_MAP: u8 = 1;
const PSEUDO_VALUE: u8 = 2;
const PSEUDO_FUNC: u8 = 4;

impl Insn {
    fn parse([code, registers, off0, off1, imm @ ..]: [u8; 8]) -> Self {
        Self {
            code,
            dst: registers & 0xf,
            src: registers >> 4,
            off: i16::from_le_bytes([off0, off1]),
            imm: i32::from_le_bytes(imm),
        }
    }

    fn bytes(self) -> [u8; 8] {
        let [off0, off1] = self.off.to_le_bytes();
        let [a, b, c, d] = self.imm.to_le_bytes();
        [self.code, self.dst | self.src << 4, off0, off1, a, b, c, d]
    }

    /// The mode that the program was loaded with: the verifier marks loads
    /// and stores that may fault.
    fn plain_mode(code: u8) -> u8 {
        let mode = match (code & 0x07, code & 0xe0) {
            // BPF_PROBE_MEM, BPF_PROBE_MEMSX, BPF_PROBE_MEM32SX.
            (0x01, 0x20) => 0x60,
            (0x01, 0x40 | 0xc0) => 0x80,
            // BPF_PROBE_MEM32.
            (0x01..=0x03, 0xa0) => 0x60,
            // BPF_PROBE_ATOMIC.
            (0x03, 0xe0) => 0xc0,
            (_, mode) => mode,
        };
        code & 0x1f | mode
    }
}

/// What constants may refer to.
#[derive(Debug, Default)]
pub(crate) struct Addresses {
    /// Start, bytes, the map's id, and whether it is its value; by start.
    ranges: Vec<(u64, u64, u32, bool)>,
}

impl Addresses {
    /// Notes that `struct bpf_map` of the map `id` is at `at`.
    pub(crate) fn map(&mut self, id: u32, at: u64) {
        self.ranges.push((at, 1, id, false));
    }

    /// Notes that its value is the `len` bytes at `at`.
    pub(crate) fn value(&mut self, id: u32, at: u64, len: u64) {
        self.ranges.push((at, len, id, true));
    }

    fn sorted(mut self) -> Self {
        self.ranges.sort_unstable();
        self
    }

    fn find(&self, address: u64) -> Option<Refers> {
        let behind = self.ranges.partition_point(|range| range.0 <= address);
        let &(start, len, map, is_value) = self.ranges.get(behind.checked_sub(1)?)?;
        let offset = address.checked_sub(start).filter(|&offset| offset < len)?;
        match is_value {
            true => Some(Refers::MapValue {
                map,
                offset: u32::try_from(offset).ok()?,
            }),
            false => Some(Refers::Map(map)),
        }
    }
}

impl Code {
    /// The instructions `raw`, which have come in `form`.
    pub(crate) fn new(
        form: Form,
        raw: &[u8],
        mut functions: Vec<Function>,
        addresses: Addresses,
        btf: Option<Rc<Btf>>,
    ) -> Self {
        functions.sort_by_key(|function| function.start);
        functions.dedup_by_key(|function| function.start);
        let addresses = addresses.sorted();
        let mut code = Self {
            insns: raw.as_chunks().0.to_vec(),
            functions,
            refers: Vec::new(),
            btf,
        };
        let mut index = 0;
        while let Some(&insn) = code.at(index) {
            let insn = Insn::parse(insn);
            index += match insn.code {
                LD_IMM64 => code.constant(form, index, insn, &addresses),
                CALL | CALL_ARGS | TAIL_CALL => code.call(form, index, insn),
                opcode => {
                    let plain = Insn {
                        code: Insn::plain_mode(opcode),
                        ..insn
                    };
                    code.put(index, plain);
                    1
                }
            };
        }
        code
    }

    fn at(&self, index: u32) -> Option<&[u8; 8]> {
        self.insns.get(usize::try_from(index).ok()?)
    }

    fn put(&mut self, index: u32, insn: Insn) {
        let index = usize::try_from(index).ok();
        if let Some(to) = index.and_then(|index| self.insns.get_mut(index)) {
            *to = insn.bytes();
        }
    }

    /// A constant of 64 bits; how many instructions it has.
    fn constant(&mut self, form: Form, index: u32, low: Insn, addresses: &Addresses) -> u32 {
        let Some(&high) = self.at(index + 1) else {
            return 1;
        };
        let high = Insn::parse(high);
        let halves = [low.imm, high.imm].map(|half| u64::from(half.cast_unsigned()));
        let [id, offset] = [low.imm, high.imm].map(i32::cast_unsigned);
        let refers = match (form, low.src) {
            (_, PSEUDO_FUNC) => self.start(high.imm).map(Refers::Function),
            (Form::Dump, PSEUDO_MAP) => Some(Refers::Map(id)),
            (Form::Dump, PSEUDO_VALUE) => Some(Refers::MapValue { map: id, offset }),
            (Form::Dump, _) => None,
            (Form::Memory, _) => addresses.find(halves[0] | halves[1] << 32),
        };
        if let Some(refers) = refers {
            self.refers.push((index, refers));
            let src = match refers {
                Refers::Function(_) => PSEUDO_FUNC,
                _ => 0,
            };
            self.put(index, Insn { src, imm: 0, ..low });
            self.put(index + 1, Insn { imm: 0, ..high });
        }
        2
    }

    /// A call; it has one instruction.
    fn call(&mut self, form: Form, index: u32, insn: Insn) -> u32 {
        let mut plain = Insn { code: CALL, ..insn };
        if insn.code == TAIL_CALL {
            plain.imm = HELPER_TAIL_CALL;
        } else if insn.src == PSEUDO_CALL
            && let Some(start) = self.callee(form, index, insn)
        {
            self.refers.push((index, Refers::Function(start)));
            (plain.off, plain.imm) = (0, 0);
        }
        self.put(index, plain);
        1
    }

    /// The function that a call leads to.
    ///
    /// The distance and the number of the function stand in `off` and `imm`,
    /// or the other way round in the memory of newer kernels (since 7.1). As
    /// numbers ascend with starts, no call can be read in both ways.
    fn callee(&self, form: Form, index: u32, insn: Insn) -> Option<u32> {
        let behind = i64::from(index) + 1;
        let away = |distance: i32| {
            let start = u32::try_from(behind + i64::from(distance)).ok()?;
            self.is_start(start).then_some(start)
        };
        let (off, imm) = (i32::from(insn.off), insn.imm);
        let by_imm = self.start(imm);
        if insn.code == CALL {
            if by_imm.is_some() && by_imm == away(off) {
                return by_imm;
            }
            if form == Form::Memory && away(imm).is_some() && away(imm) == self.start(off) {
                return away(imm);
            }
        }
        // A distance that 16 bits do not hold is cut off.
        let cut = |start: u32| {
            let distance = i64::from(start) - behind;
            let [a, b, ..] = distance.to_le_bytes();
            let fits = i16::try_from(distance).is_ok();
            !fits && (insn.off == 0 || insn.off == i16::from_le_bytes([a, b]))
        };
        match (form, insn.code) {
            // Of an interpreted program, one of the two is something else.
            (Form::Memory, CALL_ARGS) => away(imm).or_else(|| away(off)),
            // Where symbols are hidden, the number is 0.
            _ => by_imm.filter(|&start| cut(start)).or_else(|| away(off)),
        }
    }

    /// The start of the function with this number.
    fn start(&self, number: i32) -> Option<u32> {
        let number = usize::try_from(number).ok()?;
        Some(self.functions.get(number)?.start)
    }

    fn is_start(&self, start: u32) -> bool {
        self.functions
            .binary_search_by_key(&start, |function| function.start)
            .is_ok()
    }
}
