//! Which pages of an arena exist.

use guestmem::{Address, Cause, Gpa, Kva};

use crate::Window;

/// What page tables say of a stretch of kernel addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// Mapped to consecutive physical addresses.
    Mapped {
        /// The physical address of the first byte.
        gpa: Gpa,
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
    /// Asks `tables` for the whole of `window`. Pages at the physical address
    /// `scratch` were never allocated (since 7.2): a program touched them.
    pub(crate) fn find(window: &Window, scratch: Option<Gpa>, tables: &mut Tables<'_>) -> Self {
        let mut found = Self::default();
        for (first, kva, len) in window.pieces() {
            let mut at = Cursor {
                window,
                scratch,
                pgoff: first,
                end: first + len / window.page_size(),
            };
            tables(kva, len, &mut |stretch| at.take(stretch, &mut found));
        }
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

    /// How many exist.
    #[must_use]
    pub fn mapped(&self) -> u64 {
        self.runs.iter().map(|run| run.pages).sum()
    }

    /// Whether the page exists.
    #[must_use]
    pub fn contains(&self, pgoff: u64) -> bool {
        let after = self.runs.partition_point(|run| run.pgoff <= pgoff);
        let run = after.checked_sub(1).and_then(|index| self.runs.get(index));
        run.is_some_and(|run| pgoff - run.pgoff < run.pages)
    }
}

/// How far a piece of the window is told.
struct Cursor<'w> {
    window: &'w Window,
    scratch: Option<Gpa>,
    pgoff: u64,
    end: u64,
}

impl Cursor<'_> {
    fn take(&mut self, stretch: Stretch, found: &mut Pages) {
        let (Stretch::Mapped { len, .. } | Stretch::Absent { len } | Stretch::Lost { len, .. }) =
            stretch;
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
            Stretch::Mapped { gpa, .. } => {
                // One page of a stretch may be the scratch page by its address.
                let scratch = self.scratch.and_then(|scratch| {
                    let page = scratch.checked_offset_from(gpa)? / self.window.page_size();
                    (page < pages).then_some(page)
                });
                let Some(page) = scratch else {
                    return push(&mut found.runs, run);
                };
                push(&mut found.runs, Run { pages: page, ..run });
                let pgoff = run.pgoff + page;
                push(&mut found.faulted, Run { pgoff, pages: 1 });
                push(
                    &mut found.runs,
                    Run {
                        pgoff: pgoff + 1,
                        pages: pages - page - 1,
                    },
                );
            }
        }
    }
}

/// Adds pages to the last run where they follow it.
fn push(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        _ if run.pages == 0 => {}
        Some(last) if last.pgoff + last.pages == run.pgoff => last.pages += run.pages,
        _ => runs.push(run),
    }
}
