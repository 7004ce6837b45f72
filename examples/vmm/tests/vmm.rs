#![cfg(test)]
//! The example, with the memory of a guest that `cargo xtask test` froze.

use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;

use example_vmm::Vmm;
use freeze::guestmem::{Address, Format, Gpa, GuestRam, Image, Memory, PhysicalMemory, RawImage};
use freeze::render::{Options, Source};
use freeze::{Dump, Freeze};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// The memory of a frozen guest that is all below 2 GiB.
fn ram() -> PathBuf {
    let home = std::env::var_os("BPFREEZE_GUESTS").expect("BPFREEZE_GUESTS; run: cargo xtask test");
    PathBuf::from(home).join("la57/ram")
}

fn json(dump: Dump) -> String {
    let options = Options::new(Source::new("either"));
    dump.with_options(options).json().expect("JSON")
}

#[test]
fn a_capture_in_the_process_is_what_the_file_shows() {
    let vmm = Vmm::start(&ram(), 2).expect("a guest");
    let mut freeze = vmm.freeze().expect("its memory");
    freeze.prepare().expect("its kernel");
    vmm.park();
    let before = vmm.ticks();
    let capture = freeze.capture().expect("a capture");
    assert_eq!(vmm.ticks(), before, "a vCPU ran while it was parked");
    vmm.resume();
    while vmm.ticks() == before {
        std::thread::yield_now();
    }
    drop(vmm);
    let captured = json(capture.open().expect("a dump"));
    let whole = json(Dump::open(&ram()).expect("a dump"));
    assert!(captured == whole, "the capture and the file differ");
}

#[test]
fn guest_memory_of_rust_vmm_is_read_without_unsafe() {
    let file = RawImage::open(&ram()).expect("an image");
    let len = usize::try_from(file.size()).expect("a length");
    let memory = GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), len)]).expect("memory");
    let mut from = Gpa::at(0);
    while let Some(span) = file.next_data(from) {
        let mut bytes = vec![0; usize::try_from(span.len).expect("a length")];
        file.read(span.start, &mut bytes).expect("bytes");
        let at = GuestAddress(span.start.get());
        memory.write_slice(&bytes, at).expect("room");
        from = span.start.checked_add(span.len).expect("an address");
    }
    let memory = GuestRam::new(Arc::new(memory));
    let image = Image::new(Format::Process, Rc::new(memory));
    let capture = Freeze::new(image).capture().expect("a capture");
    let captured = json(capture.open().expect("a dump"));
    let whole = json(Dump::open(&ram()).expect("a dump"));
    assert!(captured == whole, "the capture and the file differ");
}

#[test]
fn the_program_shows_what_it_is_asked_for() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_example-vmm"));
    let output = program
        .arg(ram())
        .arg("sections.bss")
        .output()
        .expect("it starts");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{told}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut lines = told.lines();
    let head = lines.next().unwrap_or_default();
    assert!(head.contains("sections.bss   array"), "{told}");
    assert!(told.contains("hidden_runs  700"), "{told}");
    assert!(told.contains("the guest stood for "), "{told}");
}

#[test]
fn only_the_maps_that_are_named_are_captured() {
    let vmm = Vmm::start(&ram(), 1).expect("a guest");
    let freeze = || vmm.freeze().expect("its memory");
    vmm.park();
    let whole = freeze().capture().expect("a capture");
    let mut freeze_one = freeze().maps(["sections.bss"]);
    let one = freeze_one.capture().expect("a capture");
    assert!(one.report().pages < whole.report().pages);
    let dump = one.open().expect("a dump");
    let bss = dump.map("sections.bss").expect("a map");
    assert!(bss.is_complete(), "{:?}", bss.gaps());
    let runs = bss.var("hidden_runs").expect("a variable");
    assert_eq!(runs.as_u64(), Ok(700));
    let other = dump.map("flows").expect("it is listed");
    let error = other.gaps().join("; ");
    assert!(error.contains("was left out of the dump"), "{error}");
    let error = freeze().maps(["section.bss"]).capture().unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("there is no map `section.bss`; there are sections.bss, "),
        "{said}"
    );
}
