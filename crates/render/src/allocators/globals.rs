//! Variables that programs keep in an arena.

use std::rc::Rc;

use bpfmaps::Bytes;
use bpfmaps::arena::Arena;
use btf_layout::{Btf, Kind, Type, TypeId};
use guestmem::{ArenaPtr, Fault, Kva, MemoryExt};

use crate::shape::Shape;

/// The section that they are in, as libbpf calls it.
pub(crate) const SECTION: &str = ".addr_space.1";

/// The variables of an arena.
pub(crate) struct Globals {
    pub(crate) btf: Rc<Btf>,
    /// The section's type.
    pub(crate) ty: TypeId,
    pub(crate) at: ArenaPtr,
    pub(crate) size: u64,
    pub(crate) shape: Shape,
}

/// What was read of them.
pub(crate) struct GlobalBytes {
    bytes: Vec<u8>,
    fault: Option<Fault<Kva>>,
    size: u64,
}

impl GlobalBytes {
    pub(crate) fn bytes(&self) -> Bytes<'_> {
        Bytes {
            present: &self.bytes,
            len: self.size,
            fault: self.fault,
        }
    }
}

/// The section in a program's types, if it has one: its id and bytes.
pub(super) fn section(btf: &Btf) -> Option<(TypeId, u64)> {
    let id = btf.find(Kind::Datasec, SECTION)?;
    match btf.get(id) {
        Ok(Type::Datasec { size, .. }) if size > 0 => Some((id, size.into())),
        _ => None,
    }
}

impl Globals {
    /// Those of programs with these types. libbpf puts them at the arena's
    /// end, or, for kernels whose programs cannot name addresses so far up,
    /// at its beginning. What is allocated comes from the beginning, so that
    /// pages at the end are theirs.
    pub(super) fn find(btf: &Rc<Btf>, arena: &Arena<'_>) -> Option<Self> {
        let (ty, size) = section(btf)?;
        let window = arena.window();
        let pages = size.div_ceil(window.page_size());
        let exist = |first: &u64| (*first..first + pages).all(|page| arena.pages().contains(page));
        let end = window.pages().checked_sub(pages)?;
        let first = [end, 0].into_iter().find(exist)?;
        Some(Self {
            at: window.user_address(first)?,
            size,
            shape: Shape::new(btf, ty),
            ty,
            btf: Rc::clone(btf),
        })
    }

    pub(crate) fn read(&self, arena: &Arena<'_>) -> GlobalBytes {
        let read = arena.read_up_to(self.at, self.size);
        let fault = read.fault.and_then(|fault| {
            let at = arena.window().kva(fault.addr)?;
            Some(Fault::new(at, fault.cause))
        });
        GlobalBytes {
            bytes: read.bytes,
            fault,
            size: self.size,
        }
    }
}
