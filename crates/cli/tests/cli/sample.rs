//! The capture that is in the repository, shown by every command: a kernel under a real
//! scheduler. `cargo xtask sample` makes it, and writes what is expected here.

use std::path::Path;

use expect_test::expect_file;

use crate::program::{bpfreeze, run};

const SAMPLE: &str = "../../sample/scx_p2dq.core.zst";

/// Runs a command on the sample; `options` follow its name.
#[track_caller]
fn check(name: &str, command: &str, options: &[&str]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut program = bpfreeze([command, SAMPLE]);
    program.current_dir(path).args(options);
    let run = run(program);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stderr, "");
    let expected = path.join("tests/golden").join(name);
    expect_file![expected].assert_eq(&run.stdout);
}

#[test]
fn info() {
    check("info.txt", "info", &[]);
    check("info.json", "info", &["--format", "json"]);
}

#[test]
fn maps() {
    check("maps.txt", "maps", &[]);
    check("maps.json", "maps", &["--format", "json"]);
}

#[test]
fn programs() {
    check("progs.txt", "progs", &[]);
}

#[test]
fn one_map() {
    let map = ["--map", "cpu_ctxs"];
    check("map.txt", "dump", &map);
    check(
        "map.json",
        "dump",
        &[&map[..], &["--format", "json"]].concat(),
    );
}

#[test]
fn an_allocator() {
    let slots = ["--allocator", "scx_task_allocator", "--limit", "5"];
    check("allocator.txt", "dump", &slots);
}

#[test]
fn what_a_scheduler_keeps_for_a_task() {
    check("task.txt", "dump", &["--pid", "1"]);
    check("task.json", "dump", &["--pid", "1", "--format", "json"]);
}

/// Nothing that a whole dump needs is missing in it.
#[test]
fn the_whole() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut program = bpfreeze(["dump", SAMPLE, "--format", "json"]);
    program.current_dir(path);
    let run = run(program);
    assert_eq!(run.status, Some(0), "{}", run.stderr);
    assert_eq!(run.stderr, "");
}
