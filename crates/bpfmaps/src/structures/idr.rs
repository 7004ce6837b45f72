//! `struct idr`: ids to pointers, as a radix tree (`lib/radix-tree.c`,
//! `include/linux/xarray.h`).
//!
//! The tree is walked, not the ids: they are given out cyclically and grow
//! without bound on hosts that live long.

use btf_layout::{Btf, Error, Member};
use guestmem::{Address, Kva, Memory};

use super::copied::Copied;
use crate::walk::{GapAt, Reason, Walk};

/// Bits of the index that one level of the tree decides
/// (`XA_CHUNK_SHIFT`, 4 in kernels that save memory by `BASE_SMALL`).
const MAX_CHUNK_SHIFT: u64 = 6;

/// The low bits that mark a pointer to a node (`xa_is_internal`).
const INTERNAL: u64 = 0b10;

/// The low bits of an entry that are not part of a pointer.
const TAG: u64 = 0b11;

/// Ids are positive `int`s.
const MAX_ID: u64 = i32::MAX as u64;

/// Where the members of `struct idr` and `struct xa_node` are.
#[derive(Debug)]
pub(crate) struct Layout {
    idr_size: u64,
    head: Member,
    base: Member,
    node_size: u64,
    shift: Member,
    offset: Member,
    parent: Member,
    slots: Member,
}

impl Layout {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let idr = btf.record("idr")?;
        let node = btf.record("xa_node")?;
        Ok(Self {
            idr_size: idr.size(),
            head: idr.member("idr_rt.xa_head")?,
            base: idr.member("idr_base")?,
            node_size: node.size(),
            shift: node.member("shift")?,
            offset: node.member("offset")?,
            parent: node.member("parent")?,
            slots: node.member("slots")?,
        })
    }
}

/// Hands every (id, pointer) of the idr at `idr` to `visit`, by ascending id.
pub(crate) fn walk(
    memory: &dyn Memory<Kva>,
    layout: &Layout,
    idr: Kva,
    walk: &mut Walk,
    visit: &mut dyn FnMut(u32, Kva),
) {
    let object = match Copied::load(memory, idr, layout.idr_size) {
        Ok(object) => object,
        Err(fault) => return walk.fault(fault),
    };
    let head = object.uint(&layout.head);
    let mut descent = Descent {
        memory,
        layout,
        base: object.uint(&layout.base),
        walk,
        visit,
    };
    if head & TAG == INTERNAL {
        descent.node(Kva::new(head & !TAG), None);
    } else if head != 0 {
        // A tree with the one index 0 has no node.
        descent.leaf(head, 0);
    }
}

struct Descent<'a> {
    memory: &'a dyn Memory<Kva>,
    layout: &'a Layout,
    base: u64,
    walk: &'a mut Walk,
    visit: &'a mut dyn FnMut(u32, Kva),
}

/// How a node was reached.
struct From {
    parent: Kva,
    /// The slot of the parent.
    slot: u64,
    /// The parent's shift.
    shift: u64,
    /// The first index below the slot.
    index: u64,
}

impl Descent<'_> {
    fn leaf(&mut self, entry: u64, index: u64) {
        let id = index.checked_add(self.base).filter(|&id| id <= MAX_ID);
        match id.and_then(|id| u32::try_from(id).ok()) {
            Some(id) => (self.visit)(id, Kva::new(entry & !TAG)),
            None => self.walk.gap(
                Kva::new(entry & !TAG),
                Reason::Absurd {
                    what: "id",
                    value: index,
                },
            ),
        }
    }

    /// Goes down from the node at `at`. Each node must know its parent and
    /// its place there, so that no node is entered from two places and the
    /// descent is as short as an index is.
    fn node(&mut self, at: Kva, from: Option<&From>) {
        let layout = self.layout;
        let node = match Copied::load(self.memory, at, layout.node_size) {
            Ok(node) => node,
            Err(fault) => return self.walk.fault(fault),
        };
        let shift = node.uint(&layout.shift);
        let mut contradict = |what, expected, found| {
            self.walk.gap(
                GapAt::Kva(at),
                Reason::Contradiction {
                    what,
                    expected,
                    found,
                },
            );
        };
        let chunk_shift: u64 = (layout.slots.size / 8).checked_ilog2().unwrap_or(0).into();
        if chunk_shift == 0 || chunk_shift > MAX_CHUNK_SHIFT {
            return contradict("slots of xa_node", 64, layout.slots.size / 8);
        }
        if let Some(from) = from {
            let parent = node.pointer(&layout.parent);
            if parent != from.parent {
                return contradict("xa_node.parent", from.parent.get(), parent.get());
            }
            let offset = node.uint(&layout.offset);
            if offset != from.slot {
                return contradict("xa_node.offset", from.slot, offset);
            }
            let expected = from.shift.saturating_sub(chunk_shift);
            if shift != expected {
                return contradict("xa_node.shift", expected, shift);
            }
        } else if shift > 32 || shift % chunk_shift != 0 {
            return contradict("xa_node.shift", 0, shift);
        }
        let first = from.map_or(0, |from| from.index);
        for (slot, entry) in (0u64..).zip(node.raw(&layout.slots).chunks_exact(8)) {
            let entry = entry
                .first_chunk()
                .map_or(0, |raw| u64::from_le_bytes(*raw));
            let index = first + (slot << shift);
            if entry == 0 {
                continue;
            }
            match (entry & TAG == INTERNAL, shift) {
                (true, 1..) => self.node(
                    Kva::new(entry & !TAG),
                    Some(&From {
                        parent: at,
                        slot,
                        shift,
                        index,
                    }),
                ),
                // Sibling and retry entries do not occur in an idr.
                (true, 0) => self.walk.gap(
                    GapAt::Kva(at),
                    Reason::Contradiction {
                        what: "xa_node slot",
                        expected: 0,
                        found: entry,
                    },
                ),
                (false, _) => self.leaf(entry, index),
            }
        }
    }
}
