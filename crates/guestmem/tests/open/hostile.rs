//! Cores whose every byte may lie.

use guestmem::{Absence, AbsentRun, Address, CaptureNote, Gpa, MemoryExt, PhysicalMemory};
use proptest::prelude::*;

use crate::core::{Core, EHDR, PHDR, load, open};

/// A core with a bit of everything.
fn core() -> Core {
    let mut cut = load(0x3000, &[3; 64]);
    cut.in_memory = 0x100;
    let absent = AbsentRun {
        start: Gpa::at(0x9000),
        end: Gpa::at(0xa000),
        why: Absence::Late,
    };
    let note = CaptureNote::new(0x1000, "raw", None).with_absent(vec![absent]);
    let mut core = Core::new([load(0x1000, &[1; 64]), load(0x2000, &[2; 64]), cut])
        .note("VMCOREINFO", 0, b"OSRELEASE=6.12\n")
        .note("QEMU", 0, &[1; 440])
        .note(
            CaptureNote::NAME,
            CaptureNote::TYPE,
            note.unwrap().to_text().as_bytes(),
        );
    core.xnum = true;
    core
}

/// Whatever was opened must read, search and end.
fn exercise(file: &[u8]) {
    let Ok(image) = open(file) else { return };
    for memory in image.layouts() {
        for gpa in [0, 0xfff, 0x1000, 0x2020, 0x3040, 0x9000, 1 << 52, u64::MAX] {
            let read = memory.read_up_to(Gpa::new(gpa), 0x3000);
            assert!(read.bytes.len() <= file.len().max(0x3000));
        }
        let mut from = Gpa::at(0);
        let mut runs = 0;
        while let Some(run) = memory.next_data(from) {
            let end = run.start.checked_add(run.len).unwrap();
            assert!(end > from && memory.load_u8(run.start).is_ok());
            from = end;
            runs += 1;
            assert!(runs <= 16, "more runs than segments make");
        }
        assert!(memory.size() < 1 << 56 || image.vmcoreinfo().is_some());
    }
}

#[test]
fn a_core_may_be_cut_anywhere() {
    let file = core().build();
    for len in 1..file.len() {
        exercise(&file[..len]);
    }
}

#[test]
fn every_field_may_be_anything() {
    let core = core();
    let file = core.build();
    let table = core.table_at();
    let headers = (0..EHDR * 2).chain(table..table + 4 * PHDR);
    for at in headers.step_by(2) {
        for value in [
            0u64,
            1,
            0x7f,
            0x8000,
            1 << 32,
            1 << 51,
            u64::MAX - 1,
            u64::MAX,
        ] {
            for size in [2, 4, 8] {
                let mut file = file.clone();
                if let Some(field) = file.get_mut(at..at + size) {
                    field.copy_from_slice(&value.to_le_bytes()[..size]);
                }
                exercise(&file);
            }
        }
    }
}

#[test]
fn shifted_segments_are_not_looked_at_again_and_again() {
    // Each overlaps all others: pairs of them would be 10^10.
    let count = 100_000u64;
    let mut core = Core::new((0..count).map(|shift| load(0x1000 + shift, &[])));
    for load in &mut core.loads {
        load.in_memory = count;
    }
    core.xnum = true;
    let image = core.open().unwrap();
    assert_eq!(image.layouts()[0].size(), 2 * count - 1);
}

proptest! {
    #[test]
    fn any_bytes_may_be_changed(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
    ) {
        let mut file = core().build();
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        exercise(&file);
    }

    #[test]
    fn any_bytes_may_follow_the_magic(bytes: Vec<u8>, kind in 0usize..5) {
        let magics: [&[u8]; 5] = [
            b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0",
            b"\x1f\x8b\x08\0",
            b"\x28\xb5\x2f\xfd",
            b"",
            b"\x7fELF",
        ];
        let mut file = magics[kind].to_vec();
        file.extend(bytes);
        exercise(&file);
    }
}
