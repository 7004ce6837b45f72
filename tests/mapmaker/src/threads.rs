//! Threads of this process that do one thing and then sleep, as owners of what belongs to tasks.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, ensure};
use libbpf_rs::MapHandle;
use serde_json::Value;

use crate::storage::{PIDFD_THREAD, task};
use crate::sys;

/// Enough for a system call.
const STACK: usize = 16 << 10;

/// A task that stays.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) tid: i32,
    pub(crate) comm: String,
}

impl Task {
    /// The one that runs this.
    pub(crate) fn own() -> Self {
        Self {
            tid: sys::thread_id(),
            comm: "mapmaker".to_owned(),
        }
    }

    /// Starts a thread that does something and then sleeps for ever.
    ///
    /// # Errors
    /// Fails if there is no memory for it, or if what it does fails.
    pub(crate) fn start(
        comm: String,
        job: impl FnOnce() -> Result<()> + Send + 'static,
    ) -> Result<Self> {
        let (tell, told) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name(comm.clone())
            .stack_size(STACK)
            .spawn(move || {
                // The receiver waits for this.
                let _ = tell.send((sys::thread_id(), job()));
                loop {
                    thread::park();
                }
            })
            .context("a thread")?;
        let (tid, result) = told.recv()?;
        result.with_context(|| comm.clone())?;
        Ok(Self { tid, comm })
    }

    /// As bpfreeze names it.
    pub(crate) fn object(&self) -> Value {
        task(self.tid, std::process::id(), &self.comm)
    }

    /// Gives it a value in a storage map.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub(crate) fn store(&self, map: &MapHandle, value: &[u8]) -> Result<()> {
        ensure!(self.tid > 0, "no task");
        let flags = match u32::try_from(self.tid) == Ok(std::process::id()) {
            true => 0,
            false => PIDFD_THREAD,
        };
        let fd: OwnedFd = sys::open_pidfd(self.tid, flags).context("the descriptor of a thread")?;
        sys::update(map, &fd.as_raw_fd().to_le_bytes(), value, 0)
    }
}
