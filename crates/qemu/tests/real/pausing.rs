//! What pausing, resuming and reading do to a guest, and to each other.

use std::os::unix::net::UnixListener;
use std::time::Duration;

use bpfreeze_qemu::{Error, Options, Qemu};
use guestmem::{Cause, Gpa, Memory, MemoryExt};
use serde_json::json;

use crate::machine::{COUNTER, Machine, await_counting, memory};

const SMALL: &str = "-M q35 -m 64M";

#[test]
fn a_paused_guest_stands_still_and_then_runs() {
    let machine = Machine::start(SMALL);
    let qemu = machine.connect();
    let memory = memory(&qemu.image().unwrap());
    let mut witness = machine.witness();
    for round in 0..3 {
        await_counting(&memory);
        let paused = qemu.pause().unwrap();
        assert!(!paused.was_paused());
        assert!(!qemu.is_running().unwrap() && !witness.is_running());
        let before = memory.load_u32(COUNTER).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(memory.load_u32(COUNTER).unwrap(), before);
        if round == 0 {
            drop(paused);
        } else {
            let stood = paused.resume().unwrap().unwrap();
            assert!(stood >= Duration::from_millis(50));
        }
        assert!(qemu.is_running().unwrap() && witness.is_running());
    }
    await_counting(&memory);
}

#[test]
fn a_guest_that_was_paused_stays_paused() {
    let check = |machine: &Machine| {
        let qemu = machine.connect();
        for round in 0..2 {
            let paused = qemu.pause().unwrap();
            assert!(paused.was_paused());
            if round == 0 {
                drop(paused);
            } else {
                assert_eq!(paused.resume().unwrap(), None);
            }
            assert!(!qemu.is_running().unwrap());
        }
        drop(qemu);
        assert!(!machine.witness().is_running());
    };
    check(&Machine::start(&format!("-S {SMALL}")));
    let machine = Machine::start(SMALL);
    machine.witness().execute("stop", &json!({}));
    check(&machine);
}

#[test]
fn somebody_else_who_resumes_is_noticed() {
    let machine = Machine::start(SMALL);
    let qemu = machine.connect();
    let mut witness = machine.witness();
    let check = |paused: Result<_, Error>| {
        assert!(matches!(paused, Err(Error::Ran)), "{paused:?}");
    };
    let paused = qemu.pause().unwrap();
    witness.execute("cont", &json!({}));
    check(paused.resume());
    assert!(witness.is_running());

    let paused = qemu.pause().unwrap();
    witness.execute("cont", &json!({}));
    witness.execute("stop", &json!({}));
    check(paused.resume());
    assert!(witness.is_running());

    // A guest that is not ours to resume is left as it is.
    witness.execute("stop", &json!({}));
    let paused = qemu.pause().unwrap();
    witness.execute("cont", &json!({}));
    check(paused.resume());
    witness.execute("stop", &json!({}));
    assert!(qemu.pause().unwrap().resume().unwrap().is_none());
    assert!(!witness.is_running());

    // One that was paused by us and ran is paused as any other the next time.
    witness.execute("cont", &json!({}));
    assert!(qemu.pause().unwrap().resume().unwrap().is_some());
}

#[test]
fn memory_that_is_still_to_come_is_no_image() {
    let machine = Machine::start(&format!("-incoming defer {SMALL}"));
    let qemu = machine.connect();
    let not_loaded = "the guest's memory is not there yet: its state is `inmigrate`";
    assert_eq!(qemu.image().unwrap_err().to_string(), not_loaded);
    assert_eq!(qemu.pause().unwrap_err().to_string(), not_loaded);
}

#[test]
fn the_monitor_serves_one_client_at_a_time() {
    let machine = Machine::start(SMALL);
    let first = machine.connect();
    let options = Options {
        pid: None,
        timeout: Duration::from_millis(200),
    };
    // Two wait for their turn, the next cannot even connect.
    for _ in 0..4 {
        let error = Qemu::connect(&machine.socket(), &options).unwrap_err();
        match error {
            Error::NoGreeting { .. } | Error::Connect { .. } => {}
            other => panic!("{other}"),
        }
    }
    drop(first);
    assert!(machine.connect().is_running().unwrap());
}

#[test]
fn a_socket_may_have_any_path() {
    let machine = Machine::start(SMALL);
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).unwrap();
    let socket = deep.join("s".repeat(200));
    std::os::unix::fs::symlink(machine.socket(), &socket).unwrap();
    let qemu = Qemu::connect(&socket, &Options::default()).unwrap();
    assert!(qemu.is_running().unwrap());
}

#[test]
fn a_process_that_is_not_the_one_is_told() {
    let machine = Machine::start(SMALL);
    let check = |pid, expected: &str| {
        let options = Options {
            pid: Some(pid),
            ..Options::default()
        };
        let qemu = Qemu::connect(&machine.socket(), &options).unwrap();
        match (qemu.image(), expected) {
            (Ok(image), "") => {
                assert_eq!(memory(&image).load_u8(Gpa::at(0xffff_fff0)), Ok(0xea));
                let (name, text) = &image.facts()[0];
                assert_eq!(*name, "process");
                assert!(
                    text.starts_with(&format!("{pid} (qemu-system-x86")),
                    "{text}"
                );
            }
            (image, expected) => {
                let text = image.unwrap_err().to_string();
                assert!(!expected.is_empty() && text.starts_with(expected), "{text}");
            }
        }
    };
    let ours = i32::try_from(std::process::id()).unwrap();
    check(ours, &format!("process {ours} ("));
    check(
        i32::MAX,
        "cannot list the mappings of QEMU, process 2147483647",
    );
    check(machine.pid(), "");
}

#[test]
fn a_qemu_that_dies_while_it_is_read_is_a_fault() {
    let check = |backend: &str, survives: bool| {
        let mut machine = Machine::start(backend);
        let qemu = machine.connect();
        let memory = memory(&qemu.image().unwrap());
        await_counting(&memory);
        let paused = qemu.pause().unwrap();
        let page = 0x2_0000;
        assert_eq!(memory.load(Gpa::at(page)), Ok(0xcafe_u16.to_le_bytes()));
        machine.kill();
        for gpa in [page, 0x300_0000, 0xffff_fff0].map(Gpa::at) {
            let mut byte = [1];
            match memory.read(gpa, &mut byte) {
                Ok(()) => assert!(survives && gpa < Gpa::at(0x400_0000)),
                Err(fault) => {
                    assert_eq!((fault.addr, fault.cause), (gpa, Cause::Vanished { gpa }));
                    assert!(!survives || gpa > Gpa::at(0x400_0000));
                }
            }
        }
        assert!(matches!(paused.resume(), Err(Error::Closed { .. })));
        assert!(matches!(qemu.is_running(), Err(Error::Closed { .. })));
    };
    check(SMALL, false);
    // The file outlives the process, with all that is in it.
    check(
        "-M q35,memory-backend=m -m 64M -object memory-backend-memfd,id=m,size=64M",
        true,
    );
}

#[test]
fn what_does_not_listen_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, cause: &str| {
        let socket = folder.path().join(name);
        let error = Qemu::connect(&socket, &Options::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot connect to {}", socket.display())
        );
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with(cause), "{source}");
    };
    check("absent", "No such file");
    std::fs::write(folder.path().join("file"), "").unwrap();
    check("file", "Connection refused");
    drop(UnixListener::bind(folder.path().join("left")).unwrap());
    check("left", "Connection refused");
}
