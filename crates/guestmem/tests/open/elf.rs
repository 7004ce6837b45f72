//! Segments of ELF cores, and what lies between them.

use std::cmp::Reverse;

use guestmem::{Address, Cause, Fault, Format, Gpa, Memory, MemoryExt, PhysicalMemory};
use proptest::prelude::*;

use crate::core::{Core, Load, fact, load, open, refusal};

#[test]
fn segments_lie_where_their_headers_say() {
    let mut cut = load(0x5000, &[3; 0x800]);
    cut.in_memory = 0x1800;
    let core = Core::new([
        load(0x1_0000_0000, &[2; 0x1000]),
        load(0x1000, &[1; 0x1000]),
        cut,
    ]);
    let image = core.open().unwrap();
    assert_eq!(image.format(), Format::Elf);
    assert_eq!(fact(&image, "segments"), Some("3 with 0.0 MiB"));
    let [memory] = image.layouts() else {
        panic!("an ELF core has one layout");
    };
    assert_eq!(memory.size(), 0x3800);
    let check = |gpa, expected: Result<u8, fn(Gpa) -> Cause>| {
        let gpa = Gpa::new(gpa);
        let expected = expected.map_err(|cause| Fault::new(gpa, cause(gpa)));
        assert_eq!(memory.load_u8(gpa), expected, "{gpa}");
    };
    check(0, Err(|gpa| Cause::Unbacked { gpa }));
    check(0x1000, Ok(1));
    check(0x1fff, Ok(1));
    check(0x2000, Err(|gpa| Cause::Unbacked { gpa }));
    check(0x57ff, Ok(3));
    check(0x5800, Err(|gpa| Cause::Excluded { gpa }));
    check(0x67ff, Err(|gpa| Cause::Excluded { gpa }));
    check(0x6800, Err(|gpa| Cause::Unbacked { gpa }));
    check(0x1_0000_0fff, Ok(2));
    check(u64::MAX, Err(|gpa| Cause::Unbacked { gpa }));
    let mut buf = [9; 4];
    let fault = memory.read(Gpa::at(0x57fe), &mut buf).unwrap_err();
    assert_eq!((fault.addr, buf), (Gpa::at(0x5800), [3, 3, 9, 9]));
}

#[test]
fn a_file_that_is_cut_keeps_what_it_has() {
    let core = Core::new([load(0x1000, &[1; 0x1000]), load(0x3000, &[2; 0x1000])]);
    let mut file = core.build();
    file.truncate(file.len() - 0x800);
    let image = open(&file).unwrap();
    let memory = &image.layouts()[0];
    assert_eq!(memory.size(), 0x2000);
    assert_eq!(memory.load_u8(Gpa::at(0x37ff)), Ok(2));
    let gpa = Gpa::at(0x3800);
    let fault = Fault::new(gpa, Cause::Vanished { gpa });
    assert_eq!(memory.load_u8(gpa), Err(fault));
    let told = fact(&image, "incomplete");
    assert_eq!(told, Some("the file ends before 1 of its segments do"));
    // Of the last segment nothing, of the first a byte.
    file.truncate(file.len() - 0x17ff);
    let image = open(&file).unwrap();
    assert_eq!(image.layouts()[0].load_u8(Gpa::at(0x1000)), Ok(1));
    image.layouts()[0].load_u8(Gpa::at(0x1001)).unwrap_err();
    file.pop();
    let memory = open(&file).unwrap().layouts()[0].clone();
    memory.load_u8(Gpa::at(0x1000)).unwrap_err();
    assert_eq!(memory.next_data(Gpa::at(0)), None);
    assert_eq!(memory.read(Gpa::at(0x1000), &mut []), Ok(()));
}

#[test]
fn more_segments_than_the_header_can_count() {
    let loads = (0..70_000u64).map(|page| load(page << 13, &page.to_le_bytes()));
    let mut core = Core::new(loads);
    core.xnum = true;
    let image = core.open().unwrap();
    let memory = &image.layouts()[0];
    for page in [0, 1, 65_534, 65_535, 69_999u64] {
        assert_eq!(memory.load_u64(Gpa::new(page << 13)), Ok(page));
    }
    let runs = std::iter::successors(memory.next_data(Gpa::at(0)), |run| {
        memory.next_data(run.start.checked_add(run.len)?)
    });
    assert_eq!(runs.count(), 70_000);
}

#[test]
fn what_is_no_machines_core_is_refused() {
    let core = Core::new([load(0x1000, &[1; 16])]);
    let check = |core: &Core, expected: &str| {
        let refused = refusal(&core.build());
        assert_eq!(
            refused,
            format!("cannot be read as an ELF core: {expected}")
        );
    };
    check(&Core::default(), "it has no segment with memory in it");
    let mut process = Core::new([load(0, &[1; 16]), load(0, &[2; 16])]);
    for (load, kva) in process.loads.iter_mut().zip([0x40_0000, 0x7fff_0000_0000]) {
        load.kva = kva;
    }
    check(
        &process,
        "it is a process's, not a machine's: it has no physical addresses",
    );
    let mut huge = core.clone();
    huge.loads[0].in_memory = u64::MAX;
    check(
        &huge,
        "segment 1 ends beyond all physical memory, at 0x1000 + 0xffffffffffffffff",
    );
    // What /proc/kcore says of memory without a physical address.
    let mut nowhere = core.clone();
    nowhere.loads[0].gpa = u64::MAX;
    check(&nowhere, "it has no segment with memory in it");
    nowhere.loads.push(load(0x1000, &[7]));
    let memory = nowhere.open().unwrap().layouts()[0].clone();
    assert_eq!(memory.load_u8(Gpa::at(0x1000)), Ok(7));
    let patched = |at: usize, bytes: &[u8], expected: &str| {
        let mut file = core.build();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let refused = refusal(&file);
        assert_eq!(
            refused,
            format!("cannot be read as an ELF core: {expected}")
        );
    };
    patched(
        4,
        &[1],
        "it is a 32-bit one: only those of 64-bit machines are read",
    );
    patched(5, &[3], "its ELF header makes no sense");
    patched(
        54,
        &[32],
        "its ELF header has another size of program headers than 56 bytes",
    );
    patched(
        56,
        &[0xff, 0xff],
        "its ELF header leaves the number of segments to a section header that is not there",
    );
    patched(
        56,
        &[0xfe, 0xff],
        "its program headers reach past the end of the file",
    );
    patched(
        32,
        &[0xff; 8],
        "its program headers reach past the end of the file",
    );
    let mut counted = core.clone();
    counted.xnum = true;
    let mut file = counted.build();
    file[64 + 44..64 + 48].fill(0xff);
    assert!(refusal(&file).ends_with("it claims 4294967295 segments, more than 4194304"));
    file[40..48].fill(0xff);
    assert!(refusal(&file).ends_with("first section header cannot be read: is the file whole?"));
    for len in [18, 63] {
        let refused = refusal(&core.build()[..len]);
        assert!(refused.ends_with("is the file whole?"), "{refused}");
    }
}

/// What a byte is by the headers alone: of the segments whose bytes are in the
/// file the largest one's, of equals the lowest one's; else left out if any
/// segment holds it.
fn model(loads: &[Load], gpa: u64) -> Option<Result<u8, Cause>> {
    let inside = |load: &Load| gpa.checked_sub(load.gpa).filter(|&at| at < load.in_memory);
    let mut best: Option<((u64, Reverse<u64>), u8)> = None;
    let mut held = false;
    for load in loads {
        let Some(at) = inside(load) else { continue };
        held = true;
        let in_file = load.in_memory.min(load.bytes.len() as u64);
        let byte = load.bytes.get(usize::try_from(at).unwrap());
        if let Some(&byte) = byte
            && best.is_none_or(|(rank, _)| (in_file, Reverse(load.gpa)) > rank)
        {
            best = Some(((in_file, Reverse(load.gpa)), byte));
        }
    }
    let gpa = Gpa::new(gpa);
    match best {
        Some((_, byte)) => Some(Ok(byte)),
        None => held.then_some(Err(Cause::Excluded { gpa })),
    }
}

fn loads() -> impl Strategy<Value = Vec<Load>> {
    let one = (
        0u64..96,
        prop::collection::vec(any::<u8>(), 0..48),
        1u64..64,
    );
    let one = one.prop_map(|(gpa, bytes, in_memory)| Load {
        gpa,
        bytes,
        in_memory,
        kva: 0,
    });
    prop::collection::vec(one, 1..8)
}

proptest! {
    #[test]
    fn segments_may_overlap_in_any_way(loads in loads()) {
        let image = Core::new(loads.clone()).open().unwrap();
        let memory = &image.layouts()[0];
        let mut size = 0;
        for address in 0..200 {
            let gpa = Gpa::new(address);
            let expected = model(&loads, address);
            size += u64::from(expected.is_some());
            let expected = expected.unwrap_or(Err(Cause::Unbacked { gpa }));
            let expected = expected.map_err(|cause| Fault::new(gpa, cause));
            prop_assert_eq!(memory.load_u8(gpa), expected);
        }
        prop_assert_eq!(memory.size(), size);
        let mut from = Gpa::at(0);
        let mut data = 0;
        while let Some(run) = memory.next_data(from) {
            prop_assert!(run.start >= from && run.len > 0);
            let end = run.start.checked_add(run.len).unwrap();
            let bytes = memory.read_up_to(run.start, run.len);
            prop_assert_eq!(bytes.fault, None);
            data += run.len;
            from = end;
        }
        let readable = (0..200).filter(|&gpa| memory.load_u8(Gpa::new(gpa)).is_ok());
        prop_assert_eq!(data, readable.count() as u64);
    }
}
