//! Memory that is mapped by hand.
#![expect(unsafe_code, reason = "maps of the kernel's are shared as memory")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::slice;

use anyhow::{Context, Result, ensure};
use nix::libc;

/// Memory of this process, unmapped when it goes.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

/// Where a mapping is to start.
#[derive(Debug, Clone, Copy)]
enum Place {
    Any,
    At(usize),
}

// SAFETY: the memory belongs to no thread.
unsafe impl Send for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Mapping {
    /// Memory of no file, zeroed.
    ///
    /// # Errors
    /// Fails if there is none.
    pub(crate) fn anonymous(len: usize) -> Result<Self> {
        Self::new(None, Place::Any, len)
    }

    /// Pages of a file or a map that can be written to.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub(crate) fn shared(file: BorrowedFd<'_>, offset: usize, len: usize) -> Result<Self> {
        Self::new(Some((file, offset)), Place::Any, len)
    }

    /// An arena at the address that it has, where libbpf has mapped it already or nothing is.
    ///
    /// # Errors
    /// Fails if the kernel refuses.
    pub(crate) fn arena(map: BorrowedFd<'_>, start: u64, len: usize) -> Result<Self> {
        Self::new(Some((map, 0)), Place::At(usize::try_from(start)?), len)
    }

    fn new(file: Option<(BorrowedFd<'_>, usize)>, place: Place, len: usize) -> Result<Self> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let (mut flags, fd, offset) = match file {
            Some((file, offset)) => (libc::MAP_SHARED, file.as_raw_fd(), offset),
            None => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        };
        let mut address = std::ptr::null_mut();
        if let Place::At(start) = place {
            flags |= libc::MAP_FIXED;
            address = std::ptr::without_provenance_mut(start);
        }
        let offset = libc::off_t::try_from(offset)?;
        // SAFETY: a new mapping, placed by the kernel, overlaps nothing; one at an arena's address
        // replaces what nobody but libbpf knows, which does not use it any more.
        let start = unsafe { libc::mmap(address, len, prot, flags, fd, offset) };
        ensure!(
            start != libc::MAP_FAILED,
            "mapping {len} bytes: {}",
            io::Error::last_os_error()
        );
        let start = NonNull::new(start.cast()).context("a mapping at address 0")?;
        Ok(Self { start, len })
    }

    /// Where it starts in this process.
    pub(crate) fn address(&self) -> u64 {
        u64::try_from(self.start.as_ptr().addr()).unwrap_or(0)
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// Fails if they do not fit.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        // SAFETY: the whole mapping is ours, and no other reference to it exists.
        let memory = unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) };
        let end = at.checked_add(bytes.len()).context("beyond the mapping")?;
        let place = memory.get_mut(at..end).context("beyond the mapping")?;
        place.copy_from_slice(bytes);
        Ok(())
    }
}
