//! The arenas of a kernel, and in which of them a pointer lies.

use std::cell::RefCell;

use bpfmaps::arena::{Arena, Run, Window};
use bpfmaps::{BpfMapAccessor, MapType, ProgInfo};
use guestmem::{Address, ArenaPtr, MemoryExt};

use crate::walk::Causes;

/// Every arena of a kernel.
#[derive(Debug, Default)]
pub(super) struct Arenas<'a> {
    /// By ascending id.
    opened: Vec<Opened<'a>>,
    /// The maps whose arenas could not be opened, and why.
    pub(super) failed: Vec<(u32, String)>,
}

/// One arena.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    /// Of its map.
    pub(super) id: u32,
    pub(super) arena: Arena<'a>,
    /// A bit for each page that a typed pointer leads to; empty before the
    /// first one.
    reached: RefCell<Vec<u64>>,
}

/// Where a pointer lies.
pub(super) enum Located<'s, 'a> {
    /// At a user address of an arena.
    In(&'s Opened<'a>, ArenaPtr),
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

impl<'a> Arenas<'a> {
    pub(super) fn open(accessor: &'a dyn BpfMapAccessor) -> Self {
        let mut arenas = Self::default();
        // Who lists the maps says what of the list is missing.
        let maps = accessor.maps().unwrap_or_default();
        for map in &maps.maps {
            if map.map_type != MapType::ARENA {
                continue;
            }
            match accessor.arena(map) {
                Ok(Some(arena)) => arenas.opened.push(Opened {
                    id: map.id,
                    arena,
                    reached: RefCell::default(),
                }),
                Ok(None) => {}
                Err(error) => {
                    let why = Causes(&error).to_string();
                    arenas.failed.push((map.id, why));
                }
            }
        }
        arenas
    }

    pub(super) fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.failed.is_empty()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Opened<'a>> {
        let at = self.opened.binary_search_by_key(&id, |arena| arena.id);
        self.opened.get(at.ok()?)
    }

    /// Those that programs use, opened or not.
    pub(super) fn used_by(&self, progs: &[&ProgInfo]) -> Vec<u32> {
        let opened = self.opened.iter().map(|arena| arena.id);
        let all = opened.chain(self.failed.iter().map(|(id, _)| *id));
        let is_used = |id: &u32| progs.iter().any(|prog| prog.map_ids.contains(id));
        all.filter(is_used).collect()
    }

    /// Where `value` lies, as a pointer of programs that use the arenas `used`.
    pub(super) fn locate(&self, used: &[u32], value: u64) -> Located<'_, 'a> {
        let mut found = None;
        for id in used {
            let Some(arena) = self.get(*id) else {
                continue;
            };
            let Some(at) = user_address(arena.arena.window(), value) else {
                continue;
            };
            match found {
                None => found = Some((arena, at)),
                Some((first, _)) => return Located::Either(first.id, *id),
            }
        }
        if let Some((arena, at)) = found {
            return Located::In(arena, at);
        }
        let foreign = self.opened.iter().find(|arena| {
            // An arena that nobody has mapped has no addresses of its own.
            let window = arena.arena.window();
            window.user_start().is_some() && user_address(window, value).is_some()
        });
        match foreign {
            Some(arena) => Located::Foreign(arena.id),
            None => Located::Outside,
        }
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

impl Opened<'_> {
    fn window(&self) -> &Window {
        self.arena.window()
    }

    /// Why nothing is at `at`, if that is so.
    pub(super) fn absent(&self, at: ArenaPtr) -> Option<Cut> {
        let Some((pgoff, _)) = self.window().locate(at) else {
            return Some(Cut::new("outside of the arena"));
        };
        let pages = self.arena.pages();
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
    pub(super) fn read(&self, at: ArenaPtr, size: u64) -> Read {
        let read = self.arena.read_up_to(at, size);
        let cut = read.fault.map(|fault| {
            self.absent(fault.addr).unwrap_or_else(|| Cut {
                why: fault.cause.to_string(),
                is_gap: true,
            })
        });
        Read {
            bytes: read.bytes,
            cut,
        }
    }

    /// Notes that an object of `size` bytes at `at` is pointed to.
    pub(super) fn reach(&self, at: ArenaPtr, size: u64) {
        let window = self.window();
        let Some((first, offset)) = window.locate(at) else {
            return;
        };
        let end = offset.saturating_add(size.max(1)).saturating_sub(1) / window.page_size();
        let last = first.saturating_add(end).min(window.pages() - 1);
        let mut reached = self.reached.borrow_mut();
        if reached.is_empty() {
            let words = usize::try_from(window.pages().div_ceil(64)).unwrap_or(0);
            reached.resize(words, 0);
        }
        for page in first..=last {
            let word = usize::try_from(page / 64).unwrap_or(usize::MAX);
            if let Some(word) = reached.get_mut(word) {
                *word |= 1 << (page % 64);
            }
        }
    }

    /// The pages that exist and that something points to.
    pub(super) fn reached(&self) -> Vec<Run> {
        let reached = self.reached.borrow();
        let is_set = |page: u64| {
            let word = usize::try_from(page / 64).ok();
            let word = word.and_then(|word| reached.get(word));
            word.is_some_and(|word| word >> (page % 64) & 1 == 1)
        };
        let mut runs: Vec<Run> = Vec::new();
        for run in self.arena.pages().runs() {
            for pgoff in (run.pgoff..run.pgoff.saturating_add(run.pages)).filter(|&at| is_set(at)) {
                match runs.last_mut() {
                    Some(last) if last.pgoff.saturating_add(last.pages) == pgoff => last.pages += 1,
                    _ => runs.push(Run { pgoff, pages: 1 }),
                }
            }
        }
        runs
    }
}
