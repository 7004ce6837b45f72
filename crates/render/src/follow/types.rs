//! The types that pointers lead to, each compiled when it is first met.

use std::cell::RefCell;
use std::rc::Rc;

use btf_layout::{Btf, Type, TypeId};
use rustc_hash::FxHashMap;

use crate::shape::{Form, Shape, Shapes};

/// How deep records and arrays may nest where a part is looked for.
const MAX_DEPTH: usize = 64;

/// The types of all pointers.
#[derive(Debug, Default)]
pub(super) struct Types(RefCell<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By the BTF that they are of, which each of these keeps alive.
    shapes: FxHashMap<*const Btf, Shapes>,
    /// By BTF and the type that a pointer states.
    targets: FxHashMap<(*const Btf, TypeId), Rc<Target>>,
    /// By BTF and the type itself.
    objects: FxHashMap<(*const Btf, TypeId), Rc<ObjectType>>,
    all: Vec<Rc<ObjectType>>,
}

/// What a pointer states that it leads to.
#[derive(Debug)]
pub(super) struct Target {
    /// As C spells it.
    pub(super) name: String,
    /// `None` for what has no size.
    pub(super) object: Option<Rc<ObjectType>>,
}

/// A type of objects.
#[derive(Debug)]
pub(crate) struct ObjectType {
    pub(crate) shape: Shape,
    pub(crate) btf: Rc<Btf>,
    /// Without typedefs and qualifiers.
    pub(crate) id: TypeId,
    pub(crate) size: u64,
    /// Its number among all types.
    pub(super) number: u32,
}

impl Types {
    /// What a pointer to `stated` leads to.
    pub(super) fn target(&self, btf: &Rc<Btf>, stated: TypeId) -> Rc<Target> {
        let key = (Rc::as_ptr(btf), stated);
        let mut known = self.0.borrow_mut();
        if let Some(target) = known.targets.get(&key) {
            return Rc::clone(target);
        }
        let shapes = known.shapes.entry(key.0);
        shapes.or_insert_with(|| Shapes::new(Rc::clone(btf)));
        let target = Rc::new(Target {
            name: btf.type_name(stated),
            object: complete(btf, stated).and_then(|id| known.object(btf, id)),
        });
        known.targets.insert(key, Rc::clone(&target));
        target
    }

    pub(super) fn by_number(&self, number: u32) -> Option<Rc<ObjectType>> {
        let known = self.0.borrow();
        known.all.get(usize::try_from(number).ok()?).cloned()
    }
}

impl Known {
    fn object(&mut self, btf: &Rc<Btf>, id: TypeId) -> Option<Rc<ObjectType>> {
        let key = (Rc::as_ptr(btf), id);
        if let Some(object) = self.objects.get(&key) {
            return Some(Rc::clone(object));
        }
        let size = btf.size_of(id).ok().filter(|&size| size > 0)?;
        let shapes = self.shapes.get_mut(&key.0)?;
        let object = Rc::new(ObjectType {
            shape: shapes.shape(id),
            btf: Rc::clone(btf),
            id,
            size,
            number: u32::try_from(self.all.len()).ok()?,
        });
        self.objects.insert(key, Rc::clone(&object));
        self.all.push(Rc::clone(&object));
        Some(object)
    }
}

/// The type itself; of one that is only declared, the one of that name.
fn complete(btf: &Btf, stated: TypeId) -> Option<TypeId> {
    match btf.resolve(stated).ok()? {
        (_, Type::Fwd { kind, name }) => btf.find(kind.kind(), name),
        (_, Type::FuncProto { .. }) => None,
        (id, _) => Some(id),
    }
}

impl ObjectType {
    /// Whether it is a struct or union.
    pub(crate) fn is_record(&self) -> bool {
        matches!(self.shape.root.form, Form::Record(_))
    }

    /// Whether a part of it at `offset` has the type `inner`.
    pub(super) fn has_part(&self, offset: u64, inner: &Self) -> bool {
        if !Rc::ptr_eq(&self.btf, &inner.btf) {
            return false;
        }
        let mut parts = vec![(self.id, offset)];
        for _ in 0..MAX_DEPTH {
            let mut deeper = Vec::new();
            for (ty, offset) in parts {
                let Ok((id, ty)) = self.btf.resolve(ty) else {
                    continue;
                };
                if id == inner.id && offset == 0 {
                    return true;
                }
                self.parts_at(id, ty, offset, &mut deeper);
            }
            // Only overlapping members of hostile unions are that many.
            deeper.truncate(MAX_DEPTH);
            parts = deeper;
        }
        false
    }

    /// The members or elements that the byte at `offset` is in.
    fn parts_at(&self, id: TypeId, ty: Type<'_>, offset: u64, to: &mut Vec<(TypeId, u64)>) {
        match ty {
            Type::Array { element, .. } => {
                if let Some(size) = self.btf.size_of(element).ok().filter(|&size| size > 0) {
                    to.push((element, offset % size));
                }
            }
            Type::Datasec { vars, .. } => {
                for var in vars.flatten() {
                    let inside = offset.checked_sub(var.offset.into());
                    if let Some(inside) = inside.filter(|&inside| inside < var.size.into())
                        && let Ok(Type::Var { target, .. }) = self.btf.get(var.var)
                    {
                        to.push((target, inside));
                    }
                }
            }
            Type::Record { .. } => {
                let Ok(record) = self.btf.record_by_id(id) else {
                    return;
                };
                for (_, member) in record.members().flatten() {
                    if let Some(inside) = offset.checked_sub(member.offset)
                        && inside < member.size
                        && member.bits.is_none()
                    {
                        to.push((member.ty, inside));
                    }
                }
            }
            _ => {}
        }
    }
}
