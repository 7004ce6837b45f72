//! What prototypes say.

use btf_layout::{Btf, Type, TypeId};

use super::insn::ARGUMENTS;
use crate::ALLOCATORS;

/// How many qualifiers a type may have.
const MAX_QUALIFIERS: usize = 16;

/// The structs of the library that are never a payload.
const LIBRARY: [&str; 5] = ["sdt_data", "sdt_id", "sdt_pool", "sdt_desc", "sdt_chunk"];

/// A function's prototype, as far as structs go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prototype {
    /// The function's name.
    pub(crate) name: String,
    /// The struct that it returns a pointer to.
    pub(crate) returns: Option<TypeId>,
    /// The structs that its parameters point at.
    pub(crate) parameters: [Option<TypeId>; ARGUMENTS],
    /// Whether it is the library's function that gives out slots: all it
    /// takes is an allocator, and what it returns may be a pointer.
    pub(crate) allocates: bool,
}

impl Prototype {
    /// That of the function `id`. What BTF does not say well stays unsaid.
    pub(crate) fn of(btf: &Btf, id: TypeId) -> Self {
        let Ok(Type::Func { name, proto, .. }) = btf.get(id) else {
            return Self::default();
        };
        let Ok((_, Type::FuncProto { ret, params })) = btf.resolve(proto) else {
            return Self::default();
        };
        let mut parameters = [None; ARGUMENTS];
        for (to, param) in parameters.iter_mut().zip(params) {
            *to = param.ok().and_then(|param| pointee(btf, param.ty));
        }
        let is_allocator = |ty| name_of(btf, ty).is_some_and(|name| ALLOCATORS.contains(&name));
        let takes_one = params.len() == 1
            && parameters
                .first()
                .is_some_and(|p| p.is_some_and(is_allocator));
        let returned = btf.resolve(ret).map(|(_, ty)| ty);
        let may_be_pointer = matches!(returned, Ok(Type::Ptr { .. } | Type::Int { size: 8, .. }));
        Self {
            name: name.to_owned(),
            returns: pointee(btf, ret),
            parameters,
            allocates: takes_one && may_be_pointer,
        }
    }
}

/// The struct that a pointer points at, or the typedef of one without a name;
/// `None` where it is incomplete or none.
fn pointee(btf: &Btf, pointer: TypeId) -> Option<TypeId> {
    let (_, Type::Ptr { target }) = btf.resolve(pointer).ok()? else {
        return None;
    };
    let (record, Type::Record { name, size, .. }) = btf.resolve(target).ok()? else {
        return None;
    };
    if size == 0 {
        return None;
    }
    if !name.is_empty() {
        return Some(record);
    }
    let mut named = target;
    for _ in 0..MAX_QUALIFIERS {
        match btf.get(named).ok()? {
            Type::Const { target }
            | Type::Volatile { target }
            | Type::Restrict { target }
            | Type::TypeTag { target, .. } => named = target,
            _ => break,
        }
    }
    Some(named)
}

/// The name of a struct; none if it has none.
pub(crate) fn name_of(btf: &Btf, ty: TypeId) -> Option<&str> {
    match btf.resolve(ty).ok()?.1 {
        Type::Record { name, .. } if !name.is_empty() => Some(name),
        _ => None,
    }
}

/// Whether the library itself has a struct of this name.
pub(crate) fn is_library(name: &str) -> bool {
    LIBRARY.contains(&name) || ALLOCATORS.contains(&name)
}
