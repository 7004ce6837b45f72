//! The instructions of programs (`bpf_prog.insnsi`), and what they refer to.
//!
//! The main program keeps those of all its functions, machine code or not
//! (`jit_subprogs` in `kernel/bpf/verifier.c`).

use btf_layout::TypeId;
use guestmem::{Address, Fault, Kva, MemoryExt};

use super::layout::{ProgLayout, member};
use crate::code::{Addresses, Code, Form, Function};
use crate::structures::array::ArrayLayout;
use crate::structures::place::{self, POINTER};
use crate::structures::{BtfObjectLayout, Copied, MapLayout, Parsed};
use crate::target::Target;
use crate::{Error, Reason};

/// Bytes of `struct bpf_insn`.
const INSN: u64 = 8;

/// What it takes to read instructions.
pub(crate) struct Reader<'a> {
    pub(crate) target: &'a dyn Target,
    pub(crate) layout: &'a ProgLayout,
    pub(crate) maps: &'a MapLayout,
    pub(crate) btf_layout: &'a BtfObjectLayout,
    pub(crate) known: &'a Parsed,
}

impl Reader<'_> {
    /// The instructions of the program at `at`; `None` if it has none.
    pub(crate) fn code(&self, at: Kva) -> Result<Option<Code>, Error> {
        let (of_prog, of_aux) = (&self.layout.prog, &self.layout.aux);
        let what = "struct bpf_prog";
        let prog = Copied::object(self.target, at, of_prog.size, what)?;
        let what = "struct bpf_prog_aux";
        let aux = Copied::object(self.target, prog.pointer(&of_prog.aux), of_aux.size, what)?;
        let insns = member(at, &of_prog.insnsi);
        let insns = insns.map_err(unreadable("bpf_prog.insnsi"))?;
        let count = prog.u32(&of_prog.len);
        if count == 0 {
            return Ok(None);
        }
        let raw = self.array(insns, count, INSN, "bpf_prog.len")?;
        let btf_at = aux.pointer(&of_aux.btf);
        let btf = match btf_at.get() {
            0 => None,
            _ => Some(self.btf_layout.load(self.target, btf_at, self.known)?),
        };
        let functions = self.functions(&aux)?;
        let addresses = self.addresses(&aux)?;
        Ok(Some(Code::new(
            Form::Memory,
            &raw,
            functions,
            addresses,
            btf,
        )))
    }

    /// The bytes of `count` things of `size` bytes each.
    fn array(&self, at: Kva, count: u32, size: u64, what: &'static str) -> Result<Vec<u8>, Error> {
        let len = u64::from(count).saturating_mul(size);
        if len > self.target.memory_size() {
            let value = count.into();
            return Err(Error::Damaged(Reason::Absurd { what, value }));
        }
        let read = self.target.read_up_to(at, len);
        match read.fault {
            Some(source) => Err(Error::Unreadable { what, source }),
            None => Ok(read.bytes),
        }
    }

    fn functions(&self, aux: &Copied) -> Result<Vec<Function>, Error> {
        let (of_aux, of_info) = (&self.layout.aux, &self.layout.func_info);
        let count = aux.u32(&of_aux.func_info_cnt);
        let at = aux.pointer(&of_aux.func_info);
        let raw = self.array(at, count, of_info.size, "bpf_prog_aux.func_info_cnt")?;
        let size = usize::try_from(of_info.size).unwrap_or(usize::MAX).max(1);
        let functions = raw.chunks_exact(size).map(|info| {
            let info = Copied::of(info);
            Function {
                start: info.u32(&of_info.insn_off),
                type_id: TypeId(info.u32(&of_info.type_id)),
            }
        });
        Ok(functions.collect())
    }

    /// The maps that the program uses, and the values that it can refer to
    /// (`array_map_direct_value_meta` in `kernel/bpf/arraymap.c`).
    fn addresses(&self, aux: &Copied) -> Result<Addresses, Error> {
        let of_aux = &self.layout.aux;
        let arrays = ArrayLayout::new(self.target.btf())?;
        let what = "bpf_prog_aux.used_map_cnt";
        let (maps, count) = (
            aux.pointer(&of_aux.used_maps),
            aux.u32(&of_aux.used_map_cnt),
        );
        let pointers = self.array(maps, count, POINTER, what)?;
        let mut addresses = Addresses::default();
        for pointer in pointers.as_chunks().0 {
            let at = Kva::at(u64::from_le_bytes(*pointer));
            let id = place::element(at, self.layout.map_id.offset, 1);
            let id = self.target.load_u32(id).map_err(unreadable("bpf_map.id"))?;
            let map = self.maps.describe(self.target, self.btf_layout, id, at)?;
            addresses.map(id, at.get());
            if let Some((value, len)) = arrays.single_value(&map, at) {
                addresses.value(id, value.get(), len);
            }
        }
        Ok(addresses)
    }
}

fn unreadable(what: &'static str) -> impl Fn(Fault<Kva>) -> Error {
    move |source| Error::Unreadable { what, source }
}
