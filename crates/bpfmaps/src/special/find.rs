//! The search for special fields: `btf_parse_fields` in `kernel/bpf/btf.c`.

use btf_layout::{Btf, Error, Kind, RecordKind, Type, TypeId};

use super::known::{Knowledge, Known, Place};
use super::{Field, FieldKind, Target};

/// Beyond this many special fields a type has none: no kernel takes more than
/// 11 (`BTF_FIELDS_MAX`), and one that finds more takes none.
const MOST: usize = 64;

/// How deep structs and arrays may be nested (15 in the kernel,
/// `MAX_RESOLVE_DEPTH`).
const DEEPEST: u32 = 15;

/// How many members are looked at, so that hostile BTF cannot nest structs
/// exponentially.
const MOST_MEMBERS: u32 = 1 << 20;

/// What precedes struct and member in the tag of a list or tree.
const CONTAINS: &str = "contains:";

/// The type has what makes the kernel take none of its fields for special.
struct Refused;

impl From<Error> for Refused {
    fn from(_: Error) -> Self {
        Self
    }
}

/// The special fields of `ty`, by ascending offset.
pub(super) fn find(vmlinux: &Btf, btf: &Btf, ty: TypeId, place: Place) -> Vec<Field> {
    let mut search = Search {
        vmlinux,
        btf,
        known: Knowledge::new(vmlinux, place),
        found: Vec::new(),
        looked_at: 0,
    };
    let searched = search.value(ty).and_then(|()| search.check());
    match searched {
        Ok(()) => search.found,
        Err(Refused) => Vec::new(),
    }
}

struct Search<'b> {
    vmlinux: &'b Btf,
    btf: &'b Btf,
    known: Knowledge<'b>,
    found: Vec<Field>,
    looked_at: u32,
}

/// A member of a struct or a variable of a section.
#[derive(Clone, Copy)]
struct Declared {
    /// The struct or variable that decl tags are attached to.
    owner: TypeId,
    /// Which of its members.
    component: Option<u32>,
    ty: TypeId,
    offset: u64,
    /// Bytes that a section has for it.
    room: Option<u64>,
}

impl<'b> Search<'b> {
    fn value(&mut self, ty: TypeId) -> Result<(), Refused> {
        let (ty, resolved) = self.btf.resolve(ty)?;
        match resolved {
            Type::Record { .. } => self.members(ty, 0, 0),
            Type::Datasec { vars, .. } => {
                for var in vars {
                    let var = var?;
                    let Type::Var { target, .. } = self.btf.get(var.var)? else {
                        return Err(Refused);
                    };
                    let declared = Declared {
                        owner: var.var,
                        component: None,
                        ty: target,
                        offset: var.offset.into(),
                        room: Some(var.size.into()),
                    };
                    self.one(declared, 0)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn members(&mut self, owner: TypeId, start: u64, depth: u32) -> Result<(), Refused> {
        let Type::Record {
            kind: RecordKind::Struct,
            members,
            ..
        } = self.btf.get(owner)?
        else {
            return Ok(());
        };
        if depth >= DEEPEST {
            return Err(Refused);
        }
        for (index, member) in (0..).zip(members) {
            let member = member?;
            let offset = start.checked_add(member.bit_offset / 8).ok_or(Refused)?;
            if !member.bit_offset.is_multiple_of(8) {
                // One bit-field spoils it, but for early kernels.
                if self.known.is_early() {
                    continue;
                }
                return Err(Refused);
            }
            let declared = Declared {
                owner,
                component: Some(index),
                ty: member.ty,
                offset,
                room: None,
            };
            self.one(declared, depth)?;
        }
        Ok(())
    }

    /// Looks at one member or variable, and into it.
    fn one(&mut self, declared: Declared, depth: u32) -> Result<(), Refused> {
        self.looked_at += 1;
        if self.looked_at > MOST_MEMBERS {
            return Err(Refused);
        }
        let (element, count) = self.flatten(declared.ty)?;
        if count == 0 {
            return Ok(());
        }
        let fits = |size: u64| {
            let all = size.checked_mul(count);
            declared.room.is_none_or(|room| all == Some(room))
        };
        let first = self.found.len();
        let size = match self.btf.get(element)? {
            Type::Record {
                kind: RecordKind::Struct,
                name,
                size,
                ..
            } => {
                let size = u64::from(size);
                match self.known.special_struct(name) {
                    _ if !fits(size) => {}
                    None => self.members(element, declared.offset, depth + 1)?,
                    Some(known) => self.special(known, size, &declared)?,
                }
                size
            }
            Type::Ptr { .. } | Type::Volatile { .. } => {
                let size = u64::from(btf_layout::POINTER_SIZE);
                if let Some((kind, ty)) = self.tagged_pointer(element)?
                    && fits(size)
                    && declared.offset.is_multiple_of(size)
                {
                    let target = Some(Target { ty, node: 0 });
                    self.push(kind, declared.offset, size, target)?;
                }
                size
            }
            _ => return Ok(()),
        };
        self.repeat(first, count, size)
    }

    /// The element of an array of arrays, and how many there are.
    fn flatten(&self, ty: TypeId) -> Result<(TypeId, u64), Refused> {
        let (mut element, mut count) = (ty, 1u64);
        for _ in 0..DEEPEST {
            let Type::Array {
                element: of, len, ..
            } = self.btf.get(element)?
            else {
                return Ok((element, count));
            };
            element = of;
            count = count.checked_mul(len.into()).ok_or(Refused)?;
        }
        Err(Refused)
    }

    /// Adds a special struct.
    fn special(&mut self, known: &Known, size: u64, at: &Declared) -> Result<(), Refused> {
        let kind = known.kind;
        if known.unique && self.has(kind) {
            return Err(Refused);
        }
        let kernels = self.vmlinux.record(kind.name()).map(|own| own.size());
        if !at.offset.is_multiple_of(known.align) || kernels.is_ok_and(|own| own != size) {
            return Ok(());
        }
        let target = match kind {
            FieldKind::ListHead => Some(self.contained(at, FieldKind::ListNode)?),
            FieldKind::RbRoot => Some(self.contained(at, FieldKind::RbNode)?),
            _ => None,
        };
        self.push(kind, at.offset, size, target)
    }

    /// What kind of special pointer the type is, if any, and the struct that
    /// it points to.
    fn tagged_pointer(&mut self, ty: TypeId) -> Result<Option<(FieldKind, TypeId)>, Refused> {
        let pointer = match self.btf.get(ty)? {
            Type::Volatile { target } => self.btf.get(target)?,
            pointer => pointer,
        };
        let Type::Ptr { mut target } = pointer else {
            return Ok(None);
        };
        let mut tag = None;
        for _ in 0..DEEPEST {
            target = match self.btf.get(target)? {
                Type::TypeTag { name, target } => {
                    if let Some(kind) = self.known.tag(name)
                        && tag.replace(kind).is_some()
                    {
                        return Err(Refused);
                    }
                    target
                }
                Type::Typedef { target, .. }
                | Type::Volatile { target }
                | Type::Const { target }
                | Type::Restrict { target } => target,
                Type::Record {
                    kind: RecordKind::Struct,
                    ..
                } => return Ok(tag.map(|kind| (kind, target))),
                _ if tag.is_none() => return Ok(None),
                _ => return Err(Refused),
            };
        }
        Err(Refused)
    }

    /// What the tag `contains:STRUCT:MEMBER` of a list or tree says.
    fn contained(&self, at: &Declared, node: FieldKind) -> Result<Target, Refused> {
        let mut says = None;
        for id in self.btf.ids() {
            if let Type::DeclTag {
                name,
                target,
                component,
            } = self.btf.get(id)?
                && (target, component) == (at.owner, at.component)
                && let Some(rest) = name.strip_prefix(CONTAINS)
                && says.replace(rest).is_some()
            {
                return Err(Refused);
            }
        }
        let (name, member) = says.and_then(|says| says.split_once(':')).ok_or(Refused)?;
        let ty = self.btf.find(Kind::Struct, name).ok_or(Refused)?;
        let record = self.btf.record_by_id(ty)?;
        for found in record.members() {
            let (found, place) = found?;
            if found != member {
                continue;
            }
            return match self.btf.get(place.ty)? {
                Type::Record { name, .. } if name == node.name() => Ok(Target {
                    ty,
                    node: place.offset,
                }),
                _ => Err(Refused),
            };
        }
        Err(Refused)
    }

    fn has(&self, kind: FieldKind) -> bool {
        self.found.iter().any(|field| field.kind == kind)
    }

    fn push(
        &mut self,
        kind: FieldKind,
        offset: u64,
        size: u64,
        target: Option<Target>,
    ) -> Result<(), Refused> {
        if self.found.len() >= MOST {
            return Err(Refused);
        }
        self.found.push(Field {
            offset,
            size,
            kind,
            target,
        });
        Ok(())
    }

    /// Repeats the fields from `first` on for the other elements of an array.
    fn repeat(&mut self, first: usize, count: u64, size: u64) -> Result<(), Refused> {
        let fields = self.found.get(first..).unwrap_or_default().to_vec();
        if fields.is_empty() || count == 1 {
            return Ok(());
        }
        let repeatable = |field: &Field| {
            let kind = field.kind;
            kind.is_pointer() || matches!(kind, FieldKind::ListHead | FieldKind::RbRoot)
        };
        if !fields.iter().all(repeatable) {
            return Err(Refused);
        }
        for index in 1..count {
            for field in &fields {
                let further = index.checked_mul(size).ok_or(Refused)?;
                let offset = field.offset.checked_add(further).ok_or(Refused)?;
                self.push(field.kind, offset, field.size, field.target)?;
            }
        }
        Ok(())
    }

    /// Sorts what was found, and looks at it as a whole.
    fn check(&mut self) -> Result<(), Refused> {
        self.found.sort_by_key(|field| field.offset);
        let mut end = 0;
        for field in &self.found {
            if field.offset < end {
                return Err(Refused);
            }
            end = field.offset.checked_add(field.size).ok_or(Refused)?;
        }
        let locked = self.has(FieldKind::SpinLock) != self.has(FieldKind::ResSpinLock);
        let guarded = self.has(FieldKind::ListHead) || self.has(FieldKind::RbRoot);
        let two_locks = self.has(FieldKind::SpinLock) && self.has(FieldKind::ResSpinLock);
        if two_locks || (guarded && !locked) {
            return Err(Refused);
        }
        Ok(())
    }
}
