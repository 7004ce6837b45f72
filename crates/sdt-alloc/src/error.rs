//! What keeps an allocator from being read, and what is wrong inside one.

use std::fmt;

use guestmem::{ArenaPtr, Fault};

/// Why a program's allocators cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The BTF lacks one of the library's types, or a member that is needed.
    #[error(transparent)]
    Btf(#[from] btf_layout::Error),
    /// Types that no version of the library has.
    #[error("{what} in struct {name}")]
    Shape {
        /// The struct.
        name: &'static str,
        /// What is odd.
        what: &'static str,
    },
    /// The variable's bytes end before its members do.
    #[error("{len:#x} bytes are no struct {name}")]
    Short {
        /// The struct.
        name: &'static str,
        /// How many bytes there are.
        len: usize,
    },
}

/// Something in an arena that cannot be read or contradicts itself, so that
/// what depends on it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// A part of the arena cannot be read.
    Unreadable {
        /// What is there.
        what: &'static str,
        /// Where and why.
        fault: Fault<ArenaPtr>,
    },
    /// Something is linked for a second time: a cycle, or two parents.
    Twice {
        /// What it is.
        what: &'static str,
        /// Where it is.
        at: ArenaPtr,
    },
    /// There is more than the arena can hold.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// The first beyond the bound.
        at: ArenaPtr,
    },
}

impl Problem {
    /// Where it is.
    #[must_use]
    pub fn at(&self) -> ArenaPtr {
        match self {
            Self::Unreadable { fault, .. } => fault.addr,
            Self::Twice { at, .. } | Self::TooMany { at, .. } => *at,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { what, fault } => write!(f, "{what}: {fault}"),
            Self::Twice { what, at } => write!(f, "{what} at {at} is linked twice"),
            Self::TooMany { what, at } => {
                write!(f, "more of {what} than the arena holds, at {at}")
            }
        }
    }
}
