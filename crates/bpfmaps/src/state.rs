//! What a map is in as a whole, beside its entries.

use std::fmt;

use arena::Run;
use guestmem::{ArenaPtr, Kva};

/// The state of a map of a type that has one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MapState {
    /// Where a ring buffer's users are, in bytes since its creation.
    RingBuffer {
        /// Bytes of its data area.
        size: u64,
        /// Up to where it was consumed.
        consumer_pos: u64,
        /// Up to where space was reserved.
        producer_pos: u64,
        /// The oldest record that was reserved and not yet submitted when
        /// space was last reserved; `None` in kernels that do not note it
        /// (before 6.6).
        pending_pos: Option<u64>,
        /// The oldest record that was not overwritten; `None` in kernels
        /// that cannot overwrite.
        overwrite_pos: Option<u64>,
        /// Whether new records overwrite old ones.
        overwrite: bool,
    },
    /// How full a Bloom filter is.
    Bloom {
        /// Its size in bits.
        bits: u64,
        /// How many of them are set.
        bits_set: u64,
        /// How many bits an element sets.
        hash_functions: u32,
    },
    /// Where a queue's or stack's ends are.
    Queue {
        /// The slot that the next element goes to.
        head: u32,
        /// The slot of the oldest element.
        tail: u32,
        /// How many slots there are, one more than elements may be.
        slots: u32,
    },
    /// How far a `struct_ops` map is registered.
    StructOps {
        /// `init`, `in use`, `to be freed`, `ready`, or the number of
        /// another.
        state: String,
        /// How many use it.
        refcount: u64,
        /// The struct that it implements.
        name: Option<String>,
    },
    /// Which pages of an arena exist; what is in them,
    /// [`BpfMapAccessor::arena`](crate::BpfMapAccessor::arena) reads.
    Arena {
        /// The user address at which it begins; `None` until its first user
        /// maps it.
        user_start: Option<ArenaPtr>,
        /// The kernel address of the page whose user address has a low half
        /// of 0; `None` where only its users' side is known.
        kernel_base: Option<Kva>,
        /// Bytes of a page.
        page_size: u64,
        /// How many pages it may have.
        declared_pages: u64,
        /// Those that exist, counted from the arena's beginning.
        runs: Vec<Run>,
        /// Those that do not exist, but that a program touched (since 7.2).
        faulted: Vec<Run>,
        /// Whether no page can be of which nobody knows.
        complete: bool,
        /// What told the pages.
        pages_from: PagesFrom,
    },
}

/// What tells which pages of an arena exist.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PagesFrom {
    /// The kernel's own page tables, which have all.
    PageTables,
    /// What processes that map the arena have of it, through whom the bytes
    /// are read too. A page that only programs have touched is not known; one
    /// that is freed while it is read comes into being again by that.
    Mappings {
        /// The processes.
        pids: Vec<u32>,
    },
}

impl fmt::Display for PagesFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pids = match self {
            Self::PageTables => return f.write_str("page tables"),
            Self::Mappings { pids } => pids,
        };
        f.write_str(match pids.as_slice() {
            [_] => "mappings of pid",
            _ => "mappings of pids",
        })?;
        let mut separator = " ";
        for pid in pids {
            write!(f, "{separator}{pid}")?;
            separator = ", ";
        }
        Ok(())
    }
}
