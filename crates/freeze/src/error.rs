//! Why a capture could not be made.

use std::error::Error as StdError;

use thiserror::Error;

/// Why a capture could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel was not found, or not understood.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// Its maps or programs cannot be listed.
    #[error(transparent)]
    Maps(#[from] bpfmaps::Error),
    /// Who runs the machine would not do something.
    #[error("cannot {operation} the machine")]
    Machine {
        /// What was asked for.
        operation: &'static str,
        /// The answer.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It could not be written.
    #[error(transparent)]
    Core(#[from] guestmem::CoreError),
    /// The file cannot be opened.
    #[error(transparent)]
    Open(#[from] guestmem::OpenError),
    /// What was to be captured is not there.
    #[error(transparent)]
    Query(#[from] crate::QueryError),
}
