//! Where output goes, and what happens when it cannot go there.

use std::fs::{self, File};
use std::path::Path;

use crate::program::{Run, bpfreeze, powerless, run};

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A source that fails, but only after the output was opened.
fn failing_source(folder: &Path) -> String {
    let path = folder.join("guest.ram");
    File::create(&path).unwrap().set_len(1 << 20).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = bpfreeze(["completions", "bash"]);
    let run = Run::from(command.stdout(writer).output().unwrap());
    assert_eq!(run.status, Some(141), "{run:?}");
    assert_eq!(run.stderr, "");
}

#[test]
fn a_full_device_is_an_error() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in [["completions", "bash"].as_slice(), &["man"]] {
        let mut command = bpfreeze(args);
        let run = Run::from(command.stdout(full()).output().unwrap());
        run.failed(1, &["cannot write to standard output", "No space left"]);
    }
}

#[test]
fn an_output_that_cannot_be_written_fails_before_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let source = failing_source(folder.path());
    let check = |output: &str, parts: &[&str]| {
        run(bpfreeze(["dump", &source, "-o", output])).failed(1, parts);
    };
    let below = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    check(
        &below("absent/x.json"),
        &["cannot write", "absent/x.json", "no folder"],
    );
    check(&below("guest.ram/x"), &["cannot write", "Not a directory"]);
    check(&below(""), &["cannot write", "Is a directory"]);
    check(&source, &["guest.ram is the image that is read"]);
    assert_eq!(names(folder.path()), ["guest.ram"]);
}

#[test]
fn a_failed_command_leaves_no_file_and_the_old_one_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let source = failing_source(folder.path());
    let output = folder.path().join("out.json");
    let mut command = bpfreeze(["dump", &source, "-o"]);
    command.arg(&output);
    run(command).failed(1, &["no Linux kernel"]);
    assert_eq!(names(folder.path()), ["guest.ram"]);
    fs::write(&output, "old").unwrap();
    let mut command = bpfreeze(["dump", &source, "-o"]);
    command.arg(&output);
    run(command).failed(1, &["no Linux kernel"]);
    assert_eq!(names(folder.path()), ["guest.ram", "out.json"]);
    assert_eq!(fs::read_to_string(&output).unwrap(), "old");
}

#[test]
fn a_folder_without_the_right_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let source = failing_source(folder.path());
    let locked = folder.path().join("locked");
    fs::create_dir(&locked).unwrap();
    let mut permissions = fs::metadata(&locked).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&locked, permissions).unwrap();
    let mut command = powerless(["dump", &source, "-o"]);
    command.arg(locked.join("x.json"));
    run(command).failed(1, &["cannot write", "locked/x.json", "Permission denied"]);
}
