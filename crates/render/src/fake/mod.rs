//! Maps made by hand, for tests and examples.

mod arena;
mod map;

use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::{
    Arch, BpfMapAccessor, Cpus, Error, KernelInfo, MapInfo, MapState, Maps, Progs, Symbol, Visitor,
    Walk,
};
use btf_layout::Btf;
use guestmem::{Kva, Memory};

use arena::FakeArena;

pub use map::{FakeBytes, FakeMap};

/// A kernel whose maps hold exactly what a test put into them.
#[derive(Debug)]
pub struct Fake {
    kernel: KernelInfo,
    maps: Vec<FakeMap>,
    vmlinux: Option<Rc<Btf>>,
    /// `None` where programs cannot be listed.
    progs: Option<Progs>,
    symbols: Vec<(Kva, Symbol)>,
    memory: Option<guestmem::Fake<Kva>>,
    hides_special: bool,
}

impl Fake {
    /// A kernel with these maps, and no program.
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
            progs: Some(Progs::default()),
            symbols: Vec::new(),
            memory: None,
            hides_special: false,
        }
    }

    /// The same kernel with BTF of its own.
    #[must_use]
    pub fn with_vmlinux(mut self, btf: &Rc<Btf>) -> Self {
        self.vmlinux = Some(Rc::clone(btf));
        self
    }

    /// The same kernel with these programs.
    #[must_use]
    pub fn with_progs(mut self, progs: Progs) -> Self {
        self.progs = Some(progs);
        self
    }

    /// The same kernel, whose programs cannot be listed.
    #[must_use]
    pub fn without_progs(mut self) -> Self {
        self.progs = None;
        self
    }

    /// The same kernel with a symbol for just this address.
    #[must_use]
    pub fn with_symbol(mut self, at: Kva, symbol: Symbol) -> Self {
        self.symbols.push((at, symbol));
        self
    }

    /// The same kernel with this memory.
    #[must_use]
    pub fn with_memory(mut self, memory: guestmem::Fake<Kva>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// The same kernel, whose values are without their special fields.
    #[must_use]
    pub fn hiding_special(mut self) -> Self {
        self.hides_special = true;
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
        Ok(self.find(map)?.walk(visit))
    }

    fn state(&self, map: &MapInfo) -> Result<Option<MapState>, Error> {
        let mut maps = self.maps.iter();
        let has_state = maps.any(|known| known.info.id == map.id && known.state.is_some());
        match has_state {
            true => Ok(self.find(map)?.state.clone()),
            false => Ok(None),
        }
    }

    fn arena(&self, map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        Ok(self.find(map)?.arena.as_ref().map(FakeArena::open))
    }

    fn progs(&self) -> Result<Progs, Error> {
        self.progs.clone().ok_or(Error::NoBpf)
    }

    fn symbol(&self, at: Kva) -> Option<Symbol> {
        let mut symbols = self.symbols.iter();
        let (_, symbol) = symbols.find(|(symbol, _)| *symbol == at)?;
        Some(symbol.clone())
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        self.memory.as_ref().map(|memory| memory as _)
    }

    fn hides_special(&self, _map: &MapInfo) -> bool {
        self.hides_special
    }
}
