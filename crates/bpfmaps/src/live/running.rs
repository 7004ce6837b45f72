//! The running kernel as a [`Target`] of the readers of kernel structures.

use std::cell::{Cell, OnceCell};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use arena::Stretch;
use btf_layout::{Btf, Member};
use guestmem::{Address, Fault, Gpa, Kva, Memory, MemoryExt};
use kernel::{PerCpu, Vmcoreinfo};
use pagewalk::{AddressSpace, Format};

use super::direct_map::{self, DirectMap};
use super::keys::Table;
use super::memory::{Files, KernelMemory};
use super::probe::{Own, PerCpuValues};
use super::rights::refusal;
use super::symbols::Symbols;
use super::sys::OpenMap;
use super::{host, sys};
use crate::target::{self, Target};
use crate::{Arch, Error, KernelInfo, NoMemory, Symbol};

/// How long what is ours may take to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// Bytes before the text in the note of VMCOREINFO, and the most of it that
/// are read.
const NOTE_HEADER: u64 = 24;
const NOTE_LEN: u64 = 4096;

/// The running kernel, its memory read by a program of ours.
#[derive(Debug)]
pub(super) struct Running {
    memory: KernelMemory,
    info: KernelInfo,
    btf: Rc<Btf>,
    symbols: Rc<Symbols>,
    files: Files,
    memory_size: u64,
    per_cpu: OnceCell<PerCpu>,
    /// The map that told it, which stays for as long as the kernel takes to
    /// let go of the program that used it.
    own_map: Cell<Option<u32>>,
}

impl Running {
    pub(super) fn open(
        info: &KernelInfo,
        btf: Rc<Btf>,
        symbols: &Rc<Symbols>,
    ) -> Result<Self, NoMemory> {
        let memory = KernelMemory::new(info)?;
        let files = Files::new(&btf).map_err(|error| NoMemory::Layout {
            what: error.to_string(),
        })?;
        let memory_size = host::memory_size().map_err(|errno| refusal("sysinfo(2)", errno))?;
        Ok(Self {
            memory,
            info: info.clone(),
            btf,
            symbols: Rc::clone(symbols),
            files,
            memory_size,
            per_cpu: OnceCell::new(),
            own_map: Cell::new(None),
        })
    }

    /// Whether this was put into the kernel by us, for the reading.
    pub(super) fn is_own(&self, object: Own) -> bool {
        let own_map = self.own_map.get().map(Own::Map);
        own_map == Some(object) || self.memory.probe().is_own(object)
    }

    /// The kernel's object behind a descriptor of this process.
    pub(super) fn object(&self, fd: BorrowedFd<'_>) -> Result<Kva, Error> {
        let number = u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX);
        self.files.object(&self.memory, number)
    }

    /// The page tables, which are those of this process, as far as the kernel
    /// is concerned. They are to be had again for each use: the kernel changes
    /// them.
    fn tables(&self) -> Result<AddressSpace<DirectMap<'_>>, Error> {
        let record = self.btf.record("task_struct")?;
        let (mm, class) = (record.member("mm")?, record.member("sched_class")?);
        let pgd = self.btf.record("mm_struct")?.member("pgd")?;
        let follow = |at: Kva, member: &Member| {
            let at = at.checked_add(member.offset).unwrap_or(at);
            self.load_u64(at).map(Kva::new)
        };
        let task = self.memory.current_task()?;
        let root = follow(task, &mm).and_then(|at| follow(at, &pgd));
        let root = root.map_err(|source| Error::Unreadable {
            what: "mm_struct.pgd",
            source,
        })?;
        let levels = match self.info.arch {
            Arch::X86_64 => self.info.paging_levels.unwrap_or(0),
            // A process has tables of its own half alone.
            Arch::Arm64 => 0,
        };
        let format = Format::x86_64(levels, 0).map_err(|_unknown| Error::NoDirectMap { root })?;
        // A table of functions, in the kernel's image.
        let witness = follow(task, &class).map_err(|source| Error::Unreadable {
            what: "task_struct.sched_class",
            source,
        })?;
        direct_map::address_space(self, root, witness, format, host::physical_end())
    }

    /// How far each CPU's data is from what a `__percpu` pointer says, told
    /// by an array of ours that holds the addresses of its own values.
    fn load_per_cpu(&self) -> Result<PerCpu, Error> {
        let cpus = &self.info.possible_cpus.0;
        let values = PerCpuValues::make(cpus).map_err(Error::NoMemory)?;
        self.own_map.set(Some(values.id));
        let map = OpenMap::open(values.id);
        let map = map.map_err(|errno| super::refused("BPF_MAP_GET_FD_BY_ID", errno))?;
        let pointers = self.btf.record("bpf_array")?.member("pptrs")?;
        let at = self.object(map.fd())?.checked_add(pointers.offset);
        let pointer = self.load_u64(at.unwrap_or_default());
        let pointer = pointer.map_err(|source| Error::Unreadable {
            what: "bpf_array.pptrs",
            source,
        })?;
        let mut addresses = vec![0; cpus.len() * size_of::<u64>()];
        map.lookup(&[0; 4], &mut addresses)
            .map_err(|errno| super::refused("BPF_MAP_LOOKUP_ELEM", errno))?;
        let addresses = addresses.chunks_exact(size_of::<u64>());
        let offset = |(&cpu, at): (&u32, &[u8])| {
            let at = at.first_chunk().map_or(0, |at| u64::from_ne_bytes(*at));
            (cpu, at.wrapping_sub(pointer))
        };
        Ok(PerCpu::new(cpus.iter().zip(addresses).map(offset)))
    }
}

impl Drop for Running {
    /// Waits for the kernel to be without the map, a fraction of a second.
    fn drop(&mut self) {
        let Some(id) = self.own_map.get() else {
            return;
        };
        let start = Instant::now();
        while sys::next_map_id(id.saturating_sub(1)) == Ok(Some(id)) && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Memory<Kva> for Running {
    fn read(&self, addr: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        self.memory.read(addr, buf)
    }
}

impl Target for Running {
    fn btf(&self) -> &Rc<Btf> {
        &self.btf
    }

    fn release(&self) -> &str {
        &self.info.release
    }

    fn page_size(&self) -> u64 {
        self.info.page_size
    }

    fn require(&self, name: &'static str) -> Result<Kva, Error> {
        if let Some(at) = self.symbols.lookup(name) {
            return Ok(at);
        }
        if self.symbols.is_empty() {
            return Err(Error::HiddenSymbols { name });
        }
        Err(Error::Kernel(kernel::Error::NoSymbol {
            name,
            release: self.info.release.clone(),
            // Data that every kernel has.
            all: self.symbols.lookup("init_task").is_some(),
        }))
    }

    fn symbol_at(&self, at: Kva) -> Option<Symbol> {
        self.symbols.at(at)
    }

    fn per_cpu(&self) -> Result<&PerCpu, Error> {
        if let Some(per_cpu) = self.per_cpu.get() {
            return Ok(per_cpu);
        }
        let loaded = self.load_per_cpu()?;
        Ok(self.per_cpu.get_or_init(|| loaded))
    }

    fn mapped(
        &self,
        start: Kva,
        len: u64,
        scratch: Option<Gpa>,
        visit: &mut dyn FnMut(Stretch),
    ) -> Result<(), Error> {
        for (presence, len) in self.tables()?.presence(start, len, scratch) {
            visit(target::stretch(presence, len));
        }
        Ok(())
    }

    fn vmemmap(&self) -> Option<Kva> {
        if let Some(base) = self.symbols.lookup("vmemmap_base") {
            return self.load_u64(base).ok().map(Kva::new);
        }
        // The kernel's note on how to read its memory tells it, too.
        let note = host::vmcoreinfo()?.checked_add(NOTE_HEADER)?;
        let tables = self.tables().ok()?;
        let text = tables.physical().read_up_to(note, NOTE_LEN).bytes;
        Vmcoreinfo::parse(&text)?.symbol("vmemmap")
    }

    fn memory_size(&self) -> u64 {
        self.memory_size
    }

    fn is_running(&self) -> bool {
        true
    }
}
