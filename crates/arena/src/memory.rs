//! An arena as memory.

use std::fmt;

use guestmem::{Address, ArenaPtr, Cause, Fault, Kva, Memory};

use crate::pages::{Pages, Tables};
use crate::window::Window;

/// What the bytes are read through.
enum Source<'m> {
    Kernel(&'m dyn Memory<Kva>),
    Users(Box<dyn Memory<ArenaPtr> + 'm>),
}

/// An arena whose pages are known.
pub struct Arena<'m> {
    source: Source<'m>,
    window: Window,
    pages: Pages,
}

impl fmt::Debug for Arena<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arena")
            .field("window", &self.window)
            .field("pages", &self.pages)
            .finish_non_exhaustive()
    }
}

impl<'m> Arena<'m> {
    /// Finds out which pages of `window` exist.
    pub fn new(memory: &'m dyn Memory<Kva>, window: Window, tables: &mut Tables<'_>) -> Self {
        let pages = Pages::find(&window, tables);
        Self {
            source: Source::Kernel(memory),
            window,
            pages,
        }
    }

    /// An arena as its users have it: `present` says, page by page, what is in
    /// their page tables, and `memory` is asked for nothing else. Of all other
    /// pages it is not known whether they exist.
    pub fn of_users(
        memory: impl Memory<ArenaPtr> + 'm,
        window: Window,
        present: impl IntoIterator<Item = bool>,
    ) -> Self {
        Self {
            source: Source::Users(Box::new(memory)),
            window,
            pages: Pages::seen(&window, present),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn window(&self) -> &Window {
        &self.window
    }

    /// The pages that exist.
    #[must_use]
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Reads from pages that exist and that are one piece to the kernel.
    fn fetch(&self, at: ArenaPtr, buf: &mut [u8]) -> Result<(), Fault<ArenaPtr>> {
        let memory = match &self.source {
            Source::Kernel(memory) => memory,
            Source::Users(memory) => return memory.read(at, buf),
        };
        let kva = self.window.kva(at);
        let kva = kva.ok_or(Fault::new(at, Cause::EndOfSpace))?;
        memory.read(kva, buf).map_err(|lost| {
            let good = lost.addr.checked_offset_from(kva).unwrap_or(0);
            Fault::new(at.checked_add(good).unwrap_or(at), lost.cause)
        })
    }
}

impl Memory<ArenaPtr> for Arena<'_> {
    /// Reads what exists. A page that does not is not present at level 1,
    /// even where the kernel has put its scratch page; one of which that is not
    /// known has the cause of that.
    fn read(&self, addr: ArenaPtr, buf: &mut [u8]) -> Result<(), Fault<ArenaPtr>> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let fault = |cause| Fault::new(at, cause);
            let place = self.window.locate(at);
            let (pgoff, offset) = place.ok_or(fault(Cause::EndOfSpace))?;
            // The kernel's addresses begin anew at a multiple of 4 GiB.
            let pages = self.pages.following(pgoff).min(self.window.unbroken(pgoff));
            let left = pages
                .saturating_mul(self.window.page_size())
                .checked_sub(offset)
                .filter(|&left| left > 0);
            let left = left.ok_or_else(|| {
                let unknown = self.pages.unknown(pgoff);
                fault(unknown.unwrap_or(Cause::NotPresent { level: 1 }))
            })?;
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(step);
            self.fetch(at, now)?;
            rest = later;
            if !rest.is_empty() {
                at = at
                    .checked_add(step as u64)
                    .ok_or(Fault::new(at, Cause::EndOfSpace))?;
            }
        }
        Ok(())
    }
}
