//! The bytes of an arena's pages, one page at a time.

use std::cell::Cell;

use bpfmaps::arena::Arena;
use bpfmaps::{Error, MapInfo, MapType};
use guestmem::{ArenaPtr, Fault, Memory};

use crate::ArenaPages;
use crate::context::Context;

/// An arena whose pages are to be written.
pub(crate) struct PageBytes<'a> {
    arena: Result<Arena<'a>, Error>,
    gaps: Cell<u64>,
}

impl<'a> PageBytes<'a> {
    /// The pages of `info`, if it is an arena and they are wanted.
    pub(crate) fn of(context: &Context<'a>, info: &MapInfo) -> Option<Self> {
        if context.arena_pages != ArenaPages::Bytes || info.map_type != MapType::ARENA {
            return None;
        }
        let arena = context.accessor.arena(info).transpose()?;
        Some(Self {
            gaps: Cell::new(arena.is_err().into()),
            arena,
        })
    }

    /// Why there are none, if that is so.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.arena.as_ref().err()
    }

    /// How many could not be read so far.
    pub(crate) fn gaps(&self) -> u64 {
        self.gaps.get()
    }

    /// Visits each page that exists, by ascending number, with its bytes or
    /// why they are not to be had. The first error of the visitor ends it.
    pub(crate) fn visit<E>(
        &self,
        mut visit: impl FnMut(u64, Result<&[u8], Fault<ArenaPtr>>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Ok(arena) = &self.arena else {
            return Ok(());
        };
        let window = arena.window();
        let mut bytes = vec![0; usize::try_from(window.page_size()).unwrap_or(0)];
        for run in arena.pages().runs() {
            for pgoff in run.pgoff..run.pgoff.saturating_add(run.pages) {
                let Some(at) = window.user_address(pgoff) else {
                    continue;
                };
                let read = arena.read(at, &mut bytes);
                if read.is_err() {
                    self.gaps.set(self.gaps.get().saturating_add(1));
                }
                visit(pgoff, read.map(|()| bytes.as_slice()))?;
            }
        }
        Ok(())
    }
}
