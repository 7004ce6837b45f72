//! Guest memory in everything that QEMU keeps it in.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bpfreeze_qemu::Qemu;
use guestmem::{Address, Cause, Format, Gpa, Memory, MemoryExt, Physical, PhysicalMemory, Span};

use crate::machine::{Machine, TOUCHED, WRITTEN, await_counting, memory, read, until};

const LOW: u64 = 0x200_0000;
const HIGH: u64 = 0x1_0000_0000;

/// Addresses of a guest.
struct Layout {
    /// Bytes of RAM.
    ram: u64,
    /// Where the hole below 4 GiB starts, if there is RAM above it.
    hole: Option<u64>,
    /// Whether reading leaves alone what nobody has touched.
    leaves_alone: bool,
}

const Q35: Layout = Layout {
    ram: 5 << 30,
    hole: Some(2 << 30),
    leaves_alone: true,
};

/// Something that a search for data comes by.
fn runs(memory: &Physical) -> Vec<Span> {
    let mut runs = Vec::new();
    let mut from = Gpa::at(0);
    while let Some(run) = memory.next_data(from) {
        assert!(run.start >= from && run.len > 0);
        from = run.start.checked_add(run.len).unwrap();
        runs.push(run);
    }
    runs
}

fn holds(runs: &[Span], gpa: u64) -> bool {
    let inside = |run: &Span| Gpa::at(gpa).checked_offset_from(run.start);
    runs.iter()
        .any(|run| inside(run).is_some_and(|inside| inside < run.len))
}

fn is_unbacked(memory: &Physical, gpa: u64) {
    let fault = memory.read(Gpa::at(gpa), &mut [0]).unwrap_err();
    let gpa = Gpa::at(gpa);
    assert_eq!((fault.addr, fault.cause), (gpa, Cause::Unbacked { gpa }));
}

/// Bytes that `-device loader` puts at `LOW` and `HIGH`: a page and a bit.
fn loaded(at: u64) -> Vec<u8> {
    let seed = u8::try_from(at >> 25 & 0x7f).unwrap();
    (0..0x1100)
        .map(|at: u32| at.to_le_bytes()[0] ^ seed)
        .collect()
}

fn check(machine: &str, layout: &Layout) {
    check_with(machine, layout, |_| {});
}

fn check_with(machine: &str, layout: &Layout, prepare: impl FnOnce(&Path)) {
    println!("{machine}");
    let mut arguments = format!("-S -bios firmware {machine}");
    let high = layout.hole.map(|_| HIGH);
    for at in [LOW].into_iter().chain(high) {
        arguments += &format!(" -device loader,file=at{at:x},addr={at:#x},force-raw=on");
    }
    let machine = Machine::with(&arguments, |folder| {
        for at in [LOW, HIGH] {
            fs::write(folder.join(format!("at{at:x}")), loaded(at)).unwrap();
        }
        prepare(folder);
    });
    let qemu = machine.connect();
    let image = qemu.image().unwrap();
    assert_eq!(image.format(), Format::Qemu);
    let memory = memory(&image);
    // What else there is, is firmware.
    let size = memory.size();
    assert!(
        (layout.ram..layout.ram + (1 << 20)).contains(&size),
        "{size:#x}"
    );

    let found = runs(&memory);
    assert!(holds(&found, LOW) && high.is_none_or(|high| holds(&found, high)));
    let untouched = |found: &[Span]| !holds(found, 0x600_0000) && !holds(found, 0x610_0000);
    assert!(untouched(&found) && !holds(&found, TOUCHED.start));

    // Small reads and large ones, of what is there and what nobody has touched.
    for at in [LOW].into_iter().chain(high) {
        let expected = loaded(at);
        assert_eq!(read(&memory, at, expected.len()), expected);
        assert_eq!(read(&memory, at + 0xfff, 8), expected[0xfff..0x1007]);
    }
    assert_eq!(read(&memory, 0x600_0ffc, 8), [0; 8]);
    assert_eq!(read(&memory, 0x610_0000, 1 << 20), vec![0; 1 << 20]);
    if let Some(hole) = layout.hole {
        is_unbacked(&memory, hole);
        is_unbacked(&memory, HIGH - (16 << 20));
        let mut across = [7; 8];
        let fault = memory.read(Gpa::at(hole - 4), &mut across).unwrap_err();
        assert_eq!(fault.addr, Gpa::at(hole));
        assert_eq!(across, [0, 0, 0, 0, 7, 7, 7, 7]);
        is_unbacked(&memory, layout.ram + HIGH - hole);
    }
    assert_eq!(read(&memory, 0xffff_fff0, 5), [0xea, 0, 0, 0, 0xf0]);

    assert!(!layout.leaves_alone || untouched(&runs(&memory)));

    comes_to_know(&qemu, &machine, &memory);
}

/// What the guest writes after the image was opened is seen.
fn comes_to_know(qemu: &Qemu, machine: &Machine, memory: &Physical) {
    assert!(!qemu.is_running().unwrap());
    assert_eq!(read(memory, TOUCHED.start, 2), [0; 2]);
    let mut witness = machine.witness();
    witness.execute("cont", &serde_json::json!({}));
    await_counting(memory);
    let paused = qemu.pause().unwrap();
    let found = runs(memory);
    for page in TOUCHED.step_by(0x1000) {
        assert_eq!(read(memory, page, 2), WRITTEN.to_le_bytes());
        assert!(holds(&found, page), "{page:#x}");
    }
    let saved = machine.saved(&mut witness, 0, 0x10_0000);
    assert_eq!(read(memory, 0, 0x10_0000), saved);
    paused.resume().unwrap();
}

fn backend(kind: &str) -> String {
    format!("-M q35,memory-backend=mem -m 5G -object memory-backend-{kind},id=mem,size=5G")
}

#[test]
fn memory_of_the_process_alone() {
    check("-M q35 -m 5G", &Q35);
}

#[test]
fn a_shared_memfd() {
    check(&backend("memfd,share=on"), &Q35);
}

#[test]
fn a_private_memfd() {
    check(&backend("memfd,share=off"), &Q35);
}

#[test]
fn a_shared_file() {
    check(&backend("file,mem-path=ram,share=on"), &Q35);
}

#[test]
fn shared_memory_without_a_name() {
    // Its file can be opened by root only.
    let layout = Layout {
        leaves_alone: false,
        ..Q35
    };
    check(&backend("ram,share=on"), &layout);
}

#[test]
fn a_private_file_holds_what_was_not_written_since() {
    const IN_FILE: u64 = 0x7000_0000;
    let written = |folder: &Path| {
        let file = fs::File::create(folder.join("ram")).unwrap();
        file.set_len(5 << 30).unwrap();
        file.write_all_at(b"from the file", IN_FILE).unwrap();
        // The loader writes to memory over this.
        file.write_all_at(b"not this", LOW).unwrap();
    };
    check_with(&backend("file,mem-path=ram,share=off"), &Q35, written);
    let machine = Machine::with(
        &format!(
            "-S -bios firmware {}",
            backend("file,mem-path=ram,share=off")
        ),
        written,
    );
    let memory = memory(&machine.connect().image().unwrap());
    assert_eq!(read(&memory, IN_FILE, 13), b"from the file");
    assert_eq!(read(&memory, LOW, 8), b"not this");
    let found = runs(&memory);
    assert!(holds(&found, IN_FILE) && holds(&found, LOW));
    assert!(!holds(&found, 0x6000_0000));
}

#[test]
fn the_older_machine_has_its_hole_elsewhere() {
    let layout = Layout {
        ram: 4 << 30,
        hole: Some(3 << 30),
        leaves_alone: true,
    };
    check("-M pc -m 4G", &layout);
}

#[test]
fn memory_in_several_pieces() {
    let layout = Layout {
        ram: 1280 << 20,
        hole: None,
        leaves_alone: true,
    };
    check(
        "-M q35 -m 1G,slots=2,maxmem=4G -smp 2 \
         -object memory-backend-memfd,id=a,size=512M -numa node,memdev=a,cpus=0 \
         -object memory-backend-ram,id=b,size=512M -numa node,memdev=b,cpus=1 \
         -object memory-backend-memfd,id=d,size=256M -device pc-dimm,memdev=d",
        &layout,
    );
}

/// QEMU's own firmware with a display, whose memory comes and goes while it starts.
#[test]
fn running_firmware_is_read_as_qemu_saves_it() {
    let machine = Machine::with("-M q35 -m 256M -device VGA", |_| {});
    let qemu = machine.connect();
    let memory = memory(&qemu.image().unwrap());
    // Its vectors are among the first that it writes.
    until("the firmware's start", || {
        memory.load_u32(Gpa::at(0x40)).unwrap() != 0
    });
    let mut witness = machine.witness();
    for _ in 0..3 {
        let memory = crate::machine::memory(&qemu.image().unwrap());
        let paused = qemu.pause().unwrap();
        for (start, len) in [(0, 0xa_0000), (0x10_0000, (255 << 20))] {
            let saved = machine.saved(&mut witness, start, len);
            let read = read(&memory, start, saved.len());
            assert!(read == saved, "{start:#x}");
        }
        assert!(paused.resume().unwrap().is_some());
        await_some_time();
    }
}

/// For the firmware to get on; nothing depends on how far.
fn await_some_time() {
    std::thread::sleep(std::time::Duration::from_millis(300));
}
