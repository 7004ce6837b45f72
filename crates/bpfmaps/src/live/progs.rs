//! The kernel's programs, by bpf(2); and, where the kernel's memory can be
//! read, what bpf(2) does not tell: what they were loaded to be attached to.

use btf_layout::TypeId;
use nix::errno::Errno;

use super::probe::Own;
use super::source::Source;
use super::sys::{self, OpenProg};
use super::{Fetch, Live, refused};
use crate::code::{Addresses, Code, Form, Function};
use crate::prog::{self, Attach, ProgInfo, ProgType, Progs};
use crate::structures::{self, BtfObjectLayout, CodeReader, MapLayout, Parsed, ProgLayout};
use crate::walk::{GapAt, Reason, Walk};
use crate::{BpfMapAccessor, Error};

/// Every program of the kernel but our own.
pub(super) fn list(live: &Live) -> Result<Progs, Error> {
    let memory = Memory::of(live)?;
    let mut progs = Progs::default();
    let mut id = 0;
    loop {
        id = match sys::next_prog_id(id) {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(errno) => return Err(refused("BPF_PROG_GET_NEXT_ID", errno)),
        };
        if live.is_own(Own::Prog(id)) {
            continue;
        }
        match OpenProg::open(id) {
            Ok(prog) => {
                let info = describe(live, memory.as_ref(), &prog, &mut progs.walk)?;
                progs.progs.push(info);
            }
            // It went between the two calls, and is no program any more.
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                let operation = "BPF_PROG_GET_FD_BY_ID";
                let reason = Reason::Refused { operation, errno };
                progs.walk.gap(GapAt::Prog(id), reason);
            }
        }
    }
    progs.walk.visited = progs.progs.len() as u64;
    Ok(progs)
}

fn describe(
    live: &Live,
    memory: Option<&Memory<'_>>,
    prog: &OpenProg,
    walk: &mut Walk,
) -> Result<ProgInfo, Error> {
    let info = &prog.info;
    let mut described = ProgInfo {
        id: info.id,
        name: prog.name(),
        prog_type: ProgType(info.type_),
        tag: info.tag,
        gpl: info.gpl_compatible() != 0,
        runs: Some((info.run_cnt, info.run_time_ns)),
        recursion_misses: Some(info.recursion_misses),
        verified_insns: Some(info.verified_insns),
        // `struct bpf_insn` has 8 bytes.
        insns: Some(info.xlated_prog_len / 8),
        jited_bytes: Some(info.jited_prog_len),
        loaded_ns: Some(info.load_time),
        uid: Some(info.created_by_uid),
        map_ids: prog.map_ids.clone(),
        btf_id: Some(info.btf_id).filter(|&id| id != 0),
        ..ProgInfo::default()
    };
    let at = GapAt::Prog(info.id);
    if let (Some(btf_id), Some(function)) = (described.btf_id, prog.function) {
        let name = live
            .btf_by_id(btf_id)
            .and_then(|btf| Ok(prog::function_name(&btf, TypeId(function))?));
        match name {
            Ok(name) => described.full_name = name,
            Err(error) => walk.gap(at.clone(), reason(error)?),
        }
    }
    let attach = match memory {
        Some(memory) => memory.attach(prog, &mut described, walk),
        None => attach(live, info.attach_btf_obj_id, info.attach_btf_id),
    };
    match attach {
        Ok(attach) => described.attach = attach,
        Err(error) => walk.gap(at, reason(error)?),
    }
    Ok(described)
}

/// What bpf(2) tells of what a program was loaded for. The BTF of another
/// program that it was loaded for is 0 once it has been attached.
fn attach(live: &Live, btf: u32, target: u32) -> Result<Attach, Error> {
    let mut attach = Attach::default();
    if btf != 0 && target != 0 {
        let btf = live.btf_by_id(btf)?;
        attach.note_target(&btf, TypeId(target), None)?;
    }
    Ok(attach)
}

/// The instructions of `prog`.
pub(super) fn code(live: &Live, prog: &ProgInfo) -> Result<Option<Code>, Error> {
    let (what, id) = ("program", prog.id);
    let opened = match OpenProg::open(id) {
        Ok(opened) if Some(opened.info.load_time) == prog.loaded_ns => opened,
        Ok(_) | Err(Errno::ENOENT) => return Err(Error::Gone { what, id }),
        Err(errno) => return Err(refused("BPF_PROG_GET_FD_BY_ID", errno)),
    };
    if live.fetch == Fetch::Memory {
        return code_in_memory(live, &opened);
    }
    let code = opened.code();
    let code = code.map_err(|errno| refused("BPF_OBJ_GET_INFO_BY_FD", errno))?;
    let Some(code) = code else { return Ok(None) };
    let btf = match opened.info.btf_id {
        0 => None,
        id => Some(live.btf_by_id(id)?),
    };
    let functions = code.functions.iter().map(|&(start, type_id)| Function {
        start,
        type_id: TypeId(type_id),
    });
    let (functions, none) = (functions.collect(), Addresses::default());
    Ok(Some(Code::new(
        Form::Dump,
        &code.insns,
        functions,
        none,
        btf,
    )))
}

fn code_in_memory(live: &Live, prog: &OpenProg) -> Result<Option<Code>, Error> {
    let source = live.source().map_err(|why| Error::NoMemory(why.clone()))?;
    let btf = live.vmlinux_btf()?;
    let reader = CodeReader {
        target: source.target(),
        layout: &ProgLayout::new(&btf)?,
        maps: &MapLayout::new(&btf)?,
        btf_layout: &BtfObjectLayout::new(&btf)?,
        known: &Parsed::default(),
    };
    reader.code(source.prog(prog)?)
}

/// What it takes to find programs in the kernel's memory.
struct Memory<'l> {
    source: &'l Source,
    layout: ProgLayout,
    btf_layout: BtfObjectLayout,
    known: Parsed,
}

impl<'l> Memory<'l> {
    /// `None` where memory cannot be read.
    fn of(live: &'l Live) -> Result<Option<Self>, Error> {
        let Ok(source) = live.source() else {
            return Ok(None);
        };
        let btf = source.target().btf();
        Ok(Some(Self {
            source,
            layout: ProgLayout::new(btf)?,
            btf_layout: BtfObjectLayout::new(btf)?,
            known: Parsed::default(),
        }))
    }

    /// What the program was loaded to be attached to; its address is put into
    /// `described`.
    fn attach(
        &self,
        prog: &OpenProg,
        described: &mut ProgInfo,
        walk: &mut Walk,
    ) -> Result<Attach, Error> {
        let id = described.id;
        let at = self.source.prog(prog)?;
        described.kva = Some(at);
        let target = self.source.target();
        let (attach, gaps) = structures::prog_attach(
            target,
            &self.layout,
            &self.btf_layout,
            &self.known,
            (id, at),
        );
        walk.append(gaps);
        Ok(attach?)
    }
}

/// Why a part of a program's description is missing; an error that is about
/// more than that one stays one.
fn reason(error: Error) -> Result<Reason, Error> {
    match error {
        Error::Unreadable { source, .. } => Ok(source.cause.into()),
        Error::Damaged(reason) => Ok(reason),
        Error::Btf(error) => Ok(error.into()),
        error => Err(error),
    }
}
