//! In which arena a pointer lies, and what is there.

use bpfmaps::arena::{Arena, Run, Window};
use guestmem::{Address, ArenaPtr, MemoryExt};

use crate::allocators::Survey;

/// Where a pointer lies.
pub(super) enum Located<'s, 'a> {
    /// At a user address of the arena of this map.
    In(u32, &'s Arena<'a>, ArenaPtr),
    /// In the windows of two arenas that both may be meant.
    Either(u32, u32),
    /// In the window of an arena that cannot be meant.
    Foreign(u32),
    Outside,
}

/// What was read of an object.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) bytes: Vec<u8>,
    /// Why that is not all.
    pub(crate) cut: Option<Cut>,
}

/// Why an object, or the rest of it, is not there.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) why: String,
    /// Whether it could not be read though it exists, or may. What an arena
    /// does not have is no gap: programs keep stale pointers.
    pub(super) is_gap: bool,
}

impl Cut {
    pub(super) fn new(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            is_gap: false,
        }
    }
}

/// Where `value` lies, as a pointer of programs that use the arenas `used`.
pub(super) fn locate<'s, 'a>(survey: &'s Survey<'a>, used: &[u32], value: u64) -> Located<'s, 'a> {
    let mut found: Option<(u32, &'s Arena<'a>, ArenaPtr)> = None;
    for id in used {
        let Some(surveyed) = survey.arenas.get(id) else {
            continue;
        };
        let arena = &surveyed.arena;
        let half = || half_address(arena.window(), value).filter(|_| surveyed.keeps_halves);
        let Some(at) = user_address(arena.window(), value).or_else(half) else {
            continue;
        };
        match found {
            None => found = Some((*id, arena, at)),
            Some((first, ..)) => return Located::Either(first, *id),
        }
    }
    if let Some((id, arena, at)) = found {
        return Located::In(id, arena, at);
    }
    let foreign = survey.arenas.iter().find(|(_, surveyed)| {
        // An arena that nobody has mapped has no addresses of its own.
        let window = surveyed.arena.window();
        window.user_start().is_some() && user_address(window, value).is_some()
    });
    match foreign {
        Some((id, _)) => Located::Foreign(*id),
        None => Located::Outside,
    }
}

/// The user address of a pointer into an arena, which programs keep as that or
/// as the kernel's address.
fn user_address(window: &Window, value: u64) -> Option<ArenaPtr> {
    let user = ArenaPtr::new(value);
    if window.locate(user).is_some() {
        return Some(user);
    }
    window.pieces().find_map(|(first, start, len)| {
        let offset = value.checked_sub(start.get()).filter(|&at| at < len)?;
        window.user_address(first)?.checked_add(offset)
    })
}

/// The user address of which `value` is the low half.
fn half_address(window: &Window, value: u64) -> Option<ArenaPtr> {
    let half = u32::try_from(value).ok()?;
    let start = window.user_start()?.get();
    let low = u32::try_from(start & u64::from(u32::MAX)).ok()?;
    let at = ArenaPtr::new(start).checked_add(half.wrapping_sub(low).into())?;
    window.locate(at).map(|_| at)
}

/// Why nothing is at `at`, if that is so.
pub(super) fn absent(arena: &Arena<'_>, at: ArenaPtr) -> Option<Cut> {
    let Some((pgoff, _)) = arena.window().locate(at) else {
        return Some(Cut::new("outside of the arena"));
    };
    let pages = arena.pages();
    if pages.contains(pgoff) {
        return None;
    }
    let holds = |run: &Run| (run.pgoff..run.pgoff.saturating_add(run.pages)).contains(&pgoff);
    let lost = pages.lost().iter().find(|lost| holds(&lost.run));
    Some(match lost {
        Some(lost) => Cut {
            why: lost.cause.to_string(),
            is_gap: true,
        },
        None => Cut::new("page not present"),
    })
}

/// Reads as much as there is of `size` bytes.
pub(super) fn read(arena: &Arena<'_>, at: ArenaPtr, size: u64) -> Read {
    let read = arena.read_up_to(at, size);
    let cut = read.fault.map(|fault| {
        absent(arena, fault.addr).unwrap_or_else(|| Cut {
            why: fault.cause.to_string(),
            is_gap: true,
        })
    });
    Read {
        bytes: read.bytes,
        cut,
    }
}
