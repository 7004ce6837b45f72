//! What the readers of kernel structures need of the kernel that they read.

use std::rc::Rc;

use arena::Stretch;
use btf_layout::Btf;
use guestmem::{Address, Cause, Gpa, Kva, Memory, MemoryExt};
use kernel::{Kernel, PerCpu};
use pagewalk::Presence;

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

    /// What the kernel's page tables say of `len` bytes from `start` on;
    /// `scratch` is the page that stands for what was only touched.
    ///
    /// # Errors
    ///
    /// If the tables cannot be had at all.
    fn mapped(
        &self,
        start: Kva,
        len: u64,
        scratch: Option<Gpa>,
        visit: &mut dyn FnMut(Stretch),
    ) -> Result<(), Error>;

    /// Where the kernel keeps the `struct page` of its first page frame
    /// (`vmemmap`), where that can be told.
    fn vmemmap(&self) -> Option<Kva>;

    /// Bytes of physical memory: what bounds the numbers in structures.
    fn memory_size(&self) -> u64;

    /// Whether the kernel goes on while it is read.
    fn is_running(&self) -> bool {
        false
    }
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

    fn mapped(
        &self,
        start: Kva,
        len: u64,
        scratch: Option<Gpa>,
        visit: &mut dyn FnMut(Stretch),
    ) -> Result<(), Error> {
        for (presence, len) in self.space().presence(start, len, scratch) {
            visit(stretch(presence, len));
        }
        Ok(())
    }

    fn vmemmap(&self) -> Option<Kva> {
        // Where it moves and no note tells (before 6.9), a variable does.
        self.vmcoreinfo().symbol("vmemmap").or_else(|| {
            let [base] = self.symbols().lookup(["vmemmap_base"]);
            Some(Kva::new(self.load_u64(base?).ok()?))
        })
    }

    fn memory_size(&self) -> u64 {
        self.space().physical().size()
    }

    fn is_running(&self) -> bool {
        self.space().physical().is_running()
    }
}

/// What a walk of page tables found, as an arena takes it.
pub(crate) fn stretch(presence: Presence, len: u64) -> Stretch {
    match presence {
        Presence::Mapped => Stretch::Mapped { len },
        Presence::Frame => Stretch::Touched { len },
        Presence::Absent(Cause::NotPresent { .. }) => Stretch::Absent { len },
        Presence::Absent(cause) => Stretch::Lost { len, cause },
    }
}
