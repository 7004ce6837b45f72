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
mod inside;
mod meet;
mod pages;
mod scan;
mod seen;
mod types;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use bpfmaps::BpfMapAccessor;
use bpfmaps::special::KernelNames;
use btf_layout::{Btf, TypeId};
use guestmem::{Address, ArenaPtr};

use crate::Budget;
use crate::allocators::Survey;
use seen::Seen;
use types::Types;

pub(crate) use arenas::{Cut, Read};
pub(crate) use meet::{InSlot, Met, Pointer};
pub(crate) use scan::Scanner;
pub(crate) use types::ObjectType;

/// How deep objects are shown inside of each other.
const MAX_DEPTH: u32 = 4;

/// How many objects are shown inside of one value: what a value becomes as
/// text is kept in memory.
const NESTED: Budget = Budget {
    objects: 256,
    bytes: 256 << 10,
};

/// Follows the pointers of one dump.
pub(crate) struct Follower<'a> {
    accessor: &'a dyn BpfMapAccessor,
    /// The arenas; `None` where there are none, or nothing is to be followed.
    survey: Option<Rc<Survey<'a>>>,
    budget: Budget,
    types: Types,
    names: KernelNames,
    seen: RefCell<Seen>,
    /// Objects that were met and are not shown yet, within the budget.
    queue: RefCell<VecDeque<seen::Key>>,
    /// How much more the current value may show inside of it.
    nested_left: Cell<Budget>,
    bytes_left: Cell<u64>,
    counts: Cell<Counts>,
    /// How many objects were shown without a pointer to them.
    unasked: Cell<u64>,
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
    /// Follows pointers into the arenas of `survey`.
    pub(crate) fn new(
        accessor: &'a dyn BpfMapAccessor,
        survey: Option<Rc<Survey<'a>>>,
        budget: Budget,
    ) -> Self {
        Self {
            accessor,
            survey: survey.filter(|_| budget.objects > 0),
            budget,
            types: Types::default(),
            names: KernelNames::default(),
            seen: RefCell::default(),
            queue: RefCell::default(),
            nested_left: Cell::new(Budget::NONE),
            bytes_left: Cell::new(budget.bytes),
            counts: Cell::default(),
            unasked: Cell::new(0),
        }
    }

    /// Whether this is an arena that pointers are followed into.
    pub(crate) fn has_arena(&self, map: u32) -> bool {
        let survey = self.survey.as_ref();
        survey.is_some_and(|survey| survey.arenas.contains_key(&map))
    }

    /// What is known of arenas, where pointers are followed into them.
    pub(crate) fn survey(&self) -> Option<&Survey<'a>> {
        self.survey.as_deref()
    }

    /// For an object in one of these arenas (or in a map of their programs)
    /// that is shown on its own.
    pub(crate) fn site(&'a self, btf: &'a Rc<Btf>, arenas: &'a [u32]) -> Site<'a> {
        self.nested_left.set(NESTED);
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

    /// Notes that an object is shown whole, so that pointers into it refer to
    /// it.
    pub(crate) fn show(&self, arena: u32, at: ArenaPtr, btf: &Rc<Btf>, ty: TypeId) {
        if let Some(ty) = self.types.target(btf, ty).object.as_ref() {
            let key = (arena, at.get(), ty.number);
            self.seen.borrow_mut().insert(key, ty.size, true);
            self.unasked.set(self.unasked.get() + 1);
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
            let surveyed = self.survey().and_then(|survey| survey.arenas.get(&arena));
            let Some((surveyed, ty)) = surveyed.zip(self.types.by_number(ty)) else {
                continue;
            };
            let at = ArenaPtr::new(at);
            self.seen.borrow_mut().insert(key, ty.size, true);
            return Some(Queued {
                arena,
                at,
                read: self.read(&surveyed.arena, at, &ty),
                ty,
            });
        }
    }

    /// How many objects were met, and how many bytes of them were read.
    pub(crate) fn spent(&self) -> Budget {
        Budget {
            objects: (self.seen.borrow().len() as u64).saturating_sub(self.unasked.get()),
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

    /// Whether the budget left any pointer out, here or where types are told by
    /// pointers.
    pub(crate) fn is_cut(&self) -> bool {
        self.counts.get().left_out > 0 || self.survey().is_some_and(|survey| survey.is_cut)
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

impl Site<'_> {
    /// What is known of arenas.
    pub(crate) fn survey(&self) -> Option<&Survey<'_>> {
        self.follower.survey()
    }
}

impl<'a> Roots<'a> {
    /// Those of values that have pointers, if programs with these arenas use
    /// the map.
    pub(crate) fn new(follower: &'a Follower<'a>, btf: &Rc<Btf>, arenas: Vec<u32>) -> Option<Self> {
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
