//! A process of its own that resumes the guest if this one dies.
//!
//! It is forked when the connection is made, and not when the guest is paused:
//! then it takes no time of the pause, and shares no memory that is filled
//! during it. It holds the connection and one end of a pair of sockets; by the
//! other end, which only this process has, it hears when the guest is paused.
//! If that end closes then, for whatever reason, the guardian sends `cont`,
//! waits for the answer and ends.
#![expect(
    unsafe_code,
    reason = "only a forked process can outlive this one; what the child may do is argued where \
              it stands"
)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use crate::client::RESYNCHRONISE;

/// Says that the guest is paused, or about to be.
const ARM: u8 = b'a';

/// Says that it runs again.
const DISARM: u8 = b'd';

/// How the answer to the guardian's command is known.
const MARK: &[u8] = b"bpfreeze-guardian";

const RESUME: &[u8] = b"{\"execute\":\"cont\",\"id\":\"bpfreeze-guardian\"}\n";

/// For how many milliseconds QEMU may be silent before the guardian gives up.
const PATIENCE_MS: c_int = 300_000;

/// The guardian of one connection.
#[derive(Debug)]
pub(crate) struct Guardian {
    /// Our end; gone when it is to end.
    end: Option<OwnedFd>,
    child: Pid,
    armed: bool,
}

impl Guardian {
    /// Starts the guardian of the connection `monitor`.
    pub(crate) fn start(monitor: BorrowedFd<'_>) -> io::Result<Self> {
        let (ours, its) = socketpair(
            AddressFamily::Unix,
            SockType::Stream,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // The child inherits this and stays so: no signal but SIGKILL reaches it.
        let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        // SAFETY: the child runs `watch` only, which allocates nothing, takes
        // no lock, cannot panic and does not return.
        let forked = unsafe { fork() };
        if matches!(forked, Ok(ForkResult::Child)) {
            watch(its.as_raw_fd(), monitor.as_raw_fd());
        }
        before.thread_set_mask()?;
        match forked? {
            ForkResult::Parent { child } => Ok(Self {
                end: Some(ours),
                child,
                armed: false,
            }),
            ForkResult::Child => Err(Errno::ECHILD.into()),
        }
    }

    /// From now on our death makes it resume the guest.
    pub(crate) fn arm(&mut self) -> io::Result<()> {
        self.tell(ARM)?;
        self.armed = true;
        Ok(())
    }

    /// From now on it does not.
    pub(crate) fn disarm(&mut self) {
        // One that cannot be told is dead, and does nothing either.
        let _ = self.tell(DISARM);
        self.armed = false;
    }

    fn tell(&self, word: u8) -> io::Result<()> {
        let end = self.end.as_ref().ok_or(Errno::EBADF)?;
        socket::send(end.as_raw_fd(), &[word], MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        self.end = None;
        // One that is still to resume the guest takes as long as QEMU does.
        if !self.armed {
            // Somebody else may have waited for it: it is gone either way.
            while waitpid(self.child, None) == Err(Errno::EINTR) {}
        }
    }
}

/// The child's whole life. It may call what is async-signal-safe and nothing
/// else, as other threads of its parent may have held any lock.
fn watch(pipe: c_int, monitor: c_int) -> ! {
    // A terminal's signals and a shell's go to its parent's group.
    // SAFETY: it takes and gives numbers only.
    unsafe { libc::setsid() };
    // SAFETY: the name is constant and ends with a NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"bpfreeze-guard".as_ptr()) };
    // SAFETY: as above.
    unsafe { libc::chdir(c"/".as_ptr()) };
    // Whoever reads what our parent prints waits until nobody can write it.
    let (low, high) = (pipe.min(monitor), pipe.max(monitor));
    close_range(0, low.saturating_sub(1));
    close_range(low.saturating_add(1), high.saturating_sub(1));
    close_range(high.saturating_add(1), c_int::MAX);
    let mut armed = false;
    loop {
        let mut word = [0u8; 1];
        match receive(pipe, &mut word) {
            1 => armed = word == [ARM],
            0 => break,
            _ if Errno::last() == Errno::EINTR => {}
            _ => break,
        }
    }
    if armed && send(monitor, RESYNCHRONISE) && send(monitor, RESUME) {
        await_answer(monitor);
    }
    // SAFETY: it ends the process, and runs nothing of its parent's.
    unsafe { libc::_exit(0) }
}

/// Closes descriptors `first` to `last`.
fn close_range(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // By number, as older C libraries do not have it.
    // SAFETY: nothing here uses the descriptors.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } == 0 {
        return;
    }
    // Linux before 5.9.
    // SAFETY: it takes and gives numbers only.
    let most = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let most = c_int::try_from(most).unwrap_or(c_int::MAX);
    for fd in first..=last.min(most.clamp(1024, 1 << 20)) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Sends all of `bytes`; whether it could.
fn send(monitor: c_int, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        // SAFETY: it reads `bytes`, which are so long.
        let sent = unsafe {
            libc::send(
                monitor,
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        match usize::try_from(sent) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(_failed) if Errno::last() == Errno::EINTR => {}
            Err(_failed) => return false,
        }
    }
    true
}

/// Reads until QEMU has answered [`RESUME`]: what it has not yet done when its
/// last client goes it forgets.
fn await_answer(monitor: c_int) {
    let mut matched = 0;
    let mut bytes = [0u8; 4096];
    loop {
        let mut wait = libc::pollfd {
            fd: monitor,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: `wait` is one descriptor.
        match unsafe { libc::poll(&raw mut wait, 1, PATIENCE_MS) } {
            0 => return,
            1.. => {}
            _ if Errno::last() == Errno::EINTR => continue,
            _ => return,
        }
        let got = match usize::try_from(receive(monitor, &mut bytes)) {
            Ok(0) => return,
            Ok(got) => got,
            Err(_failed) if Errno::last() == Errno::EINTR => continue,
            Err(_failed) => return,
        };
        for &byte in bytes.get(..got).unwrap_or_default() {
            // The mark's first letter is nowhere else in it.
            matched = match MARK.get(matched) {
                Some(&next) if next == byte => matched.saturating_add(1),
                _ => usize::from(MARK.first() == Some(&byte)),
            };
            if matched == MARK.len() {
                return;
            }
        }
    }
}

fn receive(fd: c_int, bytes: &mut [u8]) -> isize {
    // SAFETY: it writes to `bytes`, which are so long.
    unsafe { libc::read(fd, bytes.as_mut_ptr().cast(), bytes.len()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn its_command_carries_its_mark() {
        let at = RESUME.windows(MARK.len()).filter(|part| *part == MARK);
        assert_eq!(at.count(), 1);
    }

    /// What the guardian sends when its parent's end goes, after `words`.
    fn check(words: &[fn(&mut Guardian)], expected: &[u8]) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut guardian = Guardian::start(ours.as_fd()).unwrap();
        drop(ours);
        for word in words {
            word(&mut guardian);
        }
        guardian.end.take();
        let mut said = vec![0; expected.len()];
        theirs.read_exact(&mut said).unwrap();
        assert_eq!(said, expected);
        if !expected.is_empty() {
            let answer = b"{\"event\": 1}\r\n{\"id\": \"bpfreeze-guardiabpfreeze-guardian\"}\r\n";
            theirs.write_all(answer).unwrap();
        }
        // It ends, and with it the last of the connection.
        assert_eq!(theirs.read_to_end(&mut Vec::new()).unwrap(), 0);
        guardian.armed = false;
    }

    #[test]
    fn it_speaks_only_where_the_guest_is_paused() {
        let arm: fn(&mut Guardian) = |guardian| guardian.arm().unwrap();
        let disarm: fn(&mut Guardian) = Guardian::disarm;
        let resume = [RESYNCHRONISE, RESUME].concat();
        check(&[], b"");
        check(&[arm, disarm], b"");
        check(&[arm], &resume);
        check(&[arm, disarm, arm], &resume);
    }
}
