//! Which parts of a sparse file hold data.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

/// The finest grain of the map: no host page is smaller.
const MIN_GRAIN_SHIFT: u32 = 12;

/// How many grains a map may have: 8 MiB of bits, whatever the file's length.
const MAX_GRAINS: u64 = 1 << 26;

/// The data extents of a file, for search and for a constant-time test.
///
/// The test works on grains of 4 KiB (larger for images beyond 256 GiB): a
/// grain counts as data if any byte of it is.
#[derive(Debug)]
pub(crate) struct Extents {
    /// Sorted, disjoint `[start, end)` in file offsets.
    runs: Vec<(u64, u64)>,
    grain_shift: u32,
    bits: Vec<u64>,
}

impl Extents {
    /// Asks the file system where `file` of `len` bytes has data. One that
    /// cannot say has data everywhere.
    pub(crate) fn of(file: &File, len: u64) -> io::Result<Self> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut at = 0;
        while let Some(run) = next_now(file, at, len)? {
            runs.push(run);
            at = run.1;
        }
        Ok(Self::new(runs, len))
    }

    fn new(runs: Vec<(u64, u64)>, len: u64) -> Self {
        let mut grain_shift = MIN_GRAIN_SHIFT;
        while len >> grain_shift >= MAX_GRAINS {
            grain_shift += 1;
        }
        let words = usize::try_from((len >> grain_shift) / 64 + 1).unwrap_or(0);
        let mut bits = vec![0u64; words];
        for &(start, end) in &runs {
            for grain in (start >> grain_shift)..=((end - 1) >> grain_shift) {
                let word = usize::try_from(grain / 64).ok();
                if let Some(word) = word.and_then(|word| bits.get_mut(word)) {
                    *word |= 1 << (grain % 64);
                }
            }
        }
        Self {
            runs,
            grain_shift,
            bits,
        }
    }

    /// How far the answer for `offset` holds: whether its grain has data, and
    /// where the next grain begins.
    pub(crate) fn at(&self, offset: u64) -> (bool, u64) {
        let grain = offset >> self.grain_shift;
        let word = usize::try_from(grain / 64)
            .ok()
            .and_then(|word| self.bits.get(word));
        let data = word.is_some_and(|word| word >> (grain % 64) & 1 == 1);
        (data, (grain + 1) << self.grain_shift)
    }

    /// The first data extent that ends after `offset`, cut at `offset`.
    pub(crate) fn next(&self, offset: u64) -> Option<(u64, u64)> {
        let index = self.runs.partition_point(|&(_, end)| end <= offset);
        let &(start, end) = self.runs.get(index)?;
        Some((start.max(offset), end))
    }
}

/// The first data extent of `file` at or after `offset` and below `len`, as it
/// is now. A file system that cannot say has data everywhere.
pub(crate) fn next_now(file: &File, offset: u64, len: u64) -> Result<Option<(u64, u64)>, Errno> {
    if offset >= len {
        return Ok(None);
    }
    let start = match seek(file, offset, Whence::SeekData) {
        Ok(start) => start,
        Err(Errno::ENXIO) => return Ok(None),
        Err(Errno::EINVAL | Errno::ENOTSUP) => return Ok(Some((offset, len))),
        Err(errno) => return Err(errno),
    };
    let end = match seek(file, start, Whence::SeekHole) {
        Ok(end) => end.min(len),
        // The file became shorter since the first call.
        Err(Errno::ENXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    Ok((start < end).then_some((start, end)))
}

fn seek(file: &File, offset: u64, whence: Whence) -> Result<u64, Errno> {
    let offset = i64::try_from(offset).map_err(|_overflow| Errno::ENXIO)?;
    let found = lseek(file, offset, whence)?;
    Ok(u64::try_from(found).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn a_sparse_file_tells_its_extents() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(b"x", 0x10_0000).unwrap();
        file.write_all_at(b"y", (1 << 30) - 1).unwrap();
        let extents = Extents::of(&file, 1 << 30).unwrap();
        let (start, end) = extents.next(0).unwrap();
        assert!(start <= 0x10_0000 && 0x10_0000 < end);
        let (start, end) = extents.next(end).unwrap();
        assert!(start > 0x10_0000 && end == 1 << 30);
        assert_eq!(extents.next(end), None);
        assert!(extents.at(0x10_0000).0);
        assert!(!extents.at(0x2000_0000).0);
    }

    #[test]
    fn grains_cover_every_byte_of_an_extent() {
        let extents = Extents::new(vec![(0x1fff, 0x2001)], 0x10_0000);
        assert_eq!(extents.at(0), (false, 0x1000));
        assert_eq!(extents.at(0x1000), (true, 0x2000));
        assert_eq!(extents.at(0x2fff), (true, 0x3000));
        assert_eq!(extents.at(0x3000), (false, 0x4000));
        assert!(!extents.at(u64::MAX >> 1).0);
    }

    #[test]
    fn the_map_of_a_huge_file_is_small() {
        let extents = Extents::new(vec![(0, 1 << 46)], 1 << 46);
        assert!(extents.bits.len() <= (1 << 20) + 1);
        assert!(extents.at((1 << 46) - 1).0);
    }
}
