//! Pages of physical memory that were copied, and their filling.

use std::cell::RefCell;
use std::fmt;
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::page_set::{PAGE, PAGE_SHIFT};
use crate::{Address, Cause, Fault, Faults, Gpa, Memory, PageSet, Physical, PhysicalMemory, Span};

/// How much is copied between two looks at the clock.
const STEP: u64 = 1 << 20;

/// Some of the pages of a physical memory, as they were when they were copied.
///
/// What is not there is unreadable for the cause that it had, or
/// [excluded](Cause::Excluded). It holds no reference to where the bytes came
/// from, and can go to another thread.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// By the number of a page, where in `bytes` it begins.
    places: FxHashMap<u64, usize>,
    pages: PageSet,
    /// Room, of which `used` bytes are pages. What of a page is among the
    /// faults is 0.
    bytes: Vec<u8>,
    used: usize,
    faults: Faults,
    size: u64,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("pages", &self.pages.len())
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    /// An empty one of a machine with `size` bytes of RAM, with resident room
    /// for so many pages: copying them then takes no memory from the system.
    #[must_use]
    pub fn with_room(size: u64, pages: u64) -> Self {
        let mut snapshot = Self {
            size,
            ..Self::default()
        };
        let bytes = usize::try_from(pages << PAGE_SHIFT).unwrap_or(usize::MAX);
        // Any value but 0, with which it would not become resident.
        snapshot.bytes.resize(bytes, 1);
        snapshot.places.reserve(usize::try_from(pages).unwrap_or(0));
        snapshot
    }

    /// Copies those of `pages` that are not there yet, in runs. What is not
    /// there by `deadline` is [late](Cause::Late).
    pub fn copy(
        &mut self,
        source: &dyn PhysicalMemory,
        pages: &PageSet,
        deadline: Option<Instant>,
    ) {
        for run in pages.runs() {
            let mut done = 0;
            while done < run.len {
                if is_over(deadline) {
                    self.faults.rest_is_late();
                    return;
                }
                let step = STEP.min(run.len - done);
                // A run of pages does not pass the end of the address space.
                let Some(at) = run.start.checked_add(done) else {
                    break;
                };
                self.copy_run(source, at.get() >> PAGE_SHIFT, step >> PAGE_SHIFT);
                done += step;
            }
        }
    }

    /// Copies `count` pages from `first` on, except those that are there.
    fn copy_run(&mut self, source: &dyn PhysicalMemory, first: u64, count: u64) {
        let end = first + count;
        let mut page = first;
        while page < end {
            let known = (page..end).take_while(|page| self.places.contains_key(page));
            page += known.count() as u64;
            let new = (page..end).take_while(|page| !self.places.contains_key(page));
            page = self.copy_new(source, page, new.count() as u64);
        }
    }

    /// Copies `count` pages from `first` on in one read, up to and with the
    /// first that cannot be read wholly. Returns the page behind them.
    fn copy_new(&mut self, source: &dyn PhysicalMemory, first: u64, count: u64) -> u64 {
        let len = usize::try_from(count << PAGE_SHIFT).unwrap_or(0);
        let end = self.used.saturating_add(len);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        let into = self.bytes.get_mut(self.used..end).unwrap_or_default();
        let start = Gpa::new(first << PAGE_SHIFT);
        let Err(fault) = source.read(start, into) else {
            self.keep(first, count);
            return first + count;
        };
        let good = fault.addr.checked_offset_from(start).unwrap_or(0) >> PAGE_SHIFT;
        let good = good.min(count.saturating_sub(1));
        self.keep(first, good);
        self.copy_parts(source, first + good);
        first + good + 1
    }

    /// Copies what can be read of a page.
    fn copy_parts(&mut self, source: &dyn PhysicalMemory, page: u64) {
        let start = page << PAGE_SHIFT;
        let end = self.used.saturating_add(1 << PAGE_SHIFT);
        let Some(into) = self.bytes.get_mut(self.used..end) else {
            return;
        };
        into.fill(0);
        let mut done = 0;
        let mut any = false;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = Gpa::new(start + done as u64);
            let Err(fault) = source.read(at, rest) else {
                any = true;
                break;
            };
            any |= fault.addr > at;
            self.faults.meet(fault, source);
            let behind = self
                .faults
                .end(fault.addr)
                .map(|behind| behind.get() - start);
            match behind.and_then(|behind| usize::try_from(behind).ok()) {
                Some(behind) => done = behind,
                None => break,
            }
        }
        if any {
            self.keep(page, 1);
        }
    }

    fn keep(&mut self, first: u64, count: u64) {
        for page in first..first + count {
            self.places.insert(page, self.used);
            self.used += 1 << PAGE_SHIFT;
        }
        self.pages
            .insert_bytes(Gpa::new(first << PAGE_SHIFT), count << PAGE_SHIFT);
    }

    /// Whether nothing is known of `page`: neither is it there, nor why not.
    fn is_unknown(&self, page: u64) -> bool {
        !self.places.contains_key(&page) && self.faults.at(Gpa::new(page << PAGE_SHIFT)).is_none()
    }

    /// The pages that are there.
    #[must_use]
    pub fn pages(&self) -> &PageSet {
        &self.pages
    }

    /// What is known not to be readable.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Memory<Gpa> for Snapshot {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut rest = buf;
        // The usual one is far behind the read, if there is any.
        let lost = self.faults.next(at);
        while !rest.is_empty() {
            let place = self.places.get(&(at.get() >> PAGE_SHIFT));
            let place = place.filter(|_| lost != Some(at));
            let Some(&place) = place else {
                return Err(Fault::new(at, self.faults.cause(at)));
            };
            let offset = at.get() % PAGE;
            let until_lost = lost.and_then(|lost| lost.checked_offset_from(at));
            let step = (PAGE - offset)
                .min(until_lost.unwrap_or(PAGE))
                .min(rest.len() as u64);
            let from = usize::try_from(offset).ok().and_then(|offset| {
                let start = place.checked_add(offset)?;
                self.bytes.get(start..start + usize::try_from(step).ok()?)
            });
            let Some(from) = from else {
                return Err(Fault::new(at, self.faults.cause(at)));
            };
            let (now, later) = rest.split_at_mut(from.len());
            now.copy_from_slice(from);
            rest = later;
            if !rest.is_empty() {
                let end = Fault::new(at, Cause::EndOfSpace);
                at = at.checked_add(step).ok_or(end)?;
            }
        }
        Ok(())
    }
}

impl PhysicalMemory for Snapshot {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.faults.next_good(&self.pages, from)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// A [`Snapshot`] that is filled as it is read: a page that is not in it yet
/// is copied from the source. When the time is over, nothing can be read any
/// more, so that whoever reads comes to an end.
pub struct Filler {
    source: Physical,
    snapshot: RefCell<Snapshot>,
    deadline: Option<Instant>,
}

impl fmt::Debug for Filler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filler")
            .field("snapshot", &self.snapshot.borrow())
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

impl Filler {
    /// Fills `snapshot` from `source` until `deadline`.
    #[must_use]
    pub fn new(source: Physical, snapshot: Snapshot, deadline: Option<Instant>) -> Self {
        Self {
            source,
            snapshot: RefCell::new(snapshot),
            deadline,
        }
    }

    /// Takes what was copied, and leaves nothing.
    #[must_use]
    pub fn take(&self) -> Snapshot {
        self.snapshot.take()
    }

    /// Copies the pages of `len` bytes at `addr`, up to the first that is not
    /// there.
    fn fill(&self, addr: Gpa, len: u64) {
        let last = addr.get().saturating_add(len.saturating_sub(1)) >> PAGE_SHIFT;
        let mut snapshot = self.snapshot.borrow_mut();
        for page in addr.get() >> PAGE_SHIFT..=last {
            if snapshot.is_unknown(page) {
                snapshot.copy_run(&self.source, page, 1);
            }
            if !snapshot.places.contains_key(&page) {
                return;
            }
        }
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

impl Memory<Gpa> for Filler {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        if buf.is_empty() {
            return Ok(());
        }
        if is_over(self.deadline) {
            self.snapshot.borrow_mut().faults.rest_is_late();
            return Err(Fault::new(addr, Cause::Late { gpa: addr }));
        }
        self.fill(addr, buf.len() as u64);
        self.snapshot.borrow().read(addr, buf)
    }
}

impl PhysicalMemory for Filler {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.source.next_data(from)
    }

    fn size(&self) -> u64 {
        self.source.size()
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::Fake;

    /// Bytes that tell where they are, with holes that begin and end inside of
    /// pages.
    fn ram() -> Fake<Gpa> {
        let bytes = |from: u64, to: u64| -> Vec<u8> {
            let words = (from / 8..to / 8).flat_map(|word| (word * 8).to_le_bytes());
            words.collect()
        };
        Fake::new()
            .with(Gpa::at(0x1000), &bytes(0x1000, 0x3800))
            .with(Gpa::at(0x4400), &bytes(0x4400, 0x6000))
            .with(Gpa::at(0x9000), &bytes(0x9000, 0xb000))
    }

    /// Whether every read of `of` gives what it gives of `ram`, as far as that
    /// is in `pages`, behind which everything was left out.
    fn check(of: &dyn Memory<Gpa>, pages: &PageSet) {
        let cut = |at: u64, len: usize| {
            let end = at + len as u64;
            let mut pages_read = at >> PAGE_SHIFT..end.div_ceil(PAGE);
            let missing = pages_read.find(|page| !pages.contains(*page));
            missing.map(|page| (page << PAGE_SHIFT).max(at))
        };
        for at in (0..0xc000).step_by(0x200) {
            for len in [1, 8, 0x200, 0x1000, 0x2300] {
                let (mut found, mut expected) = (vec![0xee; len], vec![0xee; len]);
                let found_is = of.read(Gpa::at(at), &mut found);
                let cut = cut(at, len);
                let until = cut.map_or(len, |cut| usize::try_from(cut - at).unwrap());
                let mut expected_is = ram().read(Gpa::at(at), &mut expected[..until]);
                if let Some(gpa) = cut.map(Gpa::new).filter(|_| expected_is.is_ok()) {
                    expected_is = Err(Fault::new(gpa, Cause::Excluded { gpa }));
                }
                assert_eq!(found_is, expected_is, "{at:#x} {len:#x}");
                assert_eq!(found, expected, "{at:#x} {len:#x}");
            }
        }
    }

    fn pages(numbers: impl IntoIterator<Item = u64>) -> PageSet {
        let mut set = PageSet::new();
        numbers.into_iter().for_each(|number| set.insert(number));
        set
    }

    #[test]
    fn copied_pages_read_as_their_source() {
        for numbers in [0..12, 1..5, 3..4, 4..5, 5..11] {
            let wanted = pages(numbers);
            let mut snapshot = Snapshot::with_room(0x7400, 2);
            snapshot.copy(&ram(), &wanted, None);
            check(&snapshot, &wanted);
            snapshot.copy(&ram(), &wanted, None);
            assert_eq!(snapshot.used, snapshot.places.len() << PAGE_SHIFT);
        }
    }

    #[test]
    fn runs_are_what_is_there() {
        let mut snapshot = Snapshot::with_room(0, 0);
        snapshot.copy(&ram(), &pages(0..10), None);
        let mut runs = Vec::new();
        let mut from = Gpa::at(0);
        while let Some(run) = snapshot.next_data(from) {
            runs.push((run.start.get(), run.len));
            from = run.start.checked_add(run.len).unwrap();
        }
        let expected = [(0x1000, 0x2800), (0x4400, 0x1c00), (0x9000, 0x1000)];
        assert_eq!(runs, expected);
    }

    #[test]
    fn a_filler_copies_what_is_read_once() {
        let mut snapshot = Snapshot::with_room(0x7400, 2);
        snapshot.copy(&ram(), &pages([2, 9]), None);
        let filler = Filler::new(Rc::new(ram()), snapshot, None);
        check(&filler, &pages(0..12));
        let snapshot = filler.take();
        assert!(!snapshot.faults().is_late());
        check(&snapshot, &pages(0..12));
        assert_eq!(snapshot.pages().len(), 7);
    }

    #[test]
    fn what_is_not_copied_in_time_is_late() {
        let over = Instant::now().checked_sub(Duration::from_secs(1));
        let mut snapshot = Snapshot::with_room(0x7400, 2);
        snapshot.copy(&ram(), &pages([1]), None);
        assert!(!snapshot.faults().is_late());
        snapshot.copy(&ram(), &pages([2]), over);
        assert!(snapshot.faults().is_late());
        let filler = Filler::new(Rc::new(ram()), snapshot, over);
        let mut buf = [0; 8];
        let gpa = Gpa::at(0x1000);
        let fault = filler.read(gpa, &mut buf).unwrap_err();
        assert_eq!(fault, Fault::new(gpa, Cause::Late { gpa }));
        let snapshot = filler.take();
        assert!(snapshot.faults().is_late());
        snapshot.read(gpa, &mut buf).unwrap();
        let fault = snapshot.read(Gpa::at(0x1ffc), &mut buf).unwrap_err();
        let gpa = Gpa::at(0x2000);
        assert_eq!(fault, Fault::new(gpa, Cause::Late { gpa }));
    }
}
