//! `bpfreeze capture`: the memory that everything else is shown from, saved.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use bpfmaps::BpfMapAccessor;
use freeze::capture::{Found, Prepared, Scope};
use guestmem::PAGE;
use zstd::Encoder;

use crate::Outcome;
use crate::args::{self, Color, OutputArgs};
use crate::commands::open_output;
use crate::failure::Refusal;
use crate::info::{grouped, size};
use crate::inner::add_inner;
use crate::log::{Log, warn};
use crate::output::Output;
use crate::select::select;
use crate::source::{self, Opened};

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
    let given = source::given(&args.image, &log)?;
    let (kernel, format) = match source::open_with(&args.source, &args.image, &given, &log)? {
        Opened::Live(_) => return Err(live().into()),
        Opened::Image(kernel, image) => (kernel, image.format()),
    };
    let found = Found::known(&kernel, format, given)?;
    let scope = scope(&found, args)?;
    let prepared = found.prepare(scope)?;
    log.note("the pages that hold it are known");
    let written = write(&prepared, args, &mut output);
    let outcome = output.finish(written.map(|()| Outcome::Complete))?;
    log.note("written");
    summary(&args.output, prepared.pages().len());
    Ok(outcome)
}

/// What `args` ask for.
fn scope(found: &Found, args: &args::Capture) -> Result<Scope> {
    let mut scope = Scope {
        maps: None,
        arenas: args.arenas.into(),
    };
    if !args.map.is_empty() {
        let all = found.guest().maps()?.maps;
        let mut maps = all.clone();
        select(&mut maps, &args.map, &args.source.source.to_string())?;
        add_inner(found.guest(), all, &mut maps, None);
        scope.maps = Some(maps.iter().map(|map| map.id).collect());
    }
    Ok(scope)
}

fn write(prepared: &Prepared, args: &args::Capture, output: &mut Output) -> Result<()> {
    if args.output.extension() == Some("zst".as_ref()) {
        let mut encoder = Encoder::new(output, args.level)?;
        prepared.write(&mut encoder)?;
        encoder.finish()?;
    } else if output.is_file() {
        prepared.write_sparse(output)?;
    } else {
        prepared.write(output)?;
    }
    Ok(())
}

/// Says what was saved.
fn summary(path: &Path, pages: u64) {
    let memory = size(pages.saturating_mul(PAGE));
    let (name, pages) = (path.display(), grouped(pages));
    match fs::metadata(path) {
        Ok(file) if file.is_file() => {
            let packed = size(file.blocks().saturating_mul(512).min(file.len()));
            warn(format_args!("{name}: {pages} pages, {memory}, in {packed}"));
        }
        _ => warn(format_args!("{name}: {pages} pages, {memory}")),
    }
}

fn live() -> Refusal {
    Refusal::new(
        "the running kernel cannot be captured: it does not stand still",
        "capture the memory of a virtual machine, or dump `live`",
    )
}
