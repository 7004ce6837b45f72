//! Maps with known contents, on the kernel that runs the tests.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::{
    BpfMapAccessor, Entry, Error, Fetch, KernelInfo, Live, MapInfo, MapState, Maps, Progs, Symbol,
    Visitor, Walk,
};
use btf_layout::{Btf, TypeId};
use guestmem::{Kva, Memory};
use libbpf_rs::libbpf_sys as bpf;
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

pub(crate) const ROOT: &str = "these tests make BPF maps: run them as root (CAP_SYS_ADMIN)";

/// What a map shall be like.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) map_type: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) map_extra: u64,
    pub(crate) types: Option<Types>,
    /// A map that maps in this one are like.
    pub(crate) inner: Option<RawFd>,
}

/// BTF in the kernel, and the types of a key and of a value in it.
pub(crate) struct Types {
    pub(crate) btf: OwnedFd,
    pub(crate) key: TypeId,
    pub(crate) value: TypeId,
}

impl Types {
    pub(crate) fn load(bytes: &[u8], key: TypeId, value: TypeId) -> Self {
        let len = bytes.len().try_into().unwrap();
        // SAFETY: it reads `len` bytes of `bytes`.
        let fd = unsafe { bpf::bpf_btf_load(bytes.as_ptr().cast(), len, ptr::null_mut()) };
        assert!(fd >= 0, "BPF_BTF_LOAD: {fd}; {ROOT}");
        // SAFETY: the kernel has just made it for us.
        let btf = unsafe { OwnedFd::from_raw_fd(fd) };
        Self { btf, key, value }
    }
}

/// A map of ours, gone when this is dropped.
pub(crate) struct Made {
    pub(crate) handle: MapHandle,
    pub(crate) id: u32,
}

/// Key to values: one, or one for each possible CPU.
pub(crate) type Contents = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

impl Spec {
    pub(crate) fn new(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        Self {
            name: "test",
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            map_extra: 0,
            types: None,
            inner: None,
        }
    }

    pub(crate) fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    pub(crate) fn make(&self) -> Made {
        let types = self.types.as_ref();
        let options = bpf::bpf_map_create_opts {
            sz: size_of::<bpf::bpf_map_create_opts>() as bpf::size_t,
            map_flags: self.flags,
            map_extra: self.map_extra,
            btf_fd: types.map_or(0, |types| types.btf.as_raw_fd().try_into().unwrap()),
            btf_key_type_id: types.map_or(0, |types| types.key.0),
            btf_value_type_id: types.map_or(0, |types| types.value.0),
            inner_map_fd: self.inner.map_or(0, |fd| fd.try_into().unwrap()),
            ..Default::default()
        };
        let handle = MapHandle::create(
            self.map_type,
            Some(self.name),
            self.key_size,
            self.value_size,
            self.max_entries,
            &options,
        )
        .unwrap_or_else(|error| panic!("{:?}: {error}; {ROOT}", self.map_type));
        let id = handle.info().unwrap().info.id;
        Made { handle, id }
    }

    /// The map with its first `count` entries put in.
    pub(crate) fn filled(&self, count: u32) -> (Made, Contents) {
        let made = self.make();
        let contents = (0..count).map(|index| self.entry(index)).collect();
        made.put(&contents);
        (made, contents)
    }

    /// The entry number `index`: bytes that differ from entry to entry, from
    /// CPU to CPU, and from place to place.
    pub(crate) fn entry(&self, index: u32) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut key = index.to_le_bytes().to_vec();
        key.resize(self.key_size as usize, 0xa5);
        let copies = match self.map_type.is_percpu() {
            true => libbpf_rs::num_possible_cpus().unwrap(),
            false => 1,
        };
        let value = |copy: usize| {
            let seed = u64::from(index) << 8 | copy as u64;
            let words = (0u64..).flat_map(|at| {
                (seed ^ at << 40)
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_be_bytes()
            });
            words.take(self.value_size as usize).collect()
        };
        (key, (0..copies).map(value).collect())
    }
}

impl Made {
    pub(crate) fn put(&self, contents: &Contents) {
        if self.handle.map_type().is_percpu() {
            for (key, values) in contents {
                self.handle
                    .update_percpu(key, values, MapFlags::ANY)
                    .unwrap();
            }
            return;
        }
        for (key, values) in contents {
            self.handle.update(key, &values[0], MapFlags::ANY).unwrap();
        }
    }

    /// Its description, as the accessor lists it.
    pub(crate) fn info(&self, live: &Live) -> MapInfo {
        let maps = live
            .maps()
            .unwrap_or_else(|error| panic!("{error}; {ROOT}"));
        maps.maps.into_iter().find(|map| map.id == self.id).unwrap()
    }
}

/// What an accessor reads of a map.
pub(crate) fn read(live: &Live, map: &MapInfo) -> (Walk, Contents) {
    let mut contents = Contents::new();
    let walk = live.entries(map, &mut |entry| {
        let values = match entry {
            Entry::KeyValue { value, .. } => vec![value.present.to_vec()],
            Entry::PerCpu { values, .. } => {
                values.iter().map(|v| v.value.present.to_vec()).collect()
            }
            _ => panic!("{entry:?}"),
        };
        let before = contents.insert(entry.key().unwrap().to_vec(), values);
        assert!(before.is_none(), "{:x?} comes twice", entry.key());
        ControlFlow::Continue(())
    });
    (walk.unwrap(), contents)
}

/// All ways of asking for entries.
pub(crate) fn all_ways() -> [Live; 3] {
    [Fetch::Batches, Fetch::OneByOne, Fetch::Memory]
        .map(|fetch| Live::open().unwrap().fetching(fetch))
}

/// Checks that all ways read exactly `contents`, and the contract.
#[track_caller]
pub(crate) fn check(made: &Made, contents: &Contents) {
    for live in all_ways() {
        let info = made.info(&live);
        let (walk, found) = read(&live, &info);
        assert!(walk.is_complete(), "{info:?}: {walk:?}");
        assert_eq!(walk.visited, contents.len() as u64, "{info:?}");
        assert!(found == *contents, "{info:?}: other contents");
        bpfmaps::contract::check(&Only(&live, made.id), bpfmaps::contract::World::Still);
    }
}

/// One map of the running kernel, so that it stands still whatever other
/// tests do.
pub(crate) struct Only<'a>(pub(crate) &'a Live, pub(crate) u32);

impl BpfMapAccessor for Only<'_> {
    fn kernel(&self) -> &KernelInfo {
        self.0.kernel()
    }

    fn maps(&self) -> Result<Maps, Error> {
        let mut maps = self.0.maps()?;
        maps.maps.retain(|map| map.id == self.1);
        maps.walk.visited = maps.maps.len() as u64;
        Ok(maps)
    }

    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error> {
        self.0.btf(map)
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        self.0.vmlinux_btf()
    }

    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        self.0.entries(map, visit)
    }

    fn state(&self, map: &MapInfo) -> Result<Option<MapState>, Error> {
        self.0.state(map)
    }

    fn arena(&self, map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        self.0.arena(map)
    }

    fn progs(&self) -> Result<Progs, Error> {
        Ok(Progs::default())
    }

    fn symbol(&self, at: Kva) -> Option<Symbol> {
        self.0.symbol(at)
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        self.0.memory()
    }
}
