//! The window of an arena: which user address is which kernel address.

use std::error::Error;
use std::fmt;

use guestmem::{Address, ArenaPtr, Kva};

/// What the low half of an address can say: programs compute with that half
/// only, so that an arena is a stretch of a ring of this size.
const RING: u64 = 1 << 32;

/// An arena's place in its users' address space and in the kernel's.
///
/// The page `pgoff` counts from the user address at which the arena begins.
/// Its kernel address is the kernel's base plus the *low half* of its user
/// address (`arena_alloc_pages()` in kernel/bpf/arena.c), so that an arena
/// which crosses a multiple of 4 GiB lies in two pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    user_start: u64,
    pages: u64,
    base: Option<Kva>,
    page_size: u64,
}

/// Numbers that no arena has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// The page size is no power of two.
    PageSize {
        /// The size in bytes.
        page_size: u64,
    },
    /// The arena has no pages, or more than 4 GiB.
    Size {
        /// The number of pages.
        pages: u64,
    },
    /// It does not begin with a page, or reaches past the last address.
    Start {
        /// The address at which it begins.
        address: u64,
    },
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PageSize { page_size } => write!(f, "pages of {page_size:#x} bytes"),
            Self::Size { pages } => write!(f, "an arena of {pages:#x} pages"),
            Self::Start { address } => write!(f, "an arena that begins at {address:#x}"),
        }
    }
}

impl Error for WindowError {}

impl Window {
    /// An arena of `pages` pages that its users see at `user_start` (0 while
    /// nobody has mapped it), of which the kernel sees the page whose address
    /// has a low half of 0 at `base`.
    ///
    /// # Errors
    ///
    /// If no arena can have these numbers.
    pub fn new(
        user_start: u64,
        pages: u64,
        base: Kva,
        page_size: u64,
    ) -> Result<Self, WindowError> {
        Self::check(user_start, pages, Some(base), page_size)
    }

    /// An arena of which only its users' side is known.
    ///
    /// # Errors
    ///
    /// If no arena can have these numbers.
    pub fn of_users(user_start: ArenaPtr, pages: u64, page_size: u64) -> Result<Self, WindowError> {
        Self::check(user_start.get(), pages, None, page_size)
    }

    fn check(
        user_start: u64,
        pages: u64,
        base: Option<Kva>,
        page_size: u64,
    ) -> Result<Self, WindowError> {
        if !page_size.is_power_of_two() {
            return Err(WindowError::PageSize { page_size });
        }
        let len = pages
            .checked_mul(page_size)
            .filter(|len| (1..=RING).contains(len));
        let Some(len) = len else {
            return Err(WindowError::Size { pages });
        };
        for address in std::iter::once(user_start).chain(base.map(Kva::get)) {
            let end = address.checked_add(len.max(RING) - 1);
            if address % page_size != 0 || end.is_none() {
                return Err(WindowError::Start { address });
            }
        }
        Ok(Self {
            user_start,
            pages,
            base,
            page_size,
        })
    }

    /// The user address at which it begins; `None` while nobody has mapped
    /// it, when pointers are no more than their low halves.
    #[must_use]
    pub fn user_start(&self) -> Option<ArenaPtr> {
        (self.user_start != 0).then(|| ArenaPtr::new(self.user_start))
    }

    /// The kernel address of the page whose user address has a low half of 0,
    /// where known.
    #[must_use]
    pub fn kernel_base(&self) -> Option<Kva> {
        self.base
    }

    /// How many pages it may have.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The user address of a page, whether it is in the window or not.
    #[must_use]
    pub fn user_address(&self, pgoff: u64) -> Option<ArenaPtr> {
        let offset = pgoff.checked_mul(self.page_size)?;
        self.user_start.checked_add(offset).map(ArenaPtr::new)
    }

    /// The page that a user address lies in, and the byte of that page;
    /// `None` outside of the window.
    #[must_use]
    pub fn locate(&self, at: ArenaPtr) -> Option<(u64, u64)> {
        let offset = at.get().checked_sub(self.user_start)?;
        let pgoff = offset / self.page_size;
        (pgoff < self.pages).then_some((pgoff, offset % self.page_size))
    }

    /// The kernel address of a user address; `None` outside of the window, or
    /// where the kernel's side is not known.
    #[must_use]
    pub fn kva(&self, at: ArenaPtr) -> Option<Kva> {
        self.locate(at)?;
        self.base?.checked_add(at.get() % RING)
    }

    /// How many pages from this one on have kernel addresses that follow each
    /// other.
    pub(crate) fn unbroken(&self, pgoff: u64) -> u64 {
        let low = self.user_address(pgoff).map_or(0, |at| at.get() % RING);
        (RING - low) / self.page_size
    }

    /// The window as the kernel has it: pieces of (first page, kernel
    /// address, bytes), one or two of them, or none where that is not known.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, Kva, u64)> + use<> {
        let len = self.pages * self.page_size;
        let low = self.user_start % RING;
        let first = len.min(RING - low);
        let pieces = self.base.map(|base| {
            let second = (len > first).then_some((first / self.page_size, base, len - first));
            std::iter::once((0, Kva::new(base.get() + low), first)).chain(second)
        });
        pieces.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Kva = Kva::at(0xffff_c900_0000_8000);

    #[test]
    fn a_window_that_wraps_is_two_pieces() {
        let pieces = |start, pages| {
            let window = Window::new(start, pages, BASE, 0x1000).unwrap();
            let plain = |(pgoff, kva, len): (u64, Kva, u64)| (pgoff, kva.get() - BASE.get(), len);
            window.pieces().map(plain).collect::<Vec<_>>()
        };
        assert_eq!(pieces(0, 4), [(0, 0, 0x4000)]);
        assert_eq!(pieces(0x1_0000_2000, 4), [(0, 0x2000, 0x4000)]);
        assert_eq!(
            pieces(0x7f01_ffff_e000, 5),
            [(0, 0xffff_e000, 0x2000), (2, 0, 0x3000)]
        );
        assert_eq!(
            pieces(0x7f01_8000_0000, 1 << 20),
            [(0, 0x8000_0000, 0x8000_0000), (0x8_0000, 0, 0x8000_0000)]
        );
    }

    #[test]
    fn user_addresses_are_found_in_the_window_only() {
        let window = Window::new(0x7f01_ffff_e000, 5, BASE, 0x1000).unwrap();
        let check = |at, located, kva: Option<u64>| {
            let at = ArenaPtr::at(at);
            assert_eq!(window.locate(at), located, "{at}");
            let kva = kva.map(|offset| Kva::new(BASE.get() + offset));
            assert_eq!(window.kva(at), kva, "{at}");
        };
        check(0x7f01_ffff_dfff, None, None);
        check(0x7f01_ffff_e001, Some((0, 1)), Some(0xffff_e001));
        check(0x7f02_0000_0008, Some((2, 8)), Some(8));
        check(0x7f02_0000_2fff, Some((4, 0xfff)), Some(0x2fff));
        check(0x7f02_0000_3000, None, None);
        assert_eq!(window.user_address(2), Some(ArenaPtr::at(0x7f02_0000_0000)));
        let unmapped = Window::new(0, 5, BASE, 0x1000).unwrap();
        assert_eq!(unmapped.user_start(), None);
        assert_eq!(unmapped.locate(ArenaPtr::at(0x1008)), Some((1, 8)));
    }

    #[test]
    fn absurd_numbers_are_refused() {
        let check = |start, pages, page_size, error: &str| {
            let refused = Window::new(start, pages, BASE, page_size).unwrap_err();
            assert_eq!(refused.to_string(), error);
        };
        check(0, 0, 0x1000, "an arena of 0x0 pages");
        check(0, (1 << 20) + 1, 0x1000, "an arena of 0x100001 pages");
        check(0, u64::MAX, 0x1000, "an arena of 0xffffffffffffffff pages");
        check(8, 1, 0x1000, "an arena that begins at 0x8");
        check(
            !0xfff,
            2,
            0x1000,
            "an arena that begins at 0xfffffffffffff000",
        );
        check(0, 1, 0x1001, "pages of 0x1001 bytes");
    }
}
