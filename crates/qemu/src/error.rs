//! Why a QEMU cannot be paused, read or resumed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// What failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The socket cannot be connected to.
    #[error("cannot connect to {}", socket.display())]
    Connect {
        /// Its path.
        socket: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Somebody listens, but says nothing.
    #[error("{} says nothing: no QMP greeting within {}", socket.display(), seconds(*.timeout))]
    NoGreeting {
        /// Its path.
        socket: PathBuf,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// What is said on the socket is something else.
    #[error("{} does not speak QMP: it said {said:?}", socket.display())]
    NotQmp {
        /// Its path.
        socket: PathBuf,
        /// The start of what it said.
        said: String,
    },
    /// QEMU ended, or closed the connection.
    #[error("{} was closed before QEMU answered `{command}`", socket.display())]
    Closed {
        /// The socket's path.
        socket: PathBuf,
        /// What it was to do.
        command: String,
    },
    /// The connection failed.
    #[error("cannot send `{command}` to {} or hear the answer", socket.display())]
    Connection {
        /// The socket's path.
        socket: PathBuf,
        /// What it was to do.
        command: String,
        /// The system's answer.
        source: io::Error,
    },
    /// QEMU did not answer in time.
    #[error("QEMU did not answer `{command}` within {}", seconds(*.timeout))]
    Timeout {
        /// What it was to do.
        command: String,
        /// How long it was waited for.
        timeout: Duration,
    },
    /// QEMU will not do it.
    #[error("QEMU refuses `{command}`: {words}")]
    Refused {
        /// What it was to do.
        command: String,
        /// Its reason.
        words: String,
    },
    /// QEMU answered something that is not understood.
    #[error("cannot make sense of QEMU's answer to `{command}`: {answer:?}")]
    Answer {
        /// What it was to do.
        command: String,
        /// The start of its answer.
        answer: String,
    },
    /// The guest's memory is still being loaded.
    #[error("the guest's memory is not there yet: its state is `{status}`")]
    NotLoaded {
        /// As QEMU names it.
        status: String,
    },
    /// The system does not say which process listens on the socket.
    #[error("cannot tell which process {} belongs to", socket.display())]
    NoPid {
        /// The socket's path.
        socket: PathBuf,
    },
    /// The process has nothing where QEMU says that the guest's memory is.
    #[error("process {pid} ({name}) is not the QEMU that answers: it has no memory at {hva:#x}")]
    NotQemu {
        /// Which process.
        pid: i32,
        /// What it is called.
        name: String,
        /// Where the guest's memory should be.
        hva: u64,
    },
    /// The system will not let us see or read the process.
    #[error("cannot {operation} of QEMU, process {pid}")]
    Process {
        /// What was tried.
        operation: &'static str,
        /// Which process.
        pid: i32,
        /// The system's answer.
        source: io::Error,
    },
    /// The process that would resume the guest after our death cannot be started.
    #[error("cannot start the guardian, which resumes the guest if this process dies")]
    Guardian {
        /// The system's answer.
        source: io::Error,
    },
    /// The guest did not stand still from `pause` to `resume`.
    #[error(
        "somebody else resumed the guest while it was read: what was read is of no one instant"
    )]
    Ran,
}

/// How much of what is not understood is shown.
const SHOWN: usize = 120;

impl Error {
    /// That this answer makes no sense.
    pub(crate) fn answer(command: &str, answer: &str) -> Self {
        Self::Answer {
            command: command.to_owned(),
            answer: start(answer.as_bytes()),
        }
    }
}

/// The first characters of what was said.
pub(crate) fn start(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said.get(..SHOWN).unwrap_or(said));
    text.trim_end().to_owned()
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
