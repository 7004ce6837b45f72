//! The allocator trees that `sched_ext` schedulers keep in BPF arenas.
//!
//! The scx library's `sdt_alloc` gives out slots of one size. A radix tree of
//! descriptors, each with a bitmap and a chunk of pointers, says which slots
//! there are; a slot carries its own position, before its payload or behind
//! it. You bring the BTF of the program that has the allocator
//! ([`Types`]), the bytes of the variable ([`Allocator`]) and the arena as a
//! [`Memory`](guestmem::Memory) of [`ArenaPtr`](guestmem::ArenaPtr)s; a
//! [`Tree`] then visits its slots, each with its [`State`].
//!
//! Published schedulers leave half of the library's types out of their BTF.
//! What it does not say is settled by [`Evidence`] from all slots: their
//! positions must be where they say they are. Nothing else is believed.
//!
//! What a slot holds, the programs' own instructions tell ([`code`]).
//!
//! It does not know maps, tasks or how values look.

pub mod code;
mod deferred;
mod error;
mod evidence;
mod instances;
mod regions;
mod tree;
mod types;

pub use deferred::{DEFERRED, deferred};
pub use error::{Error, Problem};
pub use evidence::Evidence;
pub use instances::{Instance, instances};
pub use regions::{OTHERS, Region, Regions, Use};
pub use tree::{Node, Slot, State, Tree, Visit};
pub use types::{ALLOCATORS, Allocator, DataLayout, Pool, Types};
