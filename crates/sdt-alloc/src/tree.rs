//! The tree of one allocator: descriptors, chunks and slots.

use std::ops::ControlFlow;

use guestmem::{Address, ArenaPtr, Cause, Fault, Memory, MemoryExt};
use rustc_hash::FxHashSet;

use crate::error::Problem;
use crate::types::{Allocator, DataLayout, Types, word};

/// Slots are no smaller than this: an id, and a word of payload.
const MIN_SLOT: u64 = 16;

/// One allocator in the memory of its arena.
pub struct Tree<'a> {
    pub(crate) memory: &'a dyn Memory<ArenaPtr>,
    pub(crate) types: &'a Types,
    pub(crate) allocator: Allocator,
    pub(crate) levels: u32,
    pub(crate) data: Option<DataLayout>,
    /// Bytes that exist in the arena: what bounds the tree.
    pub(crate) size: u64,
}

impl std::fmt::Debug for Tree<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("allocator", &self.allocator)
            .field("levels", &self.levels)
            .field("data", &self.data)
            .finish_non_exhaustive()
    }
}

/// A descriptor and its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Where the descriptor is.
    pub desc: ArenaPtr,
    /// Bytes of it.
    pub desc_size: u64,
    /// Where its chunk is.
    pub chunk: ArenaPtr,
    /// Bytes of it.
    pub chunk_size: u64,
    /// 1 for those whose chunks point at slots.
    pub level: u32,
    /// How many the descriptor says are free.
    pub nr_free: u64,
    /// How many its bitmap says are free.
    pub free_bits: u64,
}

impl Node {
    /// Whether the descriptor agrees with itself.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        self.nr_free == self.free_bits
    }
}

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is given out, and its id is its position.
    Live,
    /// It was given out and came back.
    Freed,
    /// It is given out, but its memory is not there, or not readable.
    Torn,
    /// It is given out, but its id is of another position: it was overwritten,
    /// or the tree was.
    Misplaced {
        /// The index in its id.
        found: u32,
    },
    /// It is given out; where its id is could not be found out.
    Unproved,
}

/// A slot that has memory, or should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its position in the tree.
    pub idx: u32,
    /// What its id says how often it was given out, where that is known.
    pub generation: Option<u32>,
    /// What the chunk points at; null if there is nothing.
    pub data: ArenaPtr,
    /// Where the id is, where that is known.
    pub id: Option<ArenaPtr>,
    /// The first byte of the payload; all of the slot if its layout is not
    /// known.
    pub payload: ArenaPtr,
    /// Bytes of the payload.
    pub payload_size: u64,
    /// What it is.
    pub state: State,
}

/// A part of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// A descriptor.
    Node(Node),
    /// A slot.
    Slot(Slot),
    /// Something that keeps a part of the tree from being visited.
    Problem(Problem),
}

impl<'a> Tree<'a> {
    /// The tree of `allocator`, in an arena of which `size` bytes exist.
    /// `levels` and `data` come from the BTF or from
    /// [`Evidence`](crate::Evidence).
    #[must_use]
    pub fn new(
        memory: &'a dyn Memory<ArenaPtr>,
        types: &'a Types,
        allocator: Allocator,
        levels: u32,
        data: Option<DataLayout>,
        size: u64,
    ) -> Self {
        Self {
            memory,
            types,
            allocator,
            levels,
            data,
            size,
        }
    }

    /// Bytes of a slot's payload; of the whole slot if its layout is not
    /// known.
    #[must_use]
    pub fn payload_size(&self) -> u64 {
        let own = match self.data {
            Some(DataLayout::Header { size } | DataLayout::Trailer { size }) => size,
            None => 0,
        };
        self.allocator.pool.elem_size.saturating_sub(own)
    }

    /// Visits descriptors and slots by ascending index, each descriptor
    /// before what is below it.
    pub fn walk(&self, visit: &mut dyn FnMut(Visit) -> ControlFlow<()>) {
        let root = self.allocator.root;
        if root.get() == 0 || !self.types.possible_levels().contains(&self.levels) {
            return;
        }
        let mut walk = Walk {
            tree: self,
            seen: FxHashSet::default(),
            chunk: Vec::new(),
            nodes_left: self.size / (self.types.desc.size + self.types.desc.entries * 8) + 1,
            slots_left: self.size / self.allocator.pool.elem_size.max(MIN_SLOT) + 1,
            visit,
        };
        // Descriptors still to be visited, the next one last.
        let mut open = vec![(root, self.levels, 0)];
        while let Some((desc, level, first)) = open.pop() {
            if walk.descriptor(desc, level, first, &mut open).is_break() {
                return;
            }
        }
    }

    fn slot(&self, idx: u32, data: ArenaPtr, is_allocated: bool) -> (Slot, Option<Problem>) {
        let mut slot = Slot {
            idx,
            generation: None,
            data,
            id: None,
            payload: data,
            payload_size: self.payload_size(),
            state: match (is_allocated, data.get()) {
                (true, 0) => State::Torn,
                (true, _) => State::Unproved,
                (false, _) => State::Freed,
            },
        };
        let Some(layout) = self.data.filter(|_| data.get() != 0) else {
            return (slot, None);
        };
        let elem_size = self.allocator.pool.elem_size;
        let at = id_place(layout, data, elem_size);
        if let DataLayout::Header { size } = layout {
            slot.payload = data.checked_add(size).unwrap_or(data);
        }
        let read = match at {
            Some(at) => self.id_at(at),
            None => Err(Fault::new(data, Cause::EndOfSpace)),
        };
        match read {
            Ok((found, generation)) => {
                slot.id = at;
                slot.generation = Some(generation);
                slot.state = match is_allocated {
                    false => State::Freed,
                    true if found == idx => State::Live,
                    true => State::Misplaced { found },
                };
                (slot, None)
            }
            Err(fault) => {
                if is_allocated {
                    slot.state = State::Torn;
                }
                let what = "a slot's id";
                (slot, Some(Problem::Unreadable { what, fault }))
            }
        }
    }

    /// The index and the generation in an id.
    pub(crate) fn id_at(&self, at: ArenaPtr) -> Result<(u32, u32), Fault<ArenaPtr>> {
        let member = |offset| {
            let at = at.checked_add(offset);
            let at = at.ok_or(Fault::new(ArenaPtr::new(u64::MAX), Cause::EndOfSpace))?;
            self.memory.load_u32(at)
        };
        let id = self.types.id;
        Ok((member(id.idx)?, member(id.generation)?))
    }
}

/// Where a slot's id is.
pub(crate) fn id_place(layout: DataLayout, data: ArenaPtr, elem_size: u64) -> Option<ArenaPtr> {
    match layout {
        DataLayout::Header { .. } => Some(data),
        DataLayout::Trailer { size } => data.checked_add(elem_size.checked_sub(size)?),
    }
}

struct Walk<'t, 'v> {
    tree: &'t Tree<'t>,
    /// Descriptors that were visited.
    seen: FxHashSet<ArenaPtr>,
    /// The chunk that is read.
    chunk: Vec<u8>,
    /// How many descriptors with their chunks, and how many slots the arena
    /// can still hold.
    nodes_left: u64,
    slots_left: u64,
    visit: &'v mut dyn FnMut(Visit) -> ControlFlow<()>,
}

impl Walk<'_, '_> {
    fn problem(&mut self, problem: Problem) -> ControlFlow<()> {
        (self.visit)(Visit::Problem(problem))
    }

    /// Visits a descriptor; its slots, or its children at a later time.
    fn descriptor(
        &mut self,
        at: ArenaPtr,
        level: u32,
        first: u32,
        open: &mut Vec<(ArenaPtr, u32, u32)>,
    ) -> ControlFlow<()> {
        let what = "a descriptor";
        if !self.seen.insert(at) {
            return self.problem(Problem::Twice { what, at });
        }
        let Some(left) = self.nodes_left.checked_sub(1) else {
            self.problem(Problem::TooMany { what, at })?;
            open.clear();
            return ControlFlow::Continue(());
        };
        self.nodes_left = left;
        let layout = self.tree.types.desc;
        let memory = self.tree.memory;
        let mut desc = Vec::new();
        if let Err(fault) = memory.read_more(at, layout.size, &mut desc) {
            return self.problem(Problem::Unreadable { what, fault });
        }
        let field = |offset| word(&desc, offset).unwrap_or(0);
        let bits: Vec<u64> = (0..layout.entries / 64)
            .map(|index| field(layout.allocated + index * 8))
            .collect();
        let set: u64 = bits.iter().map(|bits| u64::from(bits.count_ones())).sum();
        let chunk = ArenaPtr::new(field(layout.chunk));
        let chunk_size = layout.entries.saturating_mul(8);
        (self.visit)(Visit::Node(Node {
            desc: at,
            desc_size: layout.size,
            chunk,
            chunk_size,
            level,
            nr_free: field(layout.nr_free),
            free_bits: layout.entries.saturating_sub(set),
        }))?;
        let mut pointers = std::mem::take(&mut self.chunk);
        let read = memory.read_more(chunk, chunk_size, &mut pointers);
        let below = self.entries(&bits, &pointers, level, first, open);
        self.chunk = pointers;
        below?;
        match read {
            Ok(()) => ControlFlow::Continue(()),
            Err(fault) => {
                let what = "a chunk";
                self.problem(Problem::Unreadable { what, fault })
            }
        }
    }

    /// Visits what a chunk points at.
    fn entries(
        &mut self,
        bits: &[u64],
        pointers: &[u8],
        level: u32,
        first: u32,
        open: &mut Vec<(ArenaPtr, u32, u32)>,
    ) -> ControlFlow<()> {
        let shift = self.tree.types.desc.entries.trailing_zeros();
        let start = open.len();
        let (pointers, _) = pointers.as_chunks();
        for (position, pointer) in (0_u32..).zip(pointers) {
            let pointer = ArenaPtr::new(u64::from_le_bytes(*pointer));
            // In range: the levels are as many as an index has room for.
            let idx = first | position << (shift * (level - 1));
            if level > 1 {
                if pointer.get() != 0 {
                    open.push((pointer, level - 1, idx));
                }
                continue;
            }
            let word = bits.get(usize::try_from(position / 64).unwrap_or(usize::MAX));
            let is_allocated = word.is_some_and(|word| word >> (position % 64) & 1 == 1);
            if pointer.get() == 0 && !is_allocated {
                continue;
            }
            if pointer.get() != 0 {
                let Some(left) = self.slots_left.checked_sub(1) else {
                    open.clear();
                    let what = "slots";
                    return self.problem(Problem::TooMany { what, at: pointer });
                };
                self.slots_left = left;
            }
            let (slot, problem) = self.tree.slot(idx, pointer, is_allocated);
            (self.visit)(Visit::Slot(slot))?;
            if let Some(problem) = problem {
                self.problem(problem)?;
            }
        }
        if let Some(pushed) = open.get_mut(start..) {
            pushed.reverse();
        }
        ControlFlow::Continue(())
    }
}
