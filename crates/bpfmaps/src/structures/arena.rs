//! Arenas (`kernel/bpf/arena.c`).

use arena::{Arena, Layout, Window};
use guestmem::{Address, Gpa, Kva};

use crate::target::Target;
use crate::walk::{GapAt, Walker};
use crate::{Error, MapInfo, MapState, PagesFrom};

/// The arena `map` at `at`, with the pages that exist.
pub(crate) fn open<'t>(target: &'t dyn Target, map: &MapInfo, at: Kva) -> Result<Arena<'t>, Error> {
    let page_size = target.page_size();
    let layout = Layout::new(target.btf())?;
    let found = layout.read(target, at, page_size);
    let found = found.map_err(|source| Error::Unreadable {
        what: "struct bpf_arena",
        source,
    })?;
    let window = Window::new(
        found.user_start,
        map.max_entries.into(),
        found.kernel_base,
        page_size,
    )?;
    let scratch = match found.scratch_page {
        Some(page) => Some(frame(target, page)?),
        None => None,
    };
    let mut failed = None;
    let arena = Arena::new(target, window, &mut |start, len, visit| {
        if let Err(error) = target.mapped(start, len, scratch, visit) {
            failed.get_or_insert(error);
        }
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(arena),
    }
}

/// Where the page of a `struct page` is.
fn frame(target: &dyn Target, page: Kva) -> Result<Gpa, Error> {
    let size = target.btf().record("page")?.size();
    let offset = target
        .vmemmap()
        .and_then(|vmemmap| page.get().checked_sub(vmemmap.get()));
    let number = offset.filter(|offset| offset.is_multiple_of(size.max(1)));
    let address = number.and_then(|offset| (offset / size.max(1)).checked_mul(target.page_size()));
    // Without it, pages that were only touched could not be told from others.
    address.map(Gpa::new).ok_or(Error::ScratchPage { page })
}

/// Which pages of an arena exist, as `pages_from` told.
pub(crate) fn state(arena: &Arena<'_>, pages_from: PagesFrom) -> MapState {
    let (window, pages) = (arena.window(), arena.pages());
    MapState::Arena {
        user_start: window.user_start(),
        kernel_base: window.kernel_base(),
        page_size: window.page_size(),
        declared_pages: window.pages(),
        runs: pages.runs().to_vec(),
        faulted: pages.faulted().to_vec(),
        complete: pages.lost().is_empty(),
        pages_from,
    }
}

/// Notes which pages of the arena cannot be told; it has no entries.
pub(crate) fn walk(arena: &Arena<'_>, walker: &mut Walker<'_, '_>) {
    for lost in arena.pages().lost() {
        let first = lost.run.pgoff;
        let last = first.saturating_add(lost.run.pages.saturating_sub(1));
        let at = GapAt::Indices(first, last);
        walker.walk.gap(at, lost.cause);
    }
}
