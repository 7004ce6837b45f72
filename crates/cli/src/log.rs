//! What the program says while it works: `--verbose` notes and the progress
//! bar, both on standard error.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How long something takes before it gets a progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// The `--verbose` notes.
#[derive(Debug)]
pub(crate) struct Log {
    verbose: bool,
    since: Instant,
}

impl Log {
    /// Notes go to standard error if `verbose`, nowhere if not.
    pub(crate) fn new(verbose: bool) -> Self {
        Self {
            verbose,
            since: Instant::now(),
        }
    }

    /// Prints a note, with the time since the program started.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if self.verbose {
            let ms = self.since.elapsed().as_secs_f64() * 1000.0;
            let _ = writeln!(io::stderr().lock(), "[{ms:9.1} ms] {text}");
        }
    }
}

/// Says something that the output itself has no place for.
pub(crate) fn warn(text: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "bpfreeze: {text}");
}

/// A bar on a terminal, for work that turns out to take its time.
#[derive(Debug)]
pub(crate) struct Progress {
    what: &'static str,
    since: Instant,
    bar: Option<ProgressBar>,
    terminal: bool,
}

impl Progress {
    /// Starts the clock of `what`, such as `searching`.
    pub(crate) fn new(what: &'static str) -> Self {
        Self {
            what,
            since: Instant::now(),
            bar: None,
            terminal: io::stderr().is_terminal(),
        }
    }

    /// Says that `done` of `total` bytes are done.
    pub(crate) fn update(&mut self, done: u64, total: u64) {
        if !self.terminal || self.since.elapsed() < PATIENCE {
            return;
        }
        let what = self.what;
        let bar = self.bar.get_or_insert_with(|| start(what, total));
        bar.set_length(total);
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn start(what: &'static str, total: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let template = "{msg} {wide_bar} {binary_bytes} of {binary_total_bytes}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.with_message(what)
}
