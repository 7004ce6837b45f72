//! Which pages of physical memory.

use std::collections::BTreeMap;
use std::iter;

use crate::{Address, Gpa, Span};

/// Bytes of a page as captures count them, whatever the guest's pages are.
pub const PAGE: u64 = 1 << PAGE_SHIFT;

pub(crate) const PAGE_SHIFT: u32 = 12;

/// Pages of one word of the bitmap.
const WORD: u64 = 64;

/// A set of pages of 4 KiB, by their numbers: as small as the number of places
/// that they lie in, however far apart those are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageSet {
    /// Of 64 pages each, by number; none is 0.
    words: BTreeMap<u64, u64>,
    len: u64,
}

impl PageSet {
    /// No pages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the page that holds physical addresses from `page` × 4 KiB on.
    pub fn insert(&mut self, page: u64) {
        self.add(page / WORD, 1 << (page % WORD));
    }

    /// Adds every page that one of the `len` bytes from `start` on lies in.
    pub fn insert_bytes(&mut self, start: Gpa, len: u64) {
        let Some(last) = len.checked_sub(1) else {
            return;
        };
        let last = start.get().saturating_add(last) >> PAGE_SHIFT;
        let first = start.get() >> PAGE_SHIFT;
        for word in first / WORD..=last / WORD {
            let from = first.saturating_sub(word * WORD).min(WORD - 1);
            let to = (last - word * WORD).min(WORD - 1);
            self.add(word, (u64::MAX << from) & (u64::MAX >> (WORD - 1 - to)));
        }
    }

    /// Adds the pages of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (&word, &bits) in &other.words {
            self.add(word, bits);
        }
    }

    fn add(&mut self, word: u64, bits: u64) {
        let known = self.words.entry(word).or_default();
        self.len += u64::from((bits & !*known).count_ones());
        *known |= bits;
    }

    /// Whether the page of this number is in it.
    #[must_use]
    pub fn contains(&self, page: u64) -> bool {
        let word = self.words.get(&(page / WORD));
        word.is_some_and(|word| word >> (page % WORD) & 1 == 1)
    }

    /// How many pages.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The pages as runs, which are as long as they can be, by ascending
    /// address.
    pub fn runs(&self) -> impl Iterator<Item = Span> + '_ {
        let mut parts = self
            .words
            .iter()
            .flat_map(|(&word, &bits)| runs_in(word, bits));
        let mut next = parts.next();
        iter::from_fn(move || {
            let (first, mut count) = next.take()?;
            for (page, more) in parts.by_ref() {
                if page != first + count {
                    next = Some((page, more));
                    break;
                }
                count += more;
            }
            Some(Span {
                start: Gpa::new(first << PAGE_SHIFT),
                len: count << PAGE_SHIFT,
            })
        })
    }

    /// The first run of pages at or after the page of `from`, cut at that. Of
    /// one that passes `until` any part from there on may be left out.
    pub(crate) fn run_from(&self, from: Gpa, until: Option<Gpa>) -> Option<Span> {
        let until = until.map_or(u64::MAX, |until| until.get() >> PAGE_SHIFT);
        let page = from.get() >> PAGE_SHIFT;
        let cut = |word: u64, bits: u64| {
            if word == page / WORD {
                bits & (u64::MAX << (page % WORD))
            } else {
                bits
            }
        };
        let words = self.words.range(page / WORD..);
        let mut parts = words.flat_map(|(&word, &bits)| runs_in(word, cut(word, bits)));
        let (first, mut count) = parts.next()?;
        for (page, more) in parts {
            if page != first + count || page > until {
                break;
            }
            count += more;
        }
        Some(Span {
            start: Gpa::new(first << PAGE_SHIFT),
            len: count << PAGE_SHIFT,
        })
    }
}

/// The runs of pages in one word: the first page's number, and how many.
fn runs_in(word: u64, bits: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut bits = bits;
    iter::from_fn(move || {
        let start = bits.trailing_zeros();
        let ones = bits.checked_shr(start)?.trailing_ones();
        bits &= u64::MAX.checked_shl(start + ones).unwrap_or(0);
        Some((word * WORD + u64::from(start), u64::from(ones)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    use super::*;

    fn pages(set: &PageSet) -> Vec<(u64, u64)> {
        let runs = set.runs().map(|run| (run.start.get(), run.len));
        runs.collect()
    }

    #[test]
    fn bytes_take_the_pages_that_they_touch() {
        let check = |start, len, expected: &[(u64, u64)]| {
            let mut set = PageSet::new();
            set.insert_bytes(Gpa::at(start), len);
            assert_eq!(pages(&set), expected, "{start:#x} {len:#x}");
            let bytes: u64 = expected.iter().map(|run| run.1).sum();
            assert_eq!(set.len(), bytes / PAGE);
        };
        check(0x1000, 0, &[]);
        check(0x1fff, 1, &[(0x1000, 0x1000)]);
        check(0x1fff, 2, &[(0x1000, 0x2000)]);
        check(0x3_f000, 0x2000, &[(0x3_f000, 0x2000)]);
        check(0, 0x10_0000, &[(0, 0x10_0000)]);
        check(u64::MAX, 8, &[(!0xfff, 0x1000)]);
    }

    #[test]
    fn a_run_is_found_from_any_of_its_pages() {
        let mut set = PageSet::new();
        set.insert_bytes(Gpa::at(0x3_e000), 0x4000);
        set.insert(0x1000);
        let check = |from, expected: Option<(u64, u64)>| {
            let run = set.run_from(Gpa::at(from), None);
            assert_eq!(run.map(|run| (run.start.get(), run.len)), expected);
        };
        check(0, Some((0x3_e000, 0x4000)));
        check(0x4_0fff, Some((0x4_0000, 0x2000)));
        check(0x4_2000, Some((0x100_0000, 0x1000)));
        check(0x100_1000, None);
    }

    proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(0u64..300, 0..200)) {
            let mut set = PageSet::new();
            for &number in &numbers {
                set.insert(number);
            }
            let expected: BTreeSet<u64> = numbers.iter().copied().collect();
            prop_assert_eq!(set.len(), expected.len() as u64);
            let flat = |(start, len): (u64, u64)| start / PAGE..(start + len) / PAGE;
            let found: Vec<u64> = pages(&set).into_iter().flat_map(flat).collect();
            prop_assert_eq!(found, expected.iter().copied().collect::<Vec<_>>());
            for number in 0..300 {
                prop_assert_eq!(set.contains(number), expected.contains(&number));
            }
        }
    }
}
