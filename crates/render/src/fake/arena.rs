//! The arena of a [`FakeMap`](super::FakeMap).

use std::collections::BTreeSet;

use bpfmaps::arena::{Arena, Stretch, Window};
use guestmem::{Address, ArenaPtr, Kva};

/// An arena in which just those pages exist that a test wrote to.
#[derive(Clone, Debug)]
pub(super) struct FakeArena {
    window: Window,
    pages: BTreeSet<u64>,
    memory: guestmem::Fake<Kva>,
}

impl FakeArena {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            pages: BTreeSet::new(),
            memory: guestmem::Fake::new(),
        }
    }

    /// Lets a page exist, which cannot be read.
    pub(super) fn add_page(&mut self, pgoff: u64) {
        self.pages.insert(pgoff);
    }

    /// Puts bytes into pages, which are zero where they did not exist. What is
    /// outside of the window is dropped.
    pub(super) fn write(&mut self, at: ArenaPtr, bytes: &[u8]) {
        for (offset, byte) in (0..).zip(bytes) {
            let place = at.checked_add(offset).and_then(|at| {
                let (pgoff, _) = self.window.locate(at)?;
                Some((pgoff, self.window.kva(at)?))
            });
            let Some((pgoff, kva)) = place else {
                continue;
            };
            if self.pages.insert(pgoff) {
                let size = self.window.page_size();
                let zeros = vec![0; usize::try_from(size).unwrap_or(0)];
                self.memory.write(Kva::new(kva.get() / size * size), &zeros);
            }
            self.memory.write(kva, &[*byte]);
        }
    }

    pub(super) fn open(&self) -> Arena<'_> {
        let (window, size) = (&self.window, self.window.page_size());
        let exists = |at: Kva| {
            self.pages.iter().any(|&pgoff| {
                let user = window.user_address(pgoff);
                user.and_then(|user| window.kva(user)) == Some(at)
            })
        };
        Arena::new(&self.memory, *window, &mut |start, len, visit| {
            for offset in (0..len).step_by(usize::try_from(size).unwrap_or(usize::MAX)) {
                let at = start.checked_add(offset);
                visit(match at.is_some_and(exists) {
                    true => Stretch::Mapped { len: size },
                    false => Stretch::Absent { len: size },
                });
            }
        })
    }
}
