//! `bpfreeze`: shows everything that BPF programs keep in a kernel.
//!
//! This crate is the command line only: it opens a source, asks the `bpfmaps`
//! trait for the maps and hands them to `render`. It is the one place that
//! knows both backends by name.

mod args;
mod capture;
mod commands;
mod failure;
mod info;
mod inner;
mod log;
mod manual;
mod output;
mod partial;
mod select;
mod source;

use std::process::ExitCode;

use crate::args::{Cli, Command};

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Everything was read and printed.
    Complete,
    /// What could be read was printed, and what could not be was listed.
    Gaps,
    /// The reader of the output went away.
    ReaderGone,
}

impl Outcome {
    fn of(complete: bool) -> Self {
        if complete { Self::Complete } else { Self::Gaps }
    }
}

fn main() -> ExitCode {
    let result = match Cli::of_process().command {
        Command::Info(args) => commands::info(&args),
        Command::Maps(args) => commands::maps(&args),
        Command::Dump(args) => commands::dump(&args),
        Command::Progs(args) => commands::progs(&args),
        Command::Capture(args) => capture::capture(&args),
        Command::Completions { shell } => manual::completions(shell),
        Command::Man { command } => manual::page(command.as_deref()),
    };
    match result {
        Ok(Outcome::Complete) => ExitCode::SUCCESS,
        Ok(Outcome::Gaps) => ExitCode::from(3),
        // What a shell shows for a program that SIGPIPE ended.
        Ok(Outcome::ReaderGone) => ExitCode::from(141),
        Err(error) => {
            failure::report(&error);
            ExitCode::FAILURE
        }
    }
}
