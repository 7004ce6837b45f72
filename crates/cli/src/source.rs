//! From what stands on the command line to a kernel's maps.

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bpfmaps::{BpfMapAccessor, Guest};
use freeze::Capture;
use freeze::capture::{Found, Given, Scope};
use goblin::elf::Elf;
use guestmem::Image;
use kernel::{GivenSymbols, Kernel};
use qemu::Qemu;

use crate::args::{ImageArgs, Source, SourceArgs, Via};
use crate::failure::Refusal;
use crate::log::{Log, Progress};

/// A source whose kernel was found.
pub(crate) enum Opened {
    /// The running kernel.
    Live(Box<dyn BpfMapAccessor>),
    /// A kernel in an image, and how long its machine stood still for that.
    Image(Box<Kernel>, Image, Option<Duration>),
}

/// A kernel that was found where it is.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) kernel: Box<Kernel>,
    pub(crate) image: Image,
    /// The machine that it is in, unless that is a file.
    pub(crate) machine: Option<Qemu>,
}

/// Finds the kernel in `source`. One in a machine that runs is captured first,
/// as far as `scope` says, so that the machine runs while it is shown.
pub(crate) fn open(
    source: &SourceArgs,
    args: &ImageArgs,
    log: &Log,
    scope: impl FnOnce(&Guest) -> Result<Scope>,
) -> Result<Opened> {
    let given = given(args, log)?;
    if source.source == Source::Live {
        return live(source.via.unwrap_or_default(), args, &given, log);
    }
    let reached = reach(&source.source, args, &given, log)?;
    match &reached.machine {
        Some(machine) if machine.is_running()? => capture(&reached, machine, given, log, scope),
        _ => Ok(Opened::Image(reached.kernel, reached.image, None)),
    }
}

/// Captures a machine and opens that.
fn capture(
    reached: &Reached,
    machine: &Qemu,
    given: Given,
    log: &Log,
    scope: impl FnOnce(&Guest) -> Result<Scope>,
) -> Result<Opened> {
    let found = Found::known(&reached.kernel, reached.image.format(), given.clone())?;
    let scope = scope(found.guest())?;
    let capture = found.prepare(scope)?.capture(machine, None)?;
    note_pauses(&capture, log);
    let (mut image, paused) = (capture.image(), capture.report().longest());
    if let Some(paused) = paused {
        let ms = paused.as_secs_f64() * 1000.0;
        image = image.with_fact("paused", format!("{ms:.1} ms"));
    }
    let kernel = given.finder_in_capture().find_in(&image)?;
    Ok(Opened::Image(Box::new(kernel), image, paused))
}

/// Notes how often and how long a machine stood still.
pub(crate) fn note_pauses(capture: &Capture, log: &Log) {
    let report = capture.report();
    let pages = report.pages;
    for paused in &report.paused {
        log.note(format_args!("the machine stood for {paused:.1?}"));
    }
    log.note(format_args!("{pages} pages captured"));
}

/// Finds the kernel in `source`, and leaves it there; the running one in
/// `/proc/kcore`.
pub(crate) fn reach(
    source: &Source,
    args: &ImageArgs,
    given: &Given,
    log: &Log,
) -> Result<Reached> {
    let (image, machine) = match source {
        Source::Live => (Image::kcore()?, None),
        Source::Qmp(socket) => {
            let options = qemu::Options {
                pid: args.qemu_pid,
                ..qemu::Options::default()
            };
            let machine = Qemu::connect(socket, &options)?;
            (machine.image()?, Some(machine))
        }
        Source::Path(path) => {
            refuse_what_is_no_file(path)?;
            let mut bar = Progress::new("unpacking");
            let mut image = Image::open_telling(path, &mut |done, total| bar.update(done, total))?;
            drop(bar);
            if !args.region.is_empty() {
                image = image.with_regions(args.region.clone(), path)?;
            }
            (image, None)
        }
    };
    let kernel = find(&image, source, given, log)?;
    Ok(Reached {
        kernel,
        image,
        machine,
    })
}

/// The running kernel, read through `via`.
fn live(via: Via, args: &ImageArgs, given: &Given, log: &Log) -> Result<Opened> {
    if via == Via::Kcore {
        let Reached { kernel, image, .. } = reach(&Source::Live, args, given, log)?;
        return Ok(Opened::Image(kernel, image, None));
    }
    Ok(Opened::Live(running(via)?))
}

/// The running kernel by bpf(2), and what that does not tell through `via`.
#[cfg(feature = "live")]
fn running(via: Via) -> Result<Box<dyn BpfMapAccessor>> {
    let live = bpfmaps::Live::open()?;
    Ok(Box::new(live.via(match via {
        Via::Program => bpfmaps::Via::Program,
        Via::Bpf => bpfmaps::Via::Bpf,
        Via::Auto | Via::Kcore => bpfmaps::Via::Any,
    })))
}

#[cfg(not(feature = "live"))]
fn running(_: Via) -> Result<Box<dyn BpfMapAccessor>> {
    let what = "this bpfreeze was built without its feature `live`, by which it asks bpf(2)";
    Err(Refusal::new(what, "build it with that, or use --via kcore").into())
}

/// Refuses what has a door of its own.
fn refuse_what_is_no_file(path: &Path) -> Result<()> {
    let socket = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if socket {
        let shown = path.display();
        let hint = format!("for the machine behind a QMP socket: qmp:{shown}");
        return Err(Refusal::new(format!("{shown} is a socket, not a file"), hint).into());
    }
    if ["/proc/kcore", "/dev/mem"].map(Path::new).contains(&path) {
        let what = format!("{} is the running kernel's memory", path.display());
        return Err(Refusal::new(what, "the running kernel is the source `live`; with --via kcore it is read through /proc/kcore alone").into());
    }
    Ok(())
}

/// Finds the kernel in `image`, which was opened from `source`.
fn find(image: &Image, source: impl Display, given: &Given, log: &Log) -> Result<Box<Kernel>> {
    let size = image.layouts().first().map_or(0, |memory| memory.size());
    log.note(format_args!(
        "{source}: {}, {} MiB",
        image.format(),
        size >> 20
    ));
    for (name, text) in image.facts() {
        log.note(format_args!("{source}: {name}: {text}"));
    }
    let mut bar = Progress::new("searching");
    let mut progress = |done, total| bar.update(done, total);
    let finder = given.finder().progress(&mut progress);
    let kernel = finder.find_in(image).with_context(|| source.to_string())?;
    drop(bar);
    for candidate in kernel.candidates() {
        log.note(candidate);
    }
    log.note(format_args!("found Linux {}", kernel.release()));
    Ok(Box::new(kernel))
}

/// What `args` say of the kernel.
pub(crate) fn given(args: &ImageArgs, log: &Log) -> Result<Given> {
    let mut given = Given {
        vmcoreinfo: args.vmcoreinfo,
        root: args.root_table,
        ..Given::default()
    };
    if let Some(path) = &args.symbols {
        let symbols = GivenSymbols::parse(&load(path)?)
            .with_context(|| format!("cannot use {} for symbols", path.display()))?;
        let (shown, count) = (path.display(), symbols.count());
        log.note(format_args!("{shown}: {count} symbols"));
        given.symbols = Some(symbols);
    }
    if let Some(path) = &args.btf {
        let btf = btf_of(load(path)?)
            .with_context(|| format!("cannot use {} for BTF", path.display()))?;
        let (shown, len) = (path.display(), btf.len());
        log.note(format_args!("{shown}: {len} bytes of BTF"));
        given.btf = Some(btf);
    }
    Ok(given)
}

fn load(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// BTF as it is in /sys/kernel/btf, or out of an ELF file's `.BTF`.
fn btf_of(file: Vec<u8>) -> Result<Vec<u8>> {
    if !file.starts_with(b"\x7fELF") {
        return Ok(file);
    }
    let elf = Elf::parse(&file)?;
    let named = |name: usize| elf.shdr_strtab.get_at(name);
    let mut sections = elf.section_headers.iter();
    sections
        .find(|section| named(section.sh_name) == Some(".BTF"))
        .and_then(|section| file.get(section.file_range()?))
        .map(<[u8]>::to_vec)
        .ok_or_else(|| Refusal::new("it has no .BTF section", "pass a vmlinux built with CONFIG_DEBUG_INFO_BTF, or a copy of /sys/kernel/btf/vmlinux").into())
}

impl Opened {
    /// What documents say of where they are from.
    pub(crate) fn describe(&self, source: &Source) -> render::Source {
        let described = match self {
            Self::Live(_) => render::Source::new("live"),
            Self::Image(_, image, paused) => {
                render::Source::new(image.format().name()).paused(*paused)
            }
        };
        match source {
            Source::Live => described,
            Source::Qmp(path) | Source::Path(path) => {
                described.with("file", &path.to_string_lossy())
            }
        }
    }

    /// The maps behind it.
    pub(crate) fn accessor(self) -> Result<Box<dyn BpfMapAccessor>> {
        Ok(match self {
            Self::Live(live) => live,
            Self::Image(kernel, ..) => Box::new(Guest::new(*kernel)?),
        })
    }
}
