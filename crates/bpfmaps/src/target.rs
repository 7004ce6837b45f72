//! What the readers of kernel structures need of the kernel that they read.

use std::rc::Rc;

use btf_layout::Btf;
use guestmem::{Kva, Memory};
use kernel::{Kernel, PerCpu};

use crate::{Error, Symbol};

/// A kernel whose memory is readable, frozen or running.
pub(crate) trait Target: Memory<Kva> {
    /// The kernel's own BTF, which has the layouts of its structures.
    fn btf(&self) -> &Rc<Btf>;

    /// `uname -r`.
    fn release(&self) -> &str;

    /// Bytes of a page.
    fn page_size(&self) -> u64;

    /// The address of a symbol that the caller cannot do without. Data have
    /// symbols in kernels with `CONFIG_KALLSYMS_ALL` only.
    fn require(&self, name: &'static str) -> Result<Kva, Error>;

    /// The function or variable that `at` lies in, as kallsyms names it:
    /// the kernel's own, a module's, or a BPF program's.
    fn symbol_at(&self, at: Kva) -> Option<Symbol>;

    /// The possible CPUs and where each keeps its per-CPU data.
    fn per_cpu(&self) -> Result<&PerCpu, Error>;

    /// Bytes of physical memory: what bounds the numbers in structures.
    fn memory_size(&self) -> u64;
}

impl Target for Kernel {
    fn btf(&self) -> &Rc<Btf> {
        Kernel::btf(self)
    }

    fn release(&self) -> &str {
        Kernel::release(self)
    }

    fn page_size(&self) -> u64 {
        Kernel::page_size(self)
    }

    fn require(&self, name: &'static str) -> Result<Kva, Error> {
        Ok(Kernel::require(self, name)?)
    }

    fn symbol_at(&self, at: Kva) -> Option<Symbol> {
        Kernel::symbol_at(self, at)
    }

    fn per_cpu(&self) -> Result<&PerCpu, Error> {
        Ok(self.require_per_cpu()?)
    }

    fn memory_size(&self) -> u64 {
        self.space().physical().size()
    }
}
