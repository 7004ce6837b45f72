//! Symbol tables made by hand, whole and damaged.

use std::rc::Rc;

use guestmem::{Address, Gpa, Physical};
use proptest::prelude::*;

use super::*;
use crate::build::Machine;
use crate::{Error, Finder, GivenSymbols};

const ENCODINGS: [Encoding; 4] = [
    Encoding::Absolute,
    Encoding::BaseRelative,
    Encoding::AbsolutePercpu,
    Encoding::PlaceRelative,
];

fn machine() -> Machine {
    let mut machine = Machine::new(guestmem::Fake::new(), Gpa::at(0), 5, "6.1.0-test");
    machine.btf(&btf_layout::build::Builder::new().finish());
    machine
}

fn find(machine: Machine, encoding: Encoding) -> Result<crate::Kernel, Error> {
    Finder::new().find(&[Rc::new(machine.finish(encoding)) as Physical])
}

#[test]
fn every_encoding_is_recognized_by_what_it_gives() {
    for encoding in ENCODINGS {
        let mut machine = machine();
        let long = "x".repeat(300);
        machine.symbol("map_idr", Kva::at(0xffff_ffff_8612_3450));
        machine.symbol("map_idr_lock", Kva::at(0xffff_ffff_8612_3480));
        machine.symbol(&long, Kva::at(0xffff_ffff_8600_0000));
        let kernel = find(machine, encoding).unwrap();
        let symbols = kernel.symbols();
        assert_eq!(symbols.kallsyms().unwrap().encoding(), encoding);
        assert_eq!(
            symbols.lookup(["map_idr", &long, "absent", "map_idr_lock"]),
            [
                Some(Kva::at(0xffff_ffff_8612_3450)),
                Some(Kva::at(0xffff_ffff_8600_0000)),
                None,
                Some(Kva::at(0xffff_ffff_8612_3480)),
            ],
            "{encoding}"
        );
    }
}

#[test]
fn per_cpu_symbols_are_offsets() {
    let mut machine = machine();
    machine.symbol("pcpu_hot", Kva::at(0x1_2340));
    let kernel = find(machine, Encoding::AbsolutePercpu).unwrap();
    assert_eq!(
        kernel.symbols().lookup(["pcpu_hot"]),
        [Some(Kva::at(0x1_2340))]
    );
}

#[test]
fn a_table_that_contradicts_the_note_is_refused() {
    let mut machine = machine();
    machine.line("SYMBOL(_stext)=ffffffff82000010");
    let error = find(machine, Encoding::BaseRelative).unwrap_err();
    let Error::Kallsyms { source } = error else {
        panic!("{error}");
    };
    let KallsymsError::NoEncoding { stext, found } = source else {
        panic!("{source}");
    };
    assert_eq!(stext, Kva::at(0xffff_ffff_8200_0010));
    let base_relative = (Encoding::BaseRelative, Kva::at(0xffff_ffff_8200_0000));
    assert!(found.contains(&base_relative), "{found:?}");
    assert_eq!(found.len(), 3);
}

#[test]
fn a_part_that_is_not_there_is_named() {
    let mut machine = machine();
    machine.line("SYMBOL(kallsyms_token_table)=ffffffff90000000");
    let error = find(machine, Encoding::BaseRelative).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(
        source,
        "kallsyms_token_table is unreadable at 0xffffffff90000000: page not present at level 2"
    );
}

/// Memory without an end, which page tables that repeat themselves make.
struct Endless;

impl Memory<Kva> for Endless {
    fn read(&self, _: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        buf.fill(1);
        Ok(())
    }
}

#[test]
fn names_that_never_end_are_refused() {
    let note = b"OSRELEASE=6\nSYMBOL(_stext)=1000\nSYMBOL(kallsyms_num_syms)=1000\n\
        SYMBOL(kallsyms_names)=1000\nSYMBOL(kallsyms_token_table)=1000\n\
        SYMBOL(kallsyms_token_index)=1000\nSYMBOL(kallsyms_offsets)=1000\n";
    let note = Vmcoreinfo::parse(note).unwrap();
    // As many as `Endless` says: the names would take 32 MiB.
    assert!(matches!(
        Kallsyms::load(&Endless, &note),
        Err(KallsymsError::NamesTooLong {
            count: 0x0101_0101,
            ..
        })
    ));
}

#[test]
fn given_symbols_are_moved_by_the_distance_of_the_two_stext() {
    let find_with = |list: &[u8]| {
        Finder::new()
            .symbols(GivenSymbols::parse(list).unwrap())
            .find(&[Rc::new(machine().finish(Encoding::BaseRelative)) as Physical])
    };
    let kernel = find_with(b"ffffffff81000000 T _stext\nffffffff84000000 R __start_BTF\n").unwrap();
    let [start] = kernel.symbols().lookup(["__start_BTF"]);
    assert_eq!(start, Some(Kva::at(0xffff_ffff_8500_0000)));
    let other = find_with(b"ffffffff81000000 T _stext\nffffffff84000040 R __start_BTF\n");
    assert!(matches!(other, Err(Error::SymbolFile { .. })));
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-z_][a-z0-9_.]{0,200}", 1..200)
        .prop_map(|names| names.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_symbol_is_found_by_name_and_named_by_index(names in names(), which in 0usize..4) {
        let mut machine = machine();
        let at = |index: usize| Kva::new(0xffff_ffff_8700_0000 + index as u64 * 16);
        for (index, name) in names.iter().enumerate() {
            machine.symbol(name, at(index));
        }
        let kernel = find(machine, ENCODINGS[which]).unwrap();
        let table = kernel.symbols().kallsyms().unwrap();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let expected: Vec<(usize, Kva)> = (0..names.len()).map(|index| (index, at(index))).collect();
        prop_assert_eq!(table.lookup(&all), expected);
        // The machine's own symbols come first: _stext and the BTF's.
        for (index, name) in (3u32..).zip(&names) {
            prop_assert_eq!(table.name(index), Some(name.clone()));
        }
        prop_assert_eq!(table.name(table.count()), None);
    }

    #[test]
    fn damaged_tables_end_in_an_error_or_an_answer(seed in any::<u64>(), hits in 1usize..60) {
        let mut machine = machine();
        for index in 0..300u64 {
            machine.symbol(&format!("symbol_{index}"), Kva::new(0xffff_ffff_8700_0000 + index * 16));
        }
        let encoding = ENCODINGS[usize::try_from(seed % 4).unwrap()];
        let mut ram = machine.finish(encoding);
        let whole = Finder::new().find(&[Rc::new(ram.clone()) as Physical]).unwrap();
        let mut random = seed | 1;
        for _ in 0..hits {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let part = 0xffff_ffff_8400_0000 + random % 6 * 0x10_0000;
            let at = Kva::new(part + (random >> 8) % 0x800);
            if let Ok(found) = whole.space().translate(at) {
                ram.write(found.gpa, &random.to_le_bytes()[7..]);
            }
        }
        // Whatever comes out, it comes out.
        let _ = Finder::new().find(&[Rc::new(ram) as Physical]);
    }
}
