//! Arrays of instructions, and an arena.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use libbpf_sys::{BPF_F_MMAPABLE, BPF_MAP_TYPE_ARENA, bpf_insn};
use serde_json::json;

use crate::arena::{self, Purpose};
use crate::make::Maker;
use crate::memory::Mapping;
use crate::objects::Filled;
use crate::sys::{self, MapSpec};
use crate::truth::{Told, bytes};

/// Arrays of instructions, which are younger than libbpf-rs's list.
const INSN_ARRAY: u32 = 34;

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    if maker.has("INSN_ARRAY") {
        instructions(maker)?;
    }
    if maker.has("ARENA") {
        pages(maker)?;
    }
    Ok(())
}

/// An instruction: code, registers (target in the low half), offset, number.
const fn insn(code: u8, registers: u8, off: i16, imm: i32) -> bpf_insn {
    bpf_insn {
        code,
        _bitfield_align_1: [],
        _bitfield_1: libbpf_sys::__BindgenBitfieldUnit::new([registers]),
        off,
        imm,
    }
}

const MOV: u8 = 0xb7;
const ADD: u8 = 0x07;
const LOAD_WIDE: u8 = 0x18;
const JUMP_EQUAL: u8 = 0x15;
const JUMP: u8 = 0x05;
const EXIT: u8 = 0x95;

/// A program in which the verifier removes an instruction that is never reached, and one that
/// does nothing.
const PROGRAM: [bpf_insn; 10] = [
    insn(MOV, 0, 0, 1),
    insn(LOAD_WIDE, 1, 0, 0x1234),
    insn(0, 0, 0, 0x5678),
    insn(JUMP_EQUAL, 0, 1, 1),
    // Never reached: 4.
    insn(MOV, 0, 0, 5),
    // Jumps to what comes next: 5.
    insn(JUMP, 0, 0, 0),
    insn(ADD, 0, 0, 1),
    insn(ADD, 0, 0, 2),
    insn(MOV, 0, 0, 2),
    insn(EXIT, 0, 0, 0),
];

/// An array: name, offsets of instructions.
type Row = (&'static str, &'static [u32]);

const ROWS: [Row; 3] = [
    ("insns", &[0, 1, 6, 9]),
    ("insns_again", &[9, 9, 0]),
    ("insns_one", &[7]),
];

fn array(name: &str, offsets: &[u32]) -> Result<MapHandle> {
    let map = sys::create_map(&MapSpec {
        kind: INSN_ARRAY,
        name,
        key_size: 4,
        value_size: 16,
        max_entries: u32::try_from(offsets.len())?,
        ..MapSpec::default()
    })?;
    for (at, offset) in (0_u32..).zip(offsets) {
        let mut value = offset.to_le_bytes().to_vec();
        value.resize(16, 0);
        sys::update(&map, &at.to_le_bytes(), &value, 0)?;
    }
    Ok(map)
}

fn instructions(maker: &mut Maker) -> Result<()> {
    for (name, offsets) in ROWS {
        let map = array(name, offsets)?;
        map.freeze()?;
        let program = sys::load_xdp(name, &PROGRAM, map.as_fd())?;
        maker.programs.add_bare(program.as_fd())?;
        let id = sys::program_info(program.as_fd())?.id;
        let mut expect = Vec::new();
        for (at, offset) in (0_u32..).zip(offsets) {
            // Where the instruction went is the kernel's to say.
            let value = map.lookup(&at.to_le_bytes(), MapFlags::ANY)?;
            let value = value.with_context(|| format!("{name} has no slot {at}"))?;
            let kept = value.starts_with(&offset.to_le_bytes())
                && value.get(4..8) != Some(&u32::MAX.to_le_bytes());
            ensure!(kept, "{name}[{at}] is {value:02x?}");
            let refers = json!({"kind": "instruction", "prog": {"id": id, "name": name}});
            expect.push(json!({"index": at, "refers": refers, "value": bytes(&value)}));
        }
        maker.hold(program);
        maker.keep(Filled {
            map,
            frozen: true,
            told: Told::ordered(expect),
        })?;
    }
    // The instruction of the second slot is gone, so that there is nothing to refer to; whether
    // the third's is depends on the verifier.
    let map = array("insns_removed", &[0, 4, 5, 8])?;
    map.freeze()?;
    let program = sys::load_xdp("removed", &PROGRAM, map.as_fd())?;
    maker.programs.add_bare(program.as_fd())?;
    let value = map.lookup(&1_u32.to_le_bytes(), MapFlags::ANY)?;
    let gone = [4_u32, u32::MAX].map(u32::to_le_bytes).concat();
    ensure!(
        value.as_ref().is_some_and(|value| value.starts_with(&gone)),
        "the instruction is still there: {value:02x?}"
    );
    let id = sys::program_info(program.as_fd())?.id;
    let refers = json!({"kind": "instruction", "prog": {"id": id, "name": "removed"}});
    let expect = [0, 3].map(|at| json!({"index": at, "refers": refers}));
    maker.hold(program);
    maker.keep(Filled {
        map,
        frozen: true,
        told: Told::unordered(expect.to_vec()).at_least(),
    })?;
    // No program has made anything of these yet.
    let map = array("insns_unused", &[3, 0, 7])?;
    maker.tell(map, Told::nothing())
}

/// An arena of which some pages are there. Their contents are another matter.
fn pages(maker: &mut Maker) -> Result<()> {
    const PAGE: usize = 4096;
    const PAGES: u32 = 100;
    let map = maker.create(&MapSpec {
        kind: BPF_MAP_TYPE_ARENA,
        name: "arena",
        max_entries: PAGES,
        flags: BPF_F_MMAPABLE,
        ..MapSpec::default()
    })?;
    let mut memory = Mapping::shared(map.as_fd(), 0, PAGE * usize::try_from(PAGES)?)?;
    for page in [0, 1, 7, 99] {
        let mark = format!("page {page} of the arena");
        memory.write(page * PAGE + page, mark.as_bytes())?;
    }
    maker.hold(memory);
    let runs = [(0, 2), (7, 1), (99, 1)];
    let state = arena::state(PAGES, &runs, &[(Purpose::Unknown, 4)]);
    maker.tell(map, Told::nothing().state(state))
}
