//! What became of a walk: how much was visited, and what is missing.

use std::fmt;
use std::ops::ControlFlow;

use guestmem::{Cause, Fault, Kva};
use thiserror::Error;

use crate::accessor::Visitor;
use crate::{Entry, MapType, NoMemory};

/// How many gaps a walk lists one by one; further ones are only counted, so
/// that a hostile image cannot fill memory with them.
const LISTED_GAPS: usize = 1000;

/// The account of a finished walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a walk may have gaps"]
pub struct Walk {
    /// How many items were handed to the visitor, incomplete ones included.
    pub visited: u64,
    /// Whether the visitor ended the walk before its end.
    pub stopped: bool,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// How many more gaps there were than are listed.
    pub unlisted_gaps: u64,
}

impl Walk {
    /// Whether everything was visited and could be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.stopped && self.gaps.is_empty() && self.unlisted_gaps == 0
    }

    /// Notes something that could not be read. Neighbouring indices that are
    /// missing for the same reason are one gap.
    pub fn gap(&mut self, at: impl Into<GapAt>, reason: impl Into<Reason>) {
        let (at, reason) = (at.into(), reason.into());
        if let (Some(gap), GapAt::Indices(first, last)) = (self.gaps.last_mut(), &at)
            && let GapAt::Indices(_, end) = &mut gap.at
            && gap.reason == reason
            && end.checked_add(1) == Some(*first)
        {
            *end = *last;
        } else if self.gaps.len() < LISTED_GAPS {
            self.gaps.push(Gap { at, reason });
        } else {
            self.unlisted_gaps += 1;
        }
    }

    /// Notes what another walk, for a part of this one, could not read.
    pub(crate) fn append(&mut self, part: Walk) {
        for gap in part.gaps {
            self.gap(gap.at, gap.reason);
        }
        self.unlisted_gaps += part.unlisted_gaps;
    }

    /// Notes the fault of a read: a gap at the unreadable address.
    pub fn fault(&mut self, fault: Fault<Kva>) {
        self.gap(fault.addr, fault.cause);
    }
}

/// A walk that is under way: its account, and who receives the entries.
pub(crate) struct Walker<'w, 'v> {
    pub(crate) walk: Walk,
    visitor: &'w mut Visitor<'v>,
}

impl<'w, 'v> Walker<'w, 'v> {
    pub(crate) fn new(visitor: &'w mut Visitor<'v>) -> Self {
        Self {
            walk: Walk::default(),
            visitor,
        }
    }

    /// Hands over an entry. On `Break` the walk must end.
    pub(crate) fn visit(&mut self, entry: Entry<'_>) -> ControlFlow<()> {
        self.walk.visited += 1;
        let flow = (self.visitor)(entry);
        self.walk.stopped |= flow.is_break();
        flow
    }

    /// Notes that the contents of such a map are not read.
    pub(crate) fn unread_type(&mut self, map_type: MapType) {
        self.walk.gap(GapAt::Map, Reason::UnreadType { map_type });
    }

    pub(crate) fn finish(self) -> Walk {
        self.walk
    }
}

/// One thing that a walk could not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where.
    pub at: GapAt,
    /// Why.
    pub reason: Reason,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.reason)
    }
}

/// Where a gap is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapAt {
    /// At an address of the kernel that is read.
    Kva(Kva),
    /// At an index of an array, or a bucket of a hash.
    Index(u64),
    /// From one index of an array to another, both included.
    Indices(u64, u64),
    /// At a key.
    Key(Box<[u8]>),
    /// At the map with this id, in a list of maps.
    Id(u32),
    /// At the program with this id, in a list of programs.
    Prog(u32),
    /// In the map as a whole.
    Map,
}

impl From<Kva> for GapAt {
    fn from(kva: Kva) -> Self {
        Self::Kva(kva)
    }
}

impl fmt::Display for GapAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kva(kva) => write!(f, "{kva}"),
            Self::Index(index) => write!(f, "index {index}"),
            Self::Indices(first, last) if first == last => write!(f, "index {first}"),
            Self::Indices(first, last) => write!(f, "indices {first} to {last}"),
            Self::Key(key) => {
                f.write_str("key ")?;
                key.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Id(id) => write!(f, "map {id}"),
            Self::Prog(id) => write!(f, "program {id}"),
            Self::Map => f.write_str("map"),
        }
    }
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Reason {
    /// Its memory is unreadable.
    #[error(transparent)]
    Unreadable(#[from] Cause),
    /// The kernel's answer to a bpf(2) call.
    #[error("{operation}: {errno}")]
    Refused {
        /// The operation, such as `BPF_MAP_LOOKUP_ELEM`.
        operation: &'static str,
        /// The kernel's answer.
        errno: nix::errno::Errno,
    },
    /// A list or tree comes back to where it was.
    #[error("{what} is a cycle")]
    Cycle {
        /// Which structure.
        what: &'static str,
    },
    /// A structure contradicts itself, so that what it refers to was not read.
    #[error("{what}: expected {expected:#x}, found {found:#x}")]
    Contradiction {
        /// Which member or relation.
        what: &'static str,
        /// What the rest of the structure says.
        expected: u64,
        /// What stands there.
        found: u64,
    },
    /// A number is larger than the machine's memory could serve.
    #[error("{what} {value:#x} is more than memory holds")]
    Absurd {
        /// Which number.
        what: &'static str,
        /// Its value.
        value: u64,
    },
    /// Entries were deleted faster than they could be visited, so that the
    /// place in the map was lost.
    #[error("entries went faster than they could be visited")]
    Outrun,
    /// This backend does not read the contents of this type of map.
    #[error("contents of {map_type} maps are not read by this version")]
    UnreadType {
        /// The map's type.
        map_type: MapType,
    },
    /// What is in such a map is in the kernel's memory only.
    #[error("{map_type} maps are read from the kernel's memory: {why}")]
    NeedsMemory {
        /// The map's type.
        map_type: MapType,
        /// Why that cannot be read.
        why: NoMemory,
    },
    /// The backend has no way to it.
    #[error("no access to {what}")]
    NoAccess {
        /// To what.
        what: &'static str,
    },
    /// A layout that the walk needs is not in the kernel's BTF.
    #[error(transparent)]
    Layout(#[from] btf_layout::Error),
}
