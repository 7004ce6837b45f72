//! Why no kernel was found, or not all of it.

use std::fmt;

use guestmem::{Fault, Gpa, Kva};
use thiserror::Error;

use crate::candidate::Candidate;
use crate::kallsyms::KallsymsError;
use crate::symbols::SymbolFileError;

/// What kept a kernel from being found or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing in the image looks like VMCOREINFO.
    #[error("no Linux kernel in this image: no VMCOREINFO at any page of its {}", Size(*bytes))]
    NoVmcoreinfo {
        /// The size of the memory that was searched.
        bytes: u64,
    },
    /// The given address holds no VMCOREINFO.
    #[error("no VMCOREINFO at physical {gpa}")]
    NotVmcoreinfo {
        /// The address that was given.
        gpa: Gpa,
    },
    /// No VMCOREINFO could be proved.
    #[error("no kernel could be proved: {}", List(candidates))]
    NothingProved {
        /// What was tried, and why each was refused.
        candidates: Vec<Candidate>,
    },
    /// More than one kernel was proved.
    #[error("{} kernels are in this image: {}", proved(candidates).count(), List(&proved(candidates).cloned().collect::<Vec<_>>()))]
    Several {
        /// What was tried.
        candidates: Vec<Candidate>,
    },
    /// The kernel has no symbol table in memory that could be read, and none
    /// was given.
    #[error("the kernel's symbols cannot be read")]
    Kallsyms {
        /// The cause.
        #[source]
        source: KallsymsError,
    },
    /// The given symbol file does not fit.
    #[error("the symbol file cannot be used")]
    SymbolFile {
        /// The cause.
        #[source]
        source: SymbolFileError,
    },
    /// A symbol is needed that the kernel's table does not have.
    #[error("Linux {release} has no symbol {name} in its memory{}", if *all { "" } else { " (it is built without CONFIG_KALLSYMS_ALL)" })]
    NoSymbol {
        /// The symbol.
        name: &'static str,
        /// The kernel.
        release: String,
        /// Whether the table has data symbols at all.
        all: bool,
    },
    /// The kernel does not say which CPUs it may have.
    #[error("which CPUs Linux {release} may have is not known")]
    NoPerCpu {
        /// The kernel.
        release: String,
    },
    /// The kernel has no BTF in memory.
    #[error("Linux {release} has no BTF in its memory")]
    NoBtf {
        /// The kernel.
        release: String,
    },
    /// The given BTF describes other layouts than the kernel does itself.
    #[error(
        "the given BTF is not of Linux {release}: {name} is {found} in it, and {expected} in VMCOREINFO"
    )]
    OtherBtf {
        /// The kernel.
        release: String,
        /// A struct, whose size differs, or a member, whose offset does.
        name: String,
        /// The kernel's own number.
        expected: u64,
        /// The one in the BTF.
        found: u64,
    },
    /// BTF that could not be parsed, or lacks a type or member.
    #[error(transparent)]
    Btf(#[from] btf_layout::Error),
    /// Kernel memory that must be there is unreadable.
    #[error("cannot read {what} at {fault}")]
    Unreadable {
        /// What lies there.
        what: &'static str,
        /// Where, and why not.
        fault: Fault<Kva>,
    },
}

impl Error {
    pub(crate) fn unreadable(what: &'static str) -> impl Fn(Fault<Kva>) -> Self {
        move |fault| Self::Unreadable { what, fault }
    }
}

fn proved(candidates: &[Candidate]) -> impl Iterator<Item = &Candidate> {
    let mut roots = Vec::new();
    candidates.iter().filter(move |candidate| {
        let crate::Verdict::Proved { root } = candidate.verdict else {
            return false;
        };
        let new = !roots.contains(&root);
        roots.push(root);
        new
    })
}

/// A size for people.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes @ 0x10_0000.. => write!(f, "{} MiB", bytes >> 20),
            bytes => write!(f, "{} KiB", bytes >> 10),
        }
    }
}

/// Candidates in one line, the first few of them.
struct List<'c>(&'c [Candidate]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        for (index, candidate) in self.0.iter().take(SHOWN).enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{candidate}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
