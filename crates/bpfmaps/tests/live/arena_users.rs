//! Arenas through the processes that map them: what of them is seen, and that
//! no page comes into being by it.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::process;

use bpfmaps::arena::Run;
use bpfmaps::{BpfMapAccessor, Error, GapAt, Live, MapState, PagesFrom, Reason, Via};
use guestmem::{Address, ArenaPtr, Cause, Memory, MemoryExt};
use libbpf_rs::MapType;
use libbpf_rs::libbpf_sys as bpf;
use nix::libc;

use crate::arenas::{PAGE, User, arena, map};
use crate::keep_capabilities;
use crate::maker::{Made, Only, Spec};

/// Where arenas may be made to begin: no process has anything there.
const START: u64 = 1 << 44;

fn live() -> Live {
    Live::open().unwrap().via(Via::Bpf)
}

/// Checks that of `user`'s arena `seen` is seen, through the processes `pids`,
/// and that by the kernel's account `existing` exists before and after.
#[track_caller]
fn check(user: &User, pids: &[u32], seen: &[u64], existing: &[u64]) {
    let live = live();
    let existing: BTreeSet<u64> = existing.iter().copied().collect();
    assert_eq!(user.existing(), existing, "before");
    bpfmaps::contract::check(&Only(&live, user.made.id), bpfmaps::contract::World::Still);
    let info = user.made.info(&live);
    let Some(MapState::Arena {
        user_start,
        kernel_base: None,
        declared_pages,
        runs,
        complete: false,
        pages_from,
        ..
    }) = live.state(&info).unwrap()
    else {
        panic!("{info:?}");
    };
    assert_eq!(user_start, Some(ArenaPtr::new(user.address(0))));
    assert_eq!(declared_pages, u64::from(user.pages));
    let pids = pids.to_vec();
    assert_eq!(pages_from, PagesFrom::Mappings { pids });
    let listed = runs.iter().flat_map(|run| run.pgoff..run.pgoff + run.pages);
    assert_eq!(listed.collect::<Vec<_>>(), seen);

    let arena = live.arena(&info).unwrap().unwrap();
    assert_eq!(arena.pages().runs(), runs);
    let mut bytes = vec![0; PAGE];
    for pgoff in 0..declared_pages {
        let at = arena.window().user_address(pgoff).unwrap();
        let read = arena.read(at, &mut bytes).map_err(|fault| fault.cause);
        let expected = seen.contains(&pgoff).then_some(()).ok_or(Cause::Unseen);
        assert_eq!(read, expected, "page {pgoff}");
    }

    let walk = live.entries(&info, &mut |_| ControlFlow::Continue(()));
    let unknown = walk.unwrap().gaps.into_iter().flat_map(|gap| {
        assert_eq!(gap.reason, Reason::Unreadable(Cause::Unseen));
        let GapAt::Indices(first, last) = gap.at else {
            panic!("{gap}");
        };
        first..=last
    });
    let known = seen.iter().copied();
    assert!(
        unknown
            .chain(known)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .eq(0..declared_pages)
    );
    assert_eq!(user.existing(), existing, "after");
}

/// Checks why `made` cannot be read; there may be processes that nobody may
/// look at.
#[track_caller]
fn check_refused(made: &Made, users: &str) {
    let live = live();
    let info = made.info(&live);
    let why =
        format!("it was not to be read; nor can the arena be read through its users: {users}");
    for refused in [live.state(&info).err(), live.arena(&info).err()] {
        let Some(Error::NoMemory(refused)) = refused else {
            panic!("{refused:?}");
        };
        assert!(refused.to_string().starts_with(&why), "{refused}");
    }
    let walk = live.entries(&info, &mut |_| ControlFlow::Continue(()));
    let gaps = walk.unwrap().gaps;
    let [gap] = gaps.as_slice() else {
        panic!("{gaps:?}");
    };
    let expected = format!("map: arena maps are read from the kernel's memory: {why}");
    assert!(gap.to_string().starts_with(&expected), "{gap}");
}

#[test]
fn what_users_have_touched_is_listed_and_read() {
    let own = [process::id()];
    for (pages, start) in [(251, 0), (251, START)] {
        let user = User::of(arena(pages, 0, start), pages, start);
        check(&user, &own, &[], &[]);
        for (pgoff, byte) in [(0, 10), (1, 11), (7, 17), (99, 109)] {
            user.touch(pgoff, Some(byte));
        }
        // What a program has is not seen before a user touches it.
        assert!(user.allocate(250, true) && user.allocate(3, true));
        user.touch(3, None);
        check(&user, &own, &[0, 1, 3, 7, 99], &[0, 1, 3, 7, 99, 250]);
        let live = live();
        let arena = live.arena(&user.made.info(&live)).unwrap().unwrap();
        for (pgoff, byte) in [(0, 10), (1, 11), (3, 0), (7, 17), (99, 109)] {
            let read: [u8; 2] = arena.load(ArenaPtr::new(user.address(pgoff))).unwrap();
            assert_eq!(read, [byte, 0]);
        }
        // Over the end of a page, and of what is known.
        let end = ArenaPtr::new(user.address(1) - 1);
        assert_eq!(arena.load(end), Ok([0, 11]));
        let end = ArenaPtr::new(user.address(2) - 1);
        let fault = arena.load::<2>(end).unwrap_err();
        assert_eq!(
            (fault.addr.get(), fault.cause),
            (user.address(2), Cause::Unseen)
        );
    }
}

#[test]
fn a_page_that_went_is_not_touched() {
    let user = User::of(arena(252, 0, 0), 252, 0);
    user.touch(5, Some(1));
    user.touch(6, Some(2));
    let live = live();
    let arena = live.arena(&user.made.info(&live)).unwrap().unwrap();
    let at = user.start.wrapping_add(5 * PAGE);
    // SAFETY: the page is in the mapping, which no reference is to; its bytes
    // stay with the arena.
    let dropped = unsafe { libc::madvise(at.cast(), PAGE, libc::MADV_DONTNEED) };
    assert_eq!(dropped, 0);
    let read = |pgoff| arena.load_u8(ArenaPtr::new(user.address(pgoff)));
    assert_eq!(read(5).unwrap_err().cause, Cause::Unseen);
    assert_eq!(read(6), Ok(2));
    check(&user, &[process::id()], &[6], &[5, 6]);
    user.touch(5, None);
    assert_eq!(read(5), Ok(1));
}

#[test]
fn arenas_that_kill_their_users_are_seen() {
    let user = User::of(arena(253, bpf::BPF_F_SEGV_ON_FAULT, 0), 253, 0);
    assert!([3, 4, 200].iter().all(|&pgoff| user.allocate(pgoff, true)));
    user.touch(4, Some(44));
    check(&user, &[process::id()], &[4], &[3, 4, 200]);
}

#[test]
fn an_arena_that_nobody_maps_stays_unmapped() {
    for (pages, start) in [(254, 0), (254, START + 0x1000_0000)] {
        let made = arena(pages, 0, start);
        check_refused(&made, "no process that holds it open is seen to map it");
        // Had it been mapped meanwhile, it could not begin elsewhere now.
        let begin = if start == 0 {
            START + 0x2000_0000
        } else {
            start
        };
        let user = User::of(made, pages, begin);
        assert_eq!(user.address(0), begin);
        assert!(user.existing().is_empty());
    }
}

#[test]
fn nothing_is_guessed() {
    let mine = || User::of(arena(255, 0, 0), 255, 0);
    let pid = process::id();
    let (first, second) = (mine(), mine());
    let users = format!("process {pid} has 2 mappings that may be of 2 arenas");
    check_refused(&first.made, &users);
    check_refused(&second.made, &users);
    // One that must be elsewhere takes nothing from the others.
    let start = START + 0x3000_0000;
    let placed = User::of(arena(255, 0, start), 255, start);
    placed.touch(9, Some(1));
    check(&placed, &[pid], &[9], &[9]);
    drop(second);
    // Nor is one of another type taken for it.
    let array = Spec::new(MapType::Array, 4, 4096, 255).flags(bpf::BPF_F_MMAPABLE);
    let array = array.make();
    map(array.handle.as_fd().as_raw_fd(), first.len(), 0);
    first.touch(8, Some(1));
    check(&first, &[pid], &[8], &[8]);
}

/// A process that has touched a page of an arena and waits.
struct Child(libc::pid_t);

impl Child {
    fn new(made: &Made, len: usize, start: u64, pgoff: usize) -> Self {
        let fd = made.handle.as_fd().as_raw_fd();
        let (mut ready, mut tell) = std::io::pipe().unwrap();
        let start = start.try_into().unwrap();
        // SAFETY: the child only makes system calls and touches memory.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let at = map(fd, len, start).wrapping_add(pgoff * PAGE);
            // SAFETY: it is in the mapping, which no reference is to.
            unsafe { at.write_volatile(77) };
            let _told = tell.write_all(&[1]);
            loop {
                // SAFETY: it waits for a signal.
                unsafe { libc::pause() };
            }
        }
        drop(tell);
        ready.read_exact(&mut [0]).unwrap();
        Self(pid)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: it is a child of ours that nobody has waited for.
        unsafe { libc::kill(self.0, libc::SIGKILL) };
        // SAFETY: as above; the status is not asked for.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

#[test]
fn what_any_user_has_is_seen() {
    let user = User::of(arena(249, 0, 0), 249, 0);
    for pgoff in [2, 19] {
        user.touch(pgoff, Some(66));
    }
    let child = Child::new(&user.made, user.len(), user.address(0), 20);
    let pids = BTreeSet::from([process::id(), child.0.try_into().unwrap()]);
    let pids: Vec<u32> = pids.into_iter().collect();
    check(&user, &pids, &[2, 19, 20], &[2, 19, 20]);
    let live = live();
    let arena = live.arena(&user.made.info(&live)).unwrap().unwrap();
    let end = ArenaPtr::new(user.address(20) - 1);
    assert_eq!(arena.load(end), Ok([0, 77]));
    // With the process goes what is known through it.
    drop(child);
    let fault = arena.load::<2>(end).unwrap_err();
    assert_eq!(
        (fault.addr.get(), fault.cause),
        (user.address(20), Cause::Unseen)
    );
    check(&user, &[process::id()], &[2, 19], &[2, 19, 20]);
}

#[test]
fn processes_that_are_not_seen_are_counted() {
    const SYS_ADMIN: u32 = 1 << 21;
    let made = arena(248, 0, START);
    let _child = Child::new(&made, 248 * PAGE, START, 2);
    let info = made.info(&live());
    let seen = || {
        let live = live();
        let arena = live.arena(&info).map_err(|error| error.to_string())?;
        Ok::<_, String>(arena.unwrap().pages().runs().to_vec())
    };
    assert_eq!(seen().unwrap(), [Run { pgoff: 2, pages: 1 }]);
    // Capabilities are a thread's own. Without CAP_SYS_PTRACE, it may not look
    // at a process that has more of them.
    let refused = std::thread::scope(|threads| {
        let look = || {
            keep_capabilities(SYS_ADMIN);
            seen()
        };
        threads.spawn(look).join().unwrap().unwrap_err()
    });
    let hidden = refused.split_once("is seen to map it; ");
    let text = " may not be looked at, which takes CAP_SYS_PTRACE";
    let count = hidden.and_then(|(_, count)| count.strip_suffix(text));
    let count: u32 = count
        .unwrap_or_else(|| panic!("{refused}"))
        .parse()
        .unwrap();
    assert!(count > 0);
}
