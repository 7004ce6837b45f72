//! A file that is read at random, fast and in bounded memory: small reads of
//! what is read often go through a mapping, all others through `pread`.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memmap2::{Mmap, MmapOptions, UncheckedAdvice};

use crate::extents::{self, Extents};
use crate::sigbus::Guard;
use crate::windows::{Outgoing, Windows};

/// From this length on a copy by the kernel is as fast as one from a mapping,
/// and leaves nothing behind.
const LARGE: usize = 32 << 10;

/// Whether a file's holes stay holes while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// They do: nobody writes to the file.
    Still,
    /// They do not: the file is the memory of a machine that runs, or will.
    Changing,
}

/// A mapped file, of which holes are never touched.
#[derive(Debug)]
pub struct MappedFile {
    // Dropped before the memory it guards.
    guard: Guard,
    memory: Mmap,
    file: File,
    /// As they were when it was mapped.
    extents: Extents,
    contents: Contents,
    /// What was copied, until it is known to be the file's.
    scratch: RefCell<Box<[u8]>>,
    windows: Windows,
}

impl MappedFile {
    /// Maps the `len` bytes of `file`.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn new(file: File, len: u64, contents: Contents) -> io::Result<Self> {
        let extents = Extents::of(&file, len)?;
        let memory = map(&file, len)?;
        let guard = Guard::new(memory.as_ptr(), memory.len())?;
        Ok(Self {
            guard,
            windows: Windows::new(memory.len()),
            memory,
            file,
            extents,
            contents,
            scratch: RefCell::new(vec![0; LARGE].into_boxed_slice()),
        })
    }

    /// The file's length in bytes, when it was mapped.
    #[expect(
        clippy::len_without_is_empty,
        reason = "what is empty cannot be mapped"
    )]
    #[must_use]
    pub fn len(&self) -> u64 {
        self.memory.len() as u64
    }

    /// The first `[start, end)` with data that ends after `offset`, cut there.
    #[must_use]
    pub fn next_data(&self, offset: u64) -> Option<(u64, u64)> {
        match self.contents {
            Contents::Still => self.extents.next(offset),
            // A file that was mapped and can no longer tell has data everywhere.
            Contents::Changing => extents::next_now(&self.file, offset, self.len())
                .unwrap_or_else(|_untold| Some((offset, self.len()))),
        }
    }

    /// Copies from the file at `offset`. The range must lie inside the file.
    ///
    /// # Errors
    ///
    /// How many bytes precede the first one that was lost.
    pub fn copy(&self, offset: u64, buf: &mut [u8]) -> Result<(), usize> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset + done as u64;
            let (data, until) = self.stretch(at, at + rest.len() as u64);
            let step = usize::try_from(until - at).unwrap_or(rest.len());
            let Some(into) = rest.get_mut(..step) else {
                return Err(done);
            };
            match (data, self.contents) {
                (true, _) => self.copy_data(at, into),
                (false, Contents::Still) => {
                    into.fill(0);
                    Ok(())
                }
                // Only a call sees what is there now without filling a hole.
                (false, Contents::Changing) => self.copy_by_call(at, into),
            }
            .map_err(|good| done + good)?;
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
        let small = into.len() < LARGE;
        match from().filter(|_| small && !self.guard.hit() && self.admits(at, into.len())) {
            Some(from) => self.copy_mapped(at, from, into),
            None => self.copy_by_call(at, into),
        }
    }

    /// Copies out of the mapping. Once a page of it was lost, zeros stand
    /// there: then only the file itself knows what it has.
    fn copy_mapped(&self, at: u64, from: &[u8], into: &mut [u8]) -> Result<(), usize> {
        let mut scratch = self.scratch.borrow_mut();
        let Some(copy) = scratch.get_mut(..into.len()) else {
            return self.copy_by_call(at, into);
        };
        copy.copy_from_slice(from);
        if self.guard.hit() {
            return self.copy_by_call(at, into);
        }
        into.copy_from_slice(copy);
        Ok(())
    }

    /// Whether a small read may go through the mapping.
    fn admits(&self, at: u64, len: usize) -> bool {
        usize::try_from(at).is_ok_and(|at| {
            self.windows
                .admit(at, len, |outgoing| drop_pages(&self.memory, outgoing))
        })
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
}

#[expect(unsafe_code, reason = "mapping a file is unsafe by nature")]
fn map(file: &File, len: u64) -> io::Result<Mmap> {
    let mut options = MmapOptions::new();
    // Said, as a block device has no length to ask for.
    options.len(usize::try_from(len).map_err(io::Error::other)?);
    // SAFETY: the map is only ever copied from (`copy_mapped`); a file that
    // becomes shorter is caught by `Guard`, one that is written to meanwhile
    // gives torn bytes, which every layer above takes for hostile anyway.
    unsafe { options.map(file) }
}

/// Lets go of resident pages. They are kept if the kernel refuses.
#[expect(
    unsafe_code,
    reason = "dropping pages is unsafe where memory is private"
)]
fn drop_pages(memory: &Mmap, outgoing: Outgoing) {
    let len = outgoing
        .len
        .min(memory.len().saturating_sub(outgoing.start));
    // SAFETY: the mapping is a shared one of a file and never written: its
    // pages come back with the same contents.
    let _ =
        unsafe { memory.unchecked_advise_range(UncheckedAdvice::DontNeed, outgoing.start, len) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_pages_are_not_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 0x4000], 0).unwrap();
        let mapped = MappedFile::new(file.try_clone().unwrap(), 0x4000, Contents::Still).unwrap();
        file.set_len(0x1000).unwrap();
        let mut buf = [9; 8];
        assert_eq!(mapped.copy(0xffc, &mut buf), Err(4));
        assert_eq!(buf, [7, 7, 7, 7, 9, 9, 9, 9]);
        // The file has the page again, the mapping has not.
        file.write_all_at(&[5; 0x4000], 0).unwrap();
        mapped.copy(0xffc, &mut buf).unwrap();
        assert_eq!(buf, [5; 8]);
        mapped.copy(0x1000, &mut buf).unwrap();
        assert_eq!(buf, [5; 8]);
    }

    #[test]
    fn the_length_is_the_one_given() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x4000).unwrap();
        assert_eq!(
            MappedFile::new(file, 0x3000, Contents::Still)
                .unwrap()
                .len(),
            0x3000
        );
    }

    #[test]
    fn holes_that_get_data_are_no_zeros() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let open = |contents| MappedFile::new(file.try_clone().unwrap(), 1 << 20, contents);
        let changing = open(Contents::Changing).unwrap();
        assert_eq!(changing.next_data(0), None);
        let mut buf = [9; 2];
        changing.copy(0x8000, &mut buf).unwrap();
        assert_eq!(buf, [0; 2]);
        file.write_all_at(&[7; 8], 0x8000).unwrap();
        changing.copy(0x8007, &mut buf).unwrap();
        assert_eq!(buf, [7, 0]);
        let (start, end) = changing.next_data(0).unwrap();
        assert!(start <= 0x8000 && (0x8008..1 << 20).contains(&end));
        assert_eq!(changing.next_data(end), None);
    }

    #[test]
    fn reads_are_the_same_whichever_way_they_go() {
        const STEP: u64 = 1 << 19;
        let file = tempfile::tempfile().unwrap();
        let steps = 256;
        for step in 0..steps {
            let word = u64::to_le_bytes(step);
            file.write_all_at(&word, step * STEP + 0xffc).unwrap();
        }
        let len = steps * STEP;
        file.set_len(len).unwrap();
        let mapped = MappedFile::new(file, len, Contents::Still).unwrap();
        for round in 0..40 {
            for step in 0..steps {
                let mut buf = [0; 8];
                mapped.copy(step * STEP + 0xffc, &mut buf).unwrap();
                assert_eq!(u64::from_le_bytes(buf), step, "round {round}");
            }
        }
    }
}
