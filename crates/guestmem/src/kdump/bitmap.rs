//! Which pages a machine has, and which of them are in the dump.

use std::ops::Range;

use super::KdumpError;
use super::stream::{Lost, Stream};

/// Bits and bytes that one counter stands for.
const CHUNK_BITS: u64 = 4096;
const CHUNK: usize = 512;

/// Where the bitmaps are: one that says which pages exist, and one that says
/// which were dumped. Old dumps that are whole have one for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bitmaps {
    pub(super) existing: u64,
    pub(super) dumped: u64,
}

impl Bitmaps {
    /// In `len` bytes from `start` on, those of so many pages of this size;
    /// `None` if they do not fit.
    pub(super) fn new(start: u64, len: u64, pages: u64, page: u64) -> Option<Self> {
        let least = pages.div_ceil(8).next_multiple_of(page);
        let dumped = match len / 2 >= least {
            true => start.checked_add(len / 2)?,
            false => start,
        };
        (len >= least).then_some(Self {
            existing: start,
            dumped,
        })
    }
}

/// One bit a page, counted.
#[derive(Debug)]
pub(super) struct Bitmap {
    /// Where it is in the file.
    at: u64,
    /// How many bits it has.
    pages: u64,
    /// For each chunk how many bits are set before it; and for all.
    before: Vec<u64>,
}

impl Bitmap {
    /// Counts the bits of the one at `at`.
    pub(super) fn read(stream: &Stream, at: u64, pages: u64) -> Result<Self, KdumpError> {
        let mut bitmap = Self {
            at,
            pages,
            before: vec![0],
        };
        let mut sum = 0;
        for chunk in 0..pages.div_ceil(CHUNK_BITS) {
            let bits = bitmap.chunk(stream, chunk);
            sum += ones(&bits.map_err(|Lost| KdumpError::Cut { what: "bitmap" })?);
            bitmap.before.push(sum);
        }
        Ok(bitmap)
    }

    /// How many bits there are.
    pub(super) fn pages(&self) -> u64 {
        self.pages
    }

    /// How many bits are set.
    pub(super) fn count(&self) -> u64 {
        self.before.last().copied().unwrap_or(0)
    }

    /// The number of set bits before that of `page`, if it is set itself.
    pub(super) fn rank(&self, stream: &Stream, page: u64) -> Result<Option<u64>, Lost> {
        if page >= self.pages {
            return Ok(None);
        }
        let bits = self.chunk(stream, page / CHUNK_BITS)?;
        let inside = page % CHUNK_BITS;
        let is_set = byte(&bits, inside) >> (inside % 8) & 1 == 1;
        Ok(is_set.then(|| self.before_chunk(page) + ones_below(&bits, inside)))
    }

    /// The number of set bits before that of `page`.
    pub(super) fn count_before(&self, stream: &Stream, page: u64) -> Result<u64, Lost> {
        if page >= self.pages {
            return Ok(self.count());
        }
        let bits = self.chunk(stream, page / CHUNK_BITS)?;
        Ok(self.before_chunk(page) + ones_below(&bits, page % CHUNK_BITS))
    }

    /// The first run of set bits that ends after `from`, cut there. A chunk
    /// that was lost since it was counted is passed over.
    pub(super) fn next_run(&self, stream: &Stream, from: u64) -> Option<Range<u64>> {
        let start = self.next(stream, from, true)?;
        let end = self.next(stream, start, false).unwrap_or(self.pages);
        Some(start..end)
    }

    /// The first page from `from` on whose bit is `set`.
    fn next(&self, stream: &Stream, from: u64, set: bool) -> Option<u64> {
        let mut at = from;
        while at < self.pages {
            let next = (at / CHUNK_BITS + 1) * CHUNK_BITS;
            let count = self.before_chunk(next) - self.before_chunk(at);
            let is_whole = count == if set { 0 } else { CHUNK_BITS };
            // A chunk of the other kind is passed without a look.
            let bits = match is_whole {
                true => None,
                false => self.chunk(stream, at / CHUNK_BITS).ok(),
            };
            let found = bits.and_then(|bits| {
                let wanted = |&inside: &u64| (byte(&bits, inside) >> (inside % 8) & 1 == 1) == set;
                (at % CHUNK_BITS..CHUNK_BITS).find(wanted)
            });
            match found {
                Some(inside) => {
                    return Some(next - CHUNK_BITS + inside).filter(|&at| at < self.pages);
                }
                None => at = next,
            }
        }
        None
    }

    /// How many bits are set before the chunk that `page` is in.
    fn before_chunk(&self, page: u64) -> u64 {
        let chunk = usize::try_from(page / CHUNK_BITS).unwrap_or(usize::MAX);
        self.before.get(chunk).copied().unwrap_or(self.count())
    }

    /// The bits of one chunk; those past the end are 0.
    fn chunk(&self, stream: &Stream, chunk: u64) -> Result<[u8; CHUNK], Lost> {
        let first = chunk * CHUNK_BITS;
        let count = self.pages.saturating_sub(first).min(CHUNK_BITS);
        let len = usize::try_from(count.div_ceil(8)).unwrap_or(CHUNK);
        let mut bits = [0; CHUNK];
        let at = self.at.checked_add(first / 8).ok_or(Lost)?;
        let held = bits.get_mut(..len).ok_or(Lost)?;
        stream.read(at, held)?;
        if let (Some(last), 1..) = (held.last_mut(), count % 8) {
            *last &= (1 << (count % 8)) - 1;
        }
        Ok(bits)
    }
}

/// The byte with the bit `inside`.
fn byte(bits: &[u8; CHUNK], inside: u64) -> u8 {
    let at = usize::try_from(inside / 8).ok();
    at.and_then(|at| bits.get(at)).copied().unwrap_or(0)
}

fn ones(bits: &[u8]) -> u64 {
    let (words, rest) = bits.as_chunks();
    let words = words
        .iter()
        .map(|word| u64::from_le_bytes(*word).count_ones());
    let rest = rest.iter().map(|byte| byte.count_ones());
    words.chain(rest).map(u64::from).sum()
}

/// How many bits are set below the bit `inside`.
fn ones_below(bits: &[u8; CHUNK], inside: u64) -> u64 {
    let whole = usize::try_from(inside / 8).unwrap_or(CHUNK);
    let last = byte(bits, inside) & ((1 << (inside % 8)) - 1);
    ones(bits.get(..whole).unwrap_or_default()) + u64::from(last.count_ones())
}
