//! The running kernel's memory, through `/proc/kcore`.
//!
//! As virtual memory it shows holes as zeros. So what is read is physical
//! memory, through its segments for the direct map; whoever wants virtual
//! memory walks the page tables in it. What is left of zeros that stand for
//! nothing are pages that the kernel has taken out of use, which
//! `/proc/kpageflags` tells.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use crate::elf::headers::{Headers, Segment};
use crate::elf::notes::Notes;
use crate::{Address, Cause, Fault, Format, Gpa, Image, Memory, OpenError, PhysicalMemory, Span};

/// Bits of `/proc/kpageflags` (`include/uapi/linux/kernel-page-flags.h`) that
/// pages have of which kcore shows zeros: poisoned, not there, offline.
const NOT_SHOWN: u64 = 1 << 19 | 1 << 20 | 1 << 23;

/// A page of RAM in `/proc/kpageflags`.
const PAGE_SHIFT: u32 = 12;
const PAGE: usize = 1 << PAGE_SHIFT;

impl Image {
    /// The memory of the running kernel, as `/proc/kcore` shows it. This takes
    /// `CAP_SYS_RAWIO`. It changes while it is read.
    ///
    /// # Errors
    ///
    /// What the operating system says, or that there is no physical memory in
    /// it.
    pub fn kcore() -> Result<Self, OpenError> {
        let flags = File::open("/proc/kpageflags").ok();
        open(Path::new("/proc/kcore"), flags)
    }
}

/// Opens the file at `path`, of whose pages `flags` tells more.
fn open(path: &Path, flags: Option<File>) -> Result<Image, OpenError> {
    let core = File::open(path).map_err(OpenError::io("open", path))?;
    let refuse = |source| OpenError::Elf {
        path: path.to_owned(),
        source,
    };
    // Its length is that of the address space, and says nothing.
    let headers = Headers::read(&core, u64::MAX).map_err(refuse)?;
    let notes = Notes::read(&core, u64::MAX, &headers.notes).map_err(refuse)?;
    let facts = notes.facts();
    let memory = Kcore {
        segments: apart(headers.loads),
        core,
        flags,
    };
    let mut image = Image::new(Format::Kcore, Rc::new(memory)).with_vmcoreinfo(notes.vmcoreinfo);
    for (name, text) in facts {
        image = image.with_fact(name, text);
    }
    Ok(image)
}

/// Of segments that overlap the larger ones, by address: the kernel's image
/// has a segment of its own, inside that of the memory that it lies in.
fn apart(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.in_file));
    let mut apart: Vec<Segment> = Vec::new();
    for segment in segments {
        let meets = |other: &Segment| {
            inside(other, segment.start).is_some() || inside(&segment, other.start).is_some()
        };
        if segment.in_file > 0 && !apart.iter().any(meets) {
            apart.push(segment);
        }
    }
    apart.sort_by_key(|segment| segment.start);
    apart
}

/// How far inside of `segment` the address is.
fn inside(segment: &Segment, at: u64) -> Option<u64> {
    let inside = at.checked_sub(segment.start)?;
    (inside < segment.in_file).then_some(inside)
}

/// The machine's physical memory.
#[derive(Debug)]
struct Kcore {
    core: File,
    flags: Option<File>,
    /// By address, none empty.
    segments: Vec<Segment>,
}

impl Kcore {
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

    /// Reads bytes of one page of a segment, or leaves `buf` as it is.
    fn read_page(&self, at: Gpa, offset: u64, buf: &mut [u8]) -> Option<()> {
        let mut page = [0; PAGE];
        let copy = page.get_mut(..buf.len())?;
        self.core.read_exact_at(copy, offset).ok()?;
        let is_known = copy.iter().any(|&byte| byte != 0) || self.is_shown(at);
        is_known.then(|| buf.copy_from_slice(copy))
    }
}

impl Memory<Gpa> for Kcore {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let unbacked = Fault::new(at, Cause::Unbacked { gpa: at });
            let place = self.segments.iter().find_map(|segment| {
                let inside = inside(segment, at.get())?;
                Some((
                    segment.offset.checked_add(inside)?,
                    segment.in_file - inside,
                ))
            });
            let (offset, left) = place.ok_or(unbacked)?;
            // Page by page, as pages may be out of use.
            let page_left = PAGE as u64 - at.get() % PAGE as u64;
            let step = usize::try_from(left.min(page_left)).unwrap_or(PAGE);
            let (now, later) = rest.split_at_mut(step.min(rest.len()));
            self.read_page(at, offset, now).ok_or(unbacked)?;
            at = at.checked_add(now.len() as u64).ok_or(unbacked)?;
            rest = later;
        }
        Ok(())
    }
}

impl PhysicalMemory for Kcore {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.segments.iter().find_map(|segment| {
            let skip = from.get().saturating_sub(segment.start);
            let len = segment.in_file.checked_sub(skip).filter(|&len| len > 0)?;
            let start = Gpa::new(segment.start.checked_add(skip)?);
            Some(Span { start, len })
        })
    }

    fn size(&self) -> u64 {
        let sum = |sum: u64, segment: &Segment| sum.saturating_add(segment.in_file);
        self.segments.iter().fold(0, sum)
    }

    fn is_running(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF core with these segments: type, physical address, contents.
    fn core(segments: &[(u32, u64, &[u8])]) -> Vec<u8> {
        let mut core = b"\x7fELF\x02\x01\x01\0".to_vec();
        core.resize(64, 0);
        core[16] = 4;
        core[32] = 64;
        core[54] = 56;
        core[56] = u8::try_from(segments.len()).unwrap();
        let mut at = 64 + 56 * segments.len() as u64;
        for &(kind, start, bytes) in segments {
            let len = bytes.len() as u64;
            let words = [kind.into(), at, 0xffff_8000, start, len, len, 0];
            core.extend(words.iter().flat_map(|word: &u64| word.to_le_bytes()));
            at += len;
        }
        core.extend(segments.iter().flat_map(|(_, _, bytes)| bytes.iter()));
        core
    }

    /// Opens this core; these pages are out of use.
    fn opened(core: &[u8], out_of_use: &[u64]) -> Result<Image, OpenError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kcore");
        std::fs::write(&path, core).unwrap();
        let flags = tempfile::tempfile().unwrap();
        flags.set_len(0x10_0000).unwrap();
        for page in out_of_use {
            flags.write_all_at(&[0, 0, 8], page * 8).unwrap();
        }
        open(&path, Some(flags))
    }

    const NOTE: &[u8] = b"\x0b\0\0\0\x05\0\0\0\0\0\0\0VMCOREINFO\0\0A=1\n\n\0\0\0";

    #[test]
    fn physical_memory_is_taken_and_nothing_else() {
        let low = [1; 0x1800];
        let high = [2; 0x3000];
        let segments: [(u32, u64, &[u8]); 5] = [
            (4, 0, NOTE),
            // vmalloc() and the like have no physical address.
            (1, u64::MAX, &[9; 0x5000]),
            // The kernel's image, in the second half of memory.
            (1, 0x1_0000_1000, &[3; 0x1000]),
            (1, 0x1_0000_0000, &high),
            (1, 0x1000, &low),
        ];
        let image = opened(&core(&segments), &[]).unwrap();
        assert_eq!(image.format(), Format::Kcore);
        assert_eq!(image.vmcoreinfo(), Some(b"A=1\n\n".as_slice()));
        let memory = &image.layouts()[0];
        assert!(memory.is_running());
        assert_eq!(memory.size(), 0x4800);
        let run = |from| memory.next_data(Gpa::new(from));
        let span = |start, len| {
            let start = Gpa::new(start);
            Some(Span { start, len })
        };
        assert_eq!(run(0), span(0x1000, 0x1800));
        assert_eq!(run(0x1400), span(0x1400, 0x1400));
        assert_eq!(run(0x2800), span(0x1_0000_0000, 0x3000));
        assert_eq!(run(0x1_0000_3000), None);

        let mut found = [7; 0x2000];
        memory.read(Gpa::new(0x1_0000_0800), &mut found).unwrap();
        assert_eq!(found, [2; 0x2000]);
        let fault = memory.read(Gpa::new(0x1000), &mut found).unwrap_err();
        assert_eq!(fault.addr, Gpa::new(0x2800));
        assert_eq!(found[..0x1800], low);
        assert_eq!(found[0x1800..], [2; 0x800]);
    }

    #[test]
    fn zeros_of_pages_out_of_use_are_no_zeros() {
        let mut bytes = [0; 0x4000];
        bytes[0x3000..].fill(5);
        let image = opened(&core(&[(1, 0x8000, &bytes)]), &[9, 11]).unwrap();
        let check = |at: u64, expected: Option<u8>| {
            let mut found = [0xee; 16];
            let read = image.layouts()[0].read(Gpa::new(at), &mut found);
            let gpa = Gpa::new(at);
            let fault = Err(Fault::new(gpa, Cause::Unbacked { gpa }));
            assert_eq!(read, expected.map_or(fault, |_| Ok(())), "{at:#x}");
            assert_eq!(found, [expected.unwrap_or(0xee); 16], "{at:#x}");
        };
        check(0x8000, Some(0));
        check(0x9000, None);
        check(0xa000, Some(0));
        check(0xb000, Some(5));
    }

    #[test]
    fn what_is_no_core_is_refused() {
        let check = |core: &[u8], expected: &str| {
            let error = opened(core, &[]).unwrap_err();
            let source = std::error::Error::source(&error).unwrap();
            assert_eq!(source.to_string(), expected);
        };
        let whole = core(&[(1, 0x1000, &[1; 16])]);
        let cut = "its program headers cannot be read: is the file whole?";
        check(&whole[..100], cut);
        let none = "it has no segment with memory in it";
        check(&core(&[(1, u64::MAX, &[1; 16])]), none);
        let error = open(Path::new("/nowhere/kcore"), None).unwrap_err();
        assert_eq!(error.to_string(), "cannot open /nowhere/kcore");
    }
}
