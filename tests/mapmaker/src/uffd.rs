//! A page that nobody ever fills: who reads it waits for good.
#![expect(unsafe_code, reason = "no crate here has userfaultfd")]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, Result, ensure};
use nix::libc;

use crate::memory::Mapping;

/// The page. Who waits for it waits for as long as this lives.
#[derive(Debug)]
pub(crate) struct Never {
    memory: Mapping,
    _faults: OwnedFd,
}

const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
const MISSING: u64 = 1;
const PAGE: usize = 4096;

fn control<const N: usize>(
    fd: &OwnedFd,
    call: libc::c_ulong,
    argument: &mut [u64; N],
) -> Result<()> {
    // SAFETY: both calls take a struct of as many 64-bit numbers as the argument has.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), call, argument.as_mut_ptr()) };
    ensure!(
        result == 0,
        "userfaultfd call {call:#x}: {}",
        io::Error::last_os_error()
    );
    Ok(())
}

impl Never {
    /// Sets the page up.
    ///
    /// # Errors
    /// Fails if the kernel has no userfaultfd.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let fd = RawFd::try_from(fd)?;
        ensure!(fd >= 0, "userfaultfd: {}", io::Error::last_os_error());
        // SAFETY: it has just been opened, for us.
        let faults = unsafe { OwnedFd::from_raw_fd(fd) };
        // The interface's number, features asked for, calls there are.
        control(&faults, UFFDIO_API, &mut [0xaa, 0, 0])?;
        let memory = Mapping::anonymous(PAGE)?;
        let mut range = [memory.address(), u64::try_from(PAGE)?, MISSING, 0];
        control(&faults, UFFDIO_REGISTER, &mut range).context("registering a page")?;
        Ok(Self {
            memory,
            _faults: faults,
        })
    }

    /// The page's address.
    pub(crate) fn address(&self) -> u64 {
        self.memory.address()
    }
}
