//! Looking for typed pointers before anything is shown: what leads into an
//! allocator's slots says of which type they are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::arena::Run;
use bpfmaps::{Bytes, Entry, MapInfo};
use btf_layout::{Btf, TypeId};
use guestmem::{Address, ArenaPtr};
use rustc_hash::FxHashSet;

use super::ObjectType;
use super::arenas::{Located, locate, read};
use super::inside::{PointerAt, each_pointer};
use super::pages::PageSet;
use super::seen::Key;
use super::types::Types;
use crate::Budget;
use crate::allocators::{Purpose, Survey};
use crate::context::Context;
use crate::object::Object;
use crate::shape::Shape;

/// How many kinds of pointers into slots are told apart.
const MAX_KINDS: usize = 4096;

/// Pointers of one type to the same place of an allocator's slots.
#[derive(Clone, Debug)]
pub(crate) struct SlotPointer {
    /// Which of the survey's allocators.
    pub(crate) allocator: usize,
    /// Bytes from the start of the payload.
    pub(crate) offset: i64,
    /// What they are declared to lead to.
    pub(crate) ty: Rc<ObjectType>,
    /// Where the first was: a record and its member, and the map if it was in
    /// one's value.
    pub(crate) place: String,
    pub(crate) map: Option<u32>,
}

/// Walks values and what they lead to, as far as the budget reaches.
pub(crate) struct Scanner {
    types: Types,
    seen: FxHashSet<Key>,
    /// Objects whose pointers are not yet looked at.
    open: Vec<Key>,
    left: Budget,
    is_cut: bool,
    /// By allocator, offset and type.
    found: BTreeMap<(usize, i64, u32), SlotPointer>,
    reached: BTreeMap<u32, PageSet>,
}

impl Scanner {
    pub(crate) fn new(budget: Budget) -> Self {
        Self {
            types: Types::default(),
            seen: FxHashSet::default(),
            open: Vec::new(),
            left: budget,
            is_cut: false,
            found: BTreeMap::new(),
            reached: BTreeMap::new(),
        }
    }

    /// The type `id`, ready for objects of it; `None` for what has no size.
    pub(crate) fn object_type(&self, btf: &Rc<Btf>, id: TypeId) -> Option<Rc<ObjectType>> {
        self.types.target(btf, id).object.clone()
    }

    /// The kinds of pointers that lead into slots, as far as they were met.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &SlotPointer> {
        self.found.values()
    }

    /// By arena, the pages of objects that typed pointers lead to.
    pub(crate) fn reached(&self) -> impl Iterator<Item = (u32, Vec<Run>)> {
        let reached = self.reached.iter();
        reached.map(|(&id, pages)| (id, pages.runs()))
    }

    /// Whether the budget ended it, or there were too many kinds.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// An object of an arena of which the type is known.
    pub(crate) fn known(
        &mut self,
        survey: &Survey<'_>,
        arena: u32,
        at: ArenaPtr,
        ty: &Rc<ObjectType>,
    ) {
        self.enter((arena, at.get(), ty.number), ty);
        self.finish(survey);
    }

    /// Variables in an arena.
    pub(crate) fn variables(
        &mut self,
        survey: &Survey<'_>,
        arena: u32,
        btf: &Rc<Btf>,
        variables: &Object<'_>,
    ) {
        let from = From {
            survey,
            btf,
            arenas: &[arena],
            map: None,
        };
        self.object(variables, &from);
        self.finish(survey);
    }

    /// The values of a map. What of them cannot be read is told where they are
    /// shown.
    pub(crate) fn map(&mut self, context: &Context<'_>, survey: &Survey<'_>, info: &MapInfo) {
        let arenas = context.arenas_of(info, |id| survey.arenas.contains_key(&id));
        let accessor = context.accessor;
        if arenas.is_empty() || info.btf_value_type_id == 0 {
            return;
        }
        let Ok(Some(btf)) = accessor.btf(info) else {
            return;
        };
        let shape = Shape::new(&btf, TypeId(info.btf_value_type_id));
        if !shape.root.pointers {
            return;
        }
        let _told_later = accessor.entries(info, &mut |entry| {
            each_value(entry, |bytes| {
                let from = From {
                    survey,
                    btf: &btf,
                    arenas: &arenas,
                    map: Some(info.id),
                };
                self.object(&Object::new(&shape, bytes), &from);
            });
            self.finish(survey);
            ControlFlow::Continue(())
        });
    }

    /// The objects that were met, and those that they lead to.
    fn finish(&mut self, survey: &Survey<'_>) {
        while let Some((arena, at, ty)) = self.open.pop() {
            let surveyed = survey.arenas.get(&arena);
            let Some((surveyed, ty)) = surveyed.zip(self.types.by_number(ty)) else {
                continue;
            };
            let size = ty.size.min(self.left.bytes);
            let read = read(&surveyed.arena, ArenaPtr::new(at), size);
            self.left.bytes = self.left.bytes.saturating_sub(read.bytes.len() as u64);
            let bytes = Bytes {
                present: &read.bytes,
                len: ty.size,
                fault: None,
            };
            let from = From {
                survey,
                btf: &ty.btf,
                arenas: &[arena],
                map: None,
            };
            self.object(&Object::new(&ty.shape, bytes), &from);
        }
    }

    fn object(&mut self, object: &Object<'_>, from: &From<'_>) {
        each_pointer(object, &mut |pointer| self.pointer(pointer, from));
    }

    fn pointer(&mut self, at: PointerAt<'_>, from: &From<'_>) {
        let survey = from.survey;
        let Located::In(id, arena, to) = locate(survey, from.arenas, at.value) else {
            return;
        };
        let target = self.types.target(from.btf, at.target);
        let Some(ty) = &target.object else {
            return;
        };
        let reached = self.reached.entry(id);
        let reached = reached.or_insert_with(|| PageSet::new(arena));
        reached.insert(to, ty.size);
        if let Some(slot) = survey.slot_at(id, to) {
            let kind = (slot.allocator, slot.offset_of(to), ty.number);
            if self.found.len() < MAX_KINDS {
                self.found.entry(kind).or_insert_with(|| SlotPointer {
                    allocator: slot.allocator,
                    offset: kind.1,
                    ty: Rc::clone(ty),
                    place: at.place(),
                    map: from.map,
                });
            } else if !self.found.contains_key(&kind) {
                self.is_cut = true;
            }
        }
        // An allocator's own tree leads to its slots by other types.
        if survey.purpose(id, to) != Some(Purpose::Index) {
            self.enter((id, to.get(), ty.number), ty);
        }
    }

    /// Remembers to look at the pointers of an object.
    fn enter(&mut self, key: Key, ty: &ObjectType) {
        if !ty.shape.root.pointers || self.seen.contains(&key) {
            return;
        }
        if self.left.objects == 0 || self.left.bytes == 0 {
            self.is_cut = true;
            return;
        }
        self.left.objects -= 1;
        self.seen.insert(key);
        self.open.push(key);
    }
}

/// Where an object with pointers is.
struct From<'s> {
    survey: &'s Survey<'s>,
    /// Of the object's type.
    btf: &'s Rc<Btf>,
    /// The arenas that its pointers may lead into.
    arenas: &'s [u32],
    /// The map, if it is a value.
    map: Option<u32>,
}

/// Hands over the values of an entry.
fn each_value(entry: Entry<'_>, mut visit: impl FnMut(Bytes<'_>)) {
    match entry {
        Entry::KeyValue { value, .. }
        | Entry::Owned { value, .. }
        | Entry::Record { value, .. }
        | Entry::Element { value, .. } => visit(value),
        Entry::PerCpu { values, .. } | Entry::OwnedPerCpu { values, .. } => {
            values.iter().for_each(|value| visit(value.value));
        }
        Entry::Slot {
            value: Some(value), ..
        } => visit(value),
        _ => {}
    }
}
