//! The tree of an allocator: descriptions, each with a bitmap and a chunk of 512 places, three
//! deep. What the leaves' places lead to is a slot.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use anyhow::{Context, Result, ensure};

use crate::arena::{Arena, Pool, Purpose};
use crate::datum::Datum;

/// Bits of an index that one level takes.
const SHIFT: u32 = 9;
pub(crate) const PLACES: u32 = 1 << SHIFT;
pub(crate) const LEVELS: u32 = 3;

/// Where an element says which slot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In 8 bytes before the payload.
    Header,
    /// In 16 bytes at the end of the element.
    Trailer,
}

impl Layout {
    /// How much longer than its payload an element is.
    pub(crate) fn extra(self) -> u64 {
        match self {
            Self::Header => 8,
            Self::Trailer => 16,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Trailer => "trailer",
        }
    }
}

/// What has become of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Live,
    /// Its bit is clear, its element is still there.
    Freed,
    /// Its bit is set, there is no element.
    Torn,
    /// It says that it is another one.
    Misplaced(u32),
}

/// A slot to be made.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) idx: u32,
    pub(crate) generation: u32,
    pub(crate) kind: Kind,
    /// The payload's start; the rest is zero.
    pub(crate) payload: Option<Datum>,
}

impl Slot {
    /// What an owner remembers of it.
    pub(crate) fn tid(&self) -> u64 {
        u64::from(self.idx) | u64::from(self.generation) << 32
    }
}

/// Where a slot has come to lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// What the chunk points at.
    pub(crate) data: u64,
    pub(crate) payload: u64,
}

/// The memory that all allocators of an arena take their trees from.
#[derive(Debug)]
pub(crate) struct Index {
    descs: Pool,
    chunks: Pool,
}

impl Index {
    /// None so far.
    ///
    /// # Errors
    /// Never, as both have a size.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            descs: Pool::new(80, 1, Purpose::Index)?,
            chunks: Pool::new(8 * u64::from(PLACES), 1, Purpose::Index)?,
        })
    }
}

/// A description with its chunk.
#[derive(Debug)]
struct Node {
    address: u64,
    chunk: u64,
    allocated: [u64; 8],
    children: BTreeMap<u32, Node>,
    data: BTreeMap<u32, u64>,
}

impl Node {
    fn new(index: &mut Index, arena: &mut Arena) -> Result<Self> {
        Ok(Self {
            chunk: index.chunks.take(arena)?,
            address: index.descs.take(arena)?,
            allocated: [0; 8],
            children: BTreeMap::new(),
            data: BTreeMap::new(),
        })
    }

    fn allocate(&mut self, place: u32) -> Result<()> {
        let word = usize::try_from(place / 64)?;
        let word = self.allocated.get_mut(word).context("a place of 512")?;
        *word |= 1 << (place % 64);
        Ok(())
    }

    fn free(&self) -> u32 {
        self.allocated.iter().map(|word| word.count_zeros()).sum()
    }

    fn write(&self, arena: &mut Arena) -> Result<()> {
        let mut words = self.allocated.to_vec();
        words.extend([u64::from(self.free()), self.chunk]);
        arena.write_words(self.address, &words)?;
        let children = self.children.iter();
        let children = children.map(|(place, child)| (place, child.address));
        let data = self.data.iter().map(|(place, &data)| (place, data));
        for (place, address) in children.chain(data) {
            arena.write_words(self.chunk + 8 * u64::from(*place), &[address])?;
        }
        self.children
            .values()
            .try_for_each(|child| child.write(arena))
    }
}

/// An allocator's tree and elements.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) layout: Layout,
    pub(crate) pool: Pool,
    root: Node,
    pub(crate) places: BTreeMap<u32, Place>,
}

impl Tree {
    /// Makes one with these slots, in their order, for payloads of `size` bytes.
    ///
    /// # Errors
    /// Fails if the arena is full or if an index is too large.
    pub(crate) fn make(
        index: &mut Index,
        arena: &mut Arena,
        layout: Layout,
        size: u64,
        slots: &[Slot],
    ) -> Result<Self> {
        let elem_size = (size + layout.extra()).next_multiple_of(8);
        let mut tree = Self {
            layout,
            pool: Pool::new(elem_size, 8, Purpose::Slots)?,
            root: Node::new(index, arena)?,
            places: BTreeMap::new(),
        };
        for slot in slots {
            tree.put(index, arena, slot)
                .with_context(|| format!("slot {}", slot.idx))?;
        }
        tree.root.write(arena)?;
        Ok(tree)
    }

    /// The address of the first description.
    pub(crate) fn root(&self) -> u64 {
        self.root.address
    }

    /// How long a payload is.
    pub(crate) fn payload_size(&self) -> u64 {
        self.pool.elem_size - self.layout.extra()
    }

    fn put(&mut self, index: &mut Index, arena: &mut Arena, slot: &Slot) -> Result<()> {
        ensure!(slot.idx < PLACES.pow(LEVELS), "the index is too large");
        let at = |level: u32| slot.idx >> (SHIFT * (LEVELS - 1 - level)) & (PLACES - 1);
        let middle = descend(&mut self.root, at(0), index, arena)?;
        let leaf = descend(middle, at(1), index, arena)?;
        if slot.kind != Kind::Freed {
            leaf.allocate(at(2))?;
        }
        if slot.kind != Kind::Torn {
            let data = self.pool.take(arena)?;
            leaf.data.insert(at(2), data);
            let says = match slot.kind {
                Kind::Misplaced(other) => other,
                _ => slot.idx,
            };
            let tid = u64::from(says) | u64::from(slot.generation) << 32;
            let (tid_at, payload) = match self.layout {
                Layout::Header => (data, data + self.layout.extra()),
                Layout::Trailer => (data + self.pool.elem_size - self.layout.extra(), data),
            };
            arena.write_words(tid_at, &[tid])?;
            if let Some(datum) = &slot.payload {
                arena.write(payload, &datum.bytes)?;
            }
            self.places.insert(slot.idx, Place { data, payload });
        }
        // Above the leaves, a bit says that there is no room below.
        if leaf.free() == 0 {
            middle.allocate(at(1))?;
            if middle.free() == 0 {
                self.root.allocate(at(0))?;
            }
        }
        Ok(())
    }

    /// Lets the leaf of a slot say that this many of its places are free, whatever its bitmap says.
    ///
    /// # Errors
    /// Fails if there is no such leaf.
    pub(crate) fn claim_free(&self, arena: &mut Arena, idx: u32, free: u64) -> Result<()> {
        let middle = self.root.children.get(&(idx >> (2 * SHIFT)));
        let leaf = middle.and_then(|node| node.children.get(&(idx >> SHIFT & (PLACES - 1))));
        let leaf = leaf.context("no such leaf")?;
        arena.write_words(leaf.address + 64, &[free])
    }
}

/// The child at a place, made if there is none.
fn descend<'n>(
    node: &'n mut Node,
    place: u32,
    index: &mut Index,
    arena: &mut Arena,
) -> Result<&'n mut Node> {
    match node.children.entry(place) {
        Entry::Occupied(child) => Ok(child.into_mut()),
        Entry::Vacant(place) => Ok(place.insert(Node::new(index, arena)?)),
    }
}
