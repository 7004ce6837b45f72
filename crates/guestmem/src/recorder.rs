//! What a reader of memory reads.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::page_set::PAGE_SHIFT;
use crate::{Address, Fault, Faults, Gpa, Memory, PageSet, Physical, PhysicalMemory, Span};

/// Physical memory that notes which pages are read from it, and what cannot
/// be.
///
/// Looking for data ([`PhysicalMemory::next_data`]) reads nothing.
pub struct Recorder {
    source: Physical,
    pages: RefCell<PageSet>,
    faults: RefCell<Faults>,
    /// The first and the last page of the latest read, which is often that of
    /// the next one.
    latest: Cell<(u64, u64)>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("pages", &self.pages.borrow().len())
            .finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder of what is read from `source`.
    #[must_use]
    pub fn new(source: Physical) -> Self {
        Self {
            source,
            pages: RefCell::default(),
            faults: RefCell::default(),
            latest: Cell::new((u64::MAX, u64::MAX)),
        }
    }

    /// What was read since the last call, and what could not be.
    pub fn take(&self) -> (PageSet, Faults) {
        self.latest.set((u64::MAX, u64::MAX));
        (self.pages.take(), self.faults.take())
    }

    fn note(&self, addr: Gpa, len: u64) {
        let last = addr.get().saturating_add(len.saturating_sub(1));
        let span = (addr.get() >> PAGE_SHIFT, last >> PAGE_SHIFT);
        if len > 0 && self.latest.replace(span) != span {
            self.pages.borrow_mut().insert_bytes(addr, len);
        }
    }
}

impl Memory<Gpa> for Recorder {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let read = self.source.read(addr, buf);
        match read {
            Ok(()) => self.note(addr, buf.len() as u64),
            Err(fault) => {
                self.note(addr, fault.addr.checked_offset_from(addr).unwrap_or(0));
                self.faults.borrow_mut().meet(fault, &self.source);
            }
        }
        read
    }
}

impl PhysicalMemory for Recorder {
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

    use super::*;
    use crate::{Cause, Fake};

    #[test]
    fn what_is_read_is_noted_up_to_what_is_not_there() {
        let ram = Fake::new().with(Gpa::at(0x1000), &[7; 0x3800]);
        let recorder = Recorder::new(Rc::new(ram));
        let mut buf = [0; 0x1000];
        recorder.read(Gpa::at(0x1ff8), &mut buf[..8]).unwrap();
        recorder.read(Gpa::at(0x1ff8), &mut []).unwrap();
        recorder.read(Gpa::at(0x3ff8), &mut buf).unwrap_err();
        recorder.read(Gpa::at(0x9000), &mut buf).unwrap_err();
        let (pages, faults) = recorder.take();
        let runs: Vec<_> = pages.runs().map(|run| (run.start.get(), run.len)).collect();
        assert_eq!(runs, [(0x1000, 0x1000), (0x3000, 0x2000)]);
        let gpa = Gpa::at(0x4800);
        assert_eq!(faults.at(gpa), Some(Cause::Unbacked { gpa }));
        let runs = faults.absent().into_iter();
        let ranges: Vec<_> = runs.map(|run| (run.start, run.end)).collect();
        let gpa = Gpa::at;
        assert_eq!(
            ranges,
            [(gpa(0x4800), gpa(0x5000)), (gpa(0x9000), gpa(0xa000))]
        );
        recorder.read(Gpa::at(0x3ff8), &mut buf[..1]).unwrap();
        assert_eq!(recorder.take().0.len(), 1, "what was taken is noted anew");
    }
}
