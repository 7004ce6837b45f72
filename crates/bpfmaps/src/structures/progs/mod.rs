//! BPF programs (`struct bpf_prog`, `struct bpf_prog_aux`).

mod code;
mod layout;

use std::rc::Rc;

use btf_layout::{Btf, Member, TypeId};
use guestmem::{Address, Fault, Kva, MemoryExt};
use kernel::PerCpu;

use super::btf_object::{BtfObjectLayout, Parsed};
use super::copied::Copied;
use super::idr;
use super::place::{self, POINTER};
use crate::Error;
use crate::prog::{self, Attach, ProgInfo, ProgType, Progs};
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walk};
use layout::member;

pub(crate) use code::Reader as CodeReader;
pub(crate) use layout::ProgLayout;

/// The longest name of a function of the kernel (`KSYM_NAME_LEN`).
const LONGEST_NAME: usize = 512;

/// A bit-field of one bit.
fn is_set(object: &Copied, flag: &Member) -> bool {
    let shift = flag.bits.map_or(0, |bits| bits.offset % 8);
    object.uint(flag) >> shift & 1 != 0
}

/// Every program of the kernel.
pub(crate) fn list(
    target: &dyn Target,
    btf_layout: &BtfObjectLayout,
    known: &Parsed,
) -> Result<Progs, Error> {
    let prog_idr = target.require("prog_idr")?;
    let layout = ProgLayout::new(target.btf())?;
    let nodes = idr::Layout::new(target.btf())?;
    let mut found = Vec::new();
    let mut lister = Lister {
        target,
        layout: &layout,
        btf_layout,
        known,
        per_cpu: target.per_cpu().ok(),
        pointers: target.memory_size() / POINTER,
        walk: Walk::default(),
    };
    idr::walk(
        &target,
        &nodes,
        prog_idr,
        &mut lister.walk,
        &mut |id, at| found.push((id, at)),
    );
    let mut progs = Progs::default();
    for (id, at) in found {
        match lister.describe(id, at) {
            Ok(prog) => progs.progs.push(prog),
            Err(reason) => lister.walk.gap(GapAt::Prog(id), reason),
        }
    }
    progs.walk = lister.walk;
    progs.walk.visited = progs.progs.len() as u64;
    Ok(progs)
}

/// What the program `id` at `at` was loaded to be attached to, for who has
/// the rest of it from elsewhere.
#[cfg(feature = "live")]
pub(crate) fn attach(
    target: &dyn Target,
    layout: &ProgLayout,
    btf_layout: &BtfObjectLayout,
    known: &Parsed,
    (id, at): (u32, Kva),
) -> (Result<Attach, Reason>, Walk) {
    let mut lister = Lister {
        target,
        layout,
        btf_layout,
        known,
        per_cpu: None,
        pointers: 0,
        walk: Walk::default(),
    };
    let attach = lister.load(id, at).map(|(prog, aux)| {
        let prog_type = ProgType(prog.u32(&layout.prog.prog_type));
        lister.attach(id, prog_type, &prog, &aux)
    });
    (attach, lister.walk)
}

/// Takes a pointer of an array.
type EachPointer<'e> = dyn FnMut(&dyn Target, Kva) -> Result<(), Fault<Kva>> + 'e;

struct Lister<'a> {
    target: &'a dyn Target,
    layout: &'a ProgLayout,
    btf_layout: &'a BtfObjectLayout,
    known: &'a Parsed,
    per_cpu: Option<&'a PerCpu>,
    /// How many more pointers in arrays memory can hold: each array has its
    /// own place there.
    pointers: u64,
    walk: Walk,
}

impl Lister<'_> {
    /// Describes the program at `at`, which the idr lists under `id`. What
    /// is missing from the description is a gap.
    fn describe(&mut self, id: u32, at: Kva) -> Result<ProgInfo, Reason> {
        let (of_prog, of_aux) = (&self.layout.prog, &self.layout.aux);
        let (prog, aux) = self.load(id, at)?;
        let prog_type = ProgType(prog.u32(&of_prog.prog_type));
        let mut tag = [0; 8];
        for (to, from) in tag.iter_mut().zip(prog.raw(&of_prog.tag)) {
            *to = *from;
        }
        let btf = aux.pointer(&of_aux.btf);
        let stats = self.stats(id, prog.uint(&of_prog.stats));
        Ok(ProgInfo {
            id,
            name: aux.text(&of_aux.name),
            full_name: self.full_name(id, &aux),
            prog_type,
            tag,
            gpl: is_set(&prog, &of_prog.gpl),
            attach: self.attach(id, prog_type, &prog, &aux),
            runs: stats.map(|[count, nsecs, _]| (count, nsecs)),
            recursion_misses: stats.map(|[_, _, misses]| misses),
            verified_insns: Some(aux.u32(&of_aux.verified_insns)),
            insns: Some(prog.u32(&of_prog.len)),
            jited_bytes: self.jited_bytes(id, &prog, &aux),
            loaded_ns: Some(aux.uint(&of_aux.load_time)),
            uid: self.uid(id, &aux),
            map_ids: self.map_ids(id, &aux),
            btf_id: match btf.get() {
                0 => None,
                _ => {
                    let read = self.btf_layout.id(self.target, btf);
                    self.noted(id, read)
                }
            },
            kva: Some(at),
        })
    }

    /// Program and `bpf_prog_aux` at `at`, which must have this id.
    fn load(&self, id: u32, at: Kva) -> Result<(Copied, Copied), Reason> {
        let (of_prog, of_aux) = (&self.layout.prog, &self.layout.aux);
        let prog = Copied::load(self.target, at, of_prog.size).map_err(|fault| fault.cause)?;
        let aux = prog.pointer(&of_prog.aux);
        let aux = Copied::load(self.target, aux, of_aux.size).map_err(|fault| fault.cause)?;
        let own_id = aux.u32(&of_aux.id);
        if own_id != id {
            return Err(Reason::Contradiction {
                what: "bpf_prog_aux.id",
                expected: id.into(),
                found: own_id.into(),
            });
        }
        Ok((prog, aux))
    }

    /// What was read, or a gap.
    fn noted<T>(&mut self, id: u32, read: Result<T, Fault<Kva>>) -> Option<T> {
        match read {
            Ok(read) => Some(read),
            Err(fault) => {
                self.walk.gap(GapAt::Prog(id), fault.cause);
                None
            }
        }
    }

    /// The BTF whose `struct btf` is at `at`.
    fn btf(&mut self, id: u32, at: Kva) -> Option<Rc<Btf>> {
        let reason = match self.btf_layout.load(self.target, at, self.known) {
            Ok(btf) => return Some(btf),
            Err(Error::Unreadable { source, .. }) => source.cause.into(),
            Err(Error::Btf(error)) => Reason::Layout(error),
            Err(Error::Damaged(reason)) => reason,
            Err(_) => Reason::NoAccess {
                what: "the BTF of a program",
            },
        };
        self.walk.gap(GapAt::Prog(id), reason);
        None
    }

    /// The name of the function that `bpf_prog_aux.func_info` has first.
    fn full_name(&mut self, id: u32, aux: &Copied) -> Option<String> {
        let members = &self.layout.aux;
        let btf = aux.pointer(&members.btf);
        if btf.get() == 0 || aux.u32(&members.func_info_cnt) == 0 {
            return None;
        }
        let first = member(
            aux.pointer(&members.func_info),
            &self.layout.func_info.type_id,
        );
        let read = first.and_then(|at| self.target.load_u32(at));
        let type_id = self.noted(id, read)?;
        let btf = self.btf(id, btf)?;
        match prog::function_name(&btf, TypeId(type_id)) {
            Ok(name) => name,
            Err(error) => {
                self.walk.gap(GapAt::Prog(id), error);
                None
            }
        }
    }

    fn attach(&mut self, id: u32, prog_type: ProgType, prog: &Copied, aux: &Copied) -> Attach {
        let members = &self.layout.aux;
        let expected = prog.u32(&self.layout.prog.expected_attach_type);
        let mut attach = Attach {
            attach_type: Attach::type_name(prog_type, expected),
            ..Attach::default()
        };
        let target = TypeId(aux.u32(&members.attach_btf_id));
        if target == TypeId::VOID {
            return attach;
        }
        // A program's target has its BTF (`bpf_prog_get_target_btf`).
        let dst_prog = aux.pointer(&members.dst_prog);
        let btf = match dst_prog.get() {
            0 => Some(aux.pointer(&members.attach_btf)),
            _ => {
                let read = self.layout.aux_of(self.target, dst_prog);
                let dst_aux = self.noted(id, read);
                dst_aux.map(|aux| aux.pointer(&members.btf))
            }
        };
        match btf {
            Some(btf) if btf.get() != 0 => {
                let member = (prog_type == ProgType::STRUCT_OPS).then_some(expected);
                if let Some(btf) = self.btf(id, btf)
                    && let Err(error) = attach.note_target(&btf, target, member)
                {
                    self.walk.gap(GapAt::Prog(id), error);
                }
            }
            // Once attached, a program lets go of its target; the name stays.
            Some(_) => attach.function = self.attach_func_name(id, aux),
            None => {}
        }
        attach
    }

    fn attach_func_name(&mut self, id: u32, aux: &Copied) -> Option<String> {
        let at = aux.pointer(&self.layout.aux.attach_func_name);
        if at.get() == 0 {
            return None;
        }
        let name = self.target.read_cstr(at, LONGEST_NAME);
        let name = self.noted(id, name)?;
        let name = String::from_utf8(name).ok()?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.$".contains(c);
        // The BTF that it was part of may be gone by now.
        (!name.is_empty() && name.chars().all(is_name)).then_some(name)
    }

    /// Count, time and misses, of all CPUs together.
    fn stats(&mut self, id: u32, pointer: u64) -> Option<[u64; 3]> {
        let members = &self.layout.stats;
        if pointer == 0 {
            return None;
        }
        let Some(per_cpu) = self.per_cpu else {
            let what = "the places of per-CPU data";
            self.walk.gap(GapAt::Prog(id), Reason::NoAccess { what });
            return None;
        };
        let mut sums = [0u64; 3];
        for (_, at) in per_cpu.addresses(pointer) {
            let read = Copied::load(self.target, at, members.size);
            let stats = self.noted(id, read)?;
            let counts = [&members.cnt, &members.nsecs, &members.misses];
            for (sum, member) in sums.iter_mut().zip(counts) {
                *sum = sum.wrapping_add(stats.uint(member));
            }
        }
        Some(sums)
    }

    fn uid(&mut self, id: u32, aux: &Copied) -> Option<u32> {
        let user = aux.pointer(&self.layout.aux.user);
        let read = member(user, &self.layout.aux.uid).and_then(|at| self.target.load_u32(at));
        self.noted(id, read)
    }

    /// The machine code of the program, or of its functions
    /// (`bpf_prog_get_info_by_fd` in `kernel/bpf/syscall.c`).
    fn jited_bytes(&mut self, id: u32, prog: &Copied, aux: &Copied) -> Option<u32> {
        let members = &self.layout.aux;
        let count = aux.u32(&members.func_cnt);
        if count == 0 {
            return Some(prog.u32(&self.layout.prog.jited_len));
        }
        let functions = aux.pointer(&members.func);
        let jited_len = &self.layout.prog.jited_len;
        let mut sum = 0u32;
        let whole = self.pointers(id, functions, count, &mut |memory, function| {
            let len = memory.load_u32(member(function, jited_len)?)?;
            sum = sum.wrapping_add(len);
            Ok(())
        });
        whole.then_some(sum)
    }

    fn map_ids(&mut self, id: u32, aux: &Copied) -> Vec<u32> {
        let members = &self.layout.aux;
        let count = aux.u32(&members.used_map_cnt);
        let maps = aux.pointer(&members.used_maps);
        let map_id = &self.layout.map_id;
        let mut ids = Vec::new();
        self.pointers(id, maps, count, &mut |memory, map| {
            ids.push(memory.load_u32(member(map, map_id)?)?);
            Ok(())
        });
        ids
    }

    /// Hands out the `count` pointers of an array. What cannot be read is a
    /// gap and ends it; whether all could.
    fn pointers(&mut self, id: u32, array: Kva, count: u32, each: &mut EachPointer<'_>) -> bool {
        let Some(left) = self.pointers.checked_sub(count.into()) else {
            let (what, value) = ("count of a program's parts", count.into());
            self.walk
                .gap(GapAt::Prog(id), Reason::Absurd { what, value });
            return false;
        };
        self.pointers = left;
        for index in 0..u64::from(count) {
            let at = place::element(array, index, POINTER);
            let pointer = self.target.load_u64(at);
            let read = pointer.and_then(|pointer| each(self.target, Kva::at(pointer)));
            if self.noted(id, read).is_none() {
                return false;
            }
        }
        true
    }
}
