//! The commands that read a kernel.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use bpfmaps::{BpfMapAccessor, Guest, Maps, Progs};
use freeze::capture::{Arenas, Scope};

use crate::Outcome;
use crate::args::{self, InfoFormat, OutputArgs, Source};
use crate::failure::Refusal;
use crate::info::Info;
use crate::inner::add_inner;
use crate::log::{Log, warn};
use crate::output::Output;
use crate::select::select;
use crate::source::{self, Opened};

/// `bpfreeze info`.
pub(crate) fn info(args: &args::Info) -> Result<Outcome> {
    let log = Log::new(args.source.verbose);
    let mut output = open_output(&args.output, &args.source.source)?;
    let opened = source::open(&args.source, &args.image, &log, lists)?;
    let found = match &opened {
        Opened::Image(kernel, image, _) => Some(Info::image(kernel, image, &args.source.source)),
        Opened::Live(_) => None,
    };
    let accessor = opened.accessor();
    let info = match found {
        // What was found is worth showing even where its maps are not.
        Some(info) => match &accessor {
            Ok(accessor) => info.with_lists(list(&**accessor, &log), list_progs(&**accessor, &log)),
            Err(error) => info.without_lists(error),
        },
        None => {
            let accessor = accessor?;
            let maps = list(&*accessor, &log)?;
            // A kernel without BTF has maps all the same.
            let btf = accessor.vmlinux_btf().ok();
            Info::live(accessor.kernel(), btf.as_deref())
                .with_lists(Ok(maps), list_progs(&*accessor, &log))
        }
    };
    let printed = match args.format {
        InfoFormat::Text => info.print(output.color(), &mut output),
        InfoFormat::Json => serde_json::to_writer_pretty(&mut output, &info)
            .map_err(Into::into)
            .and_then(|()| output.write_all(b"\n")),
    };
    let outcome = Outcome::of(info.is_complete());
    output.finish(printed.map(|()| outcome).map_err(Into::into))
}

/// `bpfreeze maps`.
pub(crate) fn maps(args: &args::Maps) -> Result<Outcome> {
    let log = Log::new(args.source.verbose);
    let mut output = open_output(&args.output, &args.source.source)?;
    let opened = source::open(&args.source, &args.image, &log, lists)?;
    let described = opened.describe(&args.source.source);
    let accessor = opened.accessor()?;
    let maps = list(&*accessor, &log)?;
    let options = options(described, args.format.into(), &output);
    let listed = render::maps(&*accessor, &maps, &options, &mut output);
    let outcome = listed.map(|listed| Outcome::of(listed.is_complete()));
    output.finish(outcome.map_err(Into::into))
}

/// `bpfreeze dump`.
pub(crate) fn dump(args: &args::Dump) -> Result<Outcome> {
    let log = Log::new(args.source.verbose);
    let mut output = open_output(&args.output, &args.source.source)?;
    let opened = source::open(&args.source, &args.image, &log, |guest| {
        dump_scope(guest, args)
    })?;
    let described = opened.describe(&args.source.source);
    let accessor = opened.accessor()?;
    let mut maps = list(&*accessor, &log)?;
    let mut options = options(described, args.format.into(), &output);
    options.limit = args.limit;
    options.follow.objects = args.follow_objects.unwrap_or(options.follow.objects);
    if args.arena_bytes {
        options.arena_pages = render::ArenaPages::Bytes;
    }
    options.types.clone_from(&args.allocators.types);
    options.wanted = render::Wanted {
        allocators: args.allocators.allocator.clone(),
        pid: args.allocators.pid,
        addr: args.allocators.addr,
        maps: None,
    };
    if args.map.is_empty() && args.allocators.is_narrow() {
        maps.maps.clear();
    }
    if !args.map.is_empty() {
        let all = maps.maps.clone();
        select(&mut maps.maps, &args.map, &args.source.source.to_string())?;
        if !args.allocators.is_narrow() {
            options.wanted.maps = Some(maps.maps.iter().map(|map| map.id).collect());
        }
        if args.format != args::Format::Bpftool {
            options.inner_of = add_inner(&*accessor, all, &mut maps.maps, args.limit);
        }
    }
    let dumped = render::dump(&*accessor, &maps, &options, &mut output);
    if let Ok(render::Outcome {
        instead: Some(names),
        ..
    }) = &dumped
    {
        let source = &args.source.source;
        return output.finish(Err(no_slots(names, args, &source.to_string()).into()));
    }
    let outcome = dumped.map(|dumped| {
        log.note(format_args!(
            "{} entries, {} gaps, {} maps not read",
            dumped.entries,
            dumped.gaps,
            dumped.errors.len()
        ));
        if args.format == args::Format::Bpftool {
            warn_of_losses(&dumped);
        }
        Outcome::of(dumped.is_complete())
    });
    output.finish(outcome.map_err(Into::into))
}

/// What of a machine that runs is captured for a dump.
fn dump_scope(guest: &Guest, args: &args::Dump) -> Result<Scope> {
    let arenas = match args.arena_bytes {
        true => Arenas::Whole,
        false => Arenas::Reached,
    };
    // Allocators are where any map or program leads.
    let maps = match args.allocators.is_narrow() {
        true => None,
        false => chosen(guest, &args.map, &args.source.source)?,
    };
    Ok(Scope { maps, arenas })
}

/// The ids of the maps that `wanted` names, and of their inner maps; all
/// without `wanted`.
pub(crate) fn chosen(
    guest: &Guest,
    wanted: &[String],
    source: &Source,
) -> Result<Option<BTreeSet<u32>>> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let all = guest.maps().context("cannot list the maps")?.maps;
    let mut maps = all.clone();
    select(&mut maps, wanted, &source.to_string())?;
    add_inner(guest, all, &mut maps, None);
    Ok(Some(maps.iter().map(|map| map.id).collect()))
}

/// Why nothing is there of the allocators and slots that were asked for.
fn no_slots(names: &[String], args: &args::Dump, source: &str) -> Refusal {
    let wanted = &args.allocators;
    let has = |symbol: &String| names.contains(symbol);
    let types = wanted.types.iter().map(|(symbol, _)| symbol);
    let unknown = wanted
        .allocator
        .iter()
        .chain(types)
        .find(|symbol| !has(symbol));
    let what = match (unknown, wanted.pid, wanted.addr) {
        (Some(symbol), ..) => format!("{source} has no allocator `{symbol}` in an arena"),
        (None, Some(pid), _) => format!("{source} has no slot whose owner is thread {pid}"),
        (None, None, Some(addr)) => format!("{addr:#x} is in no arena of {source}"),
        (None, None, None) => format!("{source} has no such slot"),
    };
    let hint = match names {
        [] => "none of its programs keeps an allocator in an arena".to_owned(),
        names => format!("its allocators are {}", names.join(", ")),
    };
    Refusal::new(what, hint)
}

/// Says what bpftool's format has no place for.
fn warn_of_losses(dumped: &render::Outcome) {
    if dumped.gaps > 0 || !dumped.errors.is_empty() {
        warn(format_args!(
            "{} gaps, {} maps not read: --format text says where and why",
            dumped.gaps,
            dumped.errors.len()
        ));
    }
    if let [first, more @ ..] = dumped.unplaced.as_slice() {
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        warn(format_args!(
            "bpftool prints nothing of what is in map {first}{more}: --format text and json do"
        ));
    }
}

/// `bpfreeze progs`.
pub(crate) fn progs(args: &args::Progs) -> Result<Outcome> {
    let log = Log::new(args.source.verbose);
    let mut output = open_output(&args.output, &args.source.source)?;
    let opened = source::open(&args.source, &args.image, &log, lists)?;
    let described = opened.describe(&args.source.source);
    let accessor = opened.accessor()?;
    let progs = list_progs(&*accessor, &log)?;
    let options = options(described, args.format.into(), &output);
    let printed = render::progs(accessor.kernel(), &progs, &options, &mut output);
    let outcome = Outcome::of(progs.walk.is_complete());
    output.finish(printed.map(|()| outcome).map_err(Into::into))
}

/// Of a machine that runs the lists are captured.
fn lists(_: &Guest) -> Result<Scope> {
    Ok(Scope::lists())
}

fn options(source: render::Source, format: render::Format, output: &Output) -> render::Options {
    let mut options = render::Options::new(source);
    options.format = format;
    options.style = if output.color() {
        render::Style::Ansi
    } else {
        render::Style::Plain
    };
    if let Some(width) = output.terminal_width() {
        options.width = width;
    }
    options
}

fn list(accessor: &dyn BpfMapAccessor, log: &Log) -> Result<Maps> {
    let maps = accessor.maps().context("cannot list the maps")?;
    log.note(format_args!("{} maps", maps.maps.len()));
    Ok(maps)
}

fn list_progs(accessor: &dyn BpfMapAccessor, log: &Log) -> Result<Progs> {
    let progs = accessor.progs().context("cannot list the programs")?;
    log.note(format_args!("{} programs", progs.progs.len()));
    Ok(progs)
}

/// Opens the output before the work begins, and never over the source.
pub(crate) fn open_output(args: &OutputArgs, source: &Source) -> Result<Output> {
    if let (Some(output), Source::Path(source)) = (&args.output, source)
        && same_file(output, source)
    {
        return Err(Refusal::new(
            format!("{} is the image that is read", output.display()),
            "write to another file",
        )
        .into());
    }
    Output::open(args)
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
