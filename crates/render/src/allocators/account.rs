//! What each page of an arena serves.

use bpfmaps::arena::{Arena, Run, Window};
use btf_layout::Btf;
use guestmem::ArenaPtr;
use sdt_alloc::{Regions, Use};

use super::sections::Section;
use super::{Globals, Survey, Surveyed, size};
use crate::follow::Scanner;

/// What a page serves, the more telling before the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Slots,
    Index,
    Static,
    Stack,
    Buddy,
    /// Variables that a program keeps in the arena.
    Globals,
    /// A typed pointer leads there.
    Pointed,
    Unknown,
}

impl Purpose {
    pub(crate) const ALL: [Self; 8] = [
        Self::Slots,
        Self::Index,
        Self::Static,
        Self::Stack,
        Self::Buddy,
        Self::Globals,
        Self::Pointed,
        Self::Unknown,
    ];

    /// What a page with the purpose does.
    pub(crate) fn phrase(self) -> &'static str {
        match self {
            Self::Slots => "which has slots",
            Self::Index => "which has a tree's index",
            Self::Static => "which is of a static region",
            Self::Stack => "which is of a stack of free objects",
            Self::Buddy => "which is of a buddy allocator",
            Self::Globals => "which has variables",
            Self::Pointed => "which a typed pointer leads to",
            Self::Unknown => "of which nothing is known",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slots => "slots",
            Self::Index => "index",
            Self::Static => "static",
            Self::Stack => "stack",
            Self::Buddy => "buddy",
            Self::Globals => "globals",
            Self::Pointed => "pointed",
            Self::Unknown => "unknown",
        }
    }
}

/// The pages of an arena that exist, and the purpose of each.
pub(crate) struct Account {
    window: Window,
    runs: Vec<Run>,
    /// How many pages lie before each run.
    before: Vec<u64>,
    purposes: Vec<Purpose>,
}

impl Account {
    pub(crate) fn new(arena: &Arena<'_>) -> Self {
        let runs = arena.pages().runs().to_vec();
        let mut before = Vec::with_capacity(runs.len());
        let mut pages: u64 = 0;
        for run in &runs {
            before.push(pages);
            pages = pages.saturating_add(run.pages);
        }
        let pages = usize::try_from(pages).unwrap_or(0);
        Self {
            window: *arena.window(),
            runs,
            before,
            purposes: vec![Purpose::Unknown; pages],
        }
    }

    /// Says what `len` bytes serve. A page that serves several things keeps
    /// the most telling.
    pub(crate) fn mark(&mut self, start: ArenaPtr, len: u64, purpose: Purpose) {
        let Some((first, offset)) = self.window.locate(start) else {
            return;
        };
        let bytes = offset.saturating_add(len.max(1));
        let end = first.saturating_add(bytes.div_ceil(self.window.page_size()));
        let from = self
            .runs
            .partition_point(|run| run.pgoff.saturating_add(run.pages) <= first);
        let runs = self.runs.iter().zip(&self.before).skip(from);
        for (run, &before) in runs.take_while(|(run, _)| run.pgoff < end) {
            let low = first.max(run.pgoff) - run.pgoff;
            let high = end.min(run.pgoff.saturating_add(run.pages)) - run.pgoff;
            let place = |page: u64| usize::try_from(before + page).unwrap_or(usize::MAX);
            let pages = self.purposes.get_mut(place(low)..place(high));
            for known in pages.unwrap_or_default() {
                *known = (*known).min(purpose);
            }
        }
    }

    /// How many pages serve a purpose.
    pub(crate) fn pages(&self, purpose: Purpose) -> u64 {
        let pages = self.purposes.iter().filter(|&&known| known == purpose);
        pages.count() as u64
    }

    /// What a page serves; `None` if it does not exist.
    pub(crate) fn purpose(&self, pgoff: u64) -> Option<Purpose> {
        let after = self.runs.partition_point(|run| run.pgoff <= pgoff);
        let at = after.checked_sub(1)?;
        let (run, before) = (self.runs.get(at)?, self.before.get(at)?);
        let page = (pgoff - run.pgoff < run.pages).then(|| before + (pgoff - run.pgoff))?;
        self.purposes.get(usize::try_from(page).ok()?).copied()
    }

    /// The pages of which nothing is known, as runs.
    pub(crate) fn unknown(&self) -> Vec<Run> {
        let mut unknown: Vec<Run> = Vec::new();
        let pages = self
            .runs
            .iter()
            .flat_map(|run| run.pgoff..run.pgoff + run.pages);
        for (pgoff, &purpose) in pages.zip(&self.purposes) {
            match unknown.last_mut() {
                _ if purpose != Purpose::Unknown => {}
                Some(run) if run.pgoff + run.pages == pgoff => run.pages += 1,
                _ => unknown.push(Run { pgoff, pages: 1 }),
            }
        }
        unknown
    }
}

impl Survey<'_> {
    /// Says what the pages serve that no tree has.
    pub(super) fn attribute(&mut self, sections: &[Section]) {
        let mut problems = Vec::new();
        for found in &self.allocators {
            if let Some(surveyed) = self.arenas.get_mut(&found.arena) {
                let note = |problem| problems.push((found.map, &found.symbol, problem));
                surveyed.regions(&found.btf, note, |regions| {
                    regions.allocator(&found.allocator);
                    Ok(())
                });
            }
        }
        for section in sections {
            for id in &section.arenas {
                let Some(surveyed) = self.arenas.get_mut(id) else {
                    continue;
                };
                if let Some(globals) = Globals::find(&section.btf, &surveyed.arena) {
                    let account = &mut surveyed.account;
                    account.mark(globals.at, globals.size, Purpose::Globals);
                    surveyed.globals = Some(globals);
                }
                for (instance, bytes) in section.others() {
                    let note = |problem| problems.push((section.map, &instance.symbol, problem));
                    surveyed.regions(&section.btf, note, |regions| regions.other(instance, bytes));
                }
            }
        }
        for (map, symbol, problem) in problems {
            self.failed.push((map, format!("{symbol}: {problem}")));
        }
    }

    /// Says which pages typed pointers lead to.
    pub(super) fn attribute_reached(&mut self, scanner: &Scanner) {
        for (id, runs) in scanner.reached() {
            let Some(surveyed) = self.arenas.get_mut(&id) else {
                continue;
            };
            let window = *surveyed.arena.window();
            for run in runs {
                if let Some(start) = window.user_address(run.pgoff) {
                    let len = run.pages.saturating_mul(window.page_size());
                    surveyed.account.mark(start, len, Purpose::Pointed);
                }
            }
        }
    }
}

impl Surveyed<'_> {
    /// Marks the regions that `find` finds, and hands over what keeps others
    /// from being found.
    fn regions(
        &mut self,
        btf: &Btf,
        mut note: impl FnMut(String),
        find: impl FnOnce(&mut Regions<'_>) -> Result<(), sdt_alloc::Error>,
    ) {
        let (arena, account) = (&self.arena, &mut self.account);
        let mut problems = Vec::new();
        let mut take = |region: Result<sdt_alloc::Region, sdt_alloc::Problem>| match region {
            Ok(region) => account.mark(region.start, region.len, purpose(region.serves)),
            Err(problem) => problems.push(problem.to_string()),
        };
        let page_size = arena.window().page_size();
        let mut regions = Regions::new(arena, btf, page_size, size(arena), &mut take);
        let found = find(&mut regions);
        problems.extend(found.err().map(|error| error.to_string()));
        problems.into_iter().for_each(&mut note);
    }
}

fn purpose(serves: Use) -> Purpose {
    match serves {
        Use::Index => Purpose::Index,
        Use::Slots => Purpose::Slots,
        Use::Static => Purpose::Static,
        Use::Stack => Purpose::Stack,
        Use::Buddy => Purpose::Buddy,
    }
}
