//! A kernel that was found: everything that reading it needs.

use std::cell::OnceCell;
use std::rc::Rc;

use btf_layout::Btf;
use guestmem::{Fault, Gpa, Kva, Memory, Physical};
use pagewalk::AddressSpace;

use crate::btf_section::BtfSource;
use crate::candidate::Candidate;
use crate::loaded::Loaded;
use crate::{Arch, Error, KallsymsError, PerCpu, Symbol, Symbols, Vmcoreinfo};

/// A Linux kernel in the memory that it was found in.
///
/// It is a [`Memory`] of its own virtual addresses.
#[derive(Debug)]
pub struct Kernel {
    pub(crate) arch: Arch,
    pub(crate) space: AddressSpace<Physical>,
    pub(crate) note: Vmcoreinfo,
    pub(crate) phys_base: Option<i64>,
    pub(crate) layout: usize,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) symbols: Symbols,
    pub(crate) kallsyms_error: Option<KallsymsError>,
    pub(crate) btf: Rc<Btf>,
    pub(crate) btf_size: u64,
    pub(crate) btf_source: BtfSource,
    pub(crate) per_cpu: Option<PerCpu>,
    pub(crate) version: String,
    /// Read when a place outside of the kernel's image is asked for.
    pub(crate) loaded: OnceCell<Loaded>,
}

impl Kernel {
    /// `uname -r`.
    #[must_use]
    pub fn release(&self) -> &str {
        self.note.release()
    }

    /// `uname -v`: build number and date.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The architecture.
    #[must_use]
    pub fn arch(&self) -> Arch {
        self.arch
    }

    /// The page size in bytes.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.space.format().page_size()
    }

    /// Levels of page tables.
    #[must_use]
    pub fn levels(&self) -> u8 {
        self.space.format().levels()
    }

    /// The kernel's root table (`swapper_pg_dir`).
    #[must_use]
    pub fn root(&self) -> Gpa {
        self.space.root()
    }

    /// How far KASLR moved the kernel from its link address, where noted.
    #[must_use]
    pub fn slide(&self) -> Option<u64> {
        self.note.slide()
    }

    /// x86-64's `phys_base`, which is signed.
    #[must_use]
    pub fn phys_base(&self) -> Option<i64> {
        self.phys_base
    }

    /// The VMCOREINFO that was chosen.
    #[must_use]
    pub fn vmcoreinfo(&self) -> &Vmcoreinfo {
        &self.note
    }

    /// Every VMCOREINFO that was considered, and what became of it.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// Which of the layouts that were offered is the image's, by position.
    #[must_use]
    pub fn layout(&self) -> usize {
        self.layout
    }

    /// The kernel's symbols.
    #[must_use]
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    /// Why the symbol table in memory was not used, if it was not.
    #[must_use]
    pub fn kallsyms_error(&self) -> Option<&KallsymsError> {
        self.kallsyms_error.as_ref()
    }

    /// The kernel's BTF.
    #[must_use]
    pub fn btf(&self) -> &Rc<Btf> {
        &self.btf
    }

    /// Bytes of the kernel's BTF.
    #[must_use]
    pub fn btf_size(&self) -> u64 {
        self.btf_size
    }

    /// Where the BTF came from.
    #[must_use]
    pub fn btf_source(&self) -> BtfSource {
        self.btf_source
    }

    /// The possible CPUs, where the kernel's symbols tell them.
    #[must_use]
    pub fn per_cpu(&self) -> Option<&PerCpu> {
        self.per_cpu.as_ref()
    }

    /// The possible CPUs, for a caller that cannot do without.
    ///
    /// # Errors
    ///
    /// Those of [`require`](Self::require), for the symbol that is missing.
    pub fn require_per_cpu(&self) -> Result<&PerCpu, Error> {
        if let Some(per_cpu) = &self.per_cpu {
            return Ok(per_cpu);
        }
        for name in PerCpu::SYMBOLS {
            self.require(name)?;
        }
        let release = self.release().to_owned();
        Err(Error::NoPerCpu { release })
    }

    /// The page tables, for walks over ranges.
    #[must_use]
    pub fn space(&self) -> &AddressSpace<Physical> {
        &self.space
    }

    /// The address of a symbol that the caller cannot do without.
    ///
    /// # Errors
    ///
    /// [`Error::NoSymbol`], or why there are no symbols at all.
    pub fn require(&self, name: &'static str) -> Result<Kva, Error> {
        let [address] = self.symbols.lookup([name]);
        address.ok_or_else(|| {
            if let Some(source) = &self.kallsyms_error
                && self.symbols.given().is_none()
            {
                let source = source.clone();
                return Error::Kallsyms { source };
            }
            // `__per_cpu_offset` is data that every SMP kernel has.
            let [data] = self.symbols.lookup(["__per_cpu_offset"]);
            Error::NoSymbol {
                name,
                release: self.release().to_owned(),
                all: data.is_some(),
            }
        })
    }

    /// The function or variable that `at` lies in, as the kernel itself names
    /// it in a trace: by the symbol table in its memory, by those of its
    /// modules, and by the names of its BPF programs. The latter two are
    /// lists that kernels without `CONFIG_KALLSYMS_ALL` do not name.
    ///
    /// What is read for it is kept: for a kernel that stands still.
    #[must_use]
    pub fn symbol_at(&self, at: Kva) -> Option<Symbol> {
        let own = self.symbols.kallsyms().and_then(|own| own.symbol_at(at));
        if let Some((name, offset)) = own {
            return Some(Symbol {
                name,
                offset,
                module: None,
            });
        }
        let loaded = self.loaded.get_or_init(|| {
            let lists = self.symbols.lookup(Loaded::SYMBOLS);
            Loaded::load(self, &self.btf, lists, self.space.physical().size())
        });
        loaded.symbol_at(self, &self.btf, at)
    }
}

impl Memory<Kva> for Kernel {
    fn read(&self, addr: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        self.space.read(addr, buf)
    }
}
