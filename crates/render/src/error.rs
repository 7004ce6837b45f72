//! What ends rendering.

use std::io;

use thiserror::Error;

/// The output could not be written. What could not be read of a map is in the
/// output itself and in the [`Outcome`](crate::Outcome).
#[derive(Debug, Error)]
#[error("cannot write the output")]
pub struct Error {
    #[from]
    source: io::Error,
}

impl Error {
    /// What kind of failure: [`BrokenPipe`](io::ErrorKind::BrokenPipe) if the
    /// reader went away.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Serialization itself cannot fail, only writing can.
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self {
            source: error.into(),
        }
    }
}
