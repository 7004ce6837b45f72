//! What cannot be read, and why.

use std::collections::BTreeMap;

use crate::page_set::{PAGE, PAGE_SHIFT};
use crate::{Absence, AbsentRun, Address, Cause, Fault, Gpa, PageSet, PhysicalMemory, Span};

/// Physical addresses that cannot be read, with the causes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// By their first address: the address behind them, and the cause. They do
    /// not overlap.
    ranges: BTreeMap<u64, (u64, Absence)>,
    /// Of everything else that is not there.
    rest: Absence,
}

impl Default for Faults {
    /// Whatever is not there was left out.
    fn default() -> Self {
        Self {
            ranges: BTreeMap::new(),
            rest: Absence::Excluded,
        }
    }
}

impl Faults {
    /// Adds `fault`, and as much of its page around it as `memory` cannot read
    /// either.
    pub fn meet(&mut self, fault: Fault<Gpa>, memory: &dyn PhysicalMemory) {
        let at = fault.addr.get();
        if self.at(fault.addr).is_some() {
            return;
        }
        let Some(page_end) = ((at >> PAGE_SHIFT) + 1).checked_mul(PAGE) else {
            return;
        };
        let page = page_end - PAGE;
        let is_there = |at: u64| memory.read(Gpa::new(at), &mut [0]).is_ok();
        // A page has one place at most where a part of RAM ends, and one where
        // the next begins.
        let start = match is_there(page) {
            true => 1 + border(at, page, is_there),
            false => page,
        };
        let end = match is_there(page_end - 1) {
            true => border(at, page_end - 1, is_there),
            false => page_end,
        };
        self.extend_over(start, end, Absence::of(fault.cause));
    }

    /// Adds what is new of the addresses from `start` up to `end`.
    fn extend_over(&mut self, start: u64, end: u64, cause: Absence) {
        let mut from = start;
        while from < end {
            if let Some(known) = self.end(Gpa::new(from)) {
                from = known.get();
                continue;
            }
            let next = self
                .next(Gpa::new(from))
                .map_or(end, |next| next.get().min(end));
            self.insert(from, next, cause);
            from = next;
        }
    }

    /// Adds those of `other`.
    pub fn extend(&mut self, other: &Self) {
        for (&start, &(end, cause)) in &other.ranges {
            self.extend_over(start, end, cause);
        }
    }

    /// Adds the addresses from `start`, which must be new, up to `end` or to
    /// what is known, joined to those beside them that have the same cause.
    fn insert(&mut self, start: u64, end: u64, cause: Absence) {
        let known = self.ranges.range(start..).next().map(|(&known, _)| known);
        let mut end = known.map_or(end, |known| known.min(end));
        let mut start = start;
        let before = self.ranges.range(..start).next_back();
        if let Some((&first, &(to, why))) = before
            && (to, why) == (start, cause)
        {
            self.ranges.remove(&first);
            start = first;
        }
        if let Some(&(to, why)) = self.ranges.get(&end)
            && why == cause
        {
            self.ranges.remove(&end);
            end = to;
        }
        self.ranges.insert(start, (end, cause));
    }

    /// Why `gpa` cannot be read, if it is known to be so.
    #[must_use]
    pub fn at(&self, gpa: Gpa) -> Option<Cause> {
        let (_, &(end, cause)) = self.ranges.range(..=gpa.get()).next_back()?;
        (gpa.get() < end).then(|| cause.cause(gpa))
    }

    /// The first address at or after `gpa` that is known not to be readable.
    pub(crate) fn next(&self, gpa: Gpa) -> Option<Gpa> {
        if self.at(gpa).is_some() {
            return Some(gpa);
        }
        let (&start, _) = self.ranges.range(gpa.get()..).next()?;
        Some(Gpa::new(start))
    }

    /// The address behind those that are like `gpa`, which is known not to be
    /// readable.
    pub(crate) fn end(&self, gpa: Gpa) -> Option<Gpa> {
        let (_, &(end, _)) = self.ranges.range(..=gpa.get()).next_back()?;
        (gpa.get() < end).then(|| Gpa::new(end))
    }

    /// The first run of bytes at or after `from` that are in one of `pages`
    /// and not known to be unreadable.
    pub(crate) fn next_good(&self, pages: &PageSet, from: Gpa) -> Option<Span> {
        let mut from = from;
        loop {
            if let Some(behind) = self.end(from) {
                from = behind;
                continue;
            }
            let lost = self.next(from);
            let run = pages.run_from(from, lost)?;
            let start = run.start.max(from);
            let run_end = run.start.checked_add(run.len)?;
            let end = lost.map_or(run_end, |lost| lost.min(run_end));
            match end.checked_offset_from(start) {
                Some(len) if len > 0 => return Some(Span { start, len }),
                _ => from = end,
            }
        }
    }

    /// Why `gpa` cannot be read, of which nothing is there.
    #[must_use]
    pub fn cause(&self, gpa: Gpa) -> Cause {
        self.at(gpa).unwrap_or(self.rest.cause(gpa))
    }

    /// Says that what is missing without a known cause is so because time ran
    /// out.
    pub fn rest_is_late(&mut self) {
        self.rest = Absence::Late;
    }

    /// Whether time ran out.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.rest == Absence::Late
    }

    /// What cannot be read, by address; where time ran out, everything that is
    /// not known to be missing for another reason is late.
    #[must_use]
    pub fn absent(&self) -> Vec<AbsentRun> {
        let mut runs = Vec::new();
        let mut from = Gpa::at(0);
        for (&start, &(end, why)) in &self.ranges {
            let (start, end) = (Gpa::new(start), Gpa::new(end));
            runs.extend(self.late_between(from, start));
            runs.push(AbsentRun { start, end, why });
            from = end;
        }
        runs.extend(self.late_between(from, Gpa::at(u64::MAX)));
        runs
    }

    fn late_between(&self, start: Gpa, end: Gpa) -> Option<AbsentRun> {
        let why = self.rest;
        (self.is_late() && start < end).then_some(AbsentRun { start, end, why })
    }
}

/// The first address that is there, seen from `lost`, which is not, on the way
/// to `good`, which is.
fn border(lost: u64, good: u64, is_there: impl Fn(u64) -> bool) -> u64 {
    let (mut lost, mut good) = (lost, good);
    while lost.abs_diff(good) > 1 {
        let middle = lost.midpoint(good);
        *(if is_there(middle) {
            &mut good
        } else {
            &mut lost
        }) = middle;
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fake, Memory};

    #[test]
    fn a_fault_is_all_that_is_missing_around_it_in_its_page() {
        let ram = Fake::new()
            .with(Gpa::at(0x1000), &[1; 0x123])
            .with(Gpa::at(0x2f00), &[1; 0x100]);
        let mut faults = Faults::default();
        let meet = |faults: &mut Faults, at| {
            let fault = ram.read(Gpa::at(at), &mut [0; 0x800]).unwrap_err();
            faults.meet(fault, &ram);
        };
        let check = |faults: &Faults, expected: &[(u64, u64)]| {
            let runs = faults.absent().into_iter();
            let runs: Vec<_> = runs.map(|run| (run.start.get(), run.end.get())).collect();
            assert_eq!(runs, expected);
        };
        meet(&mut faults, 0x1900);
        check(&faults, &[(0x1123, 0x2000)]);
        meet(&mut faults, 0x5000);
        meet(&mut faults, 0x1800);
        check(&faults, &[(0x1123, 0x2000), (0x5000, 0x6000)]);
        meet(&mut faults, 0x2000);
        check(&faults, &[(0x1123, 0x2f00), (0x5000, 0x6000)]);
        meet(&mut faults, 0x4010);
        check(&faults, &[(0x1123, 0x2f00), (0x4000, 0x6000)]);
        let gpa = Gpa::at(0x4800);
        assert_eq!(faults.at(gpa), Some(Cause::Unbacked { gpa }));
        assert_eq!(faults.next(Gpa::at(0x2f00)), Some(Gpa::at(0x4000)));
        assert_eq!(faults.next(Gpa::at(0x6000)), None);
        let gpa = Gpa::at(0x2f00);
        assert_eq!(
            (faults.at(gpa), faults.cause(gpa)),
            (None, Cause::Excluded { gpa })
        );
        faults.rest_is_late();
        assert_eq!(faults.cause(gpa), Cause::Late { gpa });
        let late = (0x6000, u64::MAX);
        check(
            &faults,
            &[
                (0, 0x1123),
                (0x1123, 0x2f00),
                (0x2f00, 0x4000),
                (0x4000, 0x6000),
                late,
            ],
        );
    }
}
