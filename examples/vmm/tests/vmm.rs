#![cfg(test)]
//! The example, with the memory of a guest that `cargo xtask test` froze.

use std::path::PathBuf;
use std::process::Command;

use example_vmm::Vmm;
use freeze::Dump;
use freeze::render::{Options, Source};

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
