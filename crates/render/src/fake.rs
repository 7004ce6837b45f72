//! Maps made by hand, for tests and examples.

use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::{
    Arch, BpfMapAccessor, Bytes, CpuValue, Cpus, Entry, Error, Gap, KernelInfo, MapInfo, MapState,
    MapType, Maps, Progs, Symbol, Visitor, Walk,
};
use btf_layout::{Btf, TypeId};
use guestmem::{Fault, Kva, Memory};

/// A kernel whose maps hold exactly what a test put into them.
#[derive(Debug)]
pub struct Fake {
    kernel: KernelInfo,
    maps: Vec<FakeMap>,
    vmlinux: Option<Rc<Btf>>,
}

/// One map and its entries.
#[derive(Clone, Debug)]
pub struct FakeMap {
    /// Its description.
    pub info: MapInfo,
    btf: Option<Rc<Btf>>,
    entries: Vec<(Vec<u8>, Contents)>,
    gaps: Vec<Gap>,
    is_gone: bool,
}

#[derive(Clone, Debug)]
enum Contents {
    Value(FakeBytes),
    PerCpu(Vec<(u32, FakeBytes)>),
}

/// A value, or as much of it as could be read.
#[derive(Clone, Debug)]
pub struct FakeBytes {
    present: Vec<u8>,
    len: u64,
    fault: Option<Fault<Kva>>,
}

impl FakeBytes {
    /// A whole value.
    #[must_use]
    pub fn whole(bytes: &[u8]) -> Self {
        Self::cut(bytes, bytes.len() as u64, None)
    }

    /// The start of a value of `len` bytes, and why the rest is missing.
    #[must_use]
    pub fn cut(bytes: &[u8], len: u64, fault: Option<Fault<Kva>>) -> Self {
        Self {
            present: bytes.to_vec(),
            len,
            fault,
        }
    }

    fn bytes(&self) -> Bytes<'_> {
        Bytes {
            present: &self.present,
            len: self.len,
            fault: self.fault,
        }
    }
}

impl From<&[u8]> for FakeBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::whole(bytes)
    }
}

impl FakeMap {
    /// An empty map without BTF, for 64 entries.
    #[must_use]
    pub fn new(id: u32, name: &str, map_type: MapType, key_size: u32, value_size: u32) -> Self {
        Self {
            info: MapInfo {
                id,
                name: name.to_owned(),
                map_type,
                key_size,
                value_size,
                max_entries: 64,
                frozen: Some(false),
                ..MapInfo::default()
            },
            btf: None,
            entries: Vec::new(),
            gaps: Vec::new(),
            is_gone: false,
        }
    }

    /// Describes keys and values by types of `btf`; a key of `void` has no
    /// type.
    #[must_use]
    pub fn typed(mut self, btf: &Rc<Btf>, key: TypeId, value: TypeId) -> Self {
        self.info.btf_id = Some(1);
        self.info.btf_key_type_id = key.0;
        self.info.btf_value_type_id = value.0;
        self.btf = Some(Rc::clone(btf));
        self
    }

    /// Adds an entry with one value.
    #[must_use]
    pub fn entry(mut self, key: &[u8], value: impl Into<FakeBytes>) -> Self {
        self.entries
            .push((key.to_vec(), Contents::Value(value.into())));
        self
    }

    /// Adds an entry with a value for each of these CPUs.
    #[must_use]
    pub fn percpu(mut self, key: &[u8], values: Vec<(u32, FakeBytes)>) -> Self {
        self.entries.push((key.to_vec(), Contents::PerCpu(values)));
        self
    }

    /// Adds a gap to what a walk of the map accounts for.
    #[must_use]
    pub fn gap(mut self, gap: Gap) -> Self {
        self.gaps.push(gap);
        self
    }

    /// Lets every attempt to read the map fail.
    #[must_use]
    pub fn gone(mut self) -> Self {
        self.is_gone = true;
        self
    }
}

impl Fake {
    /// A kernel with these maps.
    #[must_use]
    pub fn new(maps: Vec<FakeMap>) -> Self {
        Self {
            kernel: KernelInfo {
                release: "6.18.15".to_owned(),
                arch: Arch::X86_64,
                page_size: 4096,
                paging_levels: Some(5),
                possible_cpus: Cpus(vec![0, 1]),
            },
            maps,
            vmlinux: None,
        }
    }

    /// The same kernel with BTF of its own.
    #[must_use]
    pub fn with_vmlinux(mut self, btf: &Rc<Btf>) -> Self {
        self.vmlinux = Some(Rc::clone(btf));
        self
    }

    fn find(&self, info: &MapInfo) -> Result<&FakeMap, Error> {
        let gone = Error::Gone {
            what: "map",
            id: info.id,
        };
        let map = self.maps.iter().find(|map| map.info.id == info.id);
        map.filter(|map| !map.is_gone).ok_or(gone)
    }
}

impl BpfMapAccessor for Fake {
    fn kernel(&self) -> &KernelInfo {
        &self.kernel
    }

    fn maps(&self) -> Result<Maps, Error> {
        Ok(Maps {
            maps: self.maps.iter().map(|map| map.info.clone()).collect(),
            walk: Walk {
                visited: self.maps.len() as u64,
                ..Walk::default()
            },
        })
    }

    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error> {
        Ok(self.find(map)?.btf.clone())
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        let gone = Error::Gone { what: "BTF", id: 1 };
        self.vmlinux.clone().ok_or(gone)
    }

    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        let map = self.find(map)?;
        let mut walk = Walk {
            gaps: map.gaps.clone(),
            ..Walk::default()
        };
        for (key, contents) in &map.entries {
            walk.visited += 1;
            let flow = match contents {
                Contents::Value(value) => visit(Entry::KeyValue {
                    key,
                    value: value.bytes(),
                }),
                Contents::PerCpu(values) => {
                    let values: Vec<CpuValue<'_>> = values
                        .iter()
                        .map(|(cpu, value)| CpuValue {
                            cpu: *cpu,
                            value: value.bytes(),
                        })
                        .collect();
                    visit(Entry::PerCpu {
                        key,
                        values: &values,
                    })
                }
            };
            if flow == ControlFlow::Break(()) {
                walk.stopped = true;
                break;
            }
        }
        Ok(walk)
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
}
