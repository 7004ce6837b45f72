//! Which pages of an arena exist.

use std::iter;

use guestmem::{Cause, Kva};

use crate::Window;

/// What page tables say of a stretch of kernel addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Mapped to pages of the arena, each wherever it is.
    Mapped {
        /// Bytes.
        len: u64,
    },
    /// Mapped to the scratch page (since 7.2): a program touched what was
    /// never allocated.
    Touched {
        /// Bytes.
        len: u64,
    },
    /// Not mapped.
    Absent {
        /// Bytes.
        len: u64,
    },
    /// Not to be told, since a table is unreadable or malformed.
    Lost {
        /// Bytes.
        len: u64,
        /// Why.
        cause: Cause,
    },
}

/// Asks the kernel's page tables for a range: start and bytes, and who gets
/// the stretches that make it up, in order.
pub type Tables<'t> = dyn FnMut(Kva, u64, &mut dyn FnMut(Stretch)) + 't;

/// Pages that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first, counted from the arena's beginning.
    pub pgoff: u64,
    /// How many.
    pub pages: u64,
}

/// Pages of which nobody knows whether they exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Which.
    pub run: Run,
    /// Why.
    pub cause: Cause,
}

/// The pages of one arena, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    runs: Vec<Run>,
    faulted: Vec<Run>,
    lost: Vec<Lost>,
}

impl Pages {
    /// Asks `tables` for the whole of `window`.
    pub(crate) fn find(window: &Window, tables: &mut Tables<'_>) -> Self {
        let mut found = Self::default();
        for (first, kva, len) in window.pieces() {
            let mut at = Cursor {
                window,
                pgoff: first,
                end: first + len / window.page_size(),
            };
            tables(kva, len, &mut |stretch| at.take(stretch, &mut found));
        }
        found
    }

    /// Takes what users of `window` have of each page; what none of them has
    /// may exist nonetheless.
    pub(crate) fn seen(window: &Window, present: impl IntoIterator<Item = bool>) -> Self {
        let mut found = Self::default();
        let mut unseen = Vec::new();
        let present = present.into_iter().chain(iter::repeat(false));
        for (pgoff, present) in (0..window.pages()).zip(present) {
            let runs = match present {
                true => &mut found.runs,
                false => &mut unseen,
            };
            push(runs, Run { pgoff, pages: 1 });
        }
        let cause = Cause::Unseen;
        found.lost = unseen.into_iter().map(|run| Lost { run, cause }).collect();
        found
    }

    /// Those that exist.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Those that do not exist, but that a program touched.
    #[must_use]
    pub fn faulted(&self) -> &[Run] {
        &self.faulted
    }

    /// Those that may exist or not.
    #[must_use]
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// Why it is not known whether the page exists, if that is so.
    #[must_use]
    pub fn unknown(&self, pgoff: u64) -> Option<Cause> {
        let after = self.lost.partition_point(|lost| lost.run.pgoff <= pgoff);
        let lost = self.lost.get(after.checked_sub(1)?)?;
        (pgoff - lost.run.pgoff < lost.run.pages).then_some(lost.cause)
    }

    /// How many exist.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.runs.iter().map(|run| run.pages).sum()
    }

    /// Whether the page exists.
    #[must_use]
    pub fn contains(&self, pgoff: u64) -> bool {
        self.following(pgoff) > 0
    }

    /// How many pages exist from this one on, up to the first that does not.
    #[must_use]
    pub fn following(&self, pgoff: u64) -> u64 {
        let after = self.runs.partition_point(|run| run.pgoff <= pgoff);
        let run = after.checked_sub(1).and_then(|index| self.runs.get(index));
        run.map_or(0, |run| run.pages.saturating_sub(pgoff - run.pgoff))
    }
}

/// How far a piece of the window is told.
struct Cursor<'w> {
    window: &'w Window,
    pgoff: u64,
    end: u64,
}

impl Cursor<'_> {
    fn take(&mut self, stretch: Stretch, found: &mut Pages) {
        let (Stretch::Mapped { len }
        | Stretch::Touched { len }
        | Stretch::Absent { len }
        | Stretch::Lost { len, .. }) = stretch;
        let pages = (len / self.window.page_size()).min(self.end - self.pgoff);
        let run = Run {
            pgoff: self.pgoff,
            pages,
        };
        self.pgoff += pages;
        if pages == 0 {
            return;
        }
        match stretch {
            Stretch::Absent { .. } => {}
            Stretch::Lost { cause, .. } => found.lost.push(Lost { run, cause }),
            Stretch::Touched { .. } => push(&mut found.faulted, run),
            Stretch::Mapped { .. } => push(&mut found.runs, run),
        }
    }
}

/// Adds pages to the last run where they follow it.
fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.pgoff + last.pages == run.pgoff => last.pages += run.pages,
        _ => runs.push(run),
    }
}
