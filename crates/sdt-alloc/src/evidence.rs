//! What the slots of allocators say of their own layout.

use std::ops::{AddAssign, ControlFlow};

use guestmem::{Address, ArenaPtr, Memory};

use crate::tree::{State, Tree, Visit, id_place};
use crate::types::{Allocator, DataLayout, Types};

/// How many slots of allocators are where their id says they are, by where
/// the id is looked for.
///
/// All allocators of one program come from one copy of the library, so that
/// their evidence adds up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Slots that are given out.
    pub allocated: u64,
    /// Those that a header proves. The slot at position 0 proves nothing:
    /// its id is zero.
    pub header: u64,
    /// Those that a trailer proves.
    pub trailer: u64,
    /// Descriptors that agree with themselves, less those that do not.
    consistent: i64,
}

impl AddAssign for Evidence {
    fn add_assign(&mut self, other: Self) {
        self.allocated = self.allocated.saturating_add(other.allocated);
        self.header = self.header.saturating_add(other.header);
        self.trailer = self.trailer.saturating_add(other.trailer);
        self.consistent = self.consistent.saturating_add(other.consistent);
    }
}

impl Evidence {
    /// What the slots of `allocator` say if the tree has as many levels as
    /// the BTF says, or else as fits best; `None` before it is set up. Of an
    /// arena, `size` bytes exist.
    #[must_use]
    pub fn of(
        memory: &dyn Memory<ArenaPtr>,
        types: &Types,
        allocator: Allocator,
        size: u64,
    ) -> Option<(u32, Self)> {
        if allocator.root.get() == 0 {
            return None;
        }
        if let Some(levels) = types.levels() {
            let tree = Tree::new(memory, types, allocator, levels, None, size);
            return Some((levels, Self::in_tree(&tree)));
        }
        let all = types.possible_levels().map(|levels| {
            let tree = Tree::new(memory, types, allocator, levels, None, size);
            (levels, Self::in_tree(&tree))
        });
        // The number of slots counts before the shape of what leads to them.
        all.max_by_key(|(_, found)| (found.header.max(found.trailer), found.consistent))
    }

    fn in_tree(tree: &Tree<'_>) -> Self {
        let types = tree.types;
        let elem_size = tree.allocator.pool.elem_size;
        let places = [
            DataLayout::Header {
                size: types.header_size,
            },
            DataLayout::Trailer {
                size: types.trailer_size,
            },
        ];
        let mut found = Self::default();
        tree.walk(&mut |part| {
            match part {
                Visit::Node(node) if node.is_consistent() => found.consistent += 1,
                Visit::Node(_) | Visit::Problem(_) => found.consistent -= 1,
                Visit::Slot(slot) if slot.state == State::Freed => {}
                Visit::Slot(slot) => {
                    found.allocated += 1;
                    let [header, trailer] = places.map(|place| {
                        let id = id_place(place, slot.data, elem_size);
                        let id = id.and_then(|id| tree.id_at(id).ok());
                        slot.idx != 0 && id.is_some_and(|(idx, _)| idx == slot.idx)
                    });
                    found.header += u64::from(header);
                    found.trailer += u64::from(trailer);
                }
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// The layout that the slots prove; `None` if there are too few to tell.
    #[must_use]
    pub fn layout(&self, types: &Types) -> Option<DataLayout> {
        let (header, trailer) = (self.header, self.trailer);
        match header.cmp(&trailer) {
            std::cmp::Ordering::Greater => Some(DataLayout::Header {
                size: types.header_size,
            }),
            std::cmp::Ordering::Less => Some(DataLayout::Trailer {
                size: types.trailer_size,
            }),
            std::cmp::Ordering::Equal => None,
        }
    }
}
