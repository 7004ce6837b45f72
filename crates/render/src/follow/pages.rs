//! The pages of an arena that pointers lead to.

use bpfmaps::arena::{Arena, Run, Window};
use guestmem::ArenaPtr;

/// A bit for each page of an arena's window.
#[derive(Clone, Debug)]
pub(super) struct PageSet {
    window: Window,
    words: Vec<u64>,
}

impl PageSet {
    pub(super) fn new(arena: &Arena<'_>) -> Self {
        let window = *arena.window();
        let words = usize::try_from(window.pages().div_ceil(64)).unwrap_or(0);
        Self {
            window,
            words: vec![0; words],
        }
    }

    /// Adds the pages of `len` bytes.
    pub(super) fn insert(&mut self, at: ArenaPtr, len: u64) {
        let Some((first, offset)) = self.window.locate(at) else {
            return;
        };
        let bytes = offset.saturating_add(len.max(1));
        let end = first.saturating_add(bytes.div_ceil(self.window.page_size()));
        for page in first..end.min(self.window.pages()) {
            let word = usize::try_from(page / 64).unwrap_or(usize::MAX);
            if let Some(word) = self.words.get_mut(word) {
                *word |= 1 << (page % 64);
            }
        }
    }

    /// The pages, as runs.
    pub(super) fn runs(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for (first, &word) in (0..).step_by(64).zip(&self.words) {
            // Most words are empty.
            let mut left = word;
            while left != 0 {
                let pgoff = first + u64::from(left.trailing_zeros());
                left &= left - 1;
                match runs.last_mut() {
                    Some(run) if run.pgoff + run.pages == pgoff => run.pages += 1,
                    _ => runs.push(Run { pgoff, pages: 1 }),
                }
            }
        }
        runs
    }
}
