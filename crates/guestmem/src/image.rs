//! A machine's memory, whatever it was opened from.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use crate::{Gpa, OpenError, Physical, RawImage, Region, Regions};

/// What a machine's memory is read out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A file that is RAM, byte for byte.
    Raw,
    /// An ELF core.
    Elf,
    /// A kdump file.
    Kdump,
    /// An ELF core with the pages that a dump needs, made by a capture.
    Capture,
    /// A QEMU process.
    Qemu,
    /// `/proc/kcore`.
    Kcore,
    /// Regions of this process.
    Process,
}

impl Format {
    /// Its name, as JSON states it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Elf => "elf",
            Self::Kdump => "kdump",
            Self::Capture => "capture",
            Self::Qemu => "qmp",
            Self::Kcore => "kcore",
            Self::Process => "process",
        }
    }
}

impl fmt::Display for Format {
    /// What it is, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw memory",
            Self::Elf => "ELF core",
            Self::Kdump => "kdump file",
            Self::Capture => "capture",
            Self::Qemu => "QEMU machine",
            Self::Kcore => "running kernel",
            Self::Process => "machine in this process",
        })
    }
}

/// A machine's memory, and what its file or its keeper says of it.
#[derive(Clone)]
pub struct Image {
    format: Format,
    layouts: Vec<Physical>,
    /// If it is raw: the image under each of them.
    raw: Vec<RawImage>,
    vmcoreinfo: Option<Vec<u8>>,
    roots: Vec<Gpa>,
    facts: Vec<(&'static str, String)>,
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("format", &self.format)
            .field("layouts", &self.layouts.len())
            .field("roots", &self.roots)
            .finish_non_exhaustive()
    }
}

impl Image {
    /// Memory whose layout is known.
    #[must_use]
    pub fn new(format: Format, memory: Physical) -> Self {
        Self {
            format,
            layouts: vec![memory],
            raw: Vec::new(),
            vmcoreinfo: None,
            roots: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// A raw image under each layout that it may have.
    #[must_use]
    pub fn raw(image: &RawImage) -> Self {
        Self::raw_as(image.candidates())
    }

    fn raw_as(images: Vec<RawImage>) -> Self {
        let layouts = images.iter().cloned();
        Self {
            format: Format::Raw,
            layouts: layouts.map(|image| Rc::new(image) as Physical).collect(),
            raw: images,
            vmcoreinfo: None,
            roots: Vec::new(),
            facts: Vec::new(),
        }
    }

    /// A raw image whose parts are at these places; the file at `path` is the
    /// one that it was opened from.
    ///
    /// # Errors
    ///
    /// That it is not raw, so that it says itself where its parts are, or a
    /// contradiction among the regions or with the file's length.
    pub fn with_regions(self, regions: Vec<Region>, path: &Path) -> Result<Self, OpenError> {
        let Some(image) = self.raw.first() else {
            let path = path.to_owned();
            return Err(OpenError::NotRaw { path });
        };
        let laid_out = Self::raw_as(vec![image.with_regions(regions)?]);
        Ok(Self {
            facts: self.facts,
            ..laid_out
        })
    }

    /// The same, of which this is the VMCOREINFO: its text, without the ELF
    /// note's header.
    #[must_use]
    pub fn with_vmcoreinfo(mut self, text: Option<Vec<u8>>) -> Self {
        self.vmcoreinfo = text;
        self
    }

    /// The same, with the root tables (CR3) that its CPUs had.
    #[must_use]
    pub fn with_roots(mut self, roots: Vec<Gpa>) -> Self {
        self.roots = roots;
        self
    }

    /// The same, with one more thing to tell of it, in words.
    #[must_use]
    pub fn with_fact(mut self, name: &'static str, text: String) -> Self {
        self.facts.push((name, text));
        self
    }

    /// What it was read out of.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// The memory under each layout that it may have, likeliest first. They
    /// hold the same bytes, at different addresses.
    #[must_use]
    pub fn layouts(&self) -> &[Physical] {
        &self.layouts
    }

    /// The text of the VMCOREINFO that came with it. It may be a stale one.
    #[must_use]
    pub fn vmcoreinfo(&self) -> Option<&[u8]> {
        self.vmcoreinfo.as_deref()
    }

    /// The root tables that its CPUs had. Some may be of processes.
    #[must_use]
    pub fn roots(&self) -> &[Gpa] {
        &self.roots
    }
    /// Where the parts of the file are under one of the layouts, if it is raw.
    #[must_use]
    pub fn regions(&self, layout: usize) -> Option<&Regions> {
        self.raw.get(layout).map(RawImage::regions)
    }

    /// What else there is to tell of it, by name and in words.
    #[must_use]
    pub fn facts(&self) -> &[(&'static str, String)] {
        &self.facts
    }
}
