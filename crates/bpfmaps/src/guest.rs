//! The backend for a kernel that stands still: everything is read out of its
//! memory, and nothing is asked of it. The memory of one that goes on
//! (`/proc/kcore`) can be read the same way, for as long as it holds still.

use std::cell::OnceCell;
use std::rc::Rc;

use arena::Arena;
use btf_layout::Btf;
use guestmem::{Address, Kva, Memory};
use kernel::{Kernel, PerCpu};

use crate::accessor::Visitor;
use crate::structures::{
    self, BtfObjectLayout, CodeReader, Footprint, IdrLayout, MapLayout, Parsed, ProgLayout,
    walk_idr,
};
use crate::target::Target;
use crate::walk::Walker;
use crate::{
    BpfMapAccessor, Code, Cpus, Error, KernelInfo, MapInfo, MapState, MapType, Maps, ProgInfo,
    Progs, Symbol, Walk,
};

/// The maps of a kernel in memory that stands still.
#[derive(Debug)]
pub struct Guest {
    kernel: Kernel,
    info: KernelInfo,
    map_idr: Kva,
    layouts: Layouts,
    btfs: Parsed,
}

/// The layouts in this kernel, each taken from its BTF at the first use.
#[derive(Debug, Default)]
struct Layouts {
    map: OnceCell<MapLayout>,
    btf: OnceCell<BtfObjectLayout>,
    footprint: OnceCell<Footprint>,
    prog: OnceCell<ProgLayout>,
}

/// The layout in `cell`, made by `make` if it is not there yet.
fn once<T>(
    cell: &OnceCell<T>,
    make: impl FnOnce() -> Result<T, btf_layout::Error>,
) -> Result<&T, btf_layout::Error> {
    if let Some(made) = cell.get() {
        return Ok(made);
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made))
}

impl Guest {
    /// The maps of `kernel`.
    ///
    /// # Errors
    ///
    /// If the kernel's symbols do not say where the maps are listed.
    pub fn new(kernel: Kernel) -> Result<Self, Error> {
        let map_idr = kernel.require("map_idr")?;
        let cpus = kernel.per_cpu().map(|per_cpu| per_cpu.cpus().collect());
        let info = KernelInfo {
            release: kernel.release().to_owned(),
            arch: kernel.arch(),
            page_size: kernel.page_size(),
            paging_levels: Some(kernel.levels()),
            possible_cpus: Cpus(cpus.unwrap_or_default()),
        };
        Ok(Self {
            kernel,
            info,
            map_idr,
            layouts: Layouts::default(),
            btfs: Parsed::default(),
        })
    }

    /// The kernel beneath.
    #[must_use]
    pub fn machine(&self) -> &Kernel {
        &self.kernel
    }

    /// The kernel, for one object: of one that goes on while it is read, what
    /// was known of its page tables is forgotten.
    fn fresh(&self) -> &Kernel {
        if Target::is_running(&self.kernel) {
            self.kernel.space().forget();
        }
        &self.kernel
    }

    fn map_layout(&self) -> Result<&MapLayout, Error> {
        Ok(once(&self.layouts.map, || {
            MapLayout::new(self.kernel.btf())
        })?)
    }

    fn btf_layout(&self) -> Result<&BtfObjectLayout, Error> {
        Ok(once(&self.layouts.btf, || {
            BtfObjectLayout::new(self.kernel.btf())
        })?)
    }

    /// The memory that `map` at `at` takes, where that can be reckoned.
    fn footprint(&self, map: &MapInfo, at: Kva) -> Option<u64> {
        let layout = once(&self.layouts.footprint, || {
            Footprint::new(self.kernel.btf())
        });
        let page_size = self.kernel.page_size();
        let per_cpu = self.kernel.per_cpu()?;
        layout
            .ok()?
            .of(&self.kernel, map, at, page_size, per_cpu)
            .ok()?
    }

    fn map_address(map: &MapInfo) -> Result<Kva, Error> {
        let (what, id) = ("map", map.id);
        map.kva.ok_or(Error::Foreign { what, id })
    }
}

impl BpfMapAccessor for Guest {
    fn kernel(&self) -> &KernelInfo {
        &self.info
    }

    fn maps(&self) -> Result<Maps, Error> {
        let kernel = self.fresh();
        let layout = self.map_layout()?;
        let btf_layout = self.btf_layout()?;
        let nodes = IdrLayout::new(kernel.btf())?;
        let mut maps = Maps::default();
        let mut found = Vec::new();
        walk_idr(
            kernel,
            &nodes,
            self.map_idr,
            &mut maps.walk,
            &mut |id, map| found.push((id, map)),
        );
        for (id, map) in found {
            match layout.describe(kernel, btf_layout, id, map) {
                Ok(mut info) => {
                    info.memory = self.footprint(&info, map);
                    maps.maps.push(info);
                }
                Err(gap) => maps.walk.gap(map, gap),
            }
        }
        maps.walk.visited = maps.maps.len() as u64;
        Ok(maps)
    }

    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error> {
        let at = Self::map_address(map)?;
        let btf = self.map_layout()?.btf_address(self.fresh(), at)?;
        if btf.get() == 0 {
            return Ok(None);
        }
        let layout = self.btf_layout()?;
        layout.load(&self.kernel, btf, &self.btfs).map(Some)
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        Ok(Rc::clone(self.kernel.btf()))
    }

    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        let at = Self::map_address(map)?;
        let mut walker = Walker::new(visit);
        structures::walk(self.fresh(), map, at, &mut walker)?;
        Ok(walker.finish())
    }

    fn state(&self, map: &MapInfo) -> Result<Option<MapState>, Error> {
        structures::state(self.fresh(), map, Self::map_address(map)?)
    }

    fn arena(&self, map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        if map.map_type != MapType::ARENA {
            return Ok(None);
        }
        structures::arena(self.fresh(), map, Self::map_address(map)?).map(Some)
    }

    fn progs(&self) -> Result<Progs, Error> {
        structures::progs(self.fresh(), self.btf_layout()?, &self.btfs)
    }

    fn code(&self, prog: &ProgInfo) -> Result<Option<Code>, Error> {
        let (what, id) = ("program", prog.id);
        let at = prog.kva.ok_or(Error::Foreign { what, id })?;
        let layout = once(&self.layouts.prog, || ProgLayout::new(self.kernel.btf()))?;
        let reader = CodeReader {
            target: self.fresh(),
            layout,
            maps: self.map_layout()?,
            btf_layout: self.btf_layout()?,
            known: &self.btfs,
        };
        reader.code(at)
    }

    fn symbol(&self, at: Kva) -> Option<Symbol> {
        self.kernel.symbol_at(at)
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        Some(self.fresh())
    }

    fn memory_size(&self) -> Option<u64> {
        Some(Target::memory_size(&self.kernel))
    }

    fn per_cpu(&self) -> Option<&PerCpu> {
        self.kernel.per_cpu()
    }
}
