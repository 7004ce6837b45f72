//! From what stands on the command line to a kernel's maps.

use std::fs;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result};
use bpfmaps::{BpfMapAccessor, Guest, Live};
use goblin::elf::Elf;
use guestmem::{Physical, RawImage};
use kernel::{Finder, GivenSymbols, Kernel};

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
pub(crate) fn open(source: &Source, given: &ImageArgs, log: &Log) -> Result<Opened> {
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
            find(image, given, log)
        }
    }
}

fn find(image: RawImage, given: &ImageArgs, log: &Log) -> Result<Opened> {
    let layouts = if given.region.is_empty() {
        image.candidates()
    } else {
        vec![image.with_regions(given.region.clone())?]
    };
    let mut bar = Progress::new("searching");
    let mut progress = |done, total| bar.update(done, total);
    let mut finder = Finder::new().progress(&mut progress);
    if let Some(gpa) = given.vmcoreinfo {
        finder = finder.vmcoreinfo(gpa);
    }
    if let Some(gpa) = given.root_table {
        finder = finder.root(gpa);
    }
    if let Some(path) = &given.symbols {
        let symbols = GivenSymbols::parse(&load(path)?)
            .with_context(|| format!("cannot use {} for symbols", path.display()))?;
        log.note(format_args!(
            "{}: {} symbols",
            path.display(),
            symbols.count()
        ));
        finder = finder.symbols(symbols);
    }
    if let Some(path) = &given.btf {
        let btf = btf_of(load(path)?)
            .with_context(|| format!("cannot use {} for BTF", path.display()))?;
        log.note(format_args!(
            "{}: {} bytes of BTF",
            path.display(),
            btf.len()
        ));
        finder = finder.btf(btf);
    }
    let physical: Vec<Physical> = layouts
        .iter()
        .map(|layout| Rc::new(layout.clone()) as Physical)
        .collect();
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
