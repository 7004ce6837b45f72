//! The command line itself: help, wrong usage, completions, manual pages.

use crate::program::{bpfreeze, run};
use expect_test::expect;

#[test]
fn the_short_help() {
    let help = run(bpfreeze(["-h"]));
    assert_eq!(help.status, Some(0));
    expect![[r#"
        Shows everything that BPF programs keep in a kernel

        Usage: bpfreeze <COMMAND>

        Commands:
          info         Shows which kernel a source holds, and how it was found
          maps         Lists the maps, one row each, and the programs that use them
          dump         Prints the contents of maps
          progs        Lists the programs, one row each
          capture      Saves the memory that the maps and programs need
          completions  Prints a completion script for a shell
          man          Prints a manual page

        Options:
          -h, --help     Print help (see more with '--help')
          -V, --version  Print version

        Examples:
          bpfreeze maps live                      the maps of the running kernel
          bpfreeze info guest.ram                 what a paused guest's memory holds
          bpfreeze dump guest.ram                 the contents of every map
          bpfreeze dump guest.ram --map stats     those of the maps named stats
          bpfreeze progs guest.ram                the programs, and the maps that they use
          bpfreeze dump guest.ram --format json -o maps.json

        Exit status:
          0    complete
          1    failed
          2    wrong usage
          3    done, but something could not be read: the output says what and why
          141  the reader of the output went away first, as in `bpfreeze dump live | head`
    "#]]
    .assert_eq(&help.stdout);
}

#[test]
fn every_command_has_help_with_its_options() {
    for command in ["info", "maps", "dump", "progs", "completions", "man"] {
        let short = run(bpfreeze([command, "-h"]));
        let long = run(bpfreeze([command, "--help"]));
        assert_eq!((short.status, long.status), (Some(0), Some(0)));
        assert!(long.stdout.len() > short.stdout.len(), "{command}");
    }
    let dump = run(bpfreeze(["dump", "--help"])).stdout;
    for part in [
        "--map",
        "--region",
        "--vmcoreinfo",
        "--limit",
        "Examples:",
        "Exit status:",
    ] {
        assert!(dump.contains(part), "{part}");
    }
    assert!(!dump.contains('\x1b'), "colour in a pipe");
}

#[test]
fn wrong_usage_is_status_2() {
    let check = |args: &[&str], part: &str| {
        let run = run(bpfreeze(args));
        assert_eq!(run.status, Some(2), "{run:?}");
        assert_eq!(run.stdout, "");
        assert!(run.stderr.contains(part), "no {part:?} in {run:?}");
    };
    check(&[], "Usage: bpfreeze");
    check(&["dmp", "live"], "dump");
    check(&["dump"], "<SOURCE>");
    check(&["dump", "live", "--frobnicate"], "--frobnicate");
    check(&["dump", "live", "--format", "xml"], "jsonl");
    check(
        &["info", "live", "--format", "bpftool"],
        "possible values: text, json",
    );
    check(
        &["progs", "live", "--format", "bpftool"],
        "possible values: text, json, jsonl",
    );
    check(&["dump", "live", "--limit=-1"], "--limit");
    check(
        &["dump", "vm.ram", "--region", "0:0"],
        "FILE_OFFSET:GPA:LEN",
    );
    check(
        &["dump", "vm.ram", "--region", "0:0:0"],
        "FILE_OFFSET:GPA:LEN",
    );
    check(&["dump", "vm.ram", "--root-table", "cr3"], "not an address");
    check(
        &["dump", "live", "--region", "0:0:0x1000"],
        "`live` needs none",
    );
    let via = |source, via| check(&["maps", source, "--via", via], "--via");
    via("live", "kmem");
    via("vm.ram", "kcore");
    via("qmp:vm.sock", "auto");
    check(
        &["maps", "live", "--via", "bpf", "--btf", "vmlinux"],
        "`live` needs none",
    );
    check(&["man", "dmp"], "dump");
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(bpfreeze(["completions", shell]));
        assert_eq!(script.status, Some(0));
        assert!(script.stdout.contains("vmcoreinfo"), "{shell}");
    }
}

#[test]
fn manual_pages() {
    let check = |args: &[&str], parts: &[&str]| {
        let page = run(bpfreeze(args));
        assert_eq!(page.status, Some(0));
        assert!(page.stdout.starts_with(".ie"), "{args:?}");
        for part in parts {
            assert!(page.stdout.contains(part), "no {part:?} in {args:?}");
        }
    };
    check(
        &["man"],
        &[
            ".TH bpfreeze 1",
            "bpfreeze\\-dump(1)",
            ".SH EXAMPLES",
            ".SH \"EXIT STATUS\"",
        ],
    );
    check(
        &["man", "dump"],
        &[".TH bpfreeze-dump 1", "\\-\\-vmcoreinfo", ".SH EXAMPLES"],
    );
    check(
        &["man", "progs"],
        &[".TH bpfreeze-progs 1", "\\-\\-symbols"],
    );
    check(
        &["man", "info"],
        &[".TH bpfreeze-info 1", ".SH \"EXIT STATUS\""],
    );
}
