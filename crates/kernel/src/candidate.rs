//! A VMCOREINFO that was found, and the proof that its kernel is there.

use std::fmt;
use std::rc::Rc;

use guestmem::{Address, Cause, Fault, Gpa, Kva, MemoryExt, Physical};
use pagewalk::{AddressSpace, Format, FormatError};
use thiserror::Error;

use crate::arch::Arch;
use crate::vmcoreinfo::{Copy, Vmcoreinfo};

/// The start of x86-64's mapping of the kernel image, before any slide.
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// `release` in `struct new_utsname`: the third string of 65 bytes (UAPI).
const UTS_RELEASE: u64 = 2 * UTS_STRING as u64;

/// Bytes of one string of `struct new_utsname`.
const UTS_STRING: usize = 65;

/// The bits of x86-64's CR3 that are the root table's address. The others are
/// flags and the number of the address space (PCID).
const CR3_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// One VMCOREINFO of the image and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Where in memory it is, if that is where it was found.
    pub gpa: Option<Gpa>,
    /// Which copy it is.
    pub copy: Copy,
    /// The release that it names.
    pub release: String,
    /// Whether its kernel was proved to be there.
    pub verdict: Verdict,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            gpa,
            copy,
            release,
            verdict,
        } = self;
        write!(f, "Linux {release} ({copy}")?;
        if let Some(gpa) = gpa {
            write!(f, " at physical {gpa}")?;
        }
        write!(f, "): {verdict}")
    }
}

/// The outcome of the proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its page tables work, and the kernel behind them calls itself by the
    /// same release.
    Proved {
        /// The root table.
        root: Gpa,
    },
    /// It was not proved.
    Refused(Refusal),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proved { root } => write!(f, "proved, root table at {root}"),
            Self::Refused(refusal) => write!(f, "refused, {refusal}"),
        }
    }
}

/// Why a VMCOREINFO was not believed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A line without which the page tables cannot be found is missing.
    #[error("it has no {key}")]
    Incomplete {
        /// The missing line.
        key: &'static str,
    },
    /// It is of an architecture that is not read.
    #[error("it is of an architecture other than x86_64 and aarch64")]
    UnknownArch,
    /// Its numbers describe no page tables that exist.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// Memory that must be there through its page tables is not.
    #[error("its page tables do not lead to {what}: {fault}")]
    Unmapped {
        /// What was looked for.
        what: &'static str,
        /// Where, and why it is unreadable.
        fault: Fault<Kva>,
    },
    /// The kernel that the page tables lead to is another one.
    #[error("its page tables lead to a kernel that calls itself {found:?}")]
    OtherRelease {
        /// The release found there.
        found: String,
    },
}

/// A kernel whose page tables were proved to work.
pub(crate) struct Proof {
    pub(crate) arch: Arch,
    pub(crate) space: AddressSpace<Physical>,
    pub(crate) phys_base: Option<i64>,
}

/// Tries to reach, through the page tables that `note` describes (or those at
/// `root`), the release string that the kernel prints for `uname -r`.
pub(crate) fn prove(
    physical: &Physical,
    note: &Vmcoreinfo,
    root: Option<Gpa>,
) -> Result<Proof, Refusal> {
    let (arch, phys_base, noted_root, formats) = tables(note)?;
    let root = match (root, arch) {
        (Some(cr3), Arch::X86_64) => Gpa::new(cr3.get() & CR3_ADDRESS),
        (Some(root), Arch::Arm64) => root,
        (None, _) => noted_root,
    };
    let mut refusal = Refusal::UnknownArch;
    for format in formats {
        let space = AddressSpace::new(Rc::clone(physical), root, format);
        match check_release(&space, note) {
            Ok(()) => {
                return Ok(Proof {
                    arch,
                    space,
                    phys_base,
                });
            }
            Err(why) => refusal = why,
        }
    }
    Err(refusal)
}

type Tables = (Arch, Option<i64>, Gpa, Vec<Format>);

/// Architecture, `phys_base`, root table, and the formats that the tables may
/// have, likeliest first.
fn tables(note: &Vmcoreinfo) -> Result<Tables, Refusal> {
    fn missing<T>(value: Option<T>, key: &'static str) -> Result<T, Refusal> {
        value.ok_or(Refusal::Incomplete { key })
    }
    let root = missing(
        note.symbol("swapper_pg_dir")
            .or_else(|| note.symbol("init_top_pgt")),
        "SYMBOL(swapper_pg_dir)",
    )?
    .get();
    if let Some(phys_base) = note.number("phys_base") {
        let five = missing(
            note.number("pgtable_l5_enabled"),
            "NUMBER(pgtable_l5_enabled)",
        )?;
        let mask = note.number("sme_mask").unwrap_or(0).cast_unsigned();
        let format = Format::x86_64(if five == 0 { 4 } else { 5 }, mask)?;
        let gpa = root
            .wrapping_sub(START_KERNEL_MAP)
            .wrapping_add_signed(phys_base);
        Ok((Arch::X86_64, Some(phys_base), Gpa::new(gpa), vec![format]))
    } else if let Some(offset) = note.number("kimage_voffset") {
        let page_size = missing(note.page_size(), "PAGESIZE")?;
        let built = missing(note.number("VA_BITS"), "NUMBER(VA_BITS)")?;
        // A kernel built for 52 bits runs with fewer where the CPU has fewer:
        // T1SZ says what is in force, though with 64 KiB pages the root table
        // stays the one for 52 bits.
        let in_force = note.number("TCR_EL1_T1SZ");
        let in_force = in_force.and_then(|t1sz| 64i64.checked_sub(t1sz));
        let mut sizes: Vec<i64> = in_force.into_iter().chain([built, 48]).collect();
        if page_size == 0x1_0000 {
            sizes.swap(0, 1);
        }
        let formats: Result<Vec<Format>, FormatError> = sizes
            .into_iter()
            .map(|bits| Format::arm64(page_size, u8::try_from(bits).unwrap_or(0)))
            .collect();
        let gpa = root.wrapping_sub(offset.cast_unsigned());
        Ok((Arch::Arm64, None, Gpa::new(gpa), formats?))
    } else {
        Err(Refusal::UnknownArch)
    }
}

fn check_release(space: &AddressSpace<Physical>, note: &Vmcoreinfo) -> Result<(), Refusal> {
    let what = "init_uts_ns";
    let unmapped = |fault| Refusal::Unmapped { what, fault };
    let incomplete = |key| Refusal::Incomplete { key };
    let uts = note
        .symbol("init_uts_ns")
        .ok_or(incomplete("SYMBOL(init_uts_ns)"))?;
    let name = note
        .offset("uts_namespace.name")
        .ok_or(incomplete("OFFSET(uts_namespace.name)"))?;
    let release = uts
        .checked_add(name)
        .and_then(|names| names.checked_add(UTS_RELEASE))
        .ok_or(unmapped(Fault::new(uts, Cause::EndOfSpace)))?;
    let found = space.read_cstr(release, UTS_STRING).map_err(unmapped)?;
    if found == note.release().as_bytes() {
        Ok(())
    } else {
        Err(Refusal::OtherRelease {
            found: String::from_utf8_lossy(&found).into_owned(),
        })
    }
}
