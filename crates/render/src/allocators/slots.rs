//! The slots of all allocators of an arena, by address.

use std::ops::ControlFlow;

use guestmem::{Address, ArenaPtr};
use sdt_alloc::{Slot, State, Tree, Visit};

use super::{Found, Purpose, Survey, size};

/// How many problems of one allocator are kept.
const MAX_PROBLEMS: usize = 64;

/// A slot, and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotRef {
    /// Which of the survey's allocators.
    pub(crate) allocator: usize,
    pub(crate) slot: Slot,
    /// Which of the survey's claims leads here.
    pub(crate) claim: Option<usize>,
    /// Whether it waits for being freed.
    pub(crate) deferred: bool,
}

impl SlotRef {
    /// How far behind the start of the payload an address is.
    pub(crate) fn offset_of(&self, at: ArenaPtr) -> i64 {
        at.get().wrapping_sub(self.slot.payload.get()).cast_signed()
    }

    /// The address so far behind the start of the payload.
    pub(crate) fn payload_at(&self, offset: i64) -> Option<ArenaPtr> {
        let at = self.slot.payload.get().checked_add_signed(offset);
        at.map(ArenaPtr::new)
    }
}

/// How many slots there are of each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) live: u64,
    pub(crate) freed: u64,
    pub(crate) torn: u64,
    pub(crate) misplaced: u64,
    pub(crate) unproved: u64,
    /// Those that an owner leads to.
    pub(crate) owned: u64,
    /// Those in use that no owner leads to.
    pub(crate) unowned: u64,
    /// Those in use that wait for being freed.
    pub(crate) deferred: u64,
    pub(crate) inconsistent_descs: u64,
    pub(crate) unlisted_problems: u64,
}

impl Counts {
    fn add(&mut self, state: State) {
        *match state {
            State::Live => &mut self.live,
            State::Freed => &mut self.freed,
            State::Torn => &mut self.torn,
            State::Misplaced { .. } => &mut self.misplaced,
            State::Unproved => &mut self.unproved,
        } += 1;
    }

    /// How many slots are given out.
    pub(crate) fn in_use(&self) -> u64 {
        self.live + self.torn + self.misplaced + self.unproved
    }
}

/// Whether a slot is given out.
pub(crate) fn is_in_use(slot: &Slot) -> bool {
    slot.state != State::Freed
}

impl Found {
    /// Its tree in the arena, once the layout is settled.
    fn tree<'t>(&'t self, arena: &'t bpfmaps::arena::Arena<'_>) -> Option<Tree<'t>> {
        let levels = self.levels?;
        let (types, size) = (&self.types, size(arena));
        Some(Tree::new(
            arena,
            types,
            self.allocator,
            levels,
            self.data,
            size,
        ))
    }

    pub(super) fn problem(&mut self, problem: sdt_alloc::Problem) {
        match self.problems.len() < MAX_PROBLEMS {
            true => self.problems.push(problem),
            false => self.counts.unlisted_problems += 1,
        }
    }
}

impl Survey<'_> {
    /// Walks every tree.
    pub(super) fn index(&mut self) {
        for at in 0..self.allocators.len() {
            let Some(found) = self.allocators.get(at) else {
                continue;
            };
            let Some(surveyed) = self.arenas.get_mut(&found.arena) else {
                continue;
            };
            let Some(tree) = found.tree(&surveyed.arena) else {
                continue;
            };
            let mut counts = Counts::default();
            let mut problems = Vec::new();
            let account = &mut surveyed.account;
            let slots = &mut surveyed.slots;
            let elem_size = found.allocator.pool.elem_size;
            tree.walk(&mut |part| {
                match part {
                    Visit::Node(node) => {
                        counts.inconsistent_descs += u64::from(!node.is_consistent());
                        for (start, len) in
                            [(node.desc, node.desc_size), (node.chunk, node.chunk_size)]
                        {
                            account.mark(start, len, Purpose::Index);
                        }
                    }
                    Visit::Slot(slot) => {
                        counts.add(slot.state);
                        account.mark(slot.data, elem_size, Purpose::Slots);
                        slots.push(SlotRef {
                            allocator: at,
                            slot,
                            claim: None,
                            deferred: false,
                        });
                    }
                    Visit::Problem(problem) => problems.push(problem),
                }
                ControlFlow::Continue(())
            });
            let payload_size = tree.payload_size();
            if let Some(found) = self.allocators.get_mut(at) {
                found.counts = counts;
                found.payload_size = payload_size;
                for problem in problems {
                    found.problem(problem);
                }
            }
        }
        for surveyed in self.arenas.values_mut() {
            surveyed
                .slots
                .sort_by_key(|of| (of.slot.data, of.allocator, of.slot.idx));
        }
    }

    /// What the page of an address serves.
    pub(crate) fn purpose(&self, arena: u32, at: ArenaPtr) -> Option<Purpose> {
        let surveyed = self.arenas.get(&arena)?;
        let (pgoff, _) = surveyed.arena.window().locate(at)?;
        surveyed.account.purpose(pgoff)
    }

    /// The slot whose memory an address of an arena lies in.
    pub(crate) fn slot_at(&self, arena: u32, at: ArenaPtr) -> Option<&SlotRef> {
        let slots = &self.arenas.get(&arena)?.slots;
        let after = slots.partition_point(|of| of.slot.data <= at);
        let found = slots.get(after.checked_sub(1)?)?;
        let offset = at.checked_offset_from(found.slot.data)?;
        let elem_size = self
            .allocators
            .get(found.allocator)?
            .allocator
            .pool
            .elem_size;
        (found.slot.data.get() != 0 && offset < elem_size).then_some(found)
    }

    /// The slots of an allocator by index.
    pub(crate) fn slots_of(&self, at: usize) -> Vec<&SlotRef> {
        let arena = self.allocators.get(at).map(|found| found.arena);
        let arena = arena.and_then(|arena| self.arenas.get(&arena));
        let slots = arena.map_or(&[][..], |arena| &arena.slots);
        let mut own: Vec<&SlotRef> = slots.iter().filter(|of| of.allocator == at).collect();
        own.sort_by_key(|of| of.slot.idx);
        own
    }
}
