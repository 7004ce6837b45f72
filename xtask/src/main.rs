//! The project's own tasks, run as `cargo xtask TASK`.
//!
//! Packages, kernels and guests come from here, so that nobody needs more than a checkout. What
//! is costly is kept in the user's cache folder, under `bpfreeze`.
#![expect(clippy::print_stderr, reason = "a task tells its user what it does")]

mod apt;
mod artifacts;
mod check;
mod cpio;
mod debian;
mod demo;
mod doors;
mod drgn;
mod guest;
mod initrd;
mod install;
mod matrix;
mod paths;
mod qemu;
mod qmp;
mod run;
mod sample;
mod scheduler;
mod support;
mod tidy;
mod variant;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::check::Guests;
use crate::guest::Wish;
use crate::initrd::Live;
use crate::matrix::{Cell, Served, Table};
use crate::variant::Variant;

/// The project's own tasks.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Boots a guest, freezes it, and shows what bpfreeze finds in its memory.
    Demo,
    /// Runs every test; boots the guests that they read.
    Test(TestArgs),
    /// Runs every kernel by every backend, and prints a table of these cells.
    TestMatrix(MatrixArgs),
    /// Runs published schedulers in guests under load, and checks what is found of them: the cells
    /// of the matrix that bear their names.
    Scx(ScxArgs),
    /// Runs what a change must pass: formatting, lints, tidy, documentation, tests, the matrix.
    Ci(TestArgs),
    /// Runs the benchmarks on a guest with large maps.
    Bench {
        /// Arguments for criterion.
        filter: Vec<String>,
    },
    /// Makes the capture that is in the repository, and the output that its tests expect.
    Sample,
    /// Boots guests, fills their maps and freezes them; prints the folders they are in.
    Guest(GuestArgs),
    /// Checks the rules of the workspace that no compiler checks.
    Tidy,
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Leave out the tests that read guests.
    #[arg(long)]
    no_guests: bool,
}

impl TestArgs {
    fn guests(&self) -> Guests {
        match self.no_guests {
            true => Guests::No,
            false => Guests::Yes,
        }
    }
}

#[derive(Debug, Args)]
struct MatrixArgs {
    /// Run this cell only, such as 6.12/guest, 7.2/live or `scx_rusty/guest`; repeatable.
    #[arg(long = "cell", value_name = "KERNEL/BACKEND")]
    cells: Vec<Cell>,
    /// Keep the guests whose cells passed. Those of cells that failed stay in any case.
    #[arg(long)]
    keep: bool,
    /// Write the support table into README.md, instead of comparing it.
    #[arg(long, conflicts_with = "cells")]
    write: bool,
}

#[derive(Debug, Args)]
struct ScxArgs {
    /// Keep the guests whose cells passed. Those of cells that failed stay in any case.
    #[arg(long)]
    keep: bool,
}

#[derive(Debug, Args)]
struct GuestArgs {
    /// Which guests [default: those of the tests].
    variants: Vec<Variant>,
    /// Boot them even if nothing has changed.
    #[arg(long)]
    fresh: bool,
    /// Leave bpfreeze out of the guest, for when it does not build.
    #[arg(long)]
    no_live: bool,
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Demo => demo::demo(),
        Task::Test(args) => check::test(args.guests()),
        Task::TestMatrix(args) => matrix(&args),
        Task::Scx(args) => {
            matrix::run_cells(&Cell::of_schedulers(), served(args.keep), Table::Check)
        }
        Task::Ci(args) => check::ci(args.guests()),
        Task::Bench { filter } => check::bench(&filter),
        Task::Sample => sample::sample(),
        Task::Guest(args) => guests(&args),
        Task::Tidy => tidy::check(),
    }
}

fn served(keep: bool) -> Served {
    match keep {
        true => Served::Keep,
        false => Served::Remove,
    }
}

fn matrix(args: &MatrixArgs) -> Result<()> {
    let table = match args.write {
        true => Table::Write,
        false => Table::Check,
    };
    matrix::run_cells(&args.cells, served(args.keep), table)
}

fn guests(args: &GuestArgs) -> Result<()> {
    let variants = match args.variants.as_slice() {
        [] => &Variant::TESTED,
        some => some,
    };
    let wish = Wish {
        fresh: args.fresh,
        live: if args.no_live { Live::No } else { Live::Yes },
    };
    for folder in guest::prepare(variants, wish)?.folders() {
        eprintln!("{}", folder.display());
    }
    Ok(())
}
