//! Arenas of the running kernel: what is read, and that no page comes into
//! being by it.
//!
//! The witness is the kernel's own account of what is free: a program of ours
//! asks for the very page, and gets it only where there is none.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr;

use bpfmaps::{BpfMapAccessor, Live, MapState, PagesFrom};
use guestmem::{Address, ArenaPtr, Cause, Memory, MemoryExt};
use libbpf_rs::MapType;
use libbpf_rs::libbpf_sys as bpf;
use nix::libc;

use crate::maker::{Made, Only, ROOT, Spec};

const PAGES: u32 = 256;
pub(crate) const PAGE: usize = 4096;

/// An arena that begins at `start`, or at 0 where its first user wants it.
pub(crate) fn arena(pages: u32, flags: u32, start: u64) -> Made {
    let flags = bpf::BPF_F_MMAPABLE | flags;
    let mut spec = Spec::new(MapType::Arena, 0, 0, pages).flags(flags);
    spec.map_extra = start;
    spec.make()
}

/// An arena as one of its users sees it.
pub(crate) struct User {
    pub(crate) made: Made,
    pub(crate) start: *mut u8,
    pub(crate) pages: u32,
    program: OwnedFd,
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and goes with what used it.
        unsafe { libc::munmap(self.start.cast(), self.len()) };
    }
}

/// What a program is told, and what it answers.
#[repr(C)]
struct Context {
    address: u64,
    keep: u64,
    got: u64,
}

impl User {
    fn new(flags: u32) -> Self {
        Self::of(arena(PAGES, flags, 0), PAGES, 0)
    }

    /// One of `made`, which is to be mapped at `start` if that is not 0.
    pub(crate) fn of(made: Made, pages: u32, start: u64) -> Self {
        let fd = made.handle.as_fd().as_raw_fd();
        let start = map(fd, pages as usize * PAGE, start.try_into().unwrap());
        Self {
            made,
            start,
            pages,
            program: load(fd),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pages as usize * PAGE
    }

    pub(crate) fn address(&self, pgoff: u32) -> u64 {
        self.start.addr() as u64 + u64::from(pgoff) * PAGE as u64
    }

    /// Has the page come into being by a write or, with `None`, by a read.
    pub(crate) fn touch(&self, pgoff: u32, byte: Option<u8>) {
        let at = self.start.wrapping_add(pgoff as usize * PAGE);
        match byte {
            // SAFETY: it is in the mapping, which no reference is to.
            Some(byte) => unsafe { at.write_volatile(byte) },
            None => {
                // SAFETY: it is in the mapping, which no reference is to.
                unsafe { at.read_volatile() };
            }
        }
    }

    /// Asks the kernel for the page; whether it was to be had. Unless it is
    /// kept, it is given back.
    pub(crate) fn allocate(&self, pgoff: u32, keep: bool) -> bool {
        let mut context = Context {
            address: self.address(pgoff),
            keep: keep.into(),
            got: 0,
        };
        let mut options = bpf::bpf_test_run_opts {
            sz: size_of::<bpf::bpf_test_run_opts>() as bpf::size_t,
            ctx_in: (&raw mut context).cast_const().cast(),
            ctx_size_in: size_of::<Context>().try_into().unwrap(),
            ..Default::default()
        };
        let fd = self.program.as_raw_fd();
        // SAFETY: the context is as long as is said.
        let ran = unsafe { bpf::bpf_prog_test_run_opts(fd, &raw mut options) };
        assert_eq!((ran, options.retval), (0, 0));
        context.got != 0
    }

    /// The pages that exist, by the kernel's account of those that do not.
    pub(crate) fn existing(&self) -> BTreeSet<u64> {
        let exists = |&pgoff: &u32| !self.allocate(pgoff, false);
        (0..self.pages).filter(exists).map(u64::from).collect()
    }
}

/// Maps the arena behind `fd`.
pub(crate) fn map(fd: i32, len: usize, start: usize) -> *mut u8 {
    let start = ptr::with_exposed_provenance_mut(start);
    let both = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, not forced to where it is wanted, overlaps
    // nothing.
    let mapped = unsafe { libc::mmap(start, len, both, libc::MAP_SHARED, fd, 0) };
    assert_ne!(mapped, libc::MAP_FAILED);
    mapped.cast()
}

/// A function of the kernel's for programs, by its id in the kernel's BTF.
fn kernel_function(name: &CStr) -> i32 {
    const FUNC: u32 = 12;
    // SAFETY: it is ours, and freed after its only use.
    let btf = unsafe { bpf::btf__load_vmlinux_btf() };
    assert!(!btf.is_null());
    // SAFETY: `btf` lives, and the name ends with a NUL.
    let id = unsafe { bpf::btf__find_by_name_kind(btf, name.as_ptr(), FUNC) };
    // SAFETY: nothing uses it any more.
    unsafe { bpf::btf__free(btf) };
    assert!(id > 0, "{name:?}");
    id
}

/// A program that allocates a page of the arena, and may free it again.
fn load(arena: i32) -> OwnedFd {
    let insn = |code: u8, dst: u8, src: u8, off: i16, imm: i32| {
        u64::from(code)
            | u64::from(dst) << 8
            | u64::from(src) << 12
            | u64::from(off.cast_unsigned()) << 16
            | u64::from(imm.cast_unsigned()) << 32
    };
    let kernel_call = |name| insn(0x85, 0, 2, 0, kernel_function(name));
    let program = [
        insn(0xbf, 6, 1, 0, 0),
        // bpf_arena_alloc_pages(arena, address, 1, NUMA_NO_NODE, 0)
        insn(0x18, 1, 1, 0, arena),
        0,
        insn(0x79, 2, 6, 0, 0),
        insn(0xb7, 3, 0, 0, 1),
        insn(0xb7, 4, 0, 0, -1),
        insn(0xb7, 5, 0, 0, 0),
        kernel_call(c"bpf_arena_alloc_pages"),
        insn(0xbf, 7, 0, 0, 0),
        insn(0xb7, 0, 0, 0, 0),
        insn(0x15, 7, 0, 8, 0),
        insn(0x7a, 6, 0, 16, 1),
        insn(0x79, 1, 6, 8, 0),
        insn(0x55, 1, 0, 5, 0),
        // bpf_arena_free_pages(arena, page, 1)
        insn(0x18, 1, 1, 0, arena),
        0,
        insn(0xbf, 2, 7, 0, 0),
        insn(0xb7, 3, 0, 0, 1),
        kernel_call(c"bpf_arena_free_pages"),
        insn(0xb7, 0, 0, 0, 0),
        insn(0x95, 0, 0, 0, 0),
    ];
    let mut log = vec![0u8; 1 << 16];
    let mut options = bpf::bpf_prog_load_opts {
        sz: size_of::<bpf::bpf_prog_load_opts>() as bpf::size_t,
        prog_flags: bpf::BPF_F_SLEEPABLE,
        log_level: 1,
        log_size: log.len().try_into().unwrap(),
        log_buf: log.as_mut_ptr().cast(),
        ..Default::default()
    };
    // SAFETY: name and license end with a NUL, the program and the log are as
    // long as is said.
    let fd = unsafe {
        bpf::bpf_prog_load(
            bpf::BPF_PROG_TYPE_SYSCALL,
            c"test".as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr().cast(),
            program.len() as bpf::size_t,
            &raw mut options,
        )
    };
    let log = String::from_utf8_lossy(&log);
    assert!(fd >= 0, "BPF_PROG_LOAD: {fd}; {ROOT}\n{log}");
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Reads all there is of an arena, in each of the ways that there are, and
/// gives the pages that exist and where it begins.
fn read(live: &Live, made: &Made) -> (BTreeSet<u64>, Option<ArenaPtr>) {
    let only = Only(live, made.id);
    bpfmaps::contract::check(&only, bpfmaps::contract::World::Still);
    let info = made.info(live);
    let state = live.state(&info).unwrap();
    let Some(MapState::Arena {
        user_start,
        runs,
        faulted,
        complete,
        pages_from,
        ..
    }) = state
    else {
        panic!("{state:?}");
    };
    assert_eq!(pages_from, PagesFrom::PageTables);
    let arena = live.arena(&info).unwrap().unwrap();
    assert!(complete && faulted.is_empty(), "{:?}", arena.pages());
    assert_eq!(arena.pages().runs(), runs);
    let mut bytes = vec![0; PAGE];
    for pgoff in 0..u64::from(PAGES) {
        let at = arena.window().user_address(pgoff).unwrap();
        let read = arena.read(at, &mut bytes);
        match arena.pages().contains(pgoff) {
            true => read.unwrap(),
            false => assert_eq!(read.unwrap_err().cause, Cause::NotPresent { level: 1 }),
        }
    }
    let pages = runs.iter().flat_map(|run| run.pgoff..run.pgoff + run.pages);
    (pages.collect(), user_start)
}

/// Checks that reading finds exactly `pages`, and that the kernel says so
/// before and after.
#[track_caller]
fn check(live: &Live, user: &User, pages: &[u64]) {
    let pages: BTreeSet<u64> = pages.iter().copied().collect();
    assert_eq!(user.existing(), pages, "before");
    let (found, start) = read(live, &user.made);
    assert_eq!(user.existing(), pages, "after");
    assert_eq!(found, pages);
    assert_eq!(start, Some(ArenaPtr::new(user.address(0))));
}

#[test]
fn pages_are_listed_and_read_and_none_comes_of_it() {
    let live = Live::open().unwrap();
    let user = User::new(0);
    check(&live, &user, &[]);
    for (pgoff, byte) in [(0, 10), (1, 11), (7, 17), (99, 109)] {
        user.touch(pgoff, Some(byte));
    }
    check(&live, &user, &[0, 1, 7, 99]);
    let info = user.made.info(&live);
    let arena = live.arena(&info).unwrap().unwrap();
    for (pgoff, byte) in [(0, 10), (1, 11), (7, 17), (99, 109)] {
        let read: [u8; 2] = arena.load(ArenaPtr::new(user.address(pgoff))).unwrap();
        assert_eq!(read, [byte, 0]);
    }
    // One that is but read by a user, and one that a program asks for: the
    // witness sees both.
    user.touch(42, None);
    assert!(user.allocate(255, true) && !user.allocate(255, true));
    check(&live, &user, &[0, 1, 7, 42, 99, 255]);
}

#[test]
fn arenas_that_kill_their_users_are_read() {
    let live = Live::open().unwrap();
    let user = User::new(bpf::BPF_F_SEGV_ON_FAULT);
    assert!([3, 4, 200].iter().all(|&pgoff| user.allocate(pgoff, true)));
    user.touch(4, Some(44));
    check(&live, &user, &[3, 4, 200]);
    let info = user.made.info(&live);
    let arena = live.arena(&info).unwrap().unwrap();
    assert_eq!(arena.load_u8(ArenaPtr::new(user.address(4))), Ok(44));
}

#[test]
fn several_arenas_are_told_apart() {
    let live = Live::open().unwrap();
    let users = [User::new(0), User::new(0), User::new(0)];
    for (pgoff, user) in (1..).zip(&users) {
        user.touch(pgoff, Some(9));
    }
    for (pgoff, user) in (1..).zip(&users) {
        check(&live, user, &[pgoff]);
    }
}

#[test]
fn an_arena_without_users_stays_without() {
    let live = Live::open().unwrap();
    for pages in [PAGES, 1 << 20] {
        let made = arena(pages, 0, 0);
        for _ in 0..2 {
            assert_eq!(read(&live, &made), (BTreeSet::new(), None));
        }
    }
}
