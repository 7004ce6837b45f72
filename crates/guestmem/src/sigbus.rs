//! Survives a mapped file that becomes shorter.
//!
//! Touching a mapped page beyond the end of its file raises SIGBUS, and a
//! process that does not expect it dies. The handler here puts a page of
//! zeros in place of the lost one and marks the mapping, so that the copy
//! that ran into it ends and its caller can see that it was cheated. Faults
//! outside registered mappings go to whoever handled SIGBUS before.
#![expect(
    unsafe_code,
    reason = "a signal handler is the only way to outlive SIGBUS in mapped memory"
)]

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, compiler_fence};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How many mapped images a process may have open at once.
const SLOTS: usize = 256;

/// A registered mapping; free while `start` is 0.
struct Slot {
    start: AtomicUsize,
    end: AtomicUsize,
    hit: AtomicBool,
}

static MAPPINGS: [Slot; SLOTS] = [const {
    Slot {
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        hit: AtomicBool::new(false),
    }
}; SLOTS];

/// The host's page size, for the handler, which may not call `sysconf`.
static PAGE: AtomicUsize = AtomicUsize::new(4096);

/// What handled SIGBUS before us.
static PREVIOUS: OnceLock<SigAction> = OnceLock::new();

/// A mapping under the handler's protection, until dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    slot: usize,
}

impl Guard {
    /// Protects the `len` bytes mapped at `start`.
    pub(crate) fn new(start: *const u8, len: usize) -> io::Result<Self> {
        install()?;
        let start = start as usize;
        for (index, slot) in MAPPINGS.iter().enumerate() {
            // An odd marker reserves the slot while its end is written.
            let reserved = slot
                .start
                .compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed);
            if reserved.is_ok() {
                slot.hit.store(false, Ordering::Relaxed);
                slot.end.store(start.saturating_add(len), Ordering::Relaxed);
                slot.start.store(start, Ordering::Release);
                return Ok(Self { slot: index });
            }
        }
        Err(io::Error::other(format!(
            "{SLOTS} images are open in this process already"
        )))
    }

    /// Whether a page of this mapping was ever replaced by zeros.
    pub(crate) fn hit(&self) -> bool {
        // The handler runs inside a copy: that must not move behind the look.
        compiler_fence(Ordering::SeqCst);
        MAPPINGS
            .get(self.slot)
            .is_some_and(|slot| slot.hit.load(Ordering::Acquire))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(slot) = MAPPINGS.get(self.slot) {
            slot.end.store(0, Ordering::Relaxed);
            slot.start.store(0, Ordering::Release);
        }
    }
}

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), nix::errno::Errno>> = OnceLock::new();
    let outcome = INSTALLED.get_or_init(|| {
        let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?;
        if let Some(page) = page.and_then(|page| usize::try_from(page).ok()) {
            PAGE.store(page, Ordering::Relaxed);
        }
        let action = SigAction::new(
            SigHandler::SigAction(on_sigbus),
            SaFlags::SA_SIGINFO | SaFlags::SA_NODEFER | SaFlags::SA_ONSTACK,
            SigSet::empty(),
        );
        // SAFETY: the handler makes only async-signal-safe calls (`mmap`,
        // `sigaction`) and touches only atomics.
        let previous = unsafe { sigaction(Signal::SIGBUS, &action) }?;
        PREVIOUS.get_or_init(|| previous);
        Ok(())
    });
    outcome.map_err(io::Error::from)
}

extern "C" fn on_sigbus(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler.
    let info = unsafe { &*info };
    // SAFETY: `si_addr` is the member that is set for SIGBUS.
    let addr = unsafe { info.si_addr() } as usize;
    for slot in &MAPPINGS {
        let start = slot.start.load(Ordering::Acquire);
        if start > 1 && start <= addr && addr < slot.end.load(Ordering::Relaxed) {
            slot.hit.store(true, Ordering::Release);
            if replace_page(addr) {
                return;
            }
        }
    }
    // Not ours: with the previous action in place the faulting instruction
    // runs, and faults, once more.
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    let previous = PREVIOUS.get().unwrap_or(&default);
    // SAFETY: it restores what another part of the process installed.
    let _ = unsafe { sigaction(Signal::SIGBUS, previous) };
}

/// Maps zeros over the page that holds `addr`.
fn replace_page(addr: usize) -> bool {
    let page = PAGE.load(Ordering::Relaxed);
    let start = addr & !(page - 1);
    // SAFETY: the page lies in a mapping that a `Guard` holds, which only we
    // read, by copying; its file has no such page any more.
    let mapped = unsafe {
        libc::mmap(
            start as *mut libc::c_void,
            page,
            libc::PROT_READ,
            libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}
