//! `bpfreeze capture` of the capture that is in the repository.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::program::{Run, bpfreeze, run};

fn sample() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = path.join("../../sample/scx_p2dq.core.zst");
    path.to_str().unwrap().to_owned()
}

/// What a command prints of an image, without the record of what it was read
/// from.
fn shown(command: &[&str], image: &str) -> (Option<i32>, String) {
    let mut program = bpfreeze([command[0], image]);
    program.args(&command[1..]);
    let run = run(program);
    let (start, rest) = run
        .stdout
        .split_once("\"source\":")
        .unwrap_or(("", &run.stdout));
    let rest = rest.split_once('}').filter(|_| !start.is_empty());
    let rest = rest.map_or(run.stdout.as_str(), |(_, rest)| rest);
    (run.status, rest.to_owned())
}

fn captured(options: &[&str], to: &Path) -> Run {
    let sample = sample();
    let mut program = bpfreeze(["capture", &sample, "-o", to.to_str().unwrap()]);
    program.args(options);
    let run = run(program);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    run
}

fn folder() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    (folder, move |name| path.join(name))
}

#[test]
fn a_capture_shows_what_its_source_does() {
    let (_folder, at) = folder();
    let sample = sample();
    for name in ["again.core", "again.core.zst"] {
        let run = captured(&[], &at(name));
        assert!(run.stderr.contains(" pages, "), "{}", run.stderr);
        let copy = at(name).to_str().unwrap().to_owned();
        for command in [
            ["dump", "--format", "json", "--arena-bytes"].as_slice(),
            &["dump"],
            &["maps", "--format", "json"],
            &["progs"],
        ] {
            let (original, copied) = (shown(command, &sample), shown(command, &copy));
            assert!(original == copied, "{command:?} of {name}");
            assert_eq!(original.0, Some(0), "{command:?}");
        }
    }
    let length = |name| fs::metadata(at(name)).unwrap().len();
    assert!(length("again.core.zst") < length("again.core") / 2);
}

#[test]
fn a_capture_of_one_map_has_no_other() {
    let (_folder, at) = folder();
    let sample = sample();
    captured(&["--map", "cpu_ctxs"], &at("one.core"));
    let one = at("one.core").to_str().unwrap().to_owned();
    let command = ["dump", "--map", "cpu_ctxs", "--format", "json"];
    assert_eq!(shown(&command, &sample), shown(&command, &one));
    let lists = ["maps", "--format", "json"];
    assert_eq!(shown(&lists, &sample), shown(&lists, &one));
    let (status, text) = shown(&["dump", "--format", "json"], &one);
    assert_eq!(status, Some(3));
    assert!(text.contains("was left out of the dump"), "{text}");
}

#[test]
fn the_pages_of_arenas_may_be_left_out() {
    let (_folder, at) = folder();
    let sample = sample();
    let mut sizes = Vec::new();
    for which in ["whole", "reached", "no"] {
        let to = at(which);
        captured(&["--include", &format!("arena={which}")], &to);
        sizes.push(fs::metadata(&to).unwrap().len());
        let copy = to.to_str().unwrap().to_owned();
        let dump = ["dump", "--format", "json"];
        let (original, copied) = (shown(&dump, &sample), shown(&dump, &copy));
        let lists = ["maps", "--format", "json"];
        assert_eq!(shown(&lists, &sample), shown(&lists, &copy), "{which}");
        if which == "no" {
            assert_eq!(copied.0, Some(3));
            assert!(copied.1.contains("was left out of the dump"));
        } else {
            assert!(original == copied, "{which}");
        }
        let bytes = shown(&["dump", "--map", "arena", "--arena-bytes"], &copy);
        assert_eq!(bytes.0, Some(if which == "whole" { 0 } else { 3 }));
    }
    assert!(sizes[0] > sizes[1] && sizes[1] > sizes[2], "{sizes:?}");
}

#[test]
fn a_capture_goes_through_a_pipe() {
    let (_folder, at) = folder();
    captured(&[], &at("file.core"));
    let sample = sample();
    let piped = File::create(at("piped.core")).unwrap();
    let mut program = bpfreeze(["capture", &sample, "-o", "-"]);
    let run = Run::from(program.stdout(piped).output().unwrap());
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    let [file, piped] = ["file.core", "piped.core"].map(|name| fs::read(at(name)).unwrap());
    assert!(file == piped);
}

#[test]
fn a_full_device_is_an_error() {
    let sample = sample();
    let run = run(bpfreeze(["capture", &sample, "-o", "/dev/full"]));
    run.failed(1, &["cannot write /dev/full", "No space left"]);
}

#[test]
fn what_cannot_be_captured_leaves_no_file() {
    let (folder, at) = folder();
    let to = at("no.core");
    let to = to.to_str().unwrap();
    let check = |args: &[&str], parts: &[&str]| {
        let mut program = bpfreeze(["capture", "-o", to]);
        program.args(args);
        run(program).failed(1, parts);
    };
    let sample = sample();
    check(
        &[&sample, "--map", "absent"],
        &["has no map named `absent`"],
    );
    check(&["qmp:absent.sock"], &["cannot connect to absent.sock"]);
    check(
        &["live", "--via", "bpf"],
        &["/proc/kcore alone", "leave --via out"],
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
