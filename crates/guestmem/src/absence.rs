//! Memory that a dump has not, and why.

use crate::{Cause, Gpa};

/// Why some memory is not in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// See [`Cause::Unbacked`].
    Unbacked,
    /// See [`Cause::Vanished`].
    Vanished,
    /// See [`Cause::Excluded`].
    Excluded,
    /// See [`Cause::Damaged`].
    Damaged,
    /// See [`Cause::Late`].
    Late,
    /// See [`Cause::Refused`].
    Refused,
}

impl Absence {
    pub(crate) const ALL: [Self; 6] = [
        Self::Unbacked,
        Self::Vanished,
        Self::Excluded,
        Self::Damaged,
        Self::Late,
        Self::Refused,
    ];

    /// The absence that a fault of physical memory tells of. A cause that only
    /// virtual memory has is [`Unbacked`](Self::Unbacked).
    #[must_use]
    pub fn of(cause: Cause) -> Self {
        match cause {
            Cause::Vanished { .. } => Self::Vanished,
            Cause::Excluded { .. } => Self::Excluded,
            Cause::Damaged { .. } => Self::Damaged,
            Cause::Late { .. } => Self::Late,
            Cause::Refused => Self::Refused,
            _ => Self::Unbacked,
        }
    }

    /// The cause with which a read at `gpa` fails.
    #[must_use]
    pub fn cause(self, gpa: Gpa) -> Cause {
        match self {
            Self::Unbacked => Cause::Unbacked { gpa },
            Self::Vanished => Cause::Vanished { gpa },
            Self::Excluded => Cause::Excluded { gpa },
            Self::Damaged => Cause::Damaged { gpa },
            Self::Late => Cause::Late { gpa },
            Self::Refused => Cause::Refused,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Unbacked => "unbacked",
            Self::Vanished => "vanished",
            Self::Excluded => "excluded",
            Self::Damaged => "damaged",
            Self::Late => "late",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|why| why.name() == name)
    }
}

/// A run of memory that is not in a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsentRun {
    /// The first address.
    pub start: Gpa,
    /// The first address behind it.
    pub end: Gpa,
    /// Why it is not there.
    pub why: Absence,
}

/// What `runs`, which are in order, say of `gpa`.
pub(crate) fn absence_at(runs: &[AbsentRun], gpa: Gpa) -> Option<Absence> {
    let index = runs.partition_point(|run| run.end <= gpa);
    let run = runs.get(index).filter(|run| run.start <= gpa)?;
    Some(run.why)
}
