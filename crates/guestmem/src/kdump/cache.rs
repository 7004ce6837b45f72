//! Pages that were unpacked lately.

use std::rc::Rc;

/// How many bytes of pages are kept: a few thousand of 4 KiB, which is what
/// finding a kernel and showing its maps reads.
const BYTES: usize = 32 << 20;

/// How many pages compete for the same places.
const WAYS: usize = 4;

/// A page, and its number.
type Entry = Option<(u64, Rc<[u8]>)>;

/// The pages, each in the set that its number chooses, the latest first.
pub(super) struct Cache {
    sets: Vec<[Entry; WAYS]>,
}

impl Cache {
    /// None yet, of this many bytes each.
    pub(super) fn new(page: usize) -> Self {
        let sets = (BYTES / WAYS).checked_div(page).unwrap_or(0).max(1);
        Self {
            sets: vec![Default::default(); sets],
        }
    }

    /// The page `number`, if it is here.
    pub(super) fn get(&mut self, number: u64) -> Option<Rc<[u8]>> {
        let set = self.set(number)?;
        let is_it = |entry: &Entry| entry.as_ref().is_some_and(|&(other, _)| other == number);
        let way = set.iter().position(is_it)?;
        set.get_mut(..=way)?.rotate_right(1);
        let (_, page) = set.first()?.as_ref()?;
        Some(Rc::clone(page))
    }

    /// Keeps the page `number`, in place of the one of its set that was asked
    /// for the longest ago.
    pub(super) fn put(&mut self, number: u64, page: Rc<[u8]>) {
        if let Some(set) = self.set(number) {
            set.rotate_right(1);
            if let Some(first) = set.first_mut() {
                *first = Some((number, page));
            }
        }
    }

    fn set(&mut self, number: u64) -> Option<&mut [Entry; WAYS]> {
        let index = number % (self.sets.len() as u64);
        self.sets.get_mut(usize::try_from(index).ok()?)
    }
}
