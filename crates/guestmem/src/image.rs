//! A machine's memory, whatever it was opened from.

use std::fmt;
use std::rc::Rc;

use crate::{Gpa, Physical, RawImage};

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

/// A machine's memory, and what its file or its keeper says of it.
#[derive(Clone)]
pub struct Image {
    format: Format,
    layouts: Vec<Physical>,
    vmcoreinfo: Option<Vec<u8>>,
    roots: Vec<Gpa>,
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
            vmcoreinfo: None,
            roots: Vec::new(),
        }
    }

    /// A raw image under each layout that it may have.
    #[must_use]
    pub fn raw(image: &RawImage) -> Self {
        let layouts = image.candidates().into_iter();
        Self {
            format: Format::Raw,
            layouts: layouts.map(|image| Rc::new(image) as Physical).collect(),
            vmcoreinfo: None,
            roots: Vec::new(),
        }
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
}
