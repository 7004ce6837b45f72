//! The tasks that check: `test`, `ci`, and `bench`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::drgn;
use crate::guest::{self, Wish};
use crate::initrd::Live;
use crate::install;
use crate::matrix::{self, Served, Table};
use crate::paths;
use crate::run::run;
use crate::tidy;
use crate::variant::Variant;

/// Whether the tests that read guests take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guests {
    /// They do; guests are booted where there are none.
    Yes,
    /// They do not.
    No,
}

/// Where cargo looks for the command that starts tests.
const RUNNER: &str = "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER";

/// The packages whose tests read or boot guests.
const READ_GUESTS: [&str; 3] = ["guest-tests", "example-vmm", "example-harness"];

/// Cargo, in the checkout.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(paths::workspace()).args(arguments);
    cargo
}

/// What runs tests.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runner {
    /// cargo-nextest.
    Nextest,
    /// Cargo itself.
    Cargo,
}

impl Runner {
    /// The best that is installed.
    pub(crate) fn here() -> Self {
        match install::find("cargo-nextest") {
            Some(_) => Self::Nextest,
            None => Self::Cargo,
        }
    }

    /// The command that runs the tests of some packages, with the rights that they need.
    pub(crate) fn command(self, packages: &[&str]) -> Command {
        let (first, kinds): (&[&str], &[&str]) = match self {
            Self::Nextest => (&["nextest", "run"], &[]),
            // Benchmarks are targets too, but no tests.
            Self::Cargo => (&["test"], &["--lib", "--bins", "--tests", "--examples"]),
        };
        let mut tests = cargo(first);
        tests.args(packages).arg("--no-fail-fast").args(kinds);
        // The tests of the live backend need rights.
        if let Some(prefix) = install::root_prefix().filter(|prefix| !prefix.is_empty()) {
            tests.env(RUNNER, prefix.join(" "));
        }
        tests
    }
}

/// Runs every test but those of the matrix. The runner's own summary is the last thing that is printed.
///
/// # Errors
/// Fails if a test does, or a guest cannot be made.
pub(crate) fn test(guests: Guests) -> Result<()> {
    install::for_tests()?;
    run(&mut cargo(&["test", "--workspace", "--doc", "--quiet"]))?;
    let mut tests = Runner::here().command(&["--workspace"]);
    match guests {
        Guests::No => {
            for package in READ_GUESTS {
                tests.args(["--exclude", package]);
            }
        }
        Guests::Yes => {
            // Those of the matrix have a task of their own.
            tests.args(["--", "--skip", "matrix::"]);
            let wish = Wish {
                fresh: false,
                live: Live::Yes,
            };
            let guests = guest::prepare(&Variant::TESTED, wish)?;
            tests
                .env("BPFREEZE_GUESTS", guests.home())
                .env("BPFREEZE_HARNESS", guest::harness()?)
                .env("BPFREEZE_BIN", bpfreeze()?)
                .env("BPFREEZE_DRGN", drgn::folder()?);
            return run(&mut tests);
        }
    }
    run(&mut tests)
}

/// The program under test: the very one that runs in the guests.
///
/// # Errors
/// Fails if it does not build.
pub(crate) fn bpfreeze() -> Result<PathBuf> {
    artifacts::program("bpfreeze")
}

/// Everything that a change must pass.
///
/// # Errors
/// Fails at the first check that does.
pub(crate) fn ci(guests: Guests) -> Result<()> {
    install::for_build()?;
    run(&mut cargo(&["fmt", "--all", "--check"]))?;
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    // As README has it built where there is only a C compiler.
    run(&mut cargo(&[
        "clippy",
        "--package=bpfreeze",
        "--no-default-features",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    tidy::check()?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    run(&mut cargo(&["bench", "--workspace", "--no-run", "--quiet"]))?;
    if guests == Guests::No {
        return test(guests);
    }
    matrix::boot_all(Wish {
        fresh: false,
        live: Live::Yes,
    })?;
    test(guests)?;
    matrix::run_cells(&[], Served::Keep, Table::Check)
}

/// Runs the benchmarks on a guest with large maps.
///
/// # Errors
/// Fails if a benchmark does, or the guest cannot be made.
pub(crate) fn bench(filter: &[String]) -> Result<()> {
    let wish = Wish {
        fresh: false,
        live: Live::Yes,
    };
    let guests = guest::prepare(&[Variant::Bench], wish)?;
    let folder = guests.first()?;
    // The live one reads this machine's own kernel, which takes root.
    let mut benches = vec!["arena", "frozen"];
    if nix::unistd::geteuid().is_root() {
        benches.push("live");
    } else {
        eprintln!("not root: the benchmark of the running kernel is left out");
    }
    let bpfreeze = bpfreeze()?;
    let command = |bench| {
        let mut cargo = cargo(&["bench", "--package", "benchmarks", "--bench", bench, "--"]);
        cargo.args(filter);
        cargo
    };
    for bench in benches {
        run(command(bench)
            .env("BPFREEZE_BENCH_RAM", folder.join("ram"))
            .env("BPFREEZE_BIN", &bpfreeze))?;
    }
    // The last one needs a guest under load, which would disturb the others.
    let running = guest::start(Variant::ScxP2dq)?;
    run(command("freeze").env("BPFREEZE_BENCH_QMP", running.socket()))?;
    drop(running);
    let race = folder.join("out/race.txt");
    let times =
        std::fs::read_to_string(&race).with_context(|| format!("reading {}", race.display()))?;
    eprintln!("live, in the guest (emulated):\n{times}");
    Ok(())
}
