//! The running kernel, through bpf(2).
//!
//! Reading changes nothing: maps are opened for reading only, one at a time,
//! and closed after the visit; look-ups leave the order of LRU hashes as it
//! is, and nothing is looked up that a look-up would take out or make.
//!
//! Listing and opening maps by id takes `CAP_SYS_ADMIN`; the kernel's own
//! description and BTF ([`kernel`](BpfMapAccessor::kernel),
//! [`vmlinux_btf`](BpfMapAccessor::vmlinux_btf)) take no rights.
//!
//! A value that is written to while the kernel copies it comes torn; so does
//! the whole of a map. What bpf(2) shows of a value has zeros in place of
//! locks and timers.

mod array;
mod direct_map;
mod hash;
mod host;
mod keys;
mod list;
mod shape;
mod sys;

use std::cell::{OnceCell, RefCell};
use std::fs;
use std::io;
use std::rc::Rc;

use arena::Arena;
use btf_layout::Btf;
use guestmem::{Kva, Memory};
use nix::errno::Errno;
use rustc_hash::FxHashMap;

use self::shape::Shape;
use self::sys::OpenMap;
use crate::walk::Walker;
use crate::{
    BpfMapAccessor, Error, GapAt, KernelInfo, MapInfo, MapState, MapType, Maps, Progs, Reason,
    Symbol, Visitor, Walk,
};

/// How entries are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fetch {
    /// Many at a time (`BPF_MAP_LOOKUP_BATCH`) where the kernel does that for
    /// the map.
    #[default]
    Batches,
    /// One by one, which every kernel can. A hash that loses thousands of
    /// keys during the walk may end it early, with a gap.
    OneByOne,
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

    fn origin(&self) -> String {
        format!("Linux {}", self.kernel.release)
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
        let Some(id) = map.btf_id else {
            return Ok(None);
        };
        if let Some(btf) = self.btfs.borrow().get(&id) {
            return Ok(Some(Rc::clone(btf)));
        }
        let btf = self.load_btf(id)?;
        self.btfs.borrow_mut().insert(id, Rc::clone(&btf));
        Ok(Some(btf))
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
        let gone = Error::Gone {
            what: "map",
            id: map.id,
        };
        let opened = match OpenMap::open(map.id) {
            Ok(opened) => opened,
            Err(Errno::ENOENT) => return Err(gone),
            Err(errno) => return Err(refused("BPF_MAP_GET_FD_BY_ID", errno)),
        };
        if !list::is_same(map, &opened) {
            return Err(gone);
        }
        let map_type = map.map_type;
        let cpus = self.kernel.possible_cpus.0.as_slice();
        let cpus = map_type.is_per_cpu().then_some(cpus);
        let shape = Shape::new(map.key_size, map.value_size, cpus);
        let mut walker = Walker::new(visit);
        match map_type {
            MapType::ARRAY | MapType::PERCPU_ARRAY => {
                array::walk(&opened, &shape, self.fetch, &mut walker);
            }
            MapType::HASH | MapType::LRU_HASH | MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH => {
                let in_batches = self.fetch == Fetch::Batches;
                if !in_batches || !hash::walk(&opened, &shape, map.max_entries, &mut walker) {
                    keys::walk(&opened, &shape, &mut walker);
                }
            }
            map_type => walker.unread_type(map_type),
        }
        Ok(walker.finish())
    }

    fn state(&self, _map: &MapInfo) -> Result<Option<MapState>, Error> {
        Ok(None)
    }

    fn arena(&self, _map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        Ok(None)
    }

    fn progs(&self) -> Result<Progs, Error> {
        Ok(Progs::default())
    }

    fn symbol(&self, _at: Kva) -> Option<Symbol> {
        None
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        None
    }

    fn hides_special(&self, _map: &MapInfo) -> bool {
        true
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
