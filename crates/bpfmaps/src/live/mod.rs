//! The running kernel, through bpf(2) and its own memory.
//!
//! bpf(2) lists maps and programs, and gives the entries of those maps that it
//! copies whole: hashes, arrays, tries. What it does not tell, or not without
//! changing it, is read from the kernel's memory by the same readers as a
//! kernel that stands still: through BPF programs of our own that are run and
//! never attached, or through `/proc/kcore` ([`Via`]). Where neither can be
//! had, slots have the ids that bpf(2) gives, arenas what the processes that map
//! them have of them, and other maps a gap that says what is needed.
//!
//! Reading changes nothing: maps are opened for reading only, one at a time,
//! and closed after the visit; look-ups leave the order of LRU hashes as it
//! is, and nothing is looked up that a look-up would take out or make. What is
//! loaded for the reading is not listed, and is gone when the [`Live`] is.
//!
//! Listing and opening maps by id takes `CAP_SYS_ADMIN`; the kernel's own
//! description and BTF ([`kernel`](BpfMapAccessor::kernel),
//! [`vmlinux_btf`](BpfMapAccessor::vmlinux_btf)) take no rights.
//!
//! A value that is written to while it is copied comes torn; so does the whole
//! of a map. Where the kernel's structures show that they changed under the
//! reader, they are read again, and if that does not help there is a gap.

mod array;
mod contents;
mod direct_map;
mod hash;
mod host;
mod kcore;
mod keys;
mod list;
mod memory;
mod probe;
mod progs;
mod rights;
mod running;
mod shape;
mod slots;
mod source;
mod symbols;
mod sys;
mod trie;
mod users;

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::io;
use std::rc::Rc;

use arena::Arena;
use btf_layout::Btf;
use guestmem::{Kva, Memory};
use kernel::PerCpu;
use nix::errno::Errno;
use rustc_hash::FxHashMap;

use self::contents::Way;
use self::probe::Own;
use self::source::Source;
use self::symbols::Symbols;
use self::sys::OpenMap;
use crate::structures;
use crate::walk::Walker;
use crate::{
    BpfMapAccessor, Code, Error, GapAt, KernelInfo, MapInfo, MapState, MapType, Maps, NoMemory,
    ProgInfo, Progs, Reason, Symbol, Visitor, Walk,
};

pub use self::source::Via;

/// How entries and instructions are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fetch {
    /// Many at a time (`BPF_MAP_LOOKUP_BATCH`) where the kernel does that for
    /// the map.
    #[default]
    Batches,
    /// One by one, which every kernel can. A hash that loses thousands of
    /// keys during the walk may end it early, with a gap.
    OneByOne,
    /// From the kernel's memory, whatever the type: an independent way, for
    /// comparison.
    Memory,
}

/// The maps of the running kernel.
///
/// ```no_run
/// use std::ops::ControlFlow;
///
/// use bpfmaps::{BpfMapAccessor, Live};
///
/// let live = Live::open()?;
/// for map in live.maps()?.maps {
///     let walk = live.entries(&map, &mut |_entry| ControlFlow::Continue(()))?;
///     println!("{} {} has {} entries", map.map_type, map.name, walk.visited);
/// }
/// # Ok::<(), bpfmaps::Error>(())
/// ```
#[derive(Debug)]
pub struct Live {
    kernel: KernelInfo,
    fetch: Fetch,
    via: Via,
    source: OnceCell<Result<Source, NoMemory>>,
    symbols: Rc<Symbols>,
    vmlinux: OnceCell<Rc<Btf>>,
    btfs: RefCell<FxHashMap<u32, Rc<Btf>>>,
}

impl Live {
    /// The running kernel. This takes no rights; listing and opening maps
    /// does, and says so.
    ///
    /// # Errors
    ///
    /// If the kernel's CPUs or page size cannot be had, or it is of an
    /// architecture that this crate does not know.
    pub fn open() -> Result<Self, Error> {
        Ok(Self {
            kernel: host::kernel()?,
            fetch: Fetch::default(),
            via: Via::default(),
            source: OnceCell::new(),
            symbols: Rc::default(),
            vmlinux: OnceCell::new(),
            btfs: RefCell::default(),
        })
    }

    /// The same kernel, with entries asked for as `fetch` says.
    #[must_use]
    pub fn fetching(mut self, fetch: Fetch) -> Self {
        self.fetch = fetch;
        self
    }

    /// The same kernel, its memory read as `via` says.
    #[must_use]
    pub fn via(mut self, via: Via) -> Self {
        self.via = via;
        self.source = OnceCell::new();
        self
    }

    /// The kernel's memory, opened at the first need.
    fn source(&self) -> Result<&Source, &NoMemory> {
        let open = || {
            let btf = || self.vmlinux_btf();
            Source::open(self.via, &self.kernel, btf, &self.symbols)
        };
        self.source.get_or_init(open).as_ref()
    }

    /// Whether this was put into the kernel for the reading.
    fn is_own(&self, object: Own) -> bool {
        let source = self.source.get().and_then(|source| source.as_ref().ok());
        source.is_some_and(|source| source.is_own(object))
    }

    fn origin(&self) -> String {
        format!("Linux {}", self.kernel.release)
    }

    /// The BTF with this id, loaded once.
    fn btf_by_id(&self, id: u32) -> Result<Rc<Btf>, Error> {
        if let Some(btf) = self.btfs.borrow().get(&id) {
            return Ok(Rc::clone(btf));
        }
        let btf = self.load_btf(id)?;
        self.btfs.borrow_mut().insert(id, Rc::clone(&btf));
        Ok(btf)
    }

    fn load_btf(&self, id: u32) -> Result<Rc<Btf>, Error> {
        let object = sys::btf(id).map_err(|errno| match errno {
            Errno::ENOENT => Error::Gone { what: "BTF", id },
            errno => refused("BPF_BTF_GET_FD_BY_ID", errno),
        })?;
        let origin = format!("BTF {id} of {}", self.origin());
        // bpf(2) takes BTF from programs without a base only; a module's is
        // split on the kernel's.
        let btf = match (object.of_kernel, object.name.as_str()) {
            (true, "vmlinux") => return self.vmlinux_btf(),
            (true, _) => Btf::parse_split(object.data, self.vmlinux_btf()?, &origin)?,
            (false, _) => Btf::parse(object.data, &origin)?,
        };
        Ok(Rc::new(btf))
    }
}

impl BpfMapAccessor for Live {
    fn kernel(&self) -> &KernelInfo {
        &self.kernel
    }

    fn maps(&self) -> Result<Maps, Error> {
        let mut found = Maps::default();
        let mut id = 0;
        loop {
            id = match sys::next_map_id(id) {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(found),
                Err(errno) => return Err(refused("BPF_MAP_GET_NEXT_ID", errno)),
            };
            if self.is_own(Own::Map(id)) {
                continue;
            }
            match list::describe(id) {
                Ok(Some(map)) => {
                    found.walk.visited += 1;
                    found.maps.push(map);
                }
                // It went between the two calls, and is no map any more.
                Ok(None) => {}
                Err(errno) => {
                    let operation = "BPF_MAP_GET_FD_BY_ID";
                    found
                        .walk
                        .gap(GapAt::Id(id), Reason::Refused { operation, errno });
                }
            }
        }
    }

    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error> {
        map.btf_id.map(|id| self.btf_by_id(id)).transpose()
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        if let Some(btf) = self.vmlinux.get() {
            return Ok(Rc::clone(btf));
        }
        let data = fs::read("/sys/kernel/btf/vmlinux").map_err(|source| Error::System {
            operation: "reading /sys/kernel/btf/vmlinux",
            source,
        })?;
        let btf = Rc::new(Btf::parse(data, &self.origin())?);
        Ok(Rc::clone(self.vmlinux.get_or_init(|| btf)))
    }

    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        let opened = open_map(map)?;
        let mut walker = Walker::new(visit);
        contents::walk(self, map, &opened, &mut walker)?;
        Ok(walker.finish())
    }

    fn state(&self, map: &MapInfo) -> Result<Option<MapState>, Error> {
        contents::state(self, map, || open_map(map))
    }

    fn arena(&self, map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        if map.map_type != MapType::ARENA {
            return Ok(None);
        }
        let opened = open_map(map)?;
        let arena = match self.source() {
            Ok(source) => structures::arena(source.target(), map, source.map(&opened, map)?)?,
            Err(why) => users::open(map, self.kernel.page_size, why)?.0,
        };
        Ok(Some(arena))
    }

    fn progs(&self) -> Result<Progs, Error> {
        progs::list(self)
    }

    fn code(&self, prog: &ProgInfo) -> Result<Option<Code>, Error> {
        progs::code(self, prog)
    }

    fn symbol(&self, at: Kva) -> Option<Symbol> {
        self.symbols.at(at)
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        Some(self.source().ok()?.target())
    }

    fn memory_size(&self) -> Option<u64> {
        Some(self.source().ok()?.target().memory_size())
    }

    fn per_cpu(&self) -> Option<&PerCpu> {
        self.source().ok()?.target().per_cpu().ok()
    }

    fn hides_special(&self, map: &MapInfo) -> bool {
        contents::way(self, map) == Way::Bpf
    }
}

/// The map that was described, held open.
fn open_map(map: &MapInfo) -> Result<OpenMap, Error> {
    let gone = Error::Gone {
        what: "map",
        id: map.id,
    };
    match OpenMap::open(map.id) {
        Ok(opened) if list::is_same(map, &opened) => Ok(opened),
        Ok(_) | Err(Errno::ENOENT) => Err(gone),
        Err(errno) => Err(refused("BPF_MAP_GET_FD_BY_ID", errno)),
    }
}

/// Why bpf(2) could not be used.
fn refused(operation: &'static str, errno: Errno) -> Error {
    match errno {
        Errno::EPERM => Error::NotPermitted {
            operation,
            needs: "CAP_SYS_ADMIN in the initial user namespace",
        },
        Errno::ENOSYS => Error::NoBpf,
        errno => Error::System {
            operation,
            source: io::Error::from(errno),
        },
    }
}
