//! The running kernel's memory, read by a program of ours, and where to start
//! in it.

use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};

use btf_layout::{Btf, Member};

use super::probe::{Probe, WINDOW};
use super::rights::refusal;
use crate::{Arch, Error, KernelInfo, NoMemory};

/// Memory as the running kernel itself addresses it.
#[derive(Debug)]
pub(super) struct KernelMemory {
    probe: Probe,
    page_size: u64,
    /// Up to where addresses are those of processes.
    user_end: u64,
    /// From where on they are the kernel's.
    kernel_start: u64,
}

impl KernelMemory {
    pub(super) fn new(kernel: &KernelInfo) -> Result<Self, NoMemory> {
        // The address bits of one half.
        let bits = match (kernel.arch, kernel.paging_levels) {
            (Arch::X86_64, Some(4)) => 47,
            (Arch::X86_64, _) => 56,
            (Arch::Arm64, _) => 52,
        };
        Ok(Self {
            probe: Probe::load()?,
            page_size: kernel.page_size.max(1),
            user_end: 1 << bits,
            kernel_start: u64::MAX << bits,
        })
    }

    pub(super) fn probe(&self) -> &Probe {
        &self.probe
    }

    /// This thread's `struct task_struct`.
    pub(super) fn current_task(&self) -> Result<Kva, Error> {
        let task = self.probe.current_task();
        let refused = |errno| Error::NoMemory(refusal("BPF_PROG_RUN", errno));
        task.map(Kva::new).map_err(refused)
    }

    /// Fills `buf`, which a window holds; `Err` counts the bytes before the
    /// first page that is unreadable.
    fn fill(&self, at: u64, buf: &mut [u8]) -> Result<(), usize> {
        if self.probe.copy(at, buf).is_ok() {
            return Ok(());
        }
        // A program learns no more than that a byte was unreadable.
        let Some(middle) = middle(at, buf.len(), self.page_size) else {
            return Err(0);
        };
        let (before, behind) = buf.split_at_mut(middle);
        self.fill(at, before)?;
        self.fill(at.saturating_add(middle as u64), behind)
            .map_err(|good| middle + good)
    }
}

/// A page boundary inside of `len` bytes at `at`, about halfway.
fn middle(at: u64, len: usize, page_size: u64) -> Option<usize> {
    let len = len as u64;
    let to_boundary = page_size - at % page_size;
    let pages = len.checked_sub(to_boundary)?.div_ceil(page_size);
    let middle = to_boundary + pages / 2 * page_size;
    let inside = [middle, to_boundary].into_iter().find(|&to| to < len);
    inside.and_then(|middle| usize::try_from(middle).ok())
}

impl Memory<Kva> for KernelMemory {
    fn read(&self, addr: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        let mut at = addr.get();
        for piece in buf.chunks_mut(WINDOW) {
            let fault = |at, cause| Err(Fault::new(Kva::new(at), cause));
            if at < self.user_end {
                return fault(at, Cause::Refused);
            }
            if at < self.kernel_start {
                return fault(at, Cause::NotCanonical);
            }
            let room = u64::MAX - at;
            let len = piece.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (inside, outside) = piece.split_at_mut(len);
            if let Err(good) = self.fill(at, inside) {
                return fault(at + good as u64, Cause::Refused);
            }
            at += len as u64;
            if !outside.is_empty() {
                return fault(at, Cause::EndOfSpace);
            }
        }
        Ok(())
    }
}

/// The way from a file descriptor of ours to the kernel's object behind it.
#[derive(Debug)]
pub(super) struct Files {
    files: Member,
    fdt: Member,
    fd: Member,
    private_data: Member,
}

impl Files {
    pub(super) fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let table = btf.record("fdtable")?;
        Ok(Self {
            files: btf.record("task_struct")?.member("files")?,
            fdt: btf.record("files_struct")?.member("fdt")?,
            fd: table.member("fd")?,
            private_data: btf.record("file")?.member("private_data")?,
        })
    }

    /// The object behind `fd`: a `struct bpf_map` for a map's, and so on.
    pub(super) fn object(&self, memory: &KernelMemory, fd: u64) -> Result<Kva, Error> {
        let task = memory.current_task()?;
        let follow = |at: Kva, member: &Member| {
            let at = at.checked_add(member.offset).unwrap_or(at);
            memory.load_u64(at).map(Kva::new)
        };
        let object = || {
            let files = follow(task, &self.files)?;
            let table = follow(files, &self.fdt)?;
            let slot = follow(table, &self.fd)?.checked_add(fd.saturating_mul(8));
            let file = memory.load_u64(slot.unwrap_or(table))?;
            follow(Kva::new(file), &self.private_data)
        };
        object().map_err(|source| Error::Unreadable {
            what: "the file behind a descriptor",
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_part_at_pages() {
        let check = |at, len, expected| assert_eq!(middle(at, len, 4096), expected);
        check(0, 4096, None);
        check(8, 4088, None);
        check(8, 4089, Some(4088));
        check(0xff0, 0x20, Some(0x10));
        check(0, 8192, Some(4096));
        check(0x800, 256 << 10, Some(0x800 + 32 * 4096));
        check(0, 1, None);
    }
}
