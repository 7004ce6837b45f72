//! `bpfreeze capture`: the memory that everything else is shown from, saved.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use freeze::capture::{Found, Prepared, Report, Scope};
use freeze::{Capture, StandsStill};
use guestmem::PAGE;
use zstd::Encoder;

use crate::Outcome;
use crate::args::{self, Color, OutputArgs, Source, Via};
use crate::commands::{chosen, open_output};
use crate::failure::Refusal;
use crate::info::{grouped, size};
use crate::log::{Log, warn};
use crate::output::Output;
use crate::source;

/// `bpfreeze capture`.
pub(crate) fn capture(args: &args::Capture) -> Result<Outcome> {
    let log = Log::new(args.source.verbose);
    let source = &args.source.source;
    let to = OutputArgs {
        output: Some(args.output.clone()),
        color: Color::Never,
    };
    let mut output = open_output(&to, source)?;
    if output.is_terminal() {
        let hint = "give a file name after -o, or a pipe";
        return Err(Refusal::new("a capture is nothing for a terminal", hint).into());
    }
    let (saved, written) = match save(args, &log, &mut output) {
        Ok(saved) => (Some(saved), Ok(Outcome::Complete)),
        Err(error) => (None, Err(error)),
    };
    let outcome = output.finish(written)?;
    if let Some(saved) = saved {
        warn(summary(&args.output, &saved));
    }
    Ok(outcome)
}

/// Captures what `args` ask for, and writes it.
fn save(args: &args::Capture, log: &Log, output: &mut Output) -> Result<Report> {
    let source = &args.source.source;
    if matches!(args.source.via, Some(Via::Program | Via::Bpf)) {
        let what = "a capture of the running kernel is made through /proc/kcore alone";
        return Err(Refusal::new(what, "leave --via out").into());
    }
    let given = source::given(&args.image, log)?;
    let reached = source::reach(source, &args.image, &given, log)?;
    let found = Found::known(&reached.kernel, reached.image.format(), given)?;
    let scope = Scope {
        maps: chosen(found.guest(), &args.map, source)?,
        arenas: args.arenas.into(),
    };
    let prepared = found.prepare(scope)?;
    log.note("what is to be captured is known");
    let capture = match reached.machine {
        Some(machine) => prepared.capture(&machine, None)?,
        None if *source == Source::Live => {
            warn("the running kernel does not stand still: this is no single instant of it");
            prepared.capture(&StandsStill(reached.image), None)?
        }
        None => {
            write(&Saving::InPlace(&prepared), args, output)?;
            let pages = prepared.pages().len();
            return Ok(Report {
                pages,
                ..Report::default()
            });
        }
    };
    source::note_pauses(&capture, log);
    write(&Saving::Captured(&capture), args, output)?;
    Ok(capture.report().clone())
}

/// What is written, and from where.
enum Saving<'a> {
    Captured(&'a Capture),
    InPlace(&'a Prepared),
}

impl Saving<'_> {
    fn write(&self, out: &mut dyn Write) -> Result<(), freeze::Error> {
        match self {
            Self::Captured(capture) => capture.write(out),
            Self::InPlace(prepared) => prepared.write(out),
        }
    }

    fn write_sparse(&self, out: &mut Output) -> Result<(), freeze::Error> {
        match self {
            Self::Captured(capture) => capture.write_sparse(out),
            Self::InPlace(prepared) => prepared.write_sparse(out),
        }
    }
}

fn write(saving: &Saving<'_>, args: &args::Capture, output: &mut Output) -> Result<()> {
    if args.output.extension() == Some("zst".as_ref()) {
        let mut encoder = Encoder::new(output, args.level)?;
        saving.write(&mut encoder)?;
        encoder.finish()?;
    } else if output.is_file() {
        saving.write_sparse(output)?;
    } else {
        saving.write(output)?;
    }
    Ok(())
}

/// What was saved, in a line.
fn summary(path: &Path, saved: &Report) -> String {
    let memory = size(saved.pages.saturating_mul(PAGE));
    let mut text = format!(
        "{}: {} pages, {memory}",
        path.display(),
        grouped(saved.pages)
    );
    if let Ok(file) = fs::metadata(path)
        && file.is_file()
    {
        let taken = size(file.blocks().saturating_mul(512).min(file.len()));
        text.push_str(&format!(", in {taken}"));
    }
    let pauses = saved.paused.iter();
    let pauses = pauses.map(|paused| format!("{:.1} ms", paused.as_secs_f64() * 1000.0));
    let pauses: Vec<_> = pauses.collect();
    if !pauses.is_empty() {
        text.push_str(&format!("; paused for {}", pauses.join(", then ")));
    }
    text
}
