//! Which parts of a mapping may be resident.
//!
//! Mapped pages count as the process's memory, and one fault may bring in a
//! whole large folio of the page cache. So the mapping is divided into windows
//! of the largest folio's size, of which only a few are touched at a time. A
//! window is worth touching when it is read often; what is read once is read
//! by a call.

use std::cell::RefCell;
use std::collections::VecDeque;

/// 2 MiB, the largest folio.
const SHIFT: u32 = 21;

/// How many windows are resident at most: 40 MiB.
const MOST: usize = 20;

/// A fault, and the page tables of the window it replaces, cost as much as so
/// many calls.
const WORTH: u8 = 16;

/// The same where another window must leave for it, to which there may be
/// more reads: what is read all over memory goes by calls.
const WORTH_FULL: u8 = 128;

/// In place of a count: the window is resident.
const RESIDENT: u8 = u8::MAX;

/// The windows of one mapping.
#[derive(Debug)]
pub(crate) struct Windows {
    /// For each window how many reads of it went by a call, or `RESIDENT`.
    calls: RefCell<Vec<u8>>,
    /// The resident ones, the longest resident first.
    resident: RefCell<VecDeque<usize>>,
}

/// A part of the mapping to give back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// Its first byte.
    pub(crate) start: usize,
    /// Its length, which may reach past the mapping's end.
    pub(crate) len: usize,
}

impl Windows {
    /// The windows of `len` bytes, none of them resident.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            calls: RefCell::new(vec![0; (len >> SHIFT) + 1]),
            resident: RefCell::new(VecDeque::with_capacity(MOST)),
        }
    }

    /// Whether `len` bytes at `at` may be read through the mapping. Windows
    /// that must leave it for that go to `give_back`.
    pub(crate) fn admit(&self, at: usize, len: usize, give_back: impl Fn(Outgoing)) -> bool {
        let last = at.saturating_add(len.saturating_sub(1));
        let mut calls = self.calls.borrow_mut();
        for window in (at >> SHIFT)..=(last >> SHIFT) {
            let Some(count) = calls.get_mut(window) else {
                return false;
            };
            if *count == RESIDENT {
                continue;
            }
            *count += 1;
            let mut resident = self.resident.borrow_mut();
            let full = resident.len() >= MOST;
            if *count < if full { WORTH_FULL } else { WORTH } {
                return false;
            }
            *count = RESIDENT;
            resident.push_back(window);
            if resident.len() > MOST
                && let Some(oldest) = resident.pop_front()
            {
                give_back(Outgoing {
                    start: oldest << SHIFT,
                    len: 1 << SHIFT,
                });
                if let Some(count) = calls.get_mut(oldest) {
                    *count = 0;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_comes_in_when_it_is_worth_it_and_the_oldest_goes() {
        let windows = Windows::new(100 << SHIFT);
        let left = RefCell::new(Vec::new());
        let read = |window: usize| {
            windows.admit(window << SHIFT, 8, |out| {
                left.borrow_mut().push(out.start >> SHIFT);
            })
        };
        for window in 0..MOST {
            let calls = (0..).take_while(|_| !read(window)).count();
            assert_eq!(calls, usize::from(WORTH) - 1);
            assert!(read(window));
        }
        assert!(left.borrow().is_empty());
        let calls = (0..).take_while(|_| !read(50)).count();
        assert_eq!(calls, usize::from(WORTH_FULL) - 1);
        assert_eq!(*left.borrow(), [0]);
        assert!(read(1) && !read(0));
    }

    #[test]
    fn a_read_across_two_windows_needs_both() {
        let windows = Windows::new(10 << SHIFT);
        let read = |at, len| windows.admit(at, len, |_| {});
        while !read(0, 8) {}
        assert!(!read((1 << SHIFT) - 4, 8));
        while !read(1 << SHIFT, 8) {}
        assert!(read((1 << SHIFT) - 4, 8));
        assert!(!read(11 << SHIFT, 8), "no such window");
    }
}
