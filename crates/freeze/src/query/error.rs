//! Why a query has no answer.

use std::fmt::Write as _;

use thiserror::Error;

use super::nearest::Listed;

/// Why something that was asked of a [`Dump`](crate::Dump) has no answer.
///
/// Nothing is ever answered by a default: what is not there is
/// [`Absent`](QueryError::Absent), what could not be read is
/// [`Unreadable`](QueryError::Unreadable), and what may be among that is
/// [`Unsure`](QueryError::Unsure).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum QueryError {
    /// It is not there.
    #[error("there is no {what}; there {there}")]
    Absent {
        /// What was asked for, and in what.
        what: String,
        /// What there is, nearest first.
        there: Listed,
    },
    /// It was not found, and not everything could be read where it may be.
    #[error("there is no {what} in what could be read; missing is {why}")]
    Unsure {
        /// What was asked for, and in what.
        what: String,
        /// What is missing, as the dump states it.
        why: String,
    },
    /// Several things answer to the name or key.
    #[error("{what} is ambiguous: there {which}")]
    Ambiguous {
        /// What was asked for.
        what: String,
        /// How each of them can be named.
        which: Listed,
    },
    /// It could not be read.
    #[error("{what} could not be read: {why}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// The reason that the dump states.
        why: String,
    },
    /// It is something else.
    #[error("{what} is {found}, not {wanted}")]
    Kind {
        /// What was asked for.
        what: String,
        /// What it is.
        found: String,
        /// What it was taken for.
        wanted: String,
    },
}

impl QueryError {
    pub(crate) fn unreadable(what: impl Into<String>, why: &dyn std::error::Error) -> Self {
        Self::Unreadable {
            what: what.into(),
            why: causes(why),
        }
    }
}

/// An error with its causes, as one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
