//! The bytes of a kdump file, flattened or not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::{KdumpError, field};
use crate::mapped::{Contents, MappedFile};

/// First bytes of a flattened file.
const FLATTENED: &[u8] = b"makedumpfile";

/// Where its records start.
const RECORDS: u64 = 4096;

/// Bytes of the header before the bytes of a record.
const RECORD_HEADER: usize = 16;

/// How many records are taken: at the usual size of 16 KiB those of 128 GiB.
/// Their index is 400 MiB then.
const MOST_RECORDS: usize = 1 << 23;

/// Bytes that the file does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lost;

/// A kdump file as if it were not flattened.
#[derive(Debug)]
pub(super) struct Stream {
    file: MappedFile,
    records: Option<Records>,
}

impl Stream {
    /// The bytes of `file`, which has `len`.
    pub(super) fn new(file: File, len: u64) -> io::Result<Result<Self, KdumpError>> {
        let mut head = [0; FLATTENED.len()];
        let is_flattened = file.read_exact_at(&mut head, 0).is_ok() && head == FLATTENED;
        let records = match is_flattened.then(|| Records::read(&file, len)).transpose() {
            Ok(records) => records,
            Err(error) => return Ok(Err(error)),
        };
        let file = MappedFile::new(file, len, Contents::Still)?;
        Ok(Ok(Self { file, records }))
    }

    /// Whether it is flattened, and ends before the mark of its end.
    pub(super) fn is_cut(&self) -> bool {
        self.records.as_ref().is_some_and(|records| records.is_cut)
    }

    /// Whether it is flattened.
    pub(super) fn is_flattened(&self) -> bool {
        self.records.is_some()
    }

    /// Fills `buf` from `at` on, or leaves anything in it.
    pub(super) fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), Lost> {
        let Some(records) = &self.records else {
            return self.copy(at, buf);
        };
        let mut at = at;
        let mut rest = buf;
        while !rest.is_empty() {
            let (place, left) = records.find(at).ok_or(Lost)?;
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(step);
            self.copy(place, now)?;
            at = at.checked_add(step as u64).ok_or(Lost)?;
            rest = later;
        }
        Ok(())
    }

    /// Reads `N` bytes at `at`.
    pub(super) fn load<const N: usize>(&self, at: u64) -> Result<[u8; N], Lost> {
        let mut bytes = [0; N];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    fn copy(&self, at: u64, buf: &mut [u8]) -> Result<(), Lost> {
        let end = at.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.file.len()) {
            return Err(Lost);
        }
        self.file.copy(at, buf).map_err(|_good| Lost)
    }
}

/// Which bytes of a flattened file stand where in the file that it stands
/// for. A later record wins over an earlier one.
#[derive(Debug, Default)]
struct Records {
    by_start: BTreeMap<u64, Record>,
    /// The mark of the end is missing.
    is_cut: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    /// Behind its last byte, in the file that it stands for.
    end: u64,
    /// Where its first byte is.
    place: u64,
}

impl Records {
    /// Those of `file`, as far as its `len` bytes go.
    fn read(file: &File, len: u64) -> Result<Self, KdumpError> {
        let mut records = Self::default();
        let mut at = RECORDS;
        let mut header = [0; RECORD_HEADER];
        while file.read_exact_at(&mut header, at).is_ok() {
            let word = |at| field(&header, at).map_or(0, i64::from_be_bytes);
            let (start, size) = (word(0), word(8));
            if (start, size) == (-1, -1) {
                return Ok(records);
            }
            let nonsense = KdumpError::Record { at };
            let (Ok(start), Ok(size)) = (u64::try_from(start), u64::try_from(size)) else {
                return Err(nonsense);
            };
            let place = at + RECORD_HEADER as u64;
            // A file that was cut has a part of its last record.
            let held = size.min(len.saturating_sub(place));
            let end = start.checked_add(held).ok_or(nonsense)?;
            records.insert(start, Record { end, place });
            if records.by_start.len() > MOST_RECORDS {
                return Err(KdumpError::TooManyRecords { most: MOST_RECORDS });
            }
            at = place + held;
        }
        records.is_cut = true;
        Ok(records)
    }

    fn insert(&mut self, start: u64, record: Record) {
        if record.end <= start {
            return;
        }
        let before = self.by_start.range(..start).next_back();
        let before = before.map(|(&at, &old)| (at, old));
        if let Some((at, old)) = before.filter(|(_, old)| old.end > start) {
            self.by_start.insert(at, Record { end: start, ..old });
            self.keep_end(at, old, record.end);
        }
        while let Some((&at, &old)) = self.by_start.range(start..record.end).next() {
            self.by_start.remove(&at);
            self.keep_end(at, old, record.end);
        }
        self.by_start.insert(start, record);
    }

    /// Keeps of the record `old` at `at` what is from `from` on.
    fn keep_end(&mut self, at: u64, old: Record, from: u64) {
        if old.end > from {
            let place = old.place + (from - at);
            self.by_start.insert(from, Record { place, ..old });
        }
    }

    /// Where the byte at `at` is, and how many follow it.
    fn find(&self, at: u64) -> Option<(u64, u64)> {
        let (&start, record) = self.by_start.range(..=at).next_back()?;
        let left = record.end.checked_sub(at).filter(|&left| left > 0)?;
        Some((record.place + (at - start), left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which record the bytes 0 to 9 are of, after `written` in this order.
    fn check(written: &[(u64, u64)], expected: &str) {
        let mut records = Records::default();
        for (index, &(start, end)) in (1u64..).zip(written) {
            let place = index * 100;
            records.insert(start, Record { end, place });
        }
        let shown = (0..10).map(|at| {
            let Some((place, left)) = records.find(at) else {
                return '.';
            };
            let (start, end) = written[usize::try_from(place / 100 - 1).unwrap()];
            assert_eq!(place % 100, at - start, "{written:?}");
            assert!(at + left <= end, "{written:?}");
            char::from_digit(u32::try_from(place / 100).unwrap(), 10).unwrap()
        });
        assert_eq!(shown.collect::<String>(), expected, "{written:?}");
    }

    #[test]
    fn later_records_win() {
        check(&[(0, 3), (5, 8)], "111..222..");
        check(&[(0, 10), (3, 5)], "1112211111");
        check(&[(3, 5), (0, 10)], "2222222222");
        check(&[(0, 4), (2, 6)], "112222....");
        check(&[(2, 6), (0, 4)], "222211....");
        check(&[(0, 3), (3, 6), (6, 9), (1, 8)], "144444443.");
        check(&[(0, 3), (4, 6), (8, 9), (0, 9)], "444444444.");
        check(&[(1, 4), (1, 4)], ".222......");
        check(&[(1, 4), (1, 2)], ".211......");
        check(&[(1, 4), (2, 2)], ".111......");
    }
}
