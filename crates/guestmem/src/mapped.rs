//! A file that is read at random, fast and in bounded memory.
//!
//! Small reads go through a mapping, large ones through `pread`. Mapped pages
//! count as the process's memory, so only the first [`BUDGET`] bytes' worth
//! of windows are ever touched through the mapping; small reads elsewhere go
//! through `pread` as well.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memmap2::{Mmap, UncheckedAdvice};

use crate::extents::Extents;
use crate::sigbus::Guard;

/// How much of the mapping a fault brings in (`fault_around_bytes`).
const WINDOW_SHIFT: u32 = 16;

/// The most that is resident through the mapping.
const BUDGET: u64 = 40 << 20;

/// From this length on a copy by the kernel is as fast as one from a mapping,
/// and leaves nothing behind.
const LARGE: usize = 32 << 10;

/// A mapped file, of which holes are never touched.
#[derive(Debug)]
pub(crate) struct MappedFile {
    // Dropped before the memory it guards.
    guard: Guard,
    memory: Mmap,
    file: File,
    extents: Extents,
    /// One bit a window: touched through the mapping.
    touched: RefCell<Vec<u64>>,
    /// How many windows may still be touched for the first time.
    left: Cell<u64>,
}

impl MappedFile {
    /// Maps the `len` bytes of `file`.
    pub(crate) fn new(file: File, len: u64) -> io::Result<Self> {
        let extents = Extents::of(&file, len)?;
        let memory = map(&file)?;
        let guard = Guard::new(memory.as_ptr(), memory.len())?;
        let words = (memory.len() >> WINDOW_SHIFT) / 64 + 1;
        Ok(Self {
            guard,
            memory,
            file,
            extents,
            touched: RefCell::new(vec![0; words]),
            left: Cell::new(BUDGET >> WINDOW_SHIFT),
        })
    }

    /// The file's length in bytes, when it was mapped.
    pub(crate) fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Where the file has data.
    pub(crate) fn extents(&self) -> &Extents {
        &self.extents
    }

    /// Copies from the file at `offset`; `Err` counts the bytes before the
    /// first one that was lost. The range must lie inside the file.
    pub(crate) fn copy(&self, offset: u64, buf: &mut [u8]) -> Result<(), usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let (data, until) = self.stretch(at, at + rest.len() as u64);
            let step = usize::try_from(until - at).unwrap_or(rest.len());
            let Some(into) = rest.get_mut(..step) else {
                return Err(done);
            };
            if data {
                self.copy_data(at, into).map_err(|good| done + good)?;
            } else {
                into.fill(0);
            }
            done += step;
        }
        Ok(())
    }

    /// Whether the file has data at `at`, and up to where, at most `end`, the
    /// answer holds.
    fn stretch(&self, at: u64, end: u64) -> (bool, u64) {
        let (data, mut until) = self.extents.at(at);
        while until < end {
            let (next, further) = self.extents.at(until);
            if next != data {
                break;
            }
            until = further;
        }
        (data, until.min(end))
    }

    fn copy_data(&self, at: u64, into: &mut [u8]) -> Result<(), usize> {
        let from = || {
            let start = usize::try_from(at).ok()?;
            self.memory.get(start..start.checked_add(into.len())?)
        };
        match from() {
            Some(from) if into.len() < LARGE && self.admits(at, into.len()) => {
                into.copy_from_slice(from);
                if self.guard.hit() {
                    return self.check_still_there(at, into.len());
                }
                Ok(())
            }
            _ => self.copy_by_call(at, into),
        }
    }

    /// Whether the windows of a small read may be touched.
    fn admits(&self, at: u64, len: usize) -> bool {
        let mut touched = self.touched.borrow_mut();
        let last = at + (len as u64).saturating_sub(1);
        for window in (at >> WINDOW_SHIFT)..=(last >> WINDOW_SHIFT) {
            let word = usize::try_from(window / 64)
                .ok()
                .and_then(|word| touched.get_mut(word));
            let (Some(word), bit) = (word, 1 << (window % 64)) else {
                return false;
            };
            if *word & bit == 0 {
                let Some(left) = self.left.get().checked_sub(1) else {
                    return false;
                };
                self.left.set(left);
                *word |= bit;
            }
        }
        true
    }

    /// Gives the touched pages back and begins the budget anew.
    pub(crate) fn release(&self) {
        if drop_pages(&self.memory).is_ok() {
            self.touched.borrow_mut().fill(0);
            self.left.set(BUDGET >> WINDOW_SHIFT);
        }
    }

    fn copy_by_call(&self, at: u64, into: &mut [u8]) -> Result<(), usize> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + done as u64) {
                Ok(0) => return Err(done),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_lost) => return Err(done),
            }
        }
        Ok(())
    }

    /// After the mapping was hit: how much of `[at, at + len)` the file has.
    #[cold]
    fn check_still_there(&self, at: u64, len: usize) -> Result<(), usize> {
        let now = self.file.metadata().map_or(0, |file| file.len());
        match usize::try_from(now.saturating_sub(at)).unwrap_or(usize::MAX) {
            good if good < len => Err(good),
            _ => Ok(()),
        }
    }
}

#[expect(unsafe_code, reason = "mapping a file is unsafe by nature")]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is only ever copied from (`copy_data`); a file that
    // becomes shorter is caught by `Guard`, one that is written to meanwhile
    // gives torn bytes, which every layer above takes for hostile anyway.
    unsafe { Mmap::map(file) }
}

#[expect(
    unsafe_code,
    reason = "dropping pages is unsafe where memory is private"
)]
fn drop_pages(memory: &Mmap) -> io::Result<()> {
    // SAFETY: the mapping is a shared one of a file and never written: its
    // pages come back with the same contents.
    unsafe { memory.unchecked_advise(UncheckedAdvice::DontNeed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_beyond_the_budget_are_the_same() {
        let file = tempfile::tempfile().unwrap();
        let windows = (BUDGET >> WINDOW_SHIFT) + 16;
        let len = windows << WINDOW_SHIFT;
        for window in 0..windows {
            let at = window << WINDOW_SHIFT;
            file.write_all_at(&window.to_le_bytes(), at + 0xfffc)
                .unwrap_or_default();
        }
        file.set_len(len).unwrap();
        let mapped = MappedFile::new(file, len).unwrap();
        for window in (0..windows - 1).rev() {
            let mut buf = [0; 8];
            mapped
                .copy((window << WINDOW_SHIFT) + 0xfffc, &mut buf)
                .unwrap();
            assert_eq!(u64::from_le_bytes(buf), window);
        }
        assert_eq!(mapped.left.get(), 0);
        mapped.release();
        let mut buf = [0; 8];
        mapped.copy(0xfffc, &mut buf).unwrap();
        assert_eq!(buf, [0; 8]);
        assert_ne!(mapped.left.get(), 0);
    }
}
