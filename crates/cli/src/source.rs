//! From what stands on the command line to a kernel's maps.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result};
use bpfmaps::{BpfMapAccessor, Guest, Live};
use freeze::capture::Given;
use goblin::elf::Elf;
use guestmem::Image;
use kernel::{GivenSymbols, Kernel};

use crate::args::{ImageArgs, Source, SourceArgs, Via};
use crate::failure::Refusal;
use crate::log::{Log, Progress};

/// A source whose kernel was found.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The running kernel.
    Live(Live),
    /// A kernel in an image.
    Image(Box<Kernel>, Image),
}

/// Finds the kernel in `source`.
pub(crate) fn open(source: &SourceArgs, args: &ImageArgs, log: &Log) -> Result<Opened> {
    open_with(source, args, &given(args, log)?, log)
}

/// The same, with what `args` say of the kernel.
pub(crate) fn open_with(
    source: &SourceArgs,
    args: &ImageArgs,
    given: &Given,
    log: &Log,
) -> Result<Opened> {
    match &source.source {
        Source::Live => live(source.via.unwrap_or_default(), given, log),
        Source::Qmp(socket) => Err(qmp(socket).into()),
        Source::Path(path) => {
            refuse_what_is_no_file(path)?;
            let mut image = Image::open(path)?;
            if !args.region.is_empty() {
                image = image.with_regions(args.region.clone(), path)?;
            }
            find(image, path, given, log)
        }
    }
}

/// The running kernel, read through `via`.
fn live(via: Via, given: &Given, log: &Log) -> Result<Opened> {
    let via = match via {
        Via::Auto => bpfmaps::Via::Any,
        Via::Program => bpfmaps::Via::Program,
        Via::Bpf => bpfmaps::Via::Bpf,
        Via::Kcore => {
            return find(Image::kcore()?, Path::new("/proc/kcore"), given, log);
        }
    };
    Ok(Opened::Live(Live::open()?.via(via)))
}

/// The refusal of a machine behind a QMP socket.
fn qmp(path: &Path) -> Refusal {
    Refusal::new(
        format!(
            "{} is a QMP socket, which this version does not read",
            path.display()
        ),
        "pause the machine (`stop`) and pass the file behind its memory-backend-file, or save it: \
         `dump-guest-memory FILE`",
    )
}

/// Refuses what has a door of its own.
fn refuse_what_is_no_file(path: &Path) -> Result<()> {
    let socket = fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if socket {
        return Err(qmp(path).into());
    }
    if ["/proc/kcore", "/dev/mem"].map(Path::new).contains(&path) {
        let what = format!("{} is the running kernel's memory", path.display());
        return Err(Refusal::new(what, "the running kernel is the source `live`; with --via kcore it is read through /proc/kcore alone").into());
    }
    Ok(())
}

/// Finds the kernel in `image`, which was opened from `path`.
fn find(image: Image, path: &Path, given: &Given, log: &Log) -> Result<Opened> {
    let size = image.layouts().first().map_or(0, |memory| memory.size());
    let (shown, format) = (path.display(), image.format());
    log.note(format_args!("{shown}: {format}, {} MiB", size >> 20));
    for (name, text) in image.facts() {
        log.note(format_args!("{shown}: {name}: {text}"));
    }
    let mut bar = Progress::new("searching");
    let mut progress = |done, total| bar.update(done, total);
    let finder = given.finder().progress(&mut progress);
    let kernel = finder
        .find_in(&image)
        .with_context(|| path.display().to_string())?;
    drop(bar);
    for candidate in kernel.candidates() {
        log.note(candidate);
    }
    log.note(format_args!("found Linux {}", kernel.release()));
    Ok(Opened::Image(Box::new(kernel), image))
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
        let described = render::Source::new(match self {
            Self::Live(_) => "live",
            Self::Image(_, image) => image.format().name(),
        });
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
            Self::Live(live) => Box::new(live),
            Self::Image(kernel, _) => Box::new(Guest::new(*kernel)?),
        })
    }
}
