//! Arenas through the processes that map them, where the kernel's memory is
//! not to be had.
//!
//! What is in the page tables of such a process exists. What only programs
//! have touched is in none, so that of all other pages nobody knows. The arena
//! is not mapped here: that would set the address of one that nobody has
//! mapped, and reading from it would make pages.
//!
//! A page that is freed between the look at the page table and the read comes
//! into being again by it, in this way alone.

mod text;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use arena::{Arena, Window};
use guestmem::{Address, ArenaPtr, Cause, Fault, Memory};
use nix::errno::Errno;

use self::text::{Held, MAP_FILE};
use crate::{Error, MapInfo, NoMemory, NoUser, PagesFrom};

/// Bytes for each page in `/proc/PID/pagemap`.
const ENTRY: usize = size_of::<u64>();

/// The page is in memory, and in the page table.
const PRESENT: u64 = 1 << 63;

/// Entries that are looked at together.
const LOOK: u64 = 8192;

/// The most pages that are read after one look.
const READ: u64 = 16;

/// A process that maps an arena. The files stay with its address space,
/// whatever becomes of the process.
struct User {
    pid: u32,
    pagemap: File,
    memory: File,
}

/// How a look at a process ended.
enum Look {
    /// It maps the arena there.
    Maps(User, u64),
    /// It does not, or is gone.
    None,
    /// It may not be looked at.
    Hidden,
    /// It has mappings, but which of them is it?
    Unsure(NoUser),
}

impl User {
    fn look(pid: u32, arena: &Held, page_size: u64) -> Look {
        match Self::open(pid, arena, page_size) {
            Ok(look) => look,
            Err(error) if is_gone(&error) => Look::None,
            Err(_refused) => Look::Hidden,
        }
    }

    fn open(pid: u32, arena: &Held, page_size: u64) -> io::Result<Look> {
        let process = Path::new("/proc").join(pid.to_string());
        let mut others = held(&process, page_size)?;
        let all = others.len();
        others.retain(|other| other.id != arena.id);
        if others.len() == all {
            return Ok(Look::None);
        }
        let smaps = fs::read(process.join("smaps"))?;
        let mappings = text::mappings(&String::from_utf8_lossy(&smaps));
        Ok(match arena.mapping(&mappings, &others) {
            Ok(None) => Look::None,
            Ok(Some(mapping)) => {
                let user = Self {
                    pid,
                    pagemap: File::open(process.join("pagemap"))?,
                    memory: File::open(process.join("mem"))?,
                };
                Look::Maps(user, mapping.start)
            }
            Err((mappings, arenas)) => Look::Unsure(NoUser::Unsure {
                pid,
                mappings,
                arenas,
            }),
        })
    }

    /// Which of `count` pages from the page number `first` on are in its page
    /// table; none more where it has none any more.
    fn present(&self, first: u64, count: u64) -> Vec<bool> {
        let size = ENTRY as u64;
        let len = usize::try_from(count).unwrap_or(0).saturating_mul(ENTRY);
        let mut entries = vec![0; len];
        let at = first.checked_mul(size).ok_or(Errno::EOVERFLOW.into());
        let read = at.and_then(|at: u64| self.pagemap.read_exact_at(&mut entries, at));
        let entries = entries.chunks_exact(ENTRY).filter(|_| read.is_ok());
        let entry = |bytes: &[u8]| {
            bytes
                .first_chunk()
                .map_or(0, |bytes| u64::from_ne_bytes(*bytes))
        };
        entries.map(|bytes| entry(bytes) & PRESENT != 0).collect()
    }
}

/// The arenas that the process in this folder has descriptors of.
fn held(process: &Path, page_size: u64) -> io::Result<Vec<Held>> {
    let mut found = Vec::new();
    for link in fs::read_dir(process.join("fd"))? {
        let link = link?;
        let info = || {
            let is_map = fs::read_link(link.path())? == Path::new(MAP_FILE);
            let info = process.join("fdinfo").join(link.file_name());
            is_map.then(|| fs::read_to_string(info)).transpose()
        };
        match info() {
            Ok(info) => found.extend(info.and_then(|info| Held::parse(&info, page_size))),
            // It was closed meanwhile.
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Whether this says that a process, or its descriptor, is not there any more.
fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::ENOENT | Errno::ESRCH))
}

/// The processes that map one arena.
struct Users {
    window: Window,
    users: Vec<User>,
}

impl Users {
    /// Looks for them among `processes`, and for where they have it.
    fn find(
        processes: Vec<u32>,
        map: &MapInfo,
        page_size: u64,
    ) -> Result<(u64, Vec<User>), NoUser> {
        let arena = Held {
            id: map.id,
            len: u64::from(map.max_entries).saturating_mul(page_size),
            map_extra: map.map_extra,
        };
        let mut found: Option<(u64, Vec<User>)> = None;
        let (mut hidden, mut unsure) = (0u64, None);
        for pid in processes {
            match User::look(pid, &arena, page_size) {
                Look::None => {}
                Look::Hidden => hidden += 1,
                Look::Unsure(why) => unsure = unsure.or(Some(why)),
                Look::Maps(user, start) => match &mut found {
                    None => found = Some((start, vec![user])),
                    // All users have it at one address.
                    Some((first, users)) if *first == start => users.push(user),
                    Some((_, users)) => {
                        let pids = [users.first().map_or(0, |user| user.pid), user.pid];
                        return Err(NoUser::Apart { pids });
                    }
                },
            }
        }
        found.ok_or_else(|| unsure.unwrap_or(NoUser::Nobody { hidden }))
    }

    /// Which pages some of them have.
    fn present(&self) -> Vec<bool> {
        let mut found = Vec::new();
        let mut pgoff = 0;
        while pgoff < self.window.pages() {
            let count = LOOK.min(self.window.pages() - pgoff);
            let mut present = vec![false; usize::try_from(count).unwrap_or(0)];
            for user in &self.users {
                let of_user = self.look(user, pgoff, count);
                for (present, one) in present.iter_mut().zip(of_user) {
                    *present |= one;
                }
            }
            found.append(&mut present);
            pgoff += count;
        }
        found
    }

    /// Which of `count` pages from `pgoff` on this one has.
    fn look(&self, user: &User, pgoff: u64, count: u64) -> Vec<bool> {
        let first = self.window.user_address(pgoff);
        let first = first.map_or(0, ArenaPtr::get) / self.window.page_size();
        user.present(first, count)
    }

    /// Fills what it can of `buf`, which is not empty, from one of them, and
    /// says how much that is.
    fn fetch(&self, at: ArenaPtr, buf: &mut [u8]) -> Result<usize, Cause> {
        let size = self.window.page_size();
        let (pgoff, offset) = self.window.locate(at).ok_or(Cause::EndOfSpace)?;
        let asked = offset.saturating_add(buf.len() as u64).div_ceil(size);
        let count = asked.min(READ).min(self.window.pages() - pgoff);
        let mut cause = Cause::Unseen;
        for user in &self.users {
            let present = self.look(user, pgoff, count);
            let pages = present.iter().take_while(|&&present| present).count() as u64;
            let len = pages.saturating_mul(size).saturating_sub(offset);
            if len == 0 {
                continue;
            }
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(buf.len());
            let (now, _) = buf.split_at_mut(len);
            match user.memory.read_at(now, at.get()) {
                Ok(read) if read > 0 => return Ok(read),
                _ => cause = Cause::Refused,
            }
        }
        Err(cause)
    }
}

impl Memory<ArenaPtr> for Users {
    fn read(&self, addr: ArenaPtr, buf: &mut [u8]) -> Result<(), Fault<ArenaPtr>> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = addr.checked_add(done as u64);
            let at = at.ok_or(Fault::new(addr, Cause::EndOfSpace))?;
            let read = self.fetch(at, rest);
            done += read.map_err(|cause| Fault::new(at, cause))?;
        }
        Ok(())
    }
}

/// All processes, by number.
fn processes() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    pids.sort_unstable();
    Ok(pids)
}

/// The arena `map`, which is held open, through those who map it; `why` the
/// kernel's memory is not to be had.
pub(super) fn open(
    map: &MapInfo,
    page_size: u64,
    why: &NoMemory,
) -> Result<(Arena<'static>, PagesFrom), Error> {
    let processes = processes().map_err(|source| Error::System {
        operation: "reading /proc",
        source,
    })?;
    let found = Users::find(processes, map, page_size);
    let (start, users) = found.map_err(|users| {
        let why = Box::new(why.clone());
        Error::NoMemory(NoMemory::NoUser { why, users })
    })?;
    let window = Window::of_users(ArenaPtr::new(start), map.max_entries.into(), page_size)?;
    let pids = users.iter().map(|user| user.pid).collect();
    let users = Users { window, users };
    let present = users.present();
    let arena = Arena::of_users(users, window, present);
    Ok((arena, PagesFrom::Mappings { pids }))
}
