//! Pointers to objects of the kernel, of programs and of processes.

use std::rc::Rc;

use btf_layout::{Btf, Kind, Type, TypeId};
use guestmem::{Kva, MemoryExt};

use super::{CpuPointee, Field, FieldKind, Pointee, Reader};
use crate::walk::{Gap, Reason};

/// No struct that a pointer leads to is larger in any kernel.
const LARGEST: u64 = 64 << 10;

/// The type of what a pointer leads to.
struct Pointed {
    btf: Rc<Btf>,
    ty: TypeId,
    of_kernel: bool,
}

/// The object at `at` that `field` points to.
pub(super) fn pointee(reader: &Reader<'_>, field: &Field, at: Kva) -> Result<Pointee, Gap> {
    let pointed = target(reader, field);
    read(reader, &pointed, at).map_err(|reason| Gap {
        at: at.into(),
        reason,
    })
}

/// The objects that the `percpu_kptr` with the value `at` leads to: it points
/// at the per-CPU pointer (`kernel/bpf/memalloc.c`).
pub(super) fn on_each_cpu(
    reader: &Reader<'_>,
    field: &Field,
    at: Kva,
) -> Result<Vec<CpuPointee>, Gap> {
    let gap = |reason| Gap {
        at: at.into(),
        reason,
    };
    let memory = reader.memory().map_err(gap)?;
    let what = "the places of per-CPU data";
    let per_cpu = reader.accessor.per_cpu();
    let per_cpu = per_cpu.ok_or_else(|| gap(Reason::NoAccess { what }))?;
    let pointer = memory
        .load_u64(at)
        .map_err(|fault| gap(fault.cause.into()))?;
    let pointed = target(reader, field);
    let each = per_cpu.addresses(pointer).map(|(cpu, address)| CpuPointee {
        cpu,
        address,
        found: read(reader, &pointed, address).map_err(|reason| Gap {
            at: address.into(),
            reason,
        }),
    });
    Ok(each.collect())
}

/// What `field` points to, as the kernel finds it (`btf_parse_kptr`): its own
/// struct of that name, or else an object that the program allocated. Types
/// of modules are not looked for; their objects have as much as the program
/// knows of them.
fn target(reader: &Reader<'_>, field: &Field) -> Pointed {
    let ty = field.target.map_or(TypeId::VOID, |target| target.ty);
    let own = match reader.btf.get(ty) {
        Ok(Type::Record { name, .. }) if field.kind != FieldKind::Uptr => {
            reader.vmlinux.find(Kind::Struct, name)
        }
        _ => None,
    };
    match own {
        Some(ty) => Pointed {
            btf: Rc::clone(&reader.vmlinux),
            ty,
            of_kernel: true,
        },
        None => Pointed {
            btf: Rc::clone(&reader.btf),
            ty,
            of_kernel: false,
        },
    }
}

fn read(reader: &Reader<'_>, pointed: &Pointed, at: Kva) -> Result<Pointee, Reason> {
    let memory = reader.memory()?;
    let size = pointed.btf.size_of(pointed.ty)?;
    if size > LARGEST {
        let (what, value) = ("size of an object", size);
        return Err(Reason::Absurd { what, value });
    }
    let read = memory.read_up_to(at, size);
    if let Some(fault) = read.fault {
        return Err(fault.cause.into());
    }
    Ok(Pointee {
        btf: Rc::clone(&pointed.btf),
        ty: pointed.ty,
        type_name: pointed.btf.type_name(pointed.ty),
        of_kernel: pointed.of_kernel,
        bytes: read.bytes,
    })
}
