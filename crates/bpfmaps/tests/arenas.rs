//! Arenas in page tables as kernels of each page size make them, found from
//! their `struct bpf_arena` on.
#![cfg(test)]

use arena::{Arena, Layout, Run, Stretch, Window};
use btf_layout::Btf;
use btf_layout::build::Builder;
use guestmem::{Address, ArenaPtr, Cause, Fake, Gpa, Kva, Memory, MemoryExt};
use pagewalk::build::Tables;
use pagewalk::{AddressSpace, Format, Presence};

const RING: u64 = 1 << 32;
const ROOT: Gpa = Gpa::at(0x1_0000);
const STRUCT: Kva = Kva::at(0xffff_e000_0000_0000);
const VM: Kva = Kva::at(0xffff_e000_0001_0000);

/// One arena: where its users see it, and which of its pages exist and which
/// were only touched.
struct Made {
    user_start: u64,
    pages: u64,
    there: &'static [u64],
    touched: &'static [u64],
}

/// Where the kernel has the area of the arena number `index`.
fn area(index: u64) -> u64 {
    0xffff_c000_0000_0000 + index * 3 * RING
}

/// The frame of a page; those of neighbours are not consecutive.
fn frame(index: u64, pgoff: u64, page: u64) -> Gpa {
    Gpa::new(0x4000_0000 + (index * 32 + pgoff * 7 % 32) * 2 * page)
}

fn scratch(index: u64, page: u64) -> Gpa {
    Gpa::new(0x3000_0000 + index * page)
}

fn layout() -> Layout {
    let mut types = Builder::new();
    let u64_ = types.int("u64", 8);
    let arena = [("user_vm_start", u64_, 0), ("kern_vm", u64_, 64)];
    types.record("bpf_arena", 16, &arena);
    types.record("vm_struct", 16, &[("addr", u64_, 0), ("size", u64_, 64)]);
    Layout::new(&Btf::parse(types.finish(), "a test").unwrap()).unwrap()
}

/// The window of an arena as its `struct bpf_arena` tells it.
fn window(index: u64, made: &Made, page: u64, guard: u64) -> Window {
    let mut memory = Fake::new();
    memory.write(
        STRUCT,
        &[made.user_start, VM.get()].map(u64::to_le_bytes).concat(),
    );
    let size = RING + guard + page;
    memory.write(VM, &[area(index), size].map(u64::to_le_bytes).concat());
    let found = layout().read(&memory, STRUCT, page).unwrap();
    Window::new(found.user_start, made.pages, found.kernel_base, page).unwrap()
}

/// Pages as runs.
fn runs(pages: &[u64]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for &pgoff in pages {
        match runs.last_mut() {
            Some(last) if last.pgoff + last.pages == pgoff => last.pages += 1,
            _ => runs.push(Run { pgoff, pages: 1 }),
        }
    }
    runs
}

/// Checks that arenas which lie in one kernel are each found as they are.
fn check(format: Format, guard: u64, arenas: &[Made]) {
    let page = format.page_size();
    let mut tables = Tables::new(Fake::new(), ROOT, format);
    for (index, made) in (0..).zip(arenas) {
        let map = |tables: &mut Tables, pgoff, gpa| {
            let low = (made.user_start + pgoff * page) % RING;
            tables.map(Kva::new(area(index) + guard / 2 + low), 1, gpa);
        };
        for &pgoff in made.there {
            let gpa = frame(index, pgoff, page);
            map(&mut tables, pgoff, gpa);
            let byte = u8::try_from(index * 64 + pgoff % 32 + 1).unwrap();
            let bytes = vec![byte; usize::try_from(page).unwrap()];
            tables.ram.write(gpa, &bytes);
        }
        for &pgoff in made.touched {
            map(&mut tables, pgoff, scratch(index, page));
        }
    }
    let space = AddressSpace::new(&tables.ram, ROOT, format);
    for (index, made) in (0..).zip(arenas) {
        let window = window(index, made, page, guard);
        let scratch = Some(scratch(index, page));
        let arena = Arena::new(&space, window, &mut |start, len, visit| {
            for (presence, len) in space.presence(start, len, scratch) {
                visit(match presence {
                    Presence::Mapped => Stretch::Mapped { len },
                    Presence::Frame => Stretch::Touched { len },
                    Presence::Absent(Cause::NotPresent { .. }) => Stretch::Absent { len },
                    Presence::Absent(cause) => Stretch::Lost { len, cause },
                });
            }
        });
        let pages = arena.pages();
        assert_eq!(pages.runs(), runs(made.there), "{page:#x} {index}");
        assert_eq!(pages.faulted(), runs(made.touched), "{page:#x} {index}");
        assert!(pages.lost().is_empty());
        for pgoff in 0..made.pages.min(64) {
            let at = made.user_start + pgoff * page;
            let mut last = [0; 2];
            let read = arena.read(ArenaPtr::new(at + page - 2), &mut last);
            if made.there.contains(&pgoff) {
                let byte = u8::try_from(index * 64 + pgoff % 32 + 1).unwrap();
                assert_eq!((read, last), (Ok(()), [byte; 2]));
                assert_eq!(arena.load_u8(ArenaPtr::new(at)), Ok(byte));
            } else {
                let fault = read.unwrap_err();
                assert_eq!(fault.cause, Cause::NotPresent { level: 1 });
            }
        }
    }
}

#[test]
fn arenas_of_every_page_size() {
    let arm = |page_size, va_bits| Format::arm64(page_size, va_bits).unwrap();
    for (format, guard) in [
        (Format::x86_64(4, 0).unwrap(), 0x1_0000),
        (Format::x86_64(5, 0).unwrap(), 0x1_0000),
        (arm(0x1000, 48), 0x1_0000),
        (arm(0x4000, 47), 0x1_0000),
        (arm(0x1_0000, 48), 0x2_0000),
        (arm(0x1_0000, 52), 0x2_0000),
    ] {
        let page = format.page_size();
        let arenas = [
            // It crosses a multiple of 4 GiB, and is crossed by a run.
            Made {
                user_start: 0x7f02_0000_0000 - 3 * page,
                pages: 16,
                there: &[0, 2, 3, 4, 15],
                touched: &[1, 5],
            },
            // Nobody has mapped it.
            Made {
                user_start: 0,
                pages: 8,
                there: &[0, 7],
                touched: &[],
            },
            // The whole of a window, from its midst on.
            Made {
                user_start: 0x10_8000_0000,
                pages: RING / page,
                there: &[0, 31],
                touched: &[30],
            },
        ];
        check(format, guard, &arenas);
    }
}
