//! An arena as memory.

use std::fmt;

use guestmem::{Address, ArenaPtr, Cause, Fault, Kva, Memory};

use crate::pages::{Pages, Tables};
use crate::window::Window;

/// An arena whose pages are known.
pub struct Arena<'m> {
    memory: &'m dyn Memory<Kva>,
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
            memory,
            window,
            pages,
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
}

impl Memory<ArenaPtr> for Arena<'_> {
    /// Reads what exists. A page that does not is not present at level 1,
    /// even where the kernel has put its scratch page.
    fn read(&self, addr: ArenaPtr, buf: &mut [u8]) -> Result<(), Fault<ArenaPtr>> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let fault = |cause| Fault::new(at, cause);
            let place = self.window.locate(at).zip(self.window.kva(at));
            let ((pgoff, offset), kva) = place.ok_or(fault(Cause::EndOfSpace))?;
            // The kernel's addresses begin anew at a multiple of 4 GiB.
            let pages = self.pages.following(pgoff).min(self.window.unbroken(pgoff));
            let left = pages
                .saturating_mul(self.window.page_size())
                .checked_sub(offset)
                .filter(|&left| left > 0)
                .ok_or(fault(Cause::NotPresent { level: 1 }))?;
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(step);
            self.memory.read(kva, now).map_err(|lost| {
                let good = lost.addr.checked_offset_from(kva).unwrap_or(0);
                Fault::new(at.checked_add(good).unwrap_or(at), lost.cause)
            })?;
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
