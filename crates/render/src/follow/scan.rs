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
use super::pages::PageSet;
use super::seen::Key;
use super::types::Types;
use crate::Budget;
use crate::allocators::Survey;
use crate::context::Context;
use crate::object::{Object, PointerAt};
use crate::shape::Shape;

/// How many kinds of pointers into slots are told apart.
const MAX_KINDS: usize = 4096;

/// What a scan of pointers brings.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The kinds of pointers that lead into slots.
    pub(crate) slots: Vec<SlotPointer>,
    /// By arena, the pages of objects that typed pointers lead to.
    pub(crate) reached: BTreeMap<u32, Vec<Run>>,
    /// Whether the budget ended it, or there were too many kinds.
    pub(crate) is_cut: bool,
}

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

/// Walks the values of `maps`, and what they lead to as far as the budget
/// reaches, which this does not spend.
pub(crate) fn scan(
    context: &Context<'_>,
    survey: &Survey<'_>,
    maps: &[MapInfo],
    budget: Budget,
) -> Scan {
    let mut scanner = Scanner {
        survey,
        types: Types::default(),
        seen: FxHashSet::default(),
        open: Vec::new(),
        left: budget,
        is_cut: false,
        found: BTreeMap::new(),
        reached: BTreeMap::new(),
    };
    for info in maps {
        scanner.map(context, info);
    }
    let reached = scanner.reached.iter();
    Scan {
        reached: reached.map(|(id, pages)| (*id, pages.runs())).collect(),
        slots: scanner.found.into_values().collect(),
        is_cut: scanner.is_cut,
    }
}

struct Scanner<'s, 'a> {
    survey: &'s Survey<'a>,
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

impl Scanner<'_, '_> {
    /// The values of a map. What of them cannot be read is told where they are
    /// shown.
    fn map(&mut self, context: &Context<'_>, info: &MapInfo) {
        let arenas = context.arenas_of(info, |id| self.survey.arenas.contains_key(&id));
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
                self.object(&Object::new(&shape, bytes), &btf, &arenas, Some(info.id));
            });
            self.finish();
            ControlFlow::Continue(())
        });
    }

    /// The objects that were met, and those that they lead to.
    fn finish(&mut self) {
        while let Some((arena, at, ty)) = self.open.pop() {
            let surveyed = self.survey.arenas.get(&arena);
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
            self.object(&Object::new(&ty.shape, bytes), &ty.btf, &[arena], None);
        }
    }

    fn object(&mut self, object: &Object<'_>, btf: &Rc<Btf>, arenas: &[u32], map: Option<u32>) {
        object.pointers(&mut |pointer| self.pointer(pointer, btf, arenas, map));
    }

    fn pointer(&mut self, at: PointerAt<'_>, btf: &Rc<Btf>, arenas: &[u32], map: Option<u32>) {
        let survey = self.survey;
        let Located::In(id, arena, to) = locate(survey, arenas, at.value) else {
            return;
        };
        let target = self.types.target(btf, at.target);
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
                    map,
                });
            } else if !self.found.contains_key(&kind) {
                self.is_cut = true;
            }
        }
        let key = (id, to.get(), ty.number);
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
        Entry::Slot { value, .. } => {
            if let Some(value) = value {
                visit(value);
            }
        }
        _ => {}
    }
}
