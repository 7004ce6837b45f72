//! The search for a kernel, on machines made by hand.
#![cfg(test)]

use std::rc::Rc;

use btf_layout::build::Builder;
use guestmem::{Address, Fake, Format, Gpa, Image, Kva, MemoryExt, Physical, PhysicalMemory};
use kernel::build::Machine;
use kernel::{Encoding, Error, Finder, Kernel, Verdict};
use pagewalk::build::Tables;

fn machine(ram: Fake<Gpa>, first: u64, release: &str) -> Machine {
    let mut machine = Machine::new(ram, Gpa::new(first), 5, release);
    machine.btf(&Builder::new().finish());
    machine.cpus(&[(0, 0x1000), (2, 0x3000)]);
    machine
}

fn find(ram: Fake<Gpa>) -> Result<Kernel, Error> {
    Finder::new().find(&[Rc::new(ram) as Physical])
}

fn simple() -> Fake<Gpa> {
    machine(Fake::new(), 0, "6.12.1").finish(Encoding::AbsolutePercpu)
}

#[test]
fn a_kernel_is_found_from_memory_alone() {
    let kernel = find(simple()).unwrap();
    assert_eq!(kernel.release(), "6.12.1");
    assert_eq!(kernel.version(), "#1 SMP");
    assert_eq!(kernel.levels(), 5);
    assert_eq!(kernel.slide(), Some(0x100_0000));
    assert_eq!(kernel.phys_base(), Some(0x10_0000 - 0x100_0000));
    let cpus: Vec<u32> = kernel.per_cpu().unwrap().cpus().collect();
    assert_eq!(cpus, [0, 2]);
    assert_eq!(kernel.candidates().len(), 2);
    let [stext] = kernel.symbols().lookup(["_stext"]);
    assert_eq!(kernel.load_u8(stext.unwrap()), Ok(0xcc));
    let error = kernel.require("map_idr").unwrap_err().to_string();
    assert_eq!(error, "Linux 6.12.1 has no symbol map_idr in its memory");
}

#[test]
fn a_stale_note_is_refused_and_named() {
    // A second note whose page tables are gone.
    let mut stale = machine(Fake::new(), 0x800_0000, "5.10.0").finish(Encoding::AbsolutePercpu);
    let page: [u8; 0x1000] = stale.load(Gpa::at(0x800_3000)).unwrap();
    stale = simple().with(Gpa::at(0x800_3000), &page);
    let kernel = find(stale).unwrap();
    assert_eq!(kernel.release(), "6.12.1");
    let refused: Vec<String> = kernel
        .candidates()
        .iter()
        .filter(|candidate| matches!(candidate.verdict, Verdict::Refused(_)))
        .map(ToString::to_string)
        .collect();
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("Linux 5.10.0 (data page at physical 0x8003000): refused, its page tables do not lead to init_uts_ns"),
        "{}",
        refused[0]
    );
}

#[test]
fn two_kernels_are_two_until_one_is_chosen() {
    let both = machine(simple(), 0x800_0000, "6.1.0").finish(Encoding::BaseRelative);
    let error = find(both.clone()).unwrap_err().to_string();
    assert!(
        error.starts_with("2 kernels are in this image: "),
        "{error}"
    );
    assert!(
        error.contains("Linux 6.1.0") && error.contains("Linux 6.12.1"),
        "{error}"
    );
    let chosen = Finder::new()
        .vmcoreinfo(Gpa::at(0x800_5000))
        .find(&[Rc::new(both) as Physical])
        .unwrap();
    assert_eq!(chosen.release(), "6.1.0");
}

#[test]
fn a_vmcoreinfo_is_given_by_its_address_in_any_layout() {
    let true_one = machine(Fake::new(), 0x800_0000, "6.1.0").finish(Encoding::BaseRelative);
    let mut moved = Fake::new();
    let mut from = Gpa::at(0);
    while let Some(run) = true_one.next_data(from) {
        let bytes = true_one.read_up_to(run.start, run.len).bytes;
        moved.write(Gpa::new(run.start.get() - 0x400_0000), &bytes);
        from = on(run.start, run.len);
    }
    let layouts = [moved, true_one].map(|ram| Rc::new(ram) as Physical);
    for gpa in [0x400_5000, 0x800_5000] {
        let finder = Finder::new().vmcoreinfo(Gpa::at(gpa));
        assert_eq!(finder.find(&layouts).unwrap().layout(), 1, "{gpa:#x}");
    }
    let nowhere = Finder::new().vmcoreinfo(Gpa::at(0x800_6000));
    assert_eq!(
        nowhere.find(&layouts).unwrap_err().to_string(),
        "no VMCOREINFO at physical 0x8006000"
    );
}

#[test]
fn a_root_table_is_given_as_cr3_has_it() {
    let root = find(simple()).unwrap().root();
    for flags in [0, 0x18, 0xfff, 1 << 63] {
        let given = Finder::new().root(Gpa::new(root.get() | flags));
        let kernel = given.find(&[Rc::new(simple()) as Physical]).unwrap();
        assert_eq!(kernel.root(), root, "{flags:#x}");
    }
}

#[test]
fn a_note_that_came_with_a_dump_is_taken_before_any_search() {
    let text = find(simple()).unwrap().vmcoreinfo().as_str().to_owned();
    // Its pages are gone, as they may be from a dump.
    let bare = simple()
        .with(Gpa::at(0x3000), &[0; 0x1000])
        .with(Gpa::at(0x5000), &[0; 0x1000]);
    let check = |ram: Fake<Gpa>, text: &str, expected: &[&str]| {
        let image = Image::new(Format::Elf, Rc::new(ram));
        let image = image.with_vmcoreinfo(Some(text.as_bytes().to_vec()));
        let kernel = Finder::new().find_in(&image).unwrap();
        let found: Vec<String> = kernel
            .candidates()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    };
    let carried = "Linux 6.12.1 (head of the dump): proved, root table at ";
    check(bare, &text, &[carried]);
    let stale = text.replace("6.12.1", "5.10.0");
    let refused = "Linux 5.10.0 (head of the dump): refused, its page tables lead to a kernel";
    let in_memory = [
        "Linux 6.12.1 (data page at physical 0x3000): proved",
        "Linux 6.12.1 (note page at physical 0x5000): proved",
    ];
    check(simple(), &stale, &[refused, in_memory[0], in_memory[1]]);
    check(simple(), "no note", &in_memory);
}

#[test]
fn the_root_tables_of_cpus_stand_in_for_one_that_is_gone() {
    let root = find(simple()).unwrap().root();
    let text = find(simple()).unwrap().vmcoreinfo().as_str().to_owned();
    // As if the kernel had noted another place for its root table.
    let noted = text
        .lines()
        .find(|line| line.starts_with("SYMBOL(swapper_pg_dir)="))
        .unwrap();
    let moved = text.replace(noted, "SYMBOL(swapper_pg_dir)=ffffffff81ff0000");
    let image = Image::new(Format::Elf, Rc::new(simple())).with_vmcoreinfo(Some(moved.into()));
    let by_cpus = image.clone().with_roots(vec![Gpa::at(0x7000), root]);
    let kernel = Finder::new().find_in(&by_cpus).unwrap();
    assert_eq!((kernel.root(), kernel.candidates().len()), (root, 1));
    let kernel = Finder::new().find_in(&image).unwrap();
    assert_eq!(kernel.candidates().len(), 3);
}

#[test]
fn absurd_numbers_of_another_architecture_are_refused() {
    for t1sz in [i64::MIN, -1, 0, 64, i64::MAX] {
        let note = format!(
            "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=1\n\
             NUMBER(kimage_voffset)=0xffff800040000000\nNUMBER(VA_BITS)=48\n\
             NUMBER(TCR_EL1_T1SZ)={t1sz}\n"
        );
        let error = find(Fake::new().with(Gpa::at(0), note.as_bytes())).unwrap_err();
        assert!(matches!(error, Error::NothingProved { .. }), "{error}");
    }
}

/// Root tables that map the same memory over and over, as a corrupt image has
/// them, cost no more than those of a sound one.
#[test]
fn layouts_are_compared_in_spite_of_endless_tables() {
    const ROOT: u64 = 0x10_0000;
    // A table of tables that is its own child, and one full of large pages.
    for slots in [0..512u64, 0..0] {
        let mut ram = simple();
        let pages = ram.clone();
        for slot in 256..510 {
            let at = Gpa::new(ROOT + slot * 8);
            if pages.load_u64(at) == Ok(0) {
                ram.write_u64(at, 0x200_0000 | 3);
            }
        }
        for slot in slots.clone() {
            ram.write_u64(Gpa::new(0x200_0000 + slot * 8), 0x200_0000 | 3);
        }
        if slots.is_empty() {
            for slot in 0..512 {
                ram.write_u64(Gpa::new(0x200_0000 + slot * 8), 0x200_1000 | 3);
                ram.write_u64(Gpa::new(0x200_1000 + slot * 8), 0x83);
            }
        }
        let layouts = [ram.clone(), ram].map(|ram| Rc::new(ram) as Physical);
        assert_eq!(Finder::new().find(&layouts).unwrap().layout(), 0);
    }
}

#[test]
fn symbols_that_are_needed_are_missed_for_the_right_reason() {
    let btf = Builder::new().finish();
    let mut torn = machine(Fake::new(), 0, "6.1.0");
    torn.line("SYMBOL(kallsyms_names)=ffffffff90000000");
    let ram = Rc::new(torn.finish(Encoding::Absolute)) as Physical;
    let kernel = Finder::new().btf(btf).find(&[ram]).unwrap();
    let error = kernel.require("map_idr").unwrap_err();
    assert!(matches!(error, Error::Kallsyms { .. }), "{error}");

    let mut bare = Machine::new(Fake::new(), Gpa::at(0), 5, "6.1.0");
    bare.btf(&Builder::new().finish());
    for name in ["__per_cpu_offset", "__cpu_possible_mask"] {
        bare.symbol(name, Kva::at(0xffff_ffff_8300_0000));
    }
    let kernel = find(bare.finish(Encoding::Absolute)).unwrap();
    assert_eq!(
        kernel.require_per_cpu().unwrap_err().to_string(),
        "Linux 6.1.0 has no symbol nr_cpu_ids in its memory"
    );
}

/// Whatever looks like the start of BTF is not read to its claimed end each
/// time, which would be tens of gigabytes here.
#[test]
fn memory_full_of_headers_is_searched_once() {
    let mut header = b"\x9f\xeb\x01\0\x18\0\0\0".to_vec();
    for word in [0, 32 << 20, 32 << 20, 32 << 20] {
        header.extend(u32::to_le_bytes(word));
    }
    let mut full = Machine::new(Fake::new(), Gpa::at(0), 5, "6.1.0");
    full.place(Kva::at(0xffff_ffff_8700_0000), &header.repeat(80_000));
    let error = find(full.finish(Encoding::PlaceRelative)).unwrap_err();
    assert!(matches!(error, Error::NoBtf { .. }), "{error}");
}

#[test]
fn each_missing_part_is_named() {
    let check = |ram: Fake<Gpa>, expected: &str| {
        let error = find(ram).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    let zeros = Fake::new().with(Gpa::at(0), &vec![0; 3 << 20]);
    check(
        zeros,
        "no Linux kernel in this image: no VMCOREINFO at any page of its 3 MiB",
    );
    check(
        Fake::new().with(
            Gpa::at(0),
            b"OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=1\n",
        ),
        "no kernel could be proved: Linux 6.1.0 (data page at physical 0x0): refused, it is of an architecture other than",
    );
    let bare = Machine::new(Fake::new(), Gpa::at(0), 4, "6.1.0");
    check(
        bare.finish(Encoding::PlaceRelative),
        "Linux 6.1.0 has no BTF in its memory",
    );
    let mut other = machine(Fake::new(), 0, "6.1.0");
    other.place(Kva::at(0xffff_ffff_8300_0000 + 130), b"6.9.9\0");
    check(
        other.finish(Encoding::Absolute),
        "no kernel could be proved: Linux 6.1.0 (data page at physical 0x3000): refused, its page tables lead to a kernel that calls itself \"6.9.9\"",
    );
}

#[test]
fn btf_of_another_kernel_is_refused() {
    let mut types = Builder::new();
    let word = types.int("u64", 8);
    types.record("list_head", 16, &[("next", word, 0), ("prev", word, 64)]);
    let btf = types.finish();
    let check = |line: &str, expected: &str| {
        let mut machine = machine(Fake::new(), 0, "6.1.0");
        machine.line(line);
        let ram = Rc::new(machine.finish(Encoding::Absolute)) as Physical;
        let found = Finder::new().btf(btf.clone()).find(&[ram]);
        let error = found.map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(error, expected);
    };
    check("OFFSET(list_head.prev)=8", "");
    check("SIZE(list_head)=16", "");
    check("OFFSET(list_head.nothing)=99", "");
    check(
        "OFFSET(list_head.prev)=24",
        "the given BTF is not of Linux 6.1.0: list_head.prev is 8 in it, and 24 in VMCOREINFO",
    );
    check(
        "SIZE(list_head)=24",
        "the given BTF is not of Linux 6.1.0: list_head is 16 in it, and 24 in VMCOREINFO",
    );
}

/// The layout with a hole below 4 GiB is chosen by what the kernel has mapped,
/// even where the tables that map it lie above the hole themselves.
#[test]
fn the_true_layout_is_the_one_that_holds_the_direct_map() {
    const HIGH: u64 = 0x1_0000_0000;
    for tables_at in [0x300_0000, HIGH + 0x10_0000] {
        let mut machine = machine(Fake::new(), 0, "6.18.0");
        machine.line("NUMBER(VMALLOC_START)=0xffa0000000000000");
        let low = machine.finish(Encoding::BaseRelative);
        let format = pagewalk::Format::x86_64(5, 0).unwrap();
        let direct_map = Kva::at(0xff11_0000_0000_0000);
        // Tables for the direct map alone, whose root entry is copied.
        let mut tables = Tables::new(low, Gpa::new(tables_at), format);
        for page in 0..64 {
            let offset = page * 0x1000;
            tables.map(on(direct_map, offset), 1, Gpa::new(HIGH + offset));
        }
        let slot = 8 * (direct_map.get() >> 48 & 0x1ff);
        let entry = tables.ram.load_u64(Gpa::new(tables_at + slot)).unwrap();
        tables.ram.write_u64(Gpa::new(0x10_0000 + slot), entry);
        let whole = tables.ram.with(Gpa::at(HIGH), &vec![0; 0x4_0000]);
        let flat = cut(&whole, HIGH);
        let zeros = flat.clone().with(Gpa::at(HIGH), &vec![0; 0x20_0000]);
        let layouts = [flat, zeros, whole].map(|ram| Rc::new(ram) as Physical);
        let kernel = Finder::new().find(&layouts).unwrap();
        // With the tables in low memory the zeros hold the direct map as well.
        let expected = if tables_at < HIGH { 1 } else { 2 };
        assert_eq!(kernel.layout(), expected, "tables at {tables_at:#x}");
    }
}

/// What `ram` has below `end`.
fn cut(ram: &Fake<Gpa>, end: u64) -> Fake<Gpa> {
    let mut low = Fake::new();
    let mut from = Gpa::at(0);
    while let Some(run) = ram.next_data(from).filter(|run| run.start.get() < end) {
        let len = run.len.min(end - run.start.get());
        low.write(run.start, &ram.read_up_to(run.start, len).bytes);
        from = on(run.start, run.len);
    }
    low
}

fn on<A: Address>(at: A, offset: u64) -> A {
    at.checked_add(offset).unwrap()
}
