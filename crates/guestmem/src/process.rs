//! Memory of a guest that this process runs itself.
//!
//! Guest memory is mapped outside of every Rust allocation, and others write
//! it: vCPUs while they run, devices. It is read through volatile loads,
//! which is what such memory is for and what the `vm-memory` crate does, too:
//! the compiler assumes nothing of what is there, so that a concurrent write
//! of the guest can only show as old or new bytes. Aligned words are loaded
//! at once; a page-table entry or pointer is never torn. No reference to guest
//! memory ever exists. No system call is made to read, so that a VMM's seccomp
//! filter needs no exception.
#![expect(
    unsafe_code,
    reason = "loads from guest memory are through raw pointers"
)]

use std::any::Any;
use std::fmt;
use std::ptr::{self, NonNull};

use crate::residency::Residency;
use crate::{
    Address, Cause, Fault, Gpa, Memory, PhysicalMemory, Region, RegionError, Regions, Span,
};

/// One run of guest memory in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessRegion {
    /// Where its first byte is mapped.
    pub start: NonNull<u8>,
    /// How many bytes; never 0.
    pub len: usize,
    /// The guest's address of the first byte.
    pub gpa: Gpa,
}

/// The memory of a guest whose VMM is this process.
pub struct ProcessMemory {
    /// With addresses of this process for file offsets.
    regions: Regions,
    residency: Residency,
    /// What keeps the regions mapped.
    _keeper: Option<Box<dyn Any>>,
}

impl fmt::Debug for ProcessMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ProcessMemory").field(&self.regions).finish()
    }
}

impl ProcessMemory {
    /// Guest memory that is mapped at these places, such as what KVM was given
    /// by `KVM_SET_USER_MEMORY_REGION`.
    ///
    /// Searching it asks `/proc/self/pagemap` and mincore(2) which pages exist
    /// at all, so as not to make those exist that the guest never touched.
    /// Where these refuse, everything is searched.
    ///
    /// # Errors
    ///
    /// If there is no region, or two hold the same physical address.
    ///
    /// # Safety
    ///
    /// As long as the value that is returned exists,
    ///
    /// * each region stays mapped and readable, and a file that it maps does
    ///   not become shorter;
    /// * no part of a region is a Rust allocation, or borrowed by a reference:
    ///   whoever in this process writes it does so by raw pointers, with
    ///   volatile or atomic accesses, as `vm-memory` does. The guest may write
    ///   as it likes.
    pub unsafe fn new(regions: &[ProcessRegion]) -> Result<Self, RegionError> {
        let regions = regions.iter().map(|region| Region {
            file_offset: region.start.as_ptr().expose_provenance() as u64,
            gpa: region.gpa,
            len: region.len as u64,
        });
        Ok(Self {
            regions: Regions::new(regions.collect(), u64::MAX)?,
            residency: Residency::new(),
            _keeper: None,
        })
    }

    /// The same, which keeps `keeper` as long as it exists itself: whatever
    /// would unmap the regions when it is dropped.
    #[must_use]
    pub fn keeping(mut self, keeper: impl Any) -> Self {
        self._keeper = Some(Box::new(keeper));
        self
    }
}

impl Memory<Gpa> for ProcessMemory {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut buf = buf;
        while !buf.is_empty() {
            let Some((region, inside)) = self.regions.find(at) else {
                return Err(Fault::new(at, Cause::Unbacked { gpa: at }));
            };
            let left = usize::try_from(region.len - inside).unwrap_or(usize::MAX);
            let (now, later) = buf.split_at_mut(left.min(buf.len()));
            let host = usize::try_from(region.file_offset + inside).unwrap_or(0);
            // SAFETY: the `now.len()` bytes from `host` on are in one region,
            // which is readable and written by nobody through a reference, as
            // the caller of `new` promised.
            unsafe { copy(ptr::with_exposed_provenance(host), now) };
            let step = now.len() as u64;
            buf = later;
            if !buf.is_empty() {
                at = at
                    .checked_add(step)
                    .ok_or(Fault::new(at, Cause::EndOfSpace))?;
            }
        }
        Ok(())
    }
}

impl PhysicalMemory for ProcessMemory {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.regions.as_slice().iter().find_map(|region| {
            let skip = from.get().saturating_sub(region.gpa.get());
            let left = region.len.checked_sub(skip)?;
            let (start, len) = self.residency.next(region.file_offset + skip, left)?;
            Some(Span {
                start: region.gpa.checked_add(start - region.file_offset)?,
                len,
            })
        })
    }

    fn size(&self) -> u64 {
        let regions = self.regions.as_slice().iter();
        regions.map(|region| region.len).sum()
    }
}

/// A word, of which an aligned load is one access.
const WORD: usize = size_of::<u64>();

/// Copies what is at `from`, word by word where it is aligned.
///
/// # Safety
///
/// `buf.len()` bytes from `from` on are readable, and outside of Rust's
/// allocations or written by volatile or atomic accesses only.
unsafe fn copy(from: *const u8, buf: &mut [u8]) {
    let head = from.align_offset(WORD).min(buf.len());
    let (head, rest) = buf.split_at_mut(head);
    // SAFETY: `head` is a part of `buf`.
    unsafe { copy_bytes(from, head) };
    let words = from.wrapping_add(head.len());
    let mut chunks = rest.chunks_exact_mut(WORD);
    let mut at = words;
    for chunk in &mut chunks {
        // SAFETY: the word is in the range of `buf`, and aligned: `words` is,
        // and steps are words.
        let word = unsafe { ptr::read_volatile(at.cast::<u64>()) };
        chunk.copy_from_slice(&word.to_ne_bytes());
        at = at.wrapping_add(WORD);
    }
    // SAFETY: what is left is the end of `buf`.
    unsafe { copy_bytes(at, chunks.into_remainder()) };
}

/// Copies byte by byte.
///
/// # Safety
///
/// As [`copy`].
unsafe fn copy_bytes(from: *const u8, buf: &mut [u8]) {
    for (index, byte) in buf.iter_mut().enumerate() {
        // SAFETY: the byte is in the range of `buf`.
        *byte = unsafe { ptr::read_volatile(from.wrapping_add(index)) };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use memmap2::MmapMut;

    use super::*;
    use crate::MemoryExt;

    const MIB: usize = 1 << 20;

    /// Regions of one mapping: offset, length and guest address of each.
    fn memory(
        mapping: &mut MmapMut,
        regions: &[(usize, usize, u64)],
    ) -> Result<ProcessMemory, RegionError> {
        let start = NonNull::new(mapping.as_mut_ptr()).unwrap();
        let regions: Vec<ProcessRegion> = regions
            .iter()
            .map(|&(offset, len, gpa)| ProcessRegion {
                // SAFETY: tests name offsets inside of the mapping.
                start: unsafe { start.add(offset) },
                len,
                gpa: Gpa::at(gpa),
            })
            .collect();
        // SAFETY: each test keeps the mapping longer than the memory, and
        // writes it through pointers from then on.
        unsafe { ProcessMemory::new(&regions) }
    }

    #[test]
    fn reads_cross_regions_and_end_where_there_is_none() {
        let mut mapping = MmapMut::map_anon(2 * MIB).unwrap();
        mapping[MIB - 3..MIB + 5].copy_from_slice(b"abcdefgh");
        let ram = memory(&mut mapping, &[(MIB, MIB, MIB as u64), (0, MIB, 0)]).unwrap();
        for (skip, len) in [(0, 8), (1, 7), (2, 3), (0, 0), (3, 5)] {
            let mut buf = vec![0; len];
            ram.read(Gpa::at((MIB - 3 + skip) as u64), &mut buf)
                .unwrap();
            assert_eq!(buf, b"abcdefgh"[skip..skip + len]);
        }
        let mut buf = [9; 16];
        let end = Gpa::at(2 * MIB as u64);
        let fault = ram.read(Gpa::at(2 * MIB as u64 - 9), &mut buf).unwrap_err();
        assert_eq!(fault, Fault::new(end, Cause::Unbacked { gpa: end }));
        assert_eq!(buf, [0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(ram.size(), 2 * MIB as u64);
    }

    #[test]
    fn regions_that_overlap_are_refused() {
        let mut mapping = MmapMut::map_anon(2 * MIB).unwrap();
        let mut check = |regions: &[(usize, usize, u64)], said: &str| {
            let error = memory(&mut mapping, regions).unwrap_err();
            assert_eq!(error.to_string(), said);
        };
        check(&[], "no region given");
        check(
            &[(0, MIB, 0), (MIB, MIB, MIB as u64 - 1)],
            "two regions hold physical 0xfffff",
        );
        check(
            &[(0, MIB, u64::MAX - 1)],
            "region at physical 0xfffffffffffffffe passes the end of the address space",
        );
    }

    #[test]
    fn search_skips_what_was_never_touched() {
        let mut mapping = MmapMut::map_anon(64 * MIB).unwrap();
        mapping.advise(memmap2::Advice::NoHugePage).unwrap();
        mapping[40 * MIB] = 1;
        mapping[40 * MIB + 0x1000] = 1;
        let ram = memory(&mut mapping, &[(MIB, 63 * MIB, 1 << 32)]).unwrap();
        let at = Gpa::at((1 << 32) + 39 * MIB as u64);
        let found = ram.next_data(Gpa::at(0)).unwrap();
        assert_eq!((found.start, found.len), (at, 0x2000));
        let inside = ram.next_data(Gpa::at(at.get() + 0x1800)).unwrap();
        assert_eq!((inside.start.get() - at.get(), inside.len), (0x1800, 0x800));
        assert_eq!(ram.next_data(Gpa::at(at.get() + 0x2000)), None);
    }

    #[test]
    fn a_shared_file_has_data_that_this_process_never_touched() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8 * MIB as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"x", 5 * MIB as u64).unwrap();
        // SAFETY: nobody else has the file.
        let mut mapping = unsafe { MmapMut::map_mut(&file) }.unwrap();
        let ram = memory(&mut mapping, &[(0, 8 * MIB, 0)]).unwrap();
        let found = ram.next_data(Gpa::at(0)).unwrap();
        let end = found.start.get() + found.len;
        assert!(
            (found.start.get()..end).contains(&(5 * MIB as u64)),
            "{found:?}"
        );
    }

    #[test]
    fn words_that_change_are_never_torn() {
        let mut mapping = MmapMut::map_anon(MIB).unwrap();
        let ram = memory(&mut mapping, &[(0, MIB, 0)]).unwrap();
        let at = mapping.as_mut_ptr().expose_provenance();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let word = ptr::with_exposed_provenance_mut::<u64>(at + 64);
                let mut value = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    value = !value;
                    // SAFETY: the mapping outlives the scope, and is only
                    // touched by volatile accesses meanwhile.
                    unsafe { ptr::write_volatile(word, value) };
                }
            });
            for _ in 0..100_000 {
                let word = ram.load_u64(Gpa::at(64)).unwrap();
                assert!(word == 0 || word == u64::MAX, "{word:#x}");
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
}
