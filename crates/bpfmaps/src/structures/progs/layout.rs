//! Where the members of `struct bpf_prog` and of what belongs to it are.

use btf_layout::{Btf, Error, Member};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};

use crate::structures::Copied;

/// Where the members of programs are.
#[derive(Debug)]
pub(crate) struct ProgLayout {
    pub(super) prog: ProgMembers,
    pub(super) aux: AuxMembers,
    pub(super) func_info: FuncInfo,
    pub(super) stats: Stats,
    pub(super) map_id: Member,
}

/// Of `struct bpf_prog`.
#[derive(Debug)]
pub(super) struct ProgMembers {
    pub(super) size: u64,
    pub(super) gpl: Member,
    pub(super) prog_type: Member,
    pub(super) expected_attach_type: Member,
    pub(super) len: Member,
    pub(super) jited_len: Member,
    pub(super) tag: Member,
    pub(super) stats: Member,
    pub(super) aux: Member,
    pub(super) insnsi: Member,
}

/// Of `struct bpf_prog_aux`.
#[derive(Debug)]
pub(super) struct AuxMembers {
    pub(super) size: u64,
    pub(super) id: Member,
    pub(super) name: Member,
    pub(super) used_map_cnt: Member,
    pub(super) used_maps: Member,
    pub(super) func_cnt: Member,
    pub(super) func: Member,
    pub(super) attach_btf_id: Member,
    pub(super) attach_btf: Member,
    pub(super) attach_func_name: Member,
    pub(super) dst_prog: Member,
    pub(super) uid: Member,
    pub(super) user: Member,
    pub(super) load_time: Member,
    pub(super) verified_insns: Member,
    pub(super) btf: Member,
    pub(super) func_info: Member,
    pub(super) func_info_cnt: Member,
}

/// Of `struct bpf_func_info`.
#[derive(Debug)]
pub(super) struct FuncInfo {
    pub(super) size: u64,
    pub(super) insn_off: Member,
    pub(super) type_id: Member,
}

/// Of `struct bpf_prog_stats`.
#[derive(Debug)]
pub(super) struct Stats {
    pub(super) size: u64,
    pub(super) cnt: Member,
    pub(super) nsecs: Member,
    pub(super) misses: Member,
}

impl ProgLayout {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let prog = btf.record("bpf_prog")?;
        let aux = btf.record("bpf_prog_aux")?;
        let stats = btf.record("bpf_prog_stats")?;
        let func_info = btf.record("bpf_func_info")?;
        Ok(Self {
            prog: ProgMembers {
                size: prog.size(),
                gpl: prog.member("gpl_compatible")?,
                prog_type: prog.member("type")?,
                expected_attach_type: prog.member("expected_attach_type")?,
                len: prog.member("len")?,
                jited_len: prog.member("jited_len")?,
                tag: prog.member("tag")?,
                stats: prog.member("stats")?,
                aux: prog.member("aux")?,
                insnsi: prog.member("insnsi")?,
            },
            aux: AuxMembers {
                size: aux.size(),
                id: aux.member("id")?,
                name: aux.member("name")?,
                used_map_cnt: aux.member("used_map_cnt")?,
                used_maps: aux.member("used_maps")?,
                func_cnt: aux.member("func_cnt")?,
                func: aux.member("func")?,
                attach_btf_id: aux.member("attach_btf_id")?,
                attach_btf: aux.member("attach_btf")?,
                attach_func_name: aux.member("attach_func_name")?,
                dst_prog: aux.member("dst_prog")?,
                uid: btf.record("user_struct")?.member("uid")?,
                user: aux.member("user")?,
                load_time: aux.member("load_time")?,
                verified_insns: aux.member("verified_insns")?,
                btf: aux.member("btf")?,
                func_info: aux.member("func_info")?,
                func_info_cnt: aux.member("func_info_cnt")?,
            },
            func_info: FuncInfo {
                size: func_info.size(),
                insn_off: func_info.member("insn_off")?,
                type_id: func_info.member("type_id")?,
            },
            stats: Stats {
                size: stats.size(),
                cnt: stats.member("cnt")?,
                nsecs: stats.member("nsecs")?,
                misses: stats.member("misses")?,
            },
            map_id: btf.record("bpf_map")?.member("id")?,
        })
    }

    /// The `struct bpf_prog_aux` of the program at `at`.
    pub(super) fn aux_of(&self, memory: &dyn Memory<Kva>, at: Kva) -> Result<Copied, Fault<Kva>> {
        let aux = memory.load_u64(member(at, &self.prog.aux)?)?;
        Copied::load(memory, Kva::at(aux), self.aux.size)
    }
}

/// The address of a member of the object at `at`.
pub(super) fn member(at: Kva, member: &Member) -> Result<Kva, Fault<Kva>> {
    at.checked_add(member.offset)
        .ok_or(Fault::new(at, Cause::EndOfSpace))
}
