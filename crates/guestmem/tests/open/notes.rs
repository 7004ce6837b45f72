//! The notes of ELF cores.

use std::time::Duration;

use guestmem::{
    Absence, AbsentRun, Address, CaptureNote, Cause, Format, Gpa, Image, MemoryExt, PhysicalMemory,
};

use crate::core::{Core, fact, load, refusal};

/// What QEMU tells of a CPU: its version, its size, and CR3.
fn cpu(version: u32, cr3: u64) -> Vec<u8> {
    let mut state = vec![0; 440];
    state[..4].copy_from_slice(&version.to_le_bytes());
    state[416..424].copy_from_slice(&cr3.to_le_bytes());
    state
}

fn core() -> Core {
    Core::new([load(0x1000, &[1; 16])])
}

#[test]
fn notes_tell_what_the_machine_had() {
    let image = core()
        .note("CORE", 1, &[0; 336])
        .note("CORE", 1, &[0; 336])
        .note("QEMU", 0, &cpu(1, 0x1234_5000))
        .note("QEMU", 0, &cpu(1, 0x1234_5000))
        .note("QEMU", 0, &cpu(1, 0))
        .note("QEMU", 0, &cpu(2, 0x6000))
        .note("QEMU", 0, &[1, 0, 0, 0])
        .note("VMCOREINFO", 0, b"OSRELEASE=6.12\nX=1\n")
        .open()
        .unwrap();
    assert_eq!(image.format(), Format::Elf);
    assert_eq!(image.roots(), [Gpa::at(0x1234_5000)]);
    assert_eq!(image.vmcoreinfo(), Some(&b"OSRELEASE=6.12\nX=1\n"[..]));
    let told = fact(&image, "notes");
    assert_eq!(told, Some("2 CORE, 5 QEMU, VMCOREINFO"));
}

#[test]
fn a_capture_says_what_is_missing_and_why() {
    let run = |start, end, why| {
        let (start, end) = (Gpa::new(start), Gpa::new(end));
        AbsentRun { start, end, why }
    };
    let note = CaptureNote::new(1 << 30, "qmp", Some(Duration::from_micros(3140)))
        .with_root(Some(Gpa::at(0x7000)))
        .with_absent(vec![
            run(0x4000, 0x5000, Absence::Late),
            // The file has a part of this one all the same.
            run(0x1000, 0x3000, Absence::Damaged),
        ])
        .unwrap();
    let core = core().note(
        CaptureNote::NAME,
        CaptureNote::TYPE,
        note.to_text().as_bytes(),
    );
    let image = core.open().unwrap();
    assert_eq!(image.format(), Format::Capture);
    assert_eq!(image.roots(), [Gpa::at(0x7000)]);
    assert_eq!(
        fact(&image, "captured"),
        Some("from qmp, paused for 3.1 ms")
    );
    let memory = &image.layouts()[0];
    assert_eq!(memory.size(), 1 << 30);
    let cause = |gpa| memory.load_u8(Gpa::new(gpa)).map_err(|fault| fault.cause);
    let gpa = Gpa::at;
    assert_eq!(cause(0x100f), Ok(1));
    assert_eq!(cause(0x1010), Err(Cause::Damaged { gpa: gpa(0x1010) }));
    assert_eq!(cause(0x4fff), Err(Cause::Late { gpa: gpa(0x4fff) }));
    assert_eq!(cause(0x5000), Err(Cause::Excluded { gpa: gpa(0x5000) }));
    assert_eq!(cause(0), Err(Cause::Excluded { gpa: gpa(0) }));
}

#[test]
fn a_captures_note_must_make_sense() {
    let check = |text: &[u8], expected: &str| {
        let core = core().note(CaptureNote::NAME, CaptureNote::TYPE, text);
        let refused = refusal(&core.build());
        assert_eq!(
            refused,
            format!("cannot be read as an ELF core: {expected}")
        );
    };
    check(
        b"VERSION=2\n",
        "version 2 of the capture's note is later than 1, the last one known",
    );
    check(b"VERSION=1\n", "the capture's note has no SIZE");
    check(b"\xff", "the capture's note is not text");
}

#[test]
fn notes_that_lie_are_told_and_the_memory_is_read() {
    let check = |change: &dyn Fn(&mut Core), expected: &str| {
        let mut core = core()
            .note("VMCOREINFO", 0, b"OSRELEASE=6")
            .note("X\x1b", 5, b"");
        change(&mut core);
        let image = core.open().unwrap();
        assert_eq!(fact(&image, "notes"), Some(expected));
        assert_eq!(image.layouts()[0].load_u8(Gpa::at(0x1000)), Ok(1));
        image
    };
    let has_note = |image: &Image| image.vmcoreinfo().is_some();
    let all = "VMCOREINFO, X\\x1b";
    assert!(has_note(&check(&|_| (), all)));
    assert!(has_note(&check(&|core| core.notes.extend([0; 7]), all)));
    let lie = "incomplete: one is longer than all of them";
    for word in [0, 4] {
        let lying = |core: &mut Core| core.notes[word..word + 4].fill(0xff);
        assert!(!has_note(&check(&lying, lie)));
    }
    let second = 12 + 12 + 12;
    let lying = |core: &mut Core| core.notes[second..second + 4].fill(0x7f);
    let told = "VMCOREINFO, incomplete: one is longer than all of them";
    assert!(has_note(&check(&lying, told)));
}

#[test]
fn many_notes_are_told_in_one_line() {
    let names = (0..40).map(|name| format!("N{name:02}{}", "x".repeat(40)));
    let core = names.fold(core(), |core, name| core.note(&name, 1, b"x"));
    let image = core.note("N00", 1, b"").open().unwrap();
    let told = fact(&image, "notes").unwrap();
    let first = (0..8).map(|name| format!("N{name:02}{}", "x".repeat(13)));
    let first = first.collect::<Vec<_>>().join(", ");
    assert_eq!(told, format!("{first}, 33 others"));
}

#[test]
fn a_vmcoreinfo_has_a_page() {
    let image = core()
        .note("VMCOREINFO", 0, &[b'x'; 0x1_0001])
        .open()
        .unwrap();
    assert_eq!(image.vmcoreinfo(), None);
    let told = fact(&image, "notes");
    assert_eq!(
        told,
        Some("VMCOREINFO, incomplete: VMCOREINFO is longer than a page")
    );
}
