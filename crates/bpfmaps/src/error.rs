//! The crate's errors: what kept a whole operation from being done.

use std::io;

use guestmem::{Fault, Kva};
use nix::errno::Errno;
use thiserror::Error;

use crate::Reason;

/// Why an operation could not be done at all. What an operation could not
/// read while it went on is in its [`Walk`](crate::Walk).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel does not allow this process to use bpf(2).
    #[error("bpf(2) is not permitted here: {operation} needs {needs}")]
    NotPermitted {
        /// What was tried, such as `BPF_MAP_GET_NEXT_ID`.
        operation: &'static str,
        /// The capabilities that would allow it.
        needs: &'static str,
    },
    /// The kernel was built without bpf(2).
    #[error("this kernel has no bpf(2) (CONFIG_BPF_SYSCALL is off)")]
    NoBpf,
    /// The running kernel is of an architecture that is not known here.
    #[error("kernels of {machine} machines are not read")]
    Machine {
        /// The architecture.
        machine: &'static str,
    },
    /// A system call failed.
    #[error("{operation} failed")]
    System {
        /// What was tried.
        operation: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A map, program or BTF with this id is no longer there.
    #[error("{what} {id} is gone")]
    Gone {
        /// `map`, `program` or `BTF`.
        what: &'static str,
        /// Its id.
        id: u32,
    },
    /// Kernel memory that the operation needs is unreadable.
    #[error("cannot read {what}")]
    Unreadable {
        /// What lies there.
        what: &'static str,
        /// Where, and why not.
        source: Fault<Kva>,
    },
    /// A symbol is needed, and this process may not see any.
    #[error("the kernel hides its symbols, of which {name} is needed (kernel.kptr_restrict)")]
    HiddenSymbols {
        /// The symbol.
        name: &'static str,
    },
    /// What was asked for is in the kernel's memory, which cannot be read.
    #[error("cannot read the kernel's memory: {0}")]
    NoMemory(NoMemory),
    /// A structure contradicts itself, or claims what memory cannot hold.
    #[error(transparent)]
    Damaged(#[from] Reason),
    /// BTF that cannot be used, or a kernel whose BTF lacks what is needed.
    #[error(transparent)]
    Btf(#[from] btf_layout::Error),
    /// The kernel's symbols lack what is needed.
    #[error(transparent)]
    Kernel(#[from] kernel::Error),
    /// An arena has numbers that none can have.
    #[error(transparent)]
    Arena(#[from] arena::WindowError),
    /// An arena's scratch page cannot be told from its other pages.
    #[error(
        "cannot tell which page frame the struct page at {page} is of: the kernel's symbols do not tell vmemmap"
    )]
    ScratchPage {
        /// The address of its `struct page`.
        page: Kva,
    },
    /// The direct map of the running kernel was not found.
    #[error("cannot tell where the direct map is from the page tables at {root}")]
    NoDirectMap {
        /// The kernel address of the root table.
        root: Kva,
    },
    /// A map or program was not listed by this backend.
    #[error("{what} {id} has no address: it was not listed by this backend")]
    Foreign {
        /// `map` or `program`.
        what: &'static str,
        /// Its id.
        id: u32,
    },
}

/// Why the memory of the running kernel cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoMemory {
    /// This process lacks the rights.
    #[error("{operation} needs {needs}")]
    NotPermitted {
        /// What was tried.
        operation: &'static str,
        /// The capabilities that would allow it.
        needs: &'static str,
    },
    /// The kernel shows its memory to nobody (`lockdown=confidentiality`).
    #[error("the kernel is locked down for confidentiality")]
    LockedDown,
    /// The kernel's answer.
    #[error("{operation}: {errno}")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// The answer.
        errno: Errno,
    },
    /// It was asked for without ([`Via::Bpf`](crate::Via::Bpf)).
    #[error("it was not to be read")]
    Unwanted,
    /// `/proc/kcore` is there, but no kernel was found in it.
    #[error("no kernel was found in /proc/kcore: {what}")]
    NoKernel {
        /// The error's words.
        what: String,
    },
    /// The kernel's BTF cannot be had or lacks what is needed.
    #[error("{what}")]
    Layout {
        /// The error's words.
        what: String,
    },
    /// It cannot be, for one of these reasons, and there is no process
    /// through which the arena could be.
    #[error("{why}; nor can the arena be read through its users: {users}")]
    NoUser {
        /// Why not the kernel's memory.
        why: Box<NoMemory>,
        /// Why not a process.
        users: NoUser,
    },
}

/// Why an arena cannot be read through the processes that map it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NoUser {
    /// None is known to.
    #[error("no process that holds it open is seen to map it{}", not_looked_at(*hidden))]
    Nobody {
        /// How many processes may not be looked at.
        hidden: u64,
    },
    /// It is not clear what a process maps.
    #[error("process {pid} has {mappings} mappings that may be of {arenas} arenas")]
    Unsure {
        /// The process.
        pid: u32,
        /// How many mappings of the arena's length it has.
        mappings: usize,
        /// How many arenas of this length it holds open.
        arenas: usize,
    },
    /// Two processes seem to map it at different addresses, which none can.
    #[error("what processes {} and {} have of it is at different addresses", pids[0], pids[1])]
    Apart {
        /// The processes.
        pids: [u32; 2],
    },
}

fn not_looked_at(count: u64) -> String {
    match count {
        0 => String::new(),
        _ => format!("; {count} may not be looked at, which takes CAP_SYS_PTRACE"),
    }
}
