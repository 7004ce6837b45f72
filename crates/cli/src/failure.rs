//! How a command fails: a line that says what failed, on what and why, and
//! one that says what to try.

use std::error::Error as StdError;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use guestmem::OpenError;
use thiserror::Error;

/// Something that the program will not do, and the way out.
#[derive(Debug, Error)]
#[error("{what}")]
pub(crate) struct Refusal {
    what: String,
    hint: String,
}

impl Refusal {
    /// `what` is the matter, `hint` what to try.
    pub(crate) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// What to try.
    #[cfg(test)]
    pub(crate) fn hint(&self) -> &str {
        &self.hint
    }
}

/// Prints an error and its causes in one line, and what to try in another.
pub(crate) fn report(error: &anyhow::Error) {
    let mut stderr = io::stderr().lock();
    // Where standard error is gone as well, the exit status has to do.
    let _ = writeln!(stderr, "bpfreeze: {error:#}");
    if let Some(hint) = error.chain().find_map(hint) {
        let _ = writeln!(stderr, "  {hint}");
    }
}

/// What to try after `error`.
fn hint(error: &(dyn StdError + 'static)) -> Option<String> {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return Some(refusal.hint.clone());
    }
    let image = error.downcast_ref().and_then(after_open);
    let qemu = error.downcast_ref().and_then(after_qemu);
    let maps = error.downcast_ref().and_then(after_maps);
    let kernel = error.downcast_ref().and_then(after_search);
    image.or(qemu).or(maps).or(kernel).map(str::to_owned)
}

fn after_open(error: &OpenError) -> Option<&'static str> {
    use guestmem::{ElfError, Foreign, KdumpError};
    Some(match error {
        OpenError::Io { path, source, .. } if path == Path::new("/proc/kcore") => {
            match source.kind() {
                ErrorKind::NotFound => {
                    "the running kernel has none (CONFIG_PROC_KCORE); leave out --via kcore"
                }
                _ => "reading /proc/kcore takes CAP_SYS_RAWIO: run it as root",
            }
        }
        OpenError::NotAFile { .. } => "name the file with the memory in it",
        OpenError::Empty { .. } => {
            "pass the memory of a machine that runs or is paused; QEMU fills the file only with \
             share=on"
        }
        OpenError::Foreign { what, .. } => match what {
            Foreign::ElfObject => {
                "pass the machine's memory; a vmlinux goes with --symbols or --btf"
            }
            Foreign::Xz => "unpack it first: xz -dc FILE > FILE.ram",
            Foreign::Lz4 => "unpack it first: lz4 -dc FILE > FILE.ram",
            Foreign::Bzip2 => "unpack it first: bzip2 -dc FILE > FILE.ram",
            Foreign::Libvirt | Foreign::Migration => {
                "save the memory alone: `dump-guest-memory FILE` in QEMU's monitor, or `virsh dump \
                 --memory-only`"
            }
            _ => {
                "save the machine's memory: `dump-guest-memory FILE` or `pmemsave 0 SIZE FILE` in \
                 QEMU's monitor, or memory-backend-file with share=on"
            }
        },
        OpenError::Unpack { source, .. } => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "name a folder with room for it: TMPDIR=FOLDER"
            }
            ErrorKind::NotFound | ErrorKind::PermissionDenied => {
                "name a folder that can be written to: TMPDIR=FOLDER"
            }
            _ => "is the file whole?",
        },
        OpenError::PackedTooOften { .. } => "unpack it first",
        OpenError::Elf { source, .. } => match source {
            ElfError::Process => {
                "pass a machine's memory: `dump-guest-memory FILE` in QEMU's monitor, not a core \
                 of the QEMU process"
            }
            ElfError::Not64Bit | ElfError::BigEndian => return None,
            ElfError::Capture(_) => "is the file whole? a later version may have made it",
            _ => "is the file whole?",
        },
        OpenError::Kdump { source, .. } => match source {
            KdumpError::BigEndian | KdumpError::Not64Bit => return None,
            KdumpError::Version { .. } => "a later version may read it",
            KdumpError::TooManyRecords { .. } => {
                "put it in order first: makedumpfile -R ORDERED < FILE"
            }
            KdumpError::Missing { .. } => "put all files of the dump into one folder",
            _ => "is the file whole?",
        },
        OpenError::NotRaw { .. } => "leave --region out",
        OpenError::Regions { .. } => {
            "--region takes FILE_OFFSET:GPA:LEN; without it the layout is found by trying"
        }
        _ => return None,
    })
}

fn after_qemu(error: &qemu::Error) -> Option<&'static str> {
    use qemu::Error;
    Some(match error {
        Error::Connect { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied => "run it as root, or as the user that QEMU runs as",
            ErrorKind::WouldBlock => ANOTHER_MONITOR,
            _ => {
                "pass the socket of a running QEMU: it makes one with `-qmp \
                 unix:PATH,server=on,wait=off`"
            }
        },
        Error::NoGreeting { .. } => ANOTHER_MONITOR,
        Error::NotQmp { .. } => {
            "pass the socket of `-qmp`, not that of `-monitor`, `-serial` or a guest agent"
        }
        Error::Closed { .. } => "did QEMU end?",
        Error::Timeout { .. } => {
            "is QEMU itself stopped, or busy? the guest is resumed as soon as it answers"
        }
        Error::NoPid { .. } | Error::NotQemu { .. } => "say which process it is: --qemu-pid PID",
        Error::Process { source, .. } => match source.kind() {
            ErrorKind::PermissionDenied => {
                "run it as root: to read another process takes CAP_SYS_PTRACE where that process \
                 is another user's or kernel.yama.ptrace_scope is not 0; a guest with \
                 memory-backend-memfd,share=on can then be read by the same user all the same"
            }
            _ => "say which process it is: --qemu-pid PID",
        },
        Error::NotLoaded { .. } => "wait until the guest runs here",
        Error::Ran => "try again when nobody else pauses and resumes the guest",
        _ => return None,
    })
}

/// QMP serves one client.
const ANOTHER_MONITOR: &str = "another client, such as libvirt, is probably connected: close it, or \
                               give QEMU a second socket: `-qmp unix:PATH,server=on,wait=off`";

fn after_maps(error: &bpfmaps::Error) -> Option<&'static str> {
    match error {
        bpfmaps::Error::NotPermitted { .. } => {
            Some("run it as root: `sudo bpfreeze …`; in a container, add these capabilities")
        }
        // A transparent error shows its cause's text, but is no link of the chain.
        bpfmaps::Error::Kernel(error) => after_search(error),
        _ => None,
    }
}

fn after_search(error: &kernel::Error) -> Option<&'static str> {
    use kernel::Error;
    Some(match error {
        Error::NoVmcoreinfo { .. } => {
            "pass the whole memory of a machine that has booted Linux with CONFIG_VMCORE_INFO or \
             CONFIG_CRASH_CORE"
        }
        Error::NotVmcoreinfo { .. } => "leave --vmcoreinfo out to have it searched for",
        Error::NothingProved { .. } => {
            "is the file whole? if its parts lie elsewhere in physical memory, say where with \
             --region; if the root table is known (CR3), give --root-table"
        }
        Error::Several { .. } => "choose one: --vmcoreinfo ADDRESS",
        Error::Kallsyms { .. } | Error::NoSymbol { .. } => {
            "pass that kernel's System.map, vmlinux or a copy of its /proc/kallsyms: --symbols FILE"
        }
        Error::SymbolFile { .. } => "pass the file of the very kernel that is in the image",
        Error::NoBtf { .. } | Error::Btf(_) => {
            "pass that kernel's vmlinux or a copy of its /sys/kernel/btf/vmlinux: --btf FILE"
        }
        Error::Unreadable { .. } => {
            "is the file whole, and was the machine paused when it was saved?"
        }
        _ => return None,
    })
}
