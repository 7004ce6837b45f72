//! The running kernel as the source. All but the test that there are no rights
//! need them.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use serde_json::Value;

use crate::program::{Run, bpfreeze, powerless, run};

/// Fails where this process may not list maps, and says what to do.
fn needs_rights() {
    let run = run(bpfreeze(["maps", "live"]));
    let refused = run.status == Some(1) && run.stderr.contains("not permitted");
    assert!(!refused, "run the tests as root: {}", run.stderr);
}

#[test]
fn without_rights() {
    for command in ["info", "maps", "dump"] {
        let run = run(powerless([command, "live"]));
        run.failed(
            1,
            &["cannot list the maps", "not permitted", "CAP_", "root"],
        );
    }
    let run = run(powerless(["progs", "live"]));
    run.failed(
        1,
        &["cannot list the programs", "not permitted", "CAP_", "root"],
    );
}

#[test]
fn an_unknown_map() {
    needs_rights();
    let dump = |map| run(bpfreeze(["dump", "live", "--map", map]));
    dump("no map is called so").failed(1, &["live has no map named `no map is called so`"]);
    dump("4294967295").failed(1, &["live has no map with id 4294967295"]);
}

#[test]
fn info_as_json() {
    needs_rights();
    let run = run(bpfreeze(["info", "live", "--format", "json", "--verbose"]));
    let info: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(info["schema"], "bpfreeze/1");
    assert_eq!(info["source"]["kind"], "live");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(info["kernel"]["release"], release.trim());
    assert!(info["maps"]["count"].is_u64(), "{info}");
    assert!(info["progs"]["count"].is_u64(), "{info}");
    assert!(run.stderr.contains(" ms] "), "{run:?}");
}

#[test]
fn the_kernel_is_read_through_what_is_asked_for() {
    needs_rights();
    for (via, kind) in [
        ("auto", "live"),
        ("program", "live"),
        ("bpf", "live"),
        ("kcore", "kcore"),
    ] {
        let run = run(bpfreeze(["info", "live", "--via", via, "--format", "json"]));
        if via == "kcore" && !fs::exists("/proc/kcore").unwrap() {
            run.failed(1, &["cannot open /proc/kcore", "CONFIG_PROC_KCORE"]);
            continue;
        }
        let info: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(info["source"]["kind"], kind);
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(info["kernel"]["release"], release.trim());
    }
    if fs::exists("/proc/kcore").unwrap() {
        let run = run(powerless(["maps", "live", "--via", "kcore"]));
        run.failed(1, &["cannot open /proc/kcore", "CAP_SYS_RAWIO", "root"]);
    }
}

#[test]
fn a_closed_pipe() {
    needs_rights();
    for command in ["info", "maps", "dump", "progs"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = bpfreeze([command, "live", "--format", "json"]);
        let run = Run::from(command.stdout(writer).output().unwrap());
        assert_eq!((run.status, run.stderr.as_str()), (Some(141), ""));
    }
}

#[test]
fn a_full_device_is_an_error_and_stays_a_device() {
    needs_rights();
    let run = run(bpfreeze(["info", "live", "-o", "/dev/full"]));
    run.failed(1, &["cannot write /dev/full", "No space left"]);
    assert!(!fs::metadata("/dev/full").unwrap().is_file());
}

#[test]
fn an_output_file_appears_whole_and_is_all_that_appears() {
    needs_rights();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("maps.json");
    let link = folder.path().join("link");
    symlink("maps.json", &link).unwrap();
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = bpfreeze(["info", "live", "--format", "json", "-o"]);
    let run = run({
        command.arg(&link);
        command
    });
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
    let info: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(info["schema"], "bpfreeze/1");
    assert!(link.is_symlink());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn colour_is_for_terminals_and_for_those_who_ask() {
    needs_rights();
    let info = |options: &[&str]| {
        let mut command = bpfreeze(["info", "live"]);
        run({
            command.args(options);
            command
        })
    };
    assert!(!info(&[]).stdout.contains('\x1b'));
    assert!(!info(&["--color", "never"]).stdout.contains('\x1b'));
    assert!(info(&["--color", "always"]).stdout.contains('\x1b'));
}

#[test]
fn the_reader_may_stop_early() {
    needs_rights();
    let mut child = bpfreeze(["dump", "live", "--format", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut start = [0; 1];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.stderr, "");
    // A short dump fits into the pipe and is complete, or has gaps.
    assert!(matches!(run.status, Some(0 | 3 | 141)), "{run:?}");
}
