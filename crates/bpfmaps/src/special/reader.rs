//! Reading special fields.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::rc::Rc;

use btf_layout::{Btf, Type, TypeId};
use guestmem::{Address, Kva, Memory};
use rustc_hash::FxHashMap;

use super::deferred::Layouts;
use super::{Field, FieldKind, Fields, NodeVisitor, Pointed, Special, graph, pointer};
use crate::walk::{Gap, GapAt, Reason};
use crate::{BpfMapAccessor, Error, MapInfo, Walk};

/// How many times as many bytes as memory has may be handed out as objects of
/// lists and trees: an object may be in several, and be looked at twice.
const ROUNDS: u64 = 16;

/// Tells what the special fields of a map's values hold.
///
/// Objects that lists, trees and pointers lead to have special fields of
/// their own ([`fields_of`](Reader::fields_of)): follow them by the same
/// calls, with [`Node::address`](super::Node::address) as `at`. Types may
/// lead to themselves through pointers, so bound how deep that goes. How much
/// lists and trees hand out in the reader's life is bounded by memory; past
/// that there is a gap.
pub struct Reader<'a> {
    pub(super) accessor: &'a dyn BpfMapAccessor,
    pub(super) vmlinux: Rc<Btf>,
    pub(super) btf: Rc<Btf>,
    /// Whether values come without what special fields hold.
    hidden: bool,
    fields: Fields,
    by_type: RefCell<FxHashMap<TypeId, Rc<Fields>>>,
    layouts: OnceCell<Layouts>,
    /// Bytes that may still be handed out.
    pub(super) left: Cell<u64>,
}

impl<'a> Reader<'a> {
    /// A reader for the values of `map`; `None` if they have no special
    /// fields, which costs one look at their type.
    ///
    /// # Errors
    ///
    /// BTF that could not be read or parsed.
    pub fn of(accessor: &'a dyn BpfMapAccessor, map: &MapInfo) -> Result<Option<Self>, Error> {
        if map.btf_value_type_id == 0 {
            return Ok(None);
        }
        let Some(btf) = accessor.btf(map)? else {
            return Ok(None);
        };
        let vmlinux = match accessor.vmlinux_btf() {
            Ok(vmlinux) => vmlinux,
            // Only the kernel's types tell what it knows, but where nothing
            // looks special that does not matter.
            Err(_) if !looks_special(&btf) => return Ok(None),
            Err(error) => return Err(error),
        };
        let fields = Fields::of(&vmlinux, &btf, TypeId(map.btf_value_type_id));
        if fields.is_empty() {
            return Ok(None);
        }
        let memory_size = accessor.memory_size().unwrap_or(u64::MAX);
        Ok(Some(Self {
            accessor,
            vmlinux,
            btf,
            hidden: accessor.hides_special(map),
            fields,
            by_type: RefCell::default(),
            layouts: OnceCell::new(),
            left: Cell::new(memory_size.saturating_mul(ROUNDS)),
        }))
    }

    /// The BTF that describes the values and the objects of lists and trees.
    #[must_use]
    pub fn btf(&self) -> &Rc<Btf> {
        &self.btf
    }

    /// The special fields of the map's values, or of each CPU's value.
    #[must_use]
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// The special fields of another type of the map's BTF: that of a
    /// [`Node`](super::Node), or of a [`Pointee`](super::Pointee) that is not
    /// the kernel's.
    #[must_use]
    pub fn fields_of(&self, ty: TypeId) -> Rc<Fields> {
        let mut by_type = self.by_type.borrow_mut();
        let fields = by_type
            .entry(ty)
            .or_insert_with(|| Rc::new(Fields::of_object(&self.vmlinux, &self.btf, ty)));
        Rc::clone(fields)
    }

    /// What `field` holds. `value` is the whole value (or object) that it is
    /// a field of, as far as it could be read; `at` is its address where that
    /// is known, which makes the walk of a list stricter.
    #[must_use]
    pub fn read(&self, field: &Field, value: &[u8], at: Option<Kva>) -> Special {
        // Objects are read from memory, and hide nothing.
        if self.hidden && at.is_none() {
            return Special::Hidden;
        }
        let Some(bytes) = bytes_of(field, value) else {
            return Special::Missing;
        };
        match field.kind {
            FieldKind::SpinLock | FieldKind::ResSpinLock => Special::SpinLock {
                held: word(bytes) != 0,
            },
            FieldKind::Refcount => Special::Refcount { count: word(bytes) },
            FieldKind::Timer => {
                let at = self.layouts().pointer(FieldKind::Timer, bytes);
                Special::Timer(self.pointed(at, |at| self.layouts().timer(self, at)))
            }
            FieldKind::Workqueue => {
                let at = self.layouts().pointer(FieldKind::Workqueue, bytes);
                Special::Workqueue(self.pointed(at, |at| self.layouts().work(self, at)))
            }
            FieldKind::TaskWork => {
                let at = self.layouts().pointer(FieldKind::TaskWork, bytes);
                Special::TaskWork(self.pointed(at, |at| self.layouts().task_work(self, at)))
            }
            FieldKind::Kptr | FieldKind::UntrustedKptr => {
                let find = |at| pointer::pointee(self, field, at);
                Special::Kptr(self.pointed(long(bytes), find))
            }
            FieldKind::Uptr => {
                let find = |at| pointer::pointee(self, field, at);
                Special::Uptr(self.pointed(long(bytes), find))
            }
            FieldKind::PercpuKptr => {
                let find = |at| pointer::on_each_cpu(self, field, at);
                Special::PercpuKptr(self.pointed(long(bytes), find))
            }
            FieldKind::ListHead => Special::List,
            FieldKind::RbRoot => Special::Tree,
            FieldKind::ListNode | FieldKind::RbNode => Special::Node {
                linked: graph::is_linked(self, field, bytes, at),
            },
        }
    }

    /// Visits the objects in a list, from its front on, or those in a tree,
    /// by ascending order; none for a field of another kind.
    ///
    /// What could not be reached is in the returned [`Walk`]: unreadable
    /// memory, a list that does not come back to its head. An object that
    /// could be read in part is visited with what there is and is counted
    /// among the gaps too.
    pub fn nodes(
        &self,
        field: &Field,
        value: &[u8],
        at: Option<Kva>,
        visit: &mut NodeVisitor<'_>,
    ) -> Walk {
        let mut walk = Walk::default();
        let (Some(target), Some(bytes)) = (field.target, bytes_of(field, value)) else {
            return walk;
        };
        let head = at.and_then(|at| at.checked_add(field.offset));
        let mut found = graph::Found {
            reader: self,
            target,
            walk: &mut walk,
            visit,
        };
        match field.kind {
            FieldKind::ListHead | FieldKind::RbRoot if self.hidden && at.is_none() => {
                let what = "what special fields hold";
                walk.gap(GapAt::Map, Reason::NoAccess { what });
            }
            FieldKind::ListHead => found.list(bytes, head),
            FieldKind::RbRoot => found.tree(bytes),
            _ => {}
        }
        walk
    }

    pub(super) fn layouts(&self) -> &Layouts {
        self.layouts.get_or_init(|| Layouts::new(&self.vmlinux))
    }

    /// The kernel's memory.
    pub(super) fn memory(&self) -> Result<&dyn Memory<Kva>, Reason> {
        let what = "the kernel's memory";
        self.accessor.memory().ok_or(Reason::NoAccess { what })
    }

    /// What `find` finds where `pointer` points.
    fn pointed<T>(&self, pointer: u64, find: impl FnOnce(Kva) -> Result<T, Gap>) -> Pointed<T> {
        if pointer == 0 {
            return Pointed::Null;
        }
        let address = Kva::new(pointer);
        Pointed::At {
            address,
            found: find(address),
        }
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("btf", &self.btf)
            .field("fields", &self.fields)
            .field("hidden", &self.hidden)
            .finish_non_exhaustive()
    }
}

/// Whether there is a type or tag by the name of a special field.
fn looks_special(btf: &Btf) -> bool {
    let mut types = btf.ids().map(|id| btf.get(id));
    types.any(|ty| match ty {
        Ok(Type::Record { name, .. }) => name.starts_with("bpf_"),
        Ok(Type::TypeTag { name, .. }) => name.contains("ptr"),
        Ok(_) => false,
        Err(_) => true,
    })
}

/// The bytes of a field, if the value has them all.
fn bytes_of<'v>(field: &Field, value: &'v [u8]) -> Option<&'v [u8]> {
    let start = usize::try_from(field.offset).ok()?;
    let size = usize::try_from(field.size).ok()?;
    value.get(start..start.checked_add(size)?)
}

/// The first four bytes as a number.
fn word(bytes: &[u8]) -> u32 {
    bytes
        .first_chunk()
        .map_or(0, |raw| u32::from_le_bytes(*raw))
}

/// The first eight bytes as a number.
pub(super) fn long(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |raw| u64::from_le_bytes(*raw))
}
