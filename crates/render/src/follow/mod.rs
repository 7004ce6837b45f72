//! Following pointers: from values of maps into arenas, and on from there.
//!
//! A pointer is followed by its type alone. It leads into the arena that the
//! programs of its map use, or that its object is in; there is an object of
//! that type, or it is said why there is none. Each object is shown once, at
//! the first place, and referred to afterwards. What would nest too deep is
//! queued and shown behind the maps, so that lists of any length are complete
//! without recursion. One [`Budget`](crate::Budget) bounds all of it.
//!
//! A page that an arena does not have is no gap: programs keep pointers to what
//! they have freed. It is said in its place and counted. A gap is what exists
//! and could not be read.

mod arenas;
mod meet;
mod scan;
mod seen;
mod slots;
mod types;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use bpfmaps::arena::{Arena, Run};
use bpfmaps::special::KernelNames;
use bpfmaps::{BpfMapAccessor, ProgInfo};
use btf_layout::{Btf, TypeId};
use guestmem::{Address, ArenaPtr};

use crate::Budget;
use arenas::{Arenas, Opened};
use seen::Seen;
use types::Types;

pub(crate) use arenas::{Cut, Read};
pub(crate) use meet::{Met, Pointer, Reached};
pub(crate) use scan::{Scan, SlotPointer};
pub(crate) use slots::{InSlot, Place, Slot, SlotIndex, Use};
pub(crate) use types::ObjectType;

/// How deep objects are shown inside of each other.
const MAX_DEPTH: u32 = 4;

/// How many objects are shown inside of one value, and how large each may be.
/// What a value becomes as text is kept in memory.
const MAX_NESTED: u32 = 256;
const MAX_NESTED_BYTES: u64 = 64 << 10;

/// Follows the pointers of one dump.
pub(crate) struct Follower<'a> {
    accessor: &'a dyn BpfMapAccessor,
    arenas: Arenas<'a>,
    budget: Budget,
    slots: RefCell<BTreeMap<u32, SlotIndex>>,
    types: Types,
    names: KernelNames,
    seen: RefCell<Seen>,
    /// Objects that were met and are not shown yet, within the budget.
    queue: RefCell<VecDeque<seen::Key>>,
    /// How many more objects the current value may show inside of it.
    nested_left: Cell<u32>,
    bytes_left: Cell<u64>,
    counts: Cell<Counts>,
    /// The arenas that could not be opened and that pointers may lead into.
    missed: RefCell<BTreeSet<u32>>,
}

/// What became of the pointers of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Pointers to what the arena does not have, in whole or in part.
    pub(crate) dangling: u64,
    /// Pointers into arenas that cannot be meant.
    pub(crate) foreign: u64,
    /// Objects that the budget left out.
    pub(crate) left_out: u64,
    /// What exists and could not be read.
    pub(crate) gaps: u64,
    /// How many of the gaps were told to a map.
    told: u64,
}

/// Where pointers of an object are followed from.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    follower: &'a Follower<'a>,
    /// Of the object's type.
    btf: &'a Rc<Btf>,
    /// The arenas that its pointers may lead into.
    arenas: &'a [u32],
    depth: u32,
}

/// The pointers of a map's values.
pub(crate) struct Roots<'a> {
    follower: &'a Follower<'a>,
    btf: Rc<Btf>,
    arenas: Vec<u32>,
}

/// An object that nothing shows yet.
pub(crate) struct Queued {
    /// The map of its arena.
    pub(crate) arena: u32,
    pub(crate) at: ArenaPtr,
    pub(crate) ty: Rc<ObjectType>,
    pub(crate) read: Read,
}

impl<'a> Follower<'a> {
    /// Opens every arena of the kernel, unless nothing is to be followed.
    pub(crate) fn new(accessor: &'a dyn BpfMapAccessor, budget: Budget) -> Self {
        Self {
            accessor,
            arenas: match budget.objects {
                0 => Arenas::default(),
                _ => Arenas::open(accessor),
            },
            budget,
            slots: RefCell::default(),
            types: Types::default(),
            names: KernelNames::default(),
            seen: RefCell::default(),
            queue: RefCell::default(),
            nested_left: Cell::new(0),
            bytes_left: Cell::new(budget.bytes),
            counts: Cell::default(),
            missed: RefCell::default(),
        }
    }

    /// Whether the kernel has arenas that pointers may lead into.
    pub(crate) fn has_arenas(&self) -> bool {
        !self.arenas.is_empty()
    }

    /// The arenas that any of these programs uses.
    pub(crate) fn used_by(&self, progs: &[&ProgInfo]) -> Vec<u32> {
        self.arenas.used_by(progs)
    }

    /// An arena of which the maps tell the id, and its pages.
    pub(crate) fn arena(&self, map: u32) -> Option<&Arena<'a>> {
        self.arenas.get(map).map(|opened| &opened.arena)
    }

    /// The arenas that pointers may lead into and that could not be opened, and
    /// why.
    pub(crate) fn unopened(&self) -> Vec<(u32, &str)> {
        let missed = self.missed.borrow();
        let failed = self.arenas.failed.iter();
        let failed = failed.filter(|(id, _)| missed.contains(id));
        failed.map(|(id, why)| (*id, why.as_str())).collect()
    }

    /// States where the slots of an arena are, before anything is shown.
    pub(crate) fn set_slots(&self, arena: u32, slots: SlotIndex) {
        self.slots.borrow_mut().insert(arena, slots);
    }

    fn slot(&self, arena: u32, at: ArenaPtr) -> Option<InSlot> {
        self.slots.borrow().get(&arena)?.find(at.get())
    }

    /// The pages of an arena that typed pointers lead to, as far as they were
    /// met by now.
    pub(crate) fn reached(&self, arena: u32) -> Vec<Run> {
        let opened = self.arenas.get(arena);
        opened.map(Opened::reached).unwrap_or_default()
    }

    /// The type `id`, ready for objects of it; `None` for what has no size.
    pub(crate) fn object_type(&self, btf: &Rc<Btf>, id: TypeId) -> Option<Rc<ObjectType>> {
        self.types.target(btf, id).object.clone()
    }

    /// For an object in one of these arenas (or in a map of their programs)
    /// that is shown on its own.
    pub(crate) fn site(&'a self, btf: &'a Rc<Btf>, arenas: &'a [u32]) -> Site<'a> {
        self.nested_left.set(MAX_NESTED);
        Site {
            follower: self,
            btf,
            arenas,
            depth: 0,
        }
    }

    /// The same for an object out of the queue: what its pointers lead to is
    /// shown beside it.
    pub(crate) fn flat_site(&'a self, btf: &'a Rc<Btf>, arenas: &'a [u32]) -> Site<'a> {
        Site {
            depth: MAX_DEPTH,
            ..self.site(btf, arenas)
        }
    }

    /// Whether objects wait to be shown.
    pub(crate) fn has_queued(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    /// The next object to show.
    pub(crate) fn next(&self) -> Option<Queued> {
        loop {
            let key = self.queue.borrow_mut().pop_front()?;
            let (arena, at, ty) = key;
            // What is queued was looked up before.
            let Some((opened, ty)) = self.arenas.get(arena).zip(self.types.by_number(ty)) else {
                continue;
            };
            let at = ArenaPtr::new(at);
            self.seen.borrow_mut().insert(key, ty.size, true);
            return Some(Queued {
                arena,
                at,
                read: self.read(opened, at, &ty),
                ty,
            });
        }
    }

    /// How many objects were met, and how many bytes of them were read.
    pub(crate) fn spent(&self) -> Budget {
        Budget {
            objects: self.seen.borrow().len() as u64,
            bytes: self.budget.bytes.saturating_sub(self.bytes_left.get()),
        }
    }

    /// Whether any pointer was asked for that leads into an arena.
    pub(crate) fn has_followed(&self) -> bool {
        let Counts {
            dangling,
            foreign,
            gaps,
            ..
        } = self.counts.get();
        self.spent().objects > 0 || dangling > 0 || foreign > 0 || gaps > 0
    }

    /// What there was besides.
    pub(crate) fn counts(&self) -> Counts {
        self.counts.get()
    }

    /// Gaps since this was asked last.
    pub(crate) fn take_gaps(&self) -> u64 {
        let mut counts = self.counts.get();
        let new = counts.gaps.saturating_sub(counts.told);
        counts.told = counts.gaps;
        self.counts.set(counts);
        new
    }

    fn count(&self, which: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        which(&mut counts);
        self.counts.set(counts);
    }
}

impl<'a> Roots<'a> {
    /// Those of values that have pointers, if programs with these arenas use
    /// the map.
    pub(crate) fn new(follower: &'a Follower<'a>, btf: &Rc<Btf>, arenas: Vec<u32>) -> Option<Self> {
        for (id, _) in &follower.arenas.failed {
            if arenas.contains(id) && follower.missed.borrow_mut().insert(*id) {
                follower.count(|counts| counts.gaps += 1);
            }
        }
        (!arenas.is_empty()).then(|| Self {
            follower,
            btf: Rc::clone(btf),
            arenas,
        })
    }

    /// The site of one value.
    pub(crate) fn site(&self) -> Site<'_> {
        self.follower.site(&self.btf, &self.arenas)
    }

    /// Gaps since this was asked last.
    pub(crate) fn take_gaps(&self) -> u64 {
        self.follower.take_gaps()
    }
}
