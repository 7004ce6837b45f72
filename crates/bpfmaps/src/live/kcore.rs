//! The running kernel's memory through `/proc/kcore`, where no program of
//! ours may be loaded.
//!
//! It is read as physical memory: the kernel is found there as in an image of a
//! machine that stands still, and its page tables are walked.

use std::rc::Rc;

use arena::Stretch;
use btf_layout::Btf;
use guestmem::{Fault, Gpa, Image, Kva, Memory, OpenError};
use kernel::{Finder, Kernel, PerCpu};
use nix::errno::Errno;

use super::host;
use super::symbols::Symbols;
use crate::structures::{IdrLayout, walk_idr};
use crate::target::Target;
use crate::walk::Walk;
use crate::{Error, NoMemory, Symbol};

/// Why there is no memory, where it could not be opened.
fn no_image(error: OpenError) -> NoMemory {
    match error {
        OpenError::Io { source, .. } => match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            Errno::EPERM | Errno::EACCES => NoMemory::NotPermitted {
                operation: "reading /proc/kcore",
                needs: "CAP_SYS_RAWIO, as root",
            },
            errno => NoMemory::Refused {
                operation: "opening /proc/kcore",
                errno,
            },
        },
        OpenError::Elf { source, .. } => NoMemory::NoKernel {
            what: source.to_string(),
        },
        error => NoMemory::NoKernel {
            what: error.to_string(),
        },
    }
}

/// The running kernel in its own memory.
#[derive(Debug)]
pub(super) struct Kcore {
    kernel: Kernel,
    symbols: Rc<Symbols>,
}

impl Kcore {
    pub(super) fn open(symbols: &Rc<Symbols>) -> Result<Self, NoMemory> {
        let image = Image::kcore().map_err(no_image)?;
        let mut finder = Finder::new();
        if let Some(note) = host::vmcoreinfo() {
            finder = finder.vmcoreinfo(note);
        }
        let kernel = finder.find_in(&image);
        let kernel = kernel.map_err(|error| NoMemory::NoKernel {
            what: error.to_string(),
        })?;
        Ok(Self {
            kernel,
            symbols: Rc::clone(symbols),
        })
    }

    /// Forgets what was known of page tables, which the kernel changes. To be
    /// done before each object that is read.
    pub(super) fn refresh(&self) {
        self.kernel.space().forget();
    }

    /// The object that the tree of ids `idr` has under `id`.
    pub(super) fn object(
        &self,
        idr: &'static str,
        what: &'static str,
        id: u32,
    ) -> Result<Kva, Error> {
        self.refresh();
        let nodes = IdrLayout::new(self.kernel.btf())?;
        let root = self.kernel.require(idr)?;
        let mut object = None;
        let mut walk = Walk::default();
        walk_idr(&self.kernel, &nodes, root, &mut walk, &mut |found, at| {
            if found == id {
                object = Some(at);
            }
        });
        object.ok_or(Error::Gone { what, id })
    }
}

impl Memory<Kva> for Kcore {
    fn read(&self, addr: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        self.kernel.read(addr, buf)
    }
}

impl Target for Kcore {
    fn btf(&self) -> &Rc<Btf> {
        self.kernel.btf()
    }

    fn release(&self) -> &str {
        self.kernel.release()
    }

    fn page_size(&self) -> u64 {
        self.kernel.page_size()
    }

    fn require(&self, name: &'static str) -> Result<Kva, Error> {
        Target::require(&self.kernel, name)
    }

    fn symbol_at(&self, at: Kva) -> Option<Symbol> {
        self.symbols.at(at)
    }

    fn per_cpu(&self) -> Result<&PerCpu, Error> {
        Target::per_cpu(&self.kernel)
    }

    fn mapped(
        &self,
        start: Kva,
        len: u64,
        scratch: Option<Gpa>,
        visit: &mut dyn FnMut(Stretch),
    ) -> Result<(), Error> {
        self.kernel.mapped(start, len, scratch, visit)
    }

    fn vmemmap(&self) -> Option<Kva> {
        self.kernel.vmemmap()
    }

    fn memory_size(&self) -> u64 {
        Target::memory_size(&self.kernel)
    }

    fn is_running(&self) -> bool {
        true
    }
}
