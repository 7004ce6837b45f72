//! Of which type the payload of an allocator's slots is.

use btf_layout::{Btf, Kind, Type, TypeId};
use sdt_alloc::DataLayout;

use super::{Accessor, Found, Survey};
use crate::Options;
use crate::shape::Shape;

/// Slots are aligned to no more than this.
const MAX_ALIGN: u64 = 4096;

/// The type of an allocator's payloads, and how it was found out.
#[derive(Default)]
pub(crate) struct Payload {
    pub(crate) shape: Option<Shape>,
    pub(crate) from: Option<String>,
    /// What it may be, where that is not certain.
    pub(crate) candidates: Vec<String>,
}

impl Payload {
    fn of(btf: &Btf, ty: TypeId, from: &str) -> Self {
        Self {
            shape: Some(Shape::new(btf, ty)),
            from: Some(from.to_owned()),
            candidates: Vec::new(),
        }
    }

    /// Whether anything says what it is.
    fn is_told(&self) -> bool {
        self.shape.is_some() || !self.candidates.is_empty()
    }
}

impl Survey<'_> {
    /// Finds the types, the surest way first.
    pub(super) fn type_payloads(&mut self, accessor: Accessor<'_>, options: &Options) {
        let kernel = accessor.vmlinux_btf().ok();
        for found in &mut self.allocators {
            let given = options.types.iter().find(|(name, _)| *name == found.symbol);
            found.payload = match given.map(|(_, name)| (name, struct_named(&found.btf, name))) {
                Some((_, Some(ty))) => Payload::of(&found.btf, ty, "--type"),
                Some((name, None)) => {
                    let text = format!("{}: no struct {name} in its BTF", found.symbol);
                    self.failed.push((found.map, text));
                    by_size(found, kernel.as_deref())
                }
                None if found.payload.is_told() => continue,
                None => by_size(found, kernel.as_deref()),
            };
        }
    }
}

fn struct_named(btf: &Btf, name: &str) -> Option<TypeId> {
    let bare = name.strip_prefix("struct ").unwrap_or(name);
    let found = btf.find(Kind::Struct, bare);
    found.or_else(|| btf.find(Kind::Typedef, bare))
}

/// The only struct of the program's own that a slot could be cut for.
fn by_size(found: &Found, kernel: Option<&Btf>) -> Payload {
    let mut fitting = Vec::new();
    for id in found.btf.ids() {
        let Ok(Type::Record { name, size, .. }) = found.btf.get(id) else {
            continue;
        };
        let is_kernels = kernel.is_some_and(|kernel| kernel.find(Kind::Struct, name).is_some());
        let is_librarys = name.starts_with("sdt_") || name.starts_with("scx_alloc");
        if name.is_empty() || is_kernels || is_librarys || !fits(found, size.into()) {
            continue;
        }
        fitting.push((id, name));
    }
    match fitting.as_slice() {
        [(id, _)] => Payload::of(&found.btf, *id, "size and name"),
        several => Payload {
            shape: None,
            from: None,
            candidates: several.iter().map(|(_, name)| (*name).to_owned()).collect(),
        },
    }
}

/// Whether slots for payloads of `size` bytes are as long as those that there
/// are.
fn fits(found: &Found, size: u64) -> bool {
    let elem_size = found.allocator.pool.elem_size;
    let rounded = |own: u64, align: u64| {
        let bytes = size.checked_add(own);
        bytes.and_then(|bytes| bytes.checked_next_multiple_of(align)) == Some(elem_size)
    };
    match found.data {
        None => false,
        Some(DataLayout::Header { size: own }) => rounded(own, 8),
        Some(DataLayout::Trailer { size: own }) => {
            let aligns = std::iter::successors(Some(8), |align| Some(align * 2));
            aligns
                .take_while(|&align| align <= MAX_ALIGN)
                .any(|align| rounded(own, align))
        }
    }
}
