//! The running kernel's memory through `/proc/kcore`, where no program of
//! ours may be loaded.
//!
//! As virtual memory it shows holes as zeros. So what is read is physical
//! memory, through its segments for the direct map; the kernel is found there
//! as in an image of a machine that stands still, and its page tables are
//! walked. What is left of zeros that stand for nothing are pages that the
//! kernel has taken out of use, which `/proc/kpageflags` tells.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use arena::Stretch;
use btf_layout::Btf;
use guestmem::{Address, Cause, Fault, Gpa, Kva, Memory, PhysicalMemory, Span};
use kernel::{Finder, Kernel, PerCpu};
use nix::errno::Errno;

use super::host;
use super::symbols::Symbols;
use crate::structures::{IdrLayout, walk_idr};
use crate::target::Target;
use crate::walk::Walk;
use crate::{Error, NoMemory, Symbol};

const KCORE: &str = "/proc/kcore";

/// Bits of `/proc/kpageflags` (`include/uapi/linux/kernel-page-flags.h`) that
/// pages have of which kcore shows zeros: poisoned, not there, offline.
const NOT_SHOWN: u64 = 1 << 19 | 1 << 20 | 1 << 23;

/// A page of RAM in `/proc/kpageflags`.
const PAGE_SHIFT: u32 = 12;

/// A loadable segment of an ELF core (`Elf64_Phdr`), as far as it is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    offset: u64,
    start: Gpa,
    len: u64,
}

impl Segment {
    /// How far inside `gpa` is.
    fn inside(&self, gpa: Gpa) -> Option<u64> {
        let inside = gpa.checked_offset_from(self.start)?;
        (inside < self.len).then_some(inside)
    }
}

/// The segments of physical memory in the head of an ELF core; `None` if it
/// is none.
fn segments(read: impl Fn(u64, &mut [u8]) -> io::Result<()>) -> Option<Vec<Segment>> {
    const LOAD: u64 = 1;
    let mut head = [0; 64];
    read(0, &mut head).ok()?;
    let number = |bytes: &[u8], at: usize, len: usize| {
        let bytes = bytes.get(at..at.checked_add(len)?)?;
        let bytes = bytes.iter().rev();
        Some(bytes.fold(0, |number, &byte| number << 8 | u64::from(byte)))
    };
    // 64 bits, little-endian.
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, count) = (number(&head, 32, 8)?, number(&head, 56, 2)?);
    let mut found = Vec::new();
    for index in 0..count {
        let mut header = [0; 56];
        read(table.checked_add(index * 56)?, &mut header).ok()?;
        let word = |at| number(&header, at, 8);
        // Segments that are no physical memory say so by an address of -1.
        if number(&header, 0, 4)? == LOAD && word(24)? != u64::MAX {
            found.push(Segment {
                offset: word(8)?,
                start: Gpa::new(word(24)?),
                len: word(32)?,
            });
        }
    }
    // The kernel's image has a segment of its own, inside the larger one of
    // the memory that it lies in.
    found.sort_by_key(|segment| std::cmp::Reverse(segment.len));
    let mut apart: Vec<Segment> = Vec::new();
    for segment in found {
        let meets = |other: &Segment| {
            other.inside(segment.start).is_some() || segment.inside(other.start).is_some()
        };
        if segment.len > 0 && !apart.iter().any(meets) {
            apart.push(segment);
        }
    }
    apart.sort_by_key(|segment| segment.start);
    Some(apart)
}

/// The machine's physical memory.
#[derive(Debug)]
struct CoreMemory {
    core: File,
    flags: Option<File>,
    segments: Vec<Segment>,
}

impl CoreMemory {
    fn open() -> Result<Self, NoMemory> {
        let core = File::open(KCORE).map_err(|error| {
            match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
                Errno::EPERM | Errno::EACCES => NoMemory::NotPermitted {
                    operation: "reading /proc/kcore",
                    needs: "CAP_SYS_RAWIO, as root",
                },
                errno => NoMemory::Refused {
                    operation: "opening /proc/kcore",
                    errno,
                },
            }
        })?;
        let segments = segments(|at, buf| core.read_exact_at(buf, at));
        let segments = segments.filter(|segments| !segments.is_empty());
        Ok(Self {
            segments: segments.ok_or(NoMemory::NoKernel {
                what: "/proc/kcore has no segment of physical memory".to_owned(),
            })?,
            flags: File::open("/proc/kpageflags").ok(),
            core,
        })
    }

    /// Whether zeros at `gpa` are what is there.
    fn is_shown(&self, gpa: Gpa) -> bool {
        let Some(flags) = &self.flags else {
            return true;
        };
        let mut word = [0; 8];
        match flags.read_exact_at(&mut word, (gpa.get() >> PAGE_SHIFT) * 8) {
            Ok(()) => u64::from_le_bytes(word) & NOT_SHOWN == 0,
            Err(_) => false,
        }
    }
}

impl Memory<Gpa> for CoreMemory {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let gpa = at;
            let unbacked = move || Fault::new(gpa, Cause::Unbacked { gpa });
            let place = self.segments.iter().find_map(|segment| {
                let inside = segment.inside(at)?;
                Some((segment.offset.checked_add(inside)?, segment.len - inside))
            });
            let (offset, left) = place.ok_or_else(unbacked)?;
            // Page by page, as pages may be out of use.
            let page_left = (1 << PAGE_SHIFT) - (at.get() & ((1 << PAGE_SHIFT) - 1));
            let step = usize::try_from(left.min(page_left)).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(step.min(rest.len()));
            let mut copy = vec![0; now.len()];
            let read = self.core.read_exact_at(&mut copy, offset);
            if read.is_err() || (copy.iter().all(|&byte| byte == 0) && !self.is_shown(at)) {
                return Err(unbacked());
            }
            now.copy_from_slice(&copy);
            at = at.checked_add(now.len() as u64).ok_or_else(unbacked)?;
            rest = later;
        }
        Ok(())
    }
}

impl PhysicalMemory for CoreMemory {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        let end = |segment: &Segment| segment.start.checked_add(segment.len);
        let next = self
            .segments
            .iter()
            .find(|segment| end(segment) > Some(from))?;
        Some(Span {
            start: next.start,
            len: next.len,
        })
    }

    fn size(&self) -> u64 {
        let sum = |sum: u64, segment: &Segment| sum.saturating_add(segment.len);
        self.segments.iter().fold(0, sum)
    }
}

/// The running kernel in its own memory.
#[derive(Debug)]
pub(super) struct Kcore {
    kernel: Kernel,
    symbols: Rc<Symbols>,
}

impl Kcore {
    pub(super) fn open(symbols: &Rc<Symbols>) -> Result<Self, NoMemory> {
        let memory = Rc::new(CoreMemory::open()?);
        let mut finder = Finder::new();
        if let Some(note) = host::vmcoreinfo() {
            finder = finder.vmcoreinfo(note);
        }
        let kernel = finder.find(&[memory]).map_err(|error| NoMemory::NoKernel {
            what: error.to_string(),
        })?;
        Ok(Self {
            kernel,
            symbols: Rc::clone(symbols),
        })
    }

    /// Forgets what was known of page tables, which the kernel changes. To be
    /// done before each object that is read.
    pub(super) fn refresh(&self) {
        self.kernel.space().forget();
    }

    /// The object that the tree of ids `idr` has under `id`.
    pub(super) fn object(
        &self,
        idr: &'static str,
        what: &'static str,
        id: u32,
    ) -> Result<Kva, Error> {
        self.refresh();
        let nodes = IdrLayout::new(self.kernel.btf())?;
        let root = self.kernel.require(idr)?;
        let mut object = None;
        let mut walk = Walk::default();
        walk_idr(&self.kernel, &nodes, root, &mut walk, &mut |found, at| {
            if found == id {
                object = Some(at);
            }
        });
        object.ok_or(Error::Gone { what, id })
    }
}

impl Memory<Kva> for Kcore {
    fn read(&self, addr: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        self.kernel.read(addr, buf)
    }
}

impl Target for Kcore {
    fn btf(&self) -> &Rc<Btf> {
        self.kernel.btf()
    }

    fn release(&self) -> &str {
        self.kernel.release()
    }

    fn page_size(&self) -> u64 {
        self.kernel.page_size()
    }

    fn require(&self, name: &'static str) -> Result<Kva, Error> {
        Target::require(&self.kernel, name)
    }

    fn symbol_at(&self, at: Kva) -> Option<Symbol> {
        self.symbols.at(at)
    }

    fn per_cpu(&self) -> Result<&PerCpu, Error> {
        Target::per_cpu(&self.kernel)
    }

    fn mapped(
        &self,
        start: Kva,
        len: u64,
        scratch: Option<Gpa>,
        visit: &mut dyn FnMut(Stretch),
    ) -> Result<(), Error> {
        self.kernel.mapped(start, len, scratch, visit)
    }

    fn vmemmap(&self) -> Option<Kva> {
        self.kernel.vmemmap()
    }

    fn memory_size(&self) -> u64 {
        Target::memory_size(&self.kernel)
    }

    fn is_running(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF core with these segments (type, physical address, length).
    fn core(headers: &[(u32, u64, u64)]) -> Vec<u8> {
        let mut core = b"\x7fELF\x02\x01\x01\0".to_vec();
        core.resize(64, 0);
        core[32] = 64;
        core[56] = u8::try_from(headers.len()).unwrap();
        for (index, &(kind, start, len)) in (1u64..).zip(headers) {
            let words = [
                u64::from(kind),
                index << 40,
                0xffff_8000,
                start,
                len,
                len,
                0,
            ];
            core.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        core
    }

    fn check(core: &[u8], expected: Option<&[(u64, u64, u64)]>) {
        let found = segments(|at, buf| {
            let from = usize::try_from(at).unwrap();
            let bytes = core.get(from..from + buf.len());
            buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        });
        let expected = expected.map(|segments| {
            let segment = |&(offset, start, len): &(u64, u64, u64)| Segment {
                offset,
                start: Gpa::new(start),
                len,
            };
            segments.iter().map(segment).collect::<Vec<_>>()
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn physical_memory_is_taken_and_nothing_else() {
        let headers = [
            (4, 0, 0),
            (1, u64::MAX, 1 << 40),
            // The kernel's image, in the second half of memory.
            (1, 0x1_0200_0000, 0x100_0000),
            (1, 0x1_0000_0000, 0x4000_0000),
            (1, 0x1000, 0x9e000),
        ];
        let expected = [
            (5 << 40, 0x1000, 0x9e000),
            (4 << 40, 0x1_0000_0000, 0x4000_0000),
        ];
        let whole = core(&headers);
        check(&whole, Some(&expected));
        check(&whole[..whole.len() - 1], None);
        check(b"\x7fELF\x01\x01", None);
        check(&[0; 100], None);
    }
}
