//! Arenas over hand-made memory and tables.
#![cfg(test)]

use arena::{Arena, Layout, Lost, Run, Stretch, Window};
use btf_layout::Btf;
use btf_layout::build::Builder;
use guestmem::{Address, ArenaPtr, Cause, Fake, Fault, Kva, Memory, MemoryExt};
use proptest::prelude::*;

const PAGE: u64 = 0x1000;
const BASE: Kva = Kva::at(0xffff_c900_0000_8000);

/// What stands for a page in the tables of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot {
    Absent,
    Mapped,
    Touched,
    Lost,
}

/// Tables with these pages from the kernel address `BASE` on, as an address space tells them.
fn tables(slots: &[(u64, Slot)]) -> impl Fn(Kva, u64, &mut dyn FnMut(Stretch)) + '_ {
    move |start, len, visit| {
        let first = start.get() - BASE.get();
        let mut pending: Option<Stretch> = None;
        for page in first / PAGE..(first + len) / PAGE {
            let slot = slots.iter().find(|(at, _)| *at == page);
            let slot = slot.map_or(Slot::Absent, |(_, slot)| *slot);
            let len = PAGE;
            let next = match slot {
                Slot::Absent => Stretch::Absent { len },
                Slot::Touched => Stretch::Touched { len },
                Slot::Mapped => Stretch::Mapped { len },
                Slot::Lost => Stretch::Lost {
                    len,
                    cause: Cause::EndOfSpace,
                },
            };
            pending = match (pending, next) {
                (Some(Stretch::Absent { len }), Stretch::Absent { len: more }) => {
                    Some(Stretch::Absent { len: len + more })
                }
                (Some(Stretch::Mapped { len }), Stretch::Mapped { len: more }) => {
                    Some(Stretch::Mapped { len: len + more })
                }
                (before, next) => {
                    if let Some(before) = before {
                        visit(before);
                    }
                    Some(next)
                }
            };
        }
        if let Some(last) = pending {
            visit(last);
        }
    }
}

fn run(pgoff: u64, pages: u64) -> Run {
    Run { pgoff, pages }
}

#[test]
fn touched_pages_are_told_from_allocated_ones() {
    let memory = Fake::new();
    let window = Window::new(0x7f01_ffff_e000, 7, BASE, PAGE).unwrap();
    let slots = [
        (0xf_fffe, Slot::Touched),
        (0xf_ffff, Slot::Mapped),
        (0, Slot::Mapped),
        (1, Slot::Touched),
        (2, Slot::Mapped),
        (3, Slot::Lost),
    ];
    let arena = Arena::new(&memory, window, &mut tables(&slots));
    let pages = arena.pages();
    assert_eq!(pages.runs(), [run(1, 2), run(4, 1)]);
    assert_eq!(pages.faulted(), [run(0, 1), run(3, 1)]);
    let lost: Vec<Run> = pages.lost().iter().map(|lost| lost.run).collect();
    assert_eq!(lost, [run(5, 1)]);
    assert_eq!(pages.mapped(), 3);
}

#[test]
fn reads_go_across_the_wrap_and_stop_where_nothing_is() {
    let last = BASE.get() + 0xffff_f000;
    let mut memory = Fake::new();
    memory.write(Kva::new(last), &[1; 0x1000]);
    memory.write(BASE, &[2; 0x1000]);
    memory.write(Kva::new(BASE.get() + PAGE), &[9; 0x1000]);
    let window = Window::new(0x7f01_ffff_e000, 5, BASE, PAGE).unwrap();
    let slots = [
        (0xf_ffff, Slot::Mapped),
        (0, Slot::Mapped),
        (1, Slot::Touched),
    ];
    let arena = Arena::new(&memory, window, &mut tables(&slots));
    let read: [u8; 4] = arena.load(ArenaPtr::at(0x7f01_ffff_fffe)).unwrap();
    assert_eq!(read, [1, 1, 2, 2]);
    let mut buf = [0; 4];
    let fault = arena
        .read(ArenaPtr::at(0x7f02_0000_0ffe), &mut buf)
        .unwrap_err();
    let absent = Cause::NotPresent { level: 1 };
    assert_eq!(fault, Fault::new(ArenaPtr::at(0x7f02_0000_1000), absent));
    assert_eq!(buf, [2, 2, 0, 0]);
    let outside = arena
        .read(ArenaPtr::at(0x7f01_ffff_dfff), &mut buf)
        .unwrap_err();
    assert_eq!(outside.cause, Cause::EndOfSpace);
}

#[test]
fn the_kernels_part_begins_behind_its_guard() {
    let check = |page_size: u64, guard: u64, expected: u64, scratch: Option<u64>| {
        let mut types = Builder::new();
        let u64_ = types.int("u64", 8);
        let mut members = vec![("user_vm_start", u64_, 64), ("kern_vm", u64_, 192)];
        if scratch.is_some() {
            members.push(("scratch_page", u64_, 256));
        }
        types.record("bpf_arena", 64, &members);
        types.record("vm_struct", 32, &[("addr", u64_, 64), ("size", u64_, 128)]);
        let btf = Btf::parse(types.finish(), "a test").unwrap();
        let (at, vm) = (Kva::at(0xffff_8880_0000_0000), 0xffff_8880_0000_1000u64);
        let mut memory = Fake::new();
        memory.write(at, &[0; 64]);
        memory.write(Kva::new(at.get() + 8), &0x7f00_0000_0000u64.to_le_bytes());
        memory.write(Kva::new(at.get() + 24), &vm.to_le_bytes());
        memory.write(Kva::new(at.get() + 32), &scratch.unwrap_or(0).to_le_bytes());
        memory.write(Kva::new(vm + 8), &0xffff_c900_0000_0000u64.to_le_bytes());
        let size = (1u64 << 32) + guard + page_size;
        memory.write(Kva::new(vm + 16), &size.to_le_bytes());
        let layout = Layout::new(&btf).unwrap();
        let found = layout.read(&memory, at, page_size).unwrap();
        assert_eq!(found.user_start, 0x7f00_0000_0000);
        assert_eq!(found.kernel_base.get(), 0xffff_c900_0000_0000 + expected);
        assert_eq!(found.scratch_page, scratch.map(Kva::new));
    };
    check(0x1000, 0x1_0000, 0x8000, None);
    check(0x4000, 0x1_0000, 0x8000, None);
    check(0x1_0000, 0x2_0000, 0x1_0000, Some(0xffff_ea00_0000_0040));
    check(0x1_0000, 0x1_0000, 0x8000, None);
    // A size that no kernel gives it says nothing.
    check(0x1000, 0x3000, 0x8000, None);
}

#[test]
fn what_no_user_has_is_not_known() {
    let start = 0x7f01_ffff_e000;
    let window = Window::of_users(ArenaPtr::at(start), 6, PAGE).unwrap();
    assert_eq!((window.kernel_base(), window.pieces().count()), (None, 0));
    let memory = Fake::new().with(ArenaPtr::at(start + PAGE), &[7; 0x2000]);
    let arena = Arena::of_users(memory, window, [false, true, true, false]);
    let pages = arena.pages();
    assert_eq!(pages.runs(), [run(1, 2)]);
    let cause = Cause::Unseen;
    let lost = [run(0, 1), run(3, 3)].map(|run| Lost { run, cause });
    assert_eq!(pages.lost(), lost);
    let check = |at: u64, expected: Result<[u8; 2], (u64, Cause)>| {
        let expected = expected.map_err(|(at, cause)| Fault::new(ArenaPtr::at(at), cause));
        assert_eq!(arena.load(ArenaPtr::at(at)), expected, "{at:x}");
    };
    check(start + PAGE, Ok([7, 7]));
    check(start + 2 * PAGE - 1, Ok([7, 7]));
    for at in [start, start + 3 * PAGE, start + 5 * PAGE] {
        check(at, Err((at, Cause::Unseen)));
    }
    check(start + 3 * PAGE - 1, Err((start + 3 * PAGE, Cause::Unseen)));
    check(start - 1, Err((start - 1, Cause::EndOfSpace)));
    check(start + 6 * PAGE, Err((start + 6 * PAGE, Cause::EndOfSpace)));
}

proptest! {
    #[test]
    fn every_page_is_in_exactly_one_account(
        slots in proptest::collection::vec(0..4u8, 1..40),
        low in 0..64u64,
    ) {
        let count = slots.len() as u64;
        let start = 0x7f01_ffff_0000 + low * 0x400 / PAGE * PAGE;
        let window = Window::new(start, count, BASE, PAGE).unwrap();
        let place = |pgoff: u64| (start / PAGE + pgoff) % (1 << 20);
        let slots: Vec<(u64, Slot)> = (0..).zip(&slots).map(|(pgoff, kind)| {
            let slot = match kind {
                0 => Slot::Absent,
                1 => Slot::Touched,
                2 => Slot::Lost,
                _ => Slot::Mapped,
            };
            (place(pgoff), slot)
        }).collect();
        let memory = Fake::new();
        let arena = Arena::new(&memory, window, &mut tables(&slots));
        let pages = arena.pages();
        for (pgoff, (_, slot)) in (0..).zip(&slots) {
            let among = |runs: &[Run]| {
                runs.iter().filter(|run| (run.pgoff..run.pgoff + run.pages).contains(&pgoff)).count()
            };
            let lost: Vec<Run> = pages.lost().iter().map(|lost| lost.run).collect();
            let account = [among(pages.runs()), among(pages.faulted()), among(&lost)];
            let expected = match slot {
                Slot::Absent => [0, 0, 0],
                Slot::Touched => [0, 1, 0],
                Slot::Mapped => [1, 0, 0],
                Slot::Lost => [0, 0, 1],
            };
            prop_assert_eq!(account, expected, "page {}", pgoff);
            prop_assert_eq!(pages.contains(pgoff), account[0] == 1);
            prop_assert_eq!(pages.unknown(pgoff).is_some(), account[2] == 1);
        }
        for runs in [pages.runs(), pages.faulted()] {
            prop_assert!(runs.windows(2).all(|two| two[0].pgoff + two[0].pages < two[1].pgoff));
        }
    }
}
