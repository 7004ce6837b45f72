//! Looking for typed pointers before anything is shown: what leads into an
//! allocator's slots says of which type they are.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::{Bytes, Entry, MapInfo};
use btf_layout::{Btf, TypeId};
use guestmem::{Address, ArenaPtr};
use rustc_hash::FxHashSet;

use super::arenas::Located;
use super::seen::Key;
use super::{Follower, ObjectType};
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
    /// Whether the budget ended it, or there were too many kinds.
    pub(crate) is_cut: bool,
}

/// Pointers of one type to the same place of an allocator's slots.
#[derive(Clone, Debug)]
pub(crate) struct SlotPointer {
    /// The map of the arena.
    pub(crate) arena: u32,
    pub(crate) allocator: Rc<str>,
    /// Bytes from the start of the payload.
    pub(crate) offset: i64,
    /// What they are declared to lead to.
    pub(crate) ty: Rc<ObjectType>,
    /// How many there are.
    pub(crate) count: u64,
    /// Where the first was: a record and its member, and the map if it was in
    /// one's value.
    pub(crate) place: String,
    pub(crate) map: Option<u32>,
}

/// Walks the values of `maps`, and what they lead to as far as the budget
/// reaches, which this does not spend. The pages that are reached are noted.
pub(crate) fn scan(context: &Context<'_>, maps: &[MapInfo]) -> Scan {
    let mut scanner = Scanner::new(&context.follower);
    for info in maps {
        scanner.map(context, info);
    }
    Scan {
        slots: scanner.found.into_values().collect(),
        is_cut: scanner.is_cut,
    }
}

struct Scanner<'s, 'a> {
    follower: &'s Follower<'a>,
    seen: FxHashSet<Key>,
    /// Objects whose pointers are not yet looked at.
    open: Vec<Key>,
    bytes_left: u64,
    is_cut: bool,
    found: BTreeMap<(u32, Rc<str>, i64, u32), SlotPointer>,
}

impl<'s, 'a> Scanner<'s, 'a> {
    fn new(follower: &'s Follower<'a>) -> Self {
        Self {
            follower,
            seen: FxHashSet::default(),
            open: Vec::new(),
            bytes_left: follower.budget.bytes,
            is_cut: false,
            found: BTreeMap::new(),
        }
    }

    /// The values of a map. What of them cannot be read is told where they are
    /// shown.
    fn map(&mut self, context: &Context<'_>, info: &MapInfo) {
        let arenas = context.arenas_of(info);
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
            let follower = self.follower;
            let Some((opened, ty)) = follower.arenas.get(arena).zip(follower.types.by_number(ty))
            else {
                continue;
            };
            let read = opened.read(ArenaPtr::new(at), ty.size.min(self.bytes_left));
            self.bytes_left = self.bytes_left.saturating_sub(read.bytes.len() as u64);
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
        let follower = self.follower;
        let Located::In(arena, to) = follower.arenas.locate(arenas, at.value) else {
            return;
        };
        let target = follower.types.target(btf, at.target);
        let Some(ty) = &target.object else {
            return;
        };
        arena.reach(to, ty.size);
        if let Some(slot) = follower.slot(arena.id, to) {
            // An allocator's own tree is not walked.
            if slot.slot.is_none() {
                return;
            }
            let kind = (arena.id, slot.allocator, slot.offset, ty.number);
            if let Some(known) = self.found.get_mut(&kind) {
                known.count += 1;
            } else if self.found.len() < MAX_KINDS {
                let found = SlotPointer {
                    arena: arena.id,
                    allocator: Rc::clone(&kind.1),
                    offset: slot.offset,
                    ty: Rc::clone(ty),
                    count: 1,
                    place: at.place(),
                    map,
                };
                self.found.insert(kind, found);
            } else {
                self.is_cut = true;
            }
        }
        let key = (arena.id, to.get(), ty.number);
        if !ty.shape.root.pointers || self.seen.contains(&key) {
            return;
        }
        if self.seen.len() as u64 >= follower.budget.objects || self.bytes_left == 0 {
            self.is_cut = true;
            return;
        }
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
