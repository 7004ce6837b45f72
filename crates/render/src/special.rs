//! Special fields of values: locks, timers, pointers, lists and trees, and the
//! objects that these lead to.

use std::cell::{Cell, RefCell};
use std::iter;
use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::special::{Field, FieldKind, Fields, KernelNames, Pointed, Pointee, Reader, Special};
use bpfmaps::{BpfMapAccessor, Bytes, Error, MapInfo, Walk};
use btf_layout::TypeId;
use guestmem::Kva;
use rustc_hash::FxHashMap;

use crate::object::Object;
use crate::shape::{Form, Node, Shape};

/// How deep objects are followed into objects. The kernel lets lists nest
/// three deep, but pointers may form a chain of any length.
const MAX_DEPTH: usize = 8;

/// The largest object of the kernel that is shown with all its fields.
const MAX_KERNEL_OBJECT: u64 = 4096;

/// The special fields of a map's values.
pub(crate) struct Specials<'a> {
    accessor: &'a dyn BpfMapAccessor,
    reader: Reader<'a>,
    hidden: bool,
    names: KernelNames,
    /// By whether the type is the kernel's.
    types: RefCell<FxHashMap<(bool, TypeId), Rc<ObjectType>>>,
    gaps: Cell<u64>,
}

/// The type of an object that a field leads to.
struct ObjectType {
    shape: Shape,
    fields: Rc<Fields>,
}

/// A value or object and where its special fields are.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    specials: &'a Specials<'a>,
    fields: &'a Fields,
    /// Where the object is; a value's place is not known.
    at: Option<Kva>,
    /// What led here.
    from: Option<&'a Place<'a>>,
}

/// A special field of a value or object.
#[derive(Clone, Copy)]
pub(crate) struct SpecialField<'a> {
    place: &'a Place<'a>,
    pub(crate) field: &'a Field,
    value: &'a [u8],
}

/// What became of an object that a field leads to.
pub(crate) enum Followed<'o> {
    /// A well-known object of the kernel.
    Named(bpfmaps::Object),
    Typed(Object<'o>),
    /// It has more fields than anybody would read.
    Large,
    /// It is the object that holds the field, or one that led there.
    Above,
    /// It is one of a chain that is too long.
    Deep,
}

/// Receives the objects of a list or tree: the address, the type's name, and
/// the object.
pub(crate) type Visit<'v> = dyn FnMut(Kva, &str, Followed<'_>) -> ControlFlow<()> + 'v;

impl<'a> Specials<'a> {
    /// Those of `map`, if its values have any.
    pub(crate) fn of(
        accessor: &'a dyn BpfMapAccessor,
        map: &MapInfo,
    ) -> Result<Option<Self>, Error> {
        Ok(Reader::of(accessor, map)?.map(|reader| Self {
            accessor,
            reader,
            hidden: accessor.hides_special(map),
            names: KernelNames::default(),
            types: RefCell::default(),
            gaps: Cell::new(0),
        }))
    }

    /// The place of a whole value.
    pub(crate) fn place(&self) -> Place<'_> {
        Place {
            specials: self,
            fields: self.reader.fields(),
            at: None,
            from: None,
        }
    }

    /// How many objects and fields could not be read, or not whole.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps.get()
    }

    /// What bpf(2) shows of a value.
    pub(crate) fn shown(&self, value: &[u8]) -> Vec<u8> {
        let mut copy = value.to_vec();
        if !self.hidden {
            self.reader.fields().zero(&mut copy);
        }
        copy
    }

    fn gap(&self, count: u64) {
        self.gaps.set(self.gaps.get().saturating_add(count));
    }

    fn object_type(&self, pointee: Option<&Pointee>, ty: TypeId) -> Rc<ObjectType> {
        let of_kernel = pointee.filter(|pointee| pointee.of_kernel);
        let key = (of_kernel.is_some(), ty);
        if let Some(known) = self.types.borrow().get(&key) {
            return Rc::clone(known);
        }
        let made = Rc::new(match of_kernel {
            Some(pointee) => ObjectType {
                shape: Shape::new(&pointee.btf, ty),
                fields: Rc::default(),
            },
            None => ObjectType {
                shape: Shape::new(self.reader.btf(), ty),
                fields: self.reader.fields_of(ty),
            },
        });
        self.types.borrow_mut().insert(key, Rc::clone(&made));
        made
    }
}

impl<'a> Place<'a> {
    /// The special field that `node` is, at `offset` of the value. A struct
    /// whose first member is special begins where the member does.
    pub(crate) fn field(
        &'a self,
        node: &Node,
        offset: u64,
        value: &'a [u8],
    ) -> Option<SpecialField<'a>> {
        let field = self.fields.at(offset)?;
        let is_field = match &node.form {
            Form::Pointer(_) => field.kind.is_pointer(),
            Form::Record(record) => *record.name == *field.kind.name(),
            _ => false,
        };
        is_field.then_some(SpecialField {
            place: self,
            field,
            value,
        })
    }

    /// Whether there is any in a part of the value.
    pub(crate) fn has_any(&self, offset: u64, size: u64) -> bool {
        let end = offset.saturating_add(size);
        let mut fields = self.fields.iter();
        fields.any(|field| (offset..end).contains(&field.offset))
    }
}

impl<'a> SpecialField<'a> {
    /// What it holds. What of it could not be read is counted.
    pub(crate) fn read(&self) -> Special {
        let specials = self.place.specials;
        let special = specials.reader.read(self.field, self.value, self.place.at);
        specials.gap(match &special {
            Special::Timer(pointed) => unread(pointed),
            Special::Workqueue(pointed) => unread(pointed),
            Special::TaskWork(pointed) => unread(pointed),
            Special::Kptr(pointed) | Special::Uptr(pointed) => unread(pointed),
            Special::PercpuKptr(pointed) => match pointed {
                Pointed::At {
                    found: Ok(each), ..
                } => each.iter().filter(|one| one.found.is_err()).count() as u64,
                pointed => unread(pointed),
            },
            _ => 0,
        });
        special
    }

    /// The type that a pointer is declared to lead to.
    pub(crate) fn target_name(&self) -> Option<String> {
        let target = self.field.target?;
        Some(self.place.specials.reader.btf().type_name(target.ty))
    }

    /// Whether a pointer's object may be gone.
    pub(crate) fn is_untrusted(&self) -> bool {
        self.field.kind == FieldKind::UntrustedKptr
    }

    /// Visits the objects in a list or tree.
    pub(crate) fn nodes(&self, visit: &mut Visit<'_>) -> Walk {
        let Place { specials, at, .. } = *self.place;
        let walk = specials
            .reader
            .nodes(self.field, self.value, at, &mut |node| {
                let object_type = specials.object_type(None, node.ty);
                let name = &object_type.shape.name;
                self.enter(&object_type, node.address, node.bytes, |followed| {
                    visit(node.address, name, followed)
                })
            });
        let gaps = (walk.gaps.len() as u64).saturating_add(walk.unlisted_gaps);
        specials.gap(gaps);
        walk
    }

    /// Hands `visit` the object that a pointer leads to.
    pub(crate) fn follow<T>(
        &self,
        pointee: &Pointee,
        at: Kva,
        visit: impl FnOnce(Followed<'_>) -> T,
    ) -> T {
        let specials = self.place.specials;
        let mut walk = Walk::default();
        let named = specials
            .names
            .object(specials.accessor, pointee, at, &mut walk);
        specials.gap(walk.gaps.len() as u64);
        if let Some(named) = named {
            return visit(Followed::Named(named));
        }
        if pointee.of_kernel && pointee.bytes.len() as u64 > MAX_KERNEL_OBJECT {
            return visit(Followed::Large);
        }
        let object_type = specials.object_type(Some(pointee), pointee.ty);
        let bytes = Bytes::whole(&pointee.bytes);
        self.enter(&object_type, at, bytes, visit)
    }

    fn enter<T>(
        &self,
        object_type: &ObjectType,
        at: Kva,
        bytes: Bytes<'_>,
        visit: impl FnOnce(Followed<'_>) -> T,
    ) -> T {
        let specials = self.place.specials;
        let above = || iter::successors(Some(self.place), |place| place.from);
        if above().any(|place| place.at == Some(at)) {
            return visit(Followed::Above);
        }
        if above().count() > MAX_DEPTH {
            specials.gap(1);
            return visit(Followed::Deep);
        }
        let place = Place {
            specials,
            fields: &object_type.fields,
            at: Some(at),
            from: Some(self.place),
        };
        let object = Object::new(&object_type.shape, bytes).within(&place);
        visit(Followed::Typed(object))
    }
}

fn unread<T>(pointed: &Pointed<T>) -> u64 {
    match pointed {
        Pointed::At { found: Err(_), .. } => 1,
        _ => 0,
    }
}
