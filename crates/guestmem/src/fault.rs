//! Why a byte could not be read.

use thiserror::Error;

use crate::{Address, Gpa};

/// The first address of a read that could not be served, and the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{addr}: {cause}")]
pub struct Fault<A: Address> {
    /// The first unreadable address.
    pub addr: A,
    /// Why it is unreadable.
    pub cause: Cause,
}

impl<A: Address> Fault<A> {
    /// A fault at `addr`.
    pub fn new(addr: A, cause: Cause) -> Self {
        Self { addr, cause }
    }
}

/// The reasons for which memory is unreadable, in every address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Cause {
    /// The page-table entry at `level` (1 = PTE) is not present.
    #[error("page not present at level {level}")]
    NotPresent {
        /// The level of the entry, 1 being the PTE.
        level: u8,
    },
    /// The high bits of the address are no sign extension of the rest.
    #[error("address not canonical")]
    NotCanonical,
    /// A page-table entry has a form that the architecture reserves.
    #[error("malformed page-table entry at level {level}")]
    MalformedEntry {
        /// The level of the entry, 1 being the PTE.
        level: u8,
    },
    /// A page table on the way lies outside the image.
    #[error("level-{level} page table at physical {table} is not in the image")]
    TableUnbacked {
        /// The level of the table's entries, 1 being PTEs.
        level: u8,
        /// Where the table would be.
        table: Gpa,
    },
    /// No part of the image holds this physical address.
    #[error("physical {gpa} is not in the image")]
    Unbacked {
        /// The physical address that is missing.
        gpa: Gpa,
    },
    /// The image file became shorter, or its disk failed, while it was read.
    #[error("the image file ended or failed at physical {gpa} while it was read")]
    Vanished {
        /// The physical address that was lost.
        gpa: Gpa,
    },
    /// The memory is that of a dump, whose maker left this part out.
    #[error("physical {gpa} was left out of the dump")]
    Excluded {
        /// The physical address that is missing.
        gpa: Gpa,
    },
    /// A dump's copy of this part cannot be unpacked.
    #[error("the dump's copy of physical {gpa} is damaged")]
    Damaged {
        /// The physical address that cannot be read.
        gpa: Gpa,
    },
    /// The time that a capture had was over before this part was copied.
    #[error("time ran out before physical {gpa} was copied")]
    Late {
        /// The physical address that is missing.
        gpa: Gpa,
    },
    /// The running kernel would not read its memory at this address.
    #[error("the running kernel cannot read this address")]
    Refused,
    /// Whether anything is here is not known: those whose page tables were
    /// looked at have not touched it.
    #[error("not touched by those through whom memory is read, so that nobody knows of it")]
    Unseen,
    /// The read would run past the end of the address space.
    #[error("the end of the address space")]
    EndOfSpace,
}
