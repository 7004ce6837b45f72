//! Which memory a capture needs: that which is read when everything is shown.

use std::io;
use std::ops::ControlFlow;

use bpfmaps::{BpfMapAccessor, Guest, MapInfo};
use guestmem::Memory;
use render::{ArenaPages, Format, Options, Source};

use super::{Arenas, Scope};
use crate::Error;

/// Reads everything in `scope` as a dump does: JSON tells all that any format
/// tells, and that of maps a list of programs as well.
pub(super) fn everything(guest: &Guest, scope: &Scope) -> Result<(), Error> {
    let mut options = Options::new(Source::new("capture"));
    options.format = Format::Json;
    options.arena_pages = match scope.arenas {
        Arenas::Whole => ArenaPages::Bytes,
        Arenas::Reached => ArenaPages::Listed,
        Arenas::No => ArenaPages::Unread,
    };
    options.wanted.maps = scope.maps.as_ref().map(|ids| ids.iter().copied().collect());
    let mut maps = guest.maps()?;
    maps.maps.retain(|map| scope.has(map));
    // A sink takes everything.
    let _ = render::dump(guest, &maps, &options, &mut io::sink());
    for map in &maps.maps {
        let _ = guest.btf(map);
    }
    read_code(guest);
    Ok(())
}

/// Reads what of `scope` changes most, without a thought about it. What this
/// leaves out is found missing later.
pub(super) fn what_changes(guest: &Guest, scope: &Scope) {
    guest.machine().space().forget();
    let maps = guest.maps().unwrap_or_default();
    for map in maps.maps.iter().filter(|map| scope.has(map)) {
        let _ = guest.entries(map, &mut |_| ControlFlow::Continue(()));
        let _ = guest.state(map);
        if scope.arenas == Arenas::Whole {
            read_arena(guest, map);
        }
    }
    read_code(guest);
}

/// Reads the programs and what they consist of. That they cannot be listed is
/// said where they are.
fn read_code(guest: &Guest) {
    for prog in &guest.progs().unwrap_or_default().progs {
        let _ = guest.code(prog);
    }
}

/// Reads every page of an arena, if `map` is one.
fn read_arena(guest: &Guest, map: &MapInfo) {
    let Ok(Some(arena)) = guest.arena(map) else {
        return;
    };
    let window = arena.window();
    let page_size = window.page_size();
    let mut page = vec![0; usize::try_from(page_size).unwrap_or(0)];
    for run in arena.pages().runs() {
        for pgoff in run.pgoff..run.pgoff.saturating_add(run.pages) {
            if let Some(at) = window.user_address(pgoff) {
                let _ = arena.read(at, &mut page);
            }
        }
    }
}
