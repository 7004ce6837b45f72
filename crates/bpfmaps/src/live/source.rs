//! The ways to the running kernel's memory.

use std::os::fd::AsFd;
use std::rc::Rc;

use btf_layout::Btf;
use guestmem::{Address, Kva, MemoryExt};

use super::kcore::Kcore;
use super::probe::Own;
use super::running::Running;
use super::symbols::Symbols;
use super::sys::{OpenMap, OpenProg};
use crate::target::Target;
use crate::{Error, KernelInfo, MapInfo, NoMemory};

/// What the memory of the running kernel is read through, where bpf(2) does
/// not tell what a map holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Via {
    /// Whatever there is: a BPF program, else `/proc/kcore`.
    #[default]
    Any,
    /// A small BPF program of our own, which copies memory out. It is loaded
    /// at the first need and goes with the [`Live`](crate::Live). This takes
    /// `CAP_BPF` and `CAP_PERFMON`.
    Program,
    /// `/proc/kcore`, as physical memory. Of a page that the kernel cannot
    /// read itself it shows zeros. This takes `CAP_SYS_RAWIO`, and a kernel
    /// whose symbols name its data.
    Kcore,
    /// Nothing: bpf(2) alone, and of arenas what processes have of them.
    Bpf,
}

/// A way that was found.
#[derive(Debug)]
pub(super) enum Source {
    Program(Box<Running>),
    Kcore(Box<Kcore>),
}

impl Source {
    pub(super) fn open(
        via: Via,
        info: &KernelInfo,
        btf: impl FnOnce() -> Result<Rc<Btf>, Error>,
        symbols: &Rc<Symbols>,
    ) -> Result<Self, NoMemory> {
        let program = || {
            let btf = btf().map_err(|error| NoMemory::Layout {
                what: error.to_string(),
            })?;
            let running = Running::open(info, btf, symbols)?;
            Ok(Self::Program(Box::new(running)))
        };
        let kcore = || Kcore::open(symbols).map(|kcore| Self::Kcore(Box::new(kcore)));
        match via {
            Via::Program => program(),
            Via::Kcore => kcore(),
            // What a program needs is the better thing to know.
            Via::Any => program().or_else(|why| kcore().map_err(|_neither| why)),
            Via::Bpf => Err(NoMemory::Unwanted),
        }
    }

    /// The kernel, for one object.
    pub(super) fn target(&self) -> &dyn Target {
        match self {
            Self::Program(running) => running.as_ref(),
            Self::Kcore(kcore) => {
                kcore.refresh();
                kcore.as_ref()
            }
        }
    }

    /// Whether this was put into the kernel by us, for the reading.
    pub(super) fn is_own(&self, object: Own) -> bool {
        match self {
            Self::Program(running) => running.is_own(object),
            Self::Kcore(_) => false,
        }
    }

    /// The `struct bpf_prog` of `prog`.
    pub(super) fn prog(&self, prog: &OpenProg) -> Result<Kva, Error> {
        match self {
            Self::Program(running) => running.object(prog.fd.as_fd()),
            Self::Kcore(kcore) => kcore.object("prog_idr", "program", prog.info.id),
        }
    }

    /// The `struct bpf_map` of `map`, which is `opened`.
    pub(super) fn map(&self, opened: &OpenMap, map: &MapInfo) -> Result<Kva, Error> {
        let at = match self {
            Self::Program(running) => running.object(opened.fd())?,
            Self::Kcore(kcore) => kcore.object("map_idr", "map", map.id)?,
        };
        // The way there is made of plain pointers: what it led to shows
        // whether it was the right one.
        let target = self.target();
        let id = target.btf().record("bpf_map")?.member("id")?;
        let found = at.checked_add(id.offset).unwrap_or(at);
        let found = target.load_u32(found);
        match found {
            Ok(found) if found == map.id => Ok(at),
            Ok(_) => Err(Error::Gone {
                what: "map",
                id: map.id,
            }),
            Err(source) => Err(Error::Unreadable {
                what: "bpf_map.id",
                source,
            }),
        }
    }
}
