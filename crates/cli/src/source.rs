//! From what stands on the command line to a kernel's maps.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use bpfmaps::{BpfMapAccessor, Guest, Live};
use freeze::capture::Given;
use goblin::elf::Elf;
use guestmem::{Physical, RawImage};
use kernel::{GivenSymbols, Kernel};

use crate::args::{ImageArgs, Source};
use crate::detect;
use crate::failure::Refusal;
use crate::log::{Log, Progress};

/// A source whose kernel was found.
#[derive(Debug)]
pub(crate) enum Opened {
    /// The running kernel.
    Live,
    /// A kernel in an image, and the layout of the image that is the true one.
    Image(Box<Kernel>, RawImage),
}

/// Finds the kernel in `source`.
pub(crate) fn open(source: &Source, args: &ImageArgs, log: &Log) -> Result<Opened> {
    open_with(source, args, &given(args, log)?, log)
}

/// The same, with what `args` say of the kernel.
pub(crate) fn open_with(
    source: &Source,
    args: &ImageArgs,
    given: &Given,
    log: &Log,
) -> Result<Opened> {
    match source {
        Source::Live => Ok(Opened::Live),
        Source::Qmp(socket) => Err(detect::qmp(socket).into()),
        Source::Path(path) => {
            detect::refuse_other_formats(path)?;
            let image = RawImage::open(path)?;
            log.note(format_args!(
                "{}: raw memory, {} MiB",
                path.display(),
                image.file_len() >> 20
            ));
            find(image, args, given, log)
        }
    }
}

fn find(image: RawImage, args: &ImageArgs, given: &Given, log: &Log) -> Result<Opened> {
    let layouts = if args.region.is_empty() {
        image.candidates()
    } else {
        vec![image.with_regions(args.region.clone())?]
    };
    let mut bar = Progress::new("searching");
    let mut progress = |done, total| bar.update(done, total);
    let finder = given.finder().progress(&mut progress);
    let layout = |image: &RawImage| Rc::new(image.clone()) as Physical;
    let physical: Vec<_> = layouts.iter().map(layout).collect();
    let kernel = finder
        .find(&physical)
        .with_context(|| image.path().display().to_string())?;
    drop(bar);
    for candidate in kernel.candidates() {
        log.note(candidate);
    }
    let layout = layouts.into_iter().nth(kernel.layout()).unwrap_or(image);
    log.note(format_args!("found Linux {}", kernel.release()));
    Ok(Opened::Image(Box::new(kernel), layout))
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
    /// The maps behind it.
    pub(crate) fn accessor(self) -> Result<Box<dyn BpfMapAccessor>> {
        Ok(match self {
            Self::Live => Box::new(Live::open()?),
            Self::Image(kernel, _) => Box::new(Guest::new(*kernel)?),
        })
    }
}
