//! The properties that walks of page tables have.

use std::cell::RefCell;
use std::collections::BTreeMap;

use guestmem::{Address, Cause, Fake, Fault, Gpa, Kva, Memory, MemoryExt};
use proptest::prelude::*;

use crate::build::Tables;
use crate::{AddressSpace, Format, Mapping, Presence};

const ROOT: Gpa = Gpa::at(0x10_0000);

fn formats() -> Vec<Format> {
    let arm = |page_size, va_bits| Format::arm64(page_size, va_bits).unwrap();
    vec![
        Format::x86_64(4, 0).unwrap(),
        Format::x86_64(5, 0).unwrap(),
        arm(0x1000, 39),
        arm(0x1000, 48),
        arm(0x1000, 52),
        arm(0x4000, 47),
        arm(0x1_0000, 52),
    ]
}

/// Physical memory that counts the reads of each address.
struct Counting<'m> {
    ram: &'m Fake<Gpa>,
    reads: RefCell<BTreeMap<Gpa, u64>>,
}

impl Memory<Gpa> for Counting<'_> {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        *self.reads.borrow_mut().entry(addr).or_default() += 1;
        self.ram.read(addr, buf)
    }
}

/// Leaves as (slot number within the window, level 1 or 2, physical page).
fn leaves() -> impl Strategy<Value = Vec<(u64, u8, u64)>> {
    proptest::collection::vec((0u64..2048, 1u8..=2, 0u64..64), 0..40)
}

proptest! {
    #[test]
    fn what_is_mapped_reads_back_gaps_included(
        which in 0usize..7,
        picks in leaves(),
        skip in 0u64..0x5000,
        trim in 0u64..0x5000,
    ) {
        let format = formats()[which];
        let page = format.page_size();
        let block = format.span(2);
        // The window straddles the boundary of a high-level entry.
        let boundary = (4 * format.span(format.levels() - 1)).wrapping_neg();
        let start = boundary - 2 * block;
        let window = 4 * block;
        let mut tables = Tables::new(Fake::new(), ROOT, format);
        // The model: physical page of each virtual page of the window.
        let mut model: BTreeMap<u64, u64> = BTreeMap::new();
        for (slot, level, frame) in picks {
            let span = format.span(level);
            let va = start + (slot * page % window) / span * span;
            let gpa = (frame + 1) * block + if level == 1 { slot % 8 * page } else { 0 };
            if (va..va + span).step_by(usize::try_from(page).unwrap()).any(|va| model.contains_key(&va)) {
                continue;
            }
            tables.map(Kva::new(va), level, Gpa::new(gpa));
            for offset in (0..span).step_by(usize::try_from(page).unwrap()) {
                model.insert(va + offset, gpa + offset);
            }
        }
        let memory = Counting { ram: &tables.ram, reads: RefCell::default() };
        let space = AddressSpace::new(&memory, ROOT, format);
        let (from, to) = (start + skip, start + window - trim);

        let stretches: Vec<Mapping> = space.mappings(Kva::new(from), to - from).collect();
        prop_assert!(memory.reads.borrow().values().all(|&reads| reads == 1));
        let mut at = from;
        for pair in stretches.windows(2) {
            let mut first = pair[0];
            prop_assert!(first.join(pair[1]).is_some(), "neighbours differ");
        }
        for stretch in stretches {
            prop_assert_eq!(stretch.va().get(), at);
            prop_assert!(!stretch.is_empty());
            for va in (at / page * page..at + stretch.len()).step_by(usize::try_from(page).unwrap()) {
                let here = va.max(at);
                match (stretch, model.get(&va)) {
                    (Mapping::Run { gpa, .. }, Some(&expected)) => {
                        prop_assert_eq!(gpa.get() + (here - at), expected + (here - va));
                        prop_assert_eq!(
                            space.translate(Kva::new(here)).map(|found| found.gpa),
                            Ok(Gpa::new(expected + (here - va)))
                        );
                    }
                    (Mapping::Gap { cause, .. }, None) => prop_assert_eq!(
                        space.translate(Kva::new(here)),
                        Err(Fault::new(Kva::new(here), cause))
                    ),
                    (found, expected) => prop_assert!(false, "{:?} for {:?}", found, expected),
                }
            }
            at += stretch.len();
        }
        prop_assert_eq!(at, to);
    }

    #[test]
    fn reads_cross_pages_and_stop_at_the_first_hole(
        frames in proptest::collection::vec(proptest::option::weighted(0.9, 0u64..64), 1..12),
        offset in 0u64..0x1000,
        len in 0usize..0xa000,
    ) {
        let format = Format::x86_64(5, 0).unwrap();
        let base = 0xff11_0000_0000_0000u64;
        let mut tables = Tables::new(Fake::new(), ROOT, format);
        for frame in 0..64u8 {
            tables.ram.write(Gpa::new(0x4000_0000 + u64::from(frame) * 0x1000), &[frame; 0x1000]);
        }
        for (index, frame) in frames.iter().enumerate() {
            if let Some(frame) = frame {
                tables.map(Kva::new(base + index as u64 * 0x1000), 1, Gpa::new(0x4000_0000 + frame * 0x1000));
            }
        }
        let space = AddressSpace::new(&tables.ram, ROOT, format);
        let mut buf = vec![0xee; len];
        // Twice: the second time from the look-aside buffer.
        for _ in 0..2 {
            let read = space.read(Kva::new(base + offset), &mut buf);
            let byte = |at: usize| {
                let page = (usize::try_from(offset).unwrap() + at) / 0x1000;
                frames.get(page).copied().flatten().map(|frame| u8::try_from(frame).unwrap())
            };
            let good = (0..len).position(|at| byte(at).is_none()).unwrap_or(len);
            prop_assert!((0..good).all(|at| Some(buf[at]) == byte(at)));
            prop_assert!(buf[good..].iter().all(|&left| left == 0xee));
            match read {
                Ok(()) => prop_assert_eq!(good, len),
                Err(fault) => {
                    prop_assert_eq!(fault.addr.get(), base + offset + good as u64);
                    let absent = matches!(fault.cause, Cause::NotPresent { .. });
                    prop_assert!(absent, "{}", fault);
                }
            }
        }
    }
}

/// Words as entries of a table: empty ones, pages, malformed ones, and any.
fn words() -> impl Strategy<Value = Vec<(u64, usize)>> {
    let word = prop_oneof![
        3 => Just(0u64),
        1 => Just(0x6_0000),
        3 => (1u64..5).prop_map(|frame| frame << 16 | 3),
        1 => (1u64..5).prop_map(|frame| frame << 16 | 1),
        1 => any::<u64>(),
    ];
    proptest::collection::vec((word, 1usize..60), 1..60)
}

proptest! {
    #[test]
    fn presence_is_what_each_page_says(
        which in 0usize..7,
        words in words(),
        frame in proptest::option::of(1u64..5),
        skip in 0u64..0x2_0000,
        trim in 0u64..0x2_0000,
    ) {
        let format = formats()[which];
        let (page, table) = (format.page_size(), format.span(2));
        // Two tables of PTEs, before and behind a boundary of a high level.
        let boundary = (4 * format.span(format.levels() - 1)).wrapping_neg();
        let start = boundary - table;
        let mut tables = Tables::new(Fake::new(), ROOT, format);
        tables.map(Kva::new(start), 1, Gpa::new(0));
        tables.map(Kva::new(boundary), 1, Gpa::new(0));
        let words = words.iter().flat_map(|&(word, times)| std::iter::repeat_n(word, times));
        let base = AddressSpace::new(&tables.ram, ROOT, format);
        let ptes = [start, boundary].map(|at| last_table(&base, at));
        let mut ram = tables.ram.clone();
        let size = usize::try_from(format.page_size()).unwrap();
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.resize(2 * size, 0);
        for (table, entries) in ptes.into_iter().zip(bytes.chunks_exact(size)) {
            ram.write(table, entries);
        }
        let space = AddressSpace::new(&ram, ROOT, format);
        let frame = frame.map(|frame| Gpa::new(frame << 16));
        let (from, to) = (start + skip, start + 2 * table - trim);
        let mut expected: Vec<(Presence, u64)> = Vec::new();
        for at in (from / page * page..to).step_by(usize::try_from(page).unwrap()) {
            let here = at.max(from);
            let presence = match space.translate(Kva::new(at)) {
                Ok(found) if Some(found.gpa) == frame => Presence::Frame,
                Ok(_) => Presence::Mapped,
                Err(fault) => Presence::Absent(fault.cause),
            };
            let len = (at + page).min(to) - here;
            match expected.last_mut() {
                Some((last, sum)) if *last == presence => *sum += len,
                _ => expected.push((presence, len)),
            }
        }
        let found: Vec<_> = space.presence(Kva::new(from), to - from, frame).collect();
        prop_assert_eq!(found, expected);
    }
}

/// The table that has the PTE of `at`.
fn last_table(space: &AddressSpace<&Fake<Gpa>>, at: u64) -> Gpa {
    let format = space.format();
    (2..=format.levels())
        .rev()
        .fold(space.root(), |table, level| {
            let slot = Gpa::new(table.get() + format.index(at, level) * 8);
            Gpa::new(space.physical().load_u64(slot).unwrap() & !(format.page_size() - 1))
        })
}

#[test]
fn a_frame_inside_of_a_block_stands_apart() {
    let format = Format::x86_64(4, 1 << 40).unwrap();
    let mut tables = Tables::new(Fake::new(), ROOT, format);
    let at = 0xffff_c900_0000_0000;
    tables.map(Kva::new(at), 2, Gpa::at(0x4000_0000 | 1 << 40));
    tables.map(Kva::new(at + 0x20_0000), 1, Gpa::at(0x4000_3000 | 1 << 40));
    let space = AddressSpace::new(&tables.ram, ROOT, format);
    let check = |from: u64, len, frame, expected: &[(Presence, u64)]| {
        let frame = Some(Gpa::new(frame));
        let found: Vec<_> = space.presence(Kva::new(from), len, frame).collect();
        assert_eq!(found, expected);
    };
    let parts = [
        (Presence::Mapped, 0x2800),
        (Presence::Frame, 0x1000),
        (Presence::Mapped, 0x1f_c000),
        (Presence::Frame, 0x800),
    ];
    check(at + 0x800, 0x20_0000, 0x4000_3000, &parts);
    check(at, 0x20_1000, 0x3fff_f000, &[(Presence::Mapped, 0x20_1000)]);
}

#[test]
fn blocks_of_a_gibibyte_and_tables_that_are_not_there() {
    let format = Format::x86_64(4, 0).unwrap();
    let mut tables = Tables::new(Fake::new(), ROOT, format);
    tables.map(Kva::new(0xffff_8880_0000_0000), 3, Gpa::new(0x4000_0000));
    let slot = ROOT.get() + format.index(0xffff_c900_0000_0000, 4) * 8;
    tables.ram.write_u64(Gpa::new(slot), 0xdead_b000 | 1);
    let space = AddressSpace::new(&tables.ram, ROOT, format);
    let found = space.translate(Kva::at(0xffff_8880_1234_5678)).unwrap();
    assert_eq!(found.gpa, Gpa::at(0x5234_5678));
    assert_eq!(found.leaf_size, 1 << 30);
    let lost = space.translate(Kva::at(0xffff_c900_0000_0000)).unwrap_err();
    assert_eq!(
        lost.cause,
        Cause::TableUnbacked {
            level: 3,
            table: Gpa::at(0xdead_b000)
        }
    );
    let mut buf = [0];
    let unbacked = space.read(Kva::at(0xffff_8880_0000_0010), &mut buf);
    assert_eq!(
        unbacked.unwrap_err().cause,
        Cause::Unbacked {
            gpa: Gpa::at(0x4000_0010)
        }
    );
}

#[test]
fn the_whole_address_space_is_a_short_walk() {
    let format = Format::x86_64(4, 0).unwrap();
    let mut tables = Tables::new(Fake::new(), ROOT, format);
    tables.map(Kva::new(0xffff_ffff_ffff_f000), 1, Gpa::new(0x5000));
    let space = AddressSpace::new(&tables.ram, ROOT, format);
    let stretches: Vec<Mapping> = space.mappings(Kva::at(0), u64::MAX).collect();
    let last = stretches.last().unwrap();
    assert_eq!(last.va(), Kva::at(0xffff_ffff_ffff_f000));
    assert_eq!(last.len(), 0xfff);
    assert!(stretches.iter().any(|stretch| matches!(
        stretch,
        Mapping::Gap {
            cause: Cause::NotCanonical,
            ..
        }
    )));
    assert_eq!(space.mappings(Kva::at(5), 0).count(), 0);
    let wrapping = space.mappings(Kva::at(u64::MAX), u64::MAX);
    assert_eq!(wrapping.map(|stretch| stretch.len()).sum::<u64>(), 1);
}

/// A table that is its own child is as deep as there are levels.
#[test]
fn a_table_that_refers_to_itself_ends() {
    let format = Format::x86_64(5, 0).unwrap();
    let mut tables = Tables::new(Fake::new(), ROOT, format);
    for index in 0..512 {
        let slot = Gpa::new(ROOT.get() + index * 8);
        tables.ram.write_u64(slot, ROOT.get() | 3);
    }
    let space = AddressSpace::new(&tables.ram, ROOT, format);
    let found = space.translate(Kva::at(0xff11_2233_4455_6677)).unwrap();
    assert_eq!(found.gpa.get(), ROOT.get() + 0x677);
}
