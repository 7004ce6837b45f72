//! Which pages of this process exist.
#![expect(unsafe_code, reason = "mincore(2) takes an address")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::ptr;

use nix::libc;
use nix::unistd::{SysconfVar, sysconf};

/// How many pages are asked for at once.
const BATCH: u64 = 512;

/// In an entry of `pagemap`: the page is present, or swapped out.
const EXISTS: u64 = 0b11 << 62;

/// Tells pages that were touched from those that were not, without touching
/// any.
#[derive(Debug)]
pub(crate) struct Residency {
    /// `None` where it may not be read.
    pagemap: Option<File>,
    page: u64,
}

impl Residency {
    pub(crate) fn new() -> Self {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            pagemap: File::open("/proc/self/pagemap").ok(),
            page: page
                .and_then(|page| u64::try_from(page).ok())
                .unwrap_or(4096),
        }
    }

    /// The first run of the `len` bytes at the address `start` that may hold
    /// anything but zeros: its address and length.
    pub(crate) fn next(&self, start: u64, len: u64) -> Option<(u64, u64)> {
        let end = start.checked_add(len).filter(|_| len > 0)?;
        let (mut at, mut found) = (start, None);
        while at < end {
            let first = at / self.page;
            let pages = (end.div_ceil(self.page) - first).min(BATCH);
            for (page, exists) in (first..).zip(self.pages(first, pages)) {
                at = page * self.page;
                match (exists, found) {
                    (true, None) => found = Some(at.max(start)),
                    (false, Some(found)) => return Some((found, at - found)),
                    _ => {}
                }
            }
            at = (first + pages) * self.page;
        }
        found.map(|found| (found, end - found))
    }

    /// Which of `count` pages exist, from this one on. What cannot be told
    /// does.
    fn pages(&self, first: u64, count: u64) -> Vec<bool> {
        let len = usize::try_from(count).unwrap_or(0);
        let mut exist = vec![true; len];
        let mut entries = vec![0; len * 8];
        let pagemap = self.pagemap.as_ref();
        let read = pagemap.map(|pagemap| pagemap.read_exact_at(&mut entries, first * 8));
        if let Some(Ok(())) = read {
            for (exists, entry) in exist.iter_mut().zip(entries.chunks_exact(8)) {
                let entry = entry.try_into().map(u64::from_le_bytes);
                *exists = entry.is_ok_and(|entry| entry & EXISTS != 0);
            }
            if exist.contains(&false) {
                self.add_cached(first, &mut exist);
            }
        }
        exist
    }

    /// Adds the pages of files that are in the page cache, which `pagemap`
    /// does not show unless this process touched them.
    fn add_cached(&self, first: u64, exist: &mut [bool]) {
        let mut cached = vec![0_u8; exist.len()];
        let start = usize::try_from(first * self.page).unwrap_or(0);
        let len = usize::try_from(exist.len() as u64 * self.page).unwrap_or(0);
        let at = ptr::without_provenance_mut(start);
        // SAFETY: mincore touches no memory but `cached`, which has a byte for
        // each page.
        let result = unsafe { libc::mincore(at, len, cached.as_mut_ptr()) };
        for (exists, cached) in exist.iter_mut().zip(cached) {
            *exists |= result != 0 || cached & 1 != 0;
        }
    }
}
