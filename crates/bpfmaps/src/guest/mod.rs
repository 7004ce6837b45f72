//! The backend for a kernel that stands still: everything is read out of its
//! memory, and nothing is asked of it.
//!
//! The walkers below know only `Memory<Kva>` and layouts from BTF; where a
//! layout differs between kernels, the alternatives stand beside the code
//! that uses them.

mod array;
mod btf_object;
mod footprint;
mod hash;
mod idr;
mod map_object;
mod object;
mod per_cpu;
mod place;

use std::cell::OnceCell;
use std::rc::Rc;

use btf_layout::Btf;
use guestmem::{Address, Kva, Memory};
use kernel::{Kernel, PerCpu};

use crate::accessor::Visitor;
use crate::walk::Walker;
use crate::{BpfMapAccessor, Cpus, Error, KernelInfo, MapInfo, MapType, Maps, Walk};
use array::ArrayLayout;
use btf_object::{BtfObjectLayout, Parsed};
use footprint::Footprint;
use hash::HashLayout;
use map_object::MapLayout;

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
    hash: OnceCell<HashLayout>,
    array: OnceCell<ArrayLayout>,
    footprint: OnceCell<Footprint>,
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

    fn map_layout(&self) -> Result<&MapLayout, Error> {
        Ok(once(&self.layouts.map, || {
            MapLayout::new(self.kernel.btf())
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

    /// Where the parts of per-CPU data are, for maps whose values are.
    fn per_cpu(&self, map: &MapInfo) -> Result<Option<&PerCpu>, Error> {
        if !map.map_type.is_per_cpu() {
            return Ok(None);
        }
        Ok(Some(self.kernel.require_per_cpu()?))
    }

    fn map_address(map: &MapInfo) -> Result<Kva, Error> {
        map.kva.ok_or(Error::Foreign { id: map.id })
    }

    /// What bounds the numbers in this kernel's structures.
    fn memory_size(&self) -> u64 {
        self.kernel.space().physical().size()
    }
}

impl BpfMapAccessor for Guest {
    fn kernel(&self) -> &KernelInfo {
        &self.info
    }

    fn maps(&self) -> Result<Maps, Error> {
        let layout = self.map_layout()?;
        let btf_layout = once(&self.layouts.btf, || {
            BtfObjectLayout::new(self.kernel.btf())
        })?;
        let nodes = idr::Layout::new(self.kernel.btf())?;
        let mut maps = Maps::default();
        let mut found = Vec::new();
        idr::walk(
            &self.kernel,
            &nodes,
            self.map_idr,
            &mut maps.walk,
            &mut |id, map| found.push((id, map)),
        );
        for (id, map) in found {
            match layout.describe(&self.kernel, btf_layout, id, map) {
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
        let btf = self.map_layout()?.btf_address(&self.kernel, at)?;
        if btf.get() == 0 {
            return Ok(None);
        }
        let layout = once(&self.layouts.btf, || {
            BtfObjectLayout::new(self.kernel.btf())
        })?;
        layout.load(&self.kernel, btf, &self.btfs).map(Some)
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        Ok(Rc::clone(self.kernel.btf()))
    }

    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        let at = Self::map_address(map)?;
        let mut walker = Walker::new(visit);
        match map.map_type {
            MapType::HASH | MapType::LRU_HASH | MapType::PERCPU_HASH | MapType::LRU_PERCPU_HASH => {
                let per_cpu = self.per_cpu(map)?;
                once(&self.layouts.hash, || HashLayout::new(self.kernel.btf()))?
                    .table(&self.kernel, map, at, per_cpu, self.memory_size())?
                    .walk(&mut walker);
            }
            MapType::ARRAY | MapType::PERCPU_ARRAY => {
                let per_cpu = self.per_cpu(map)?;
                once(&self.layouts.array, || ArrayLayout::new(self.kernel.btf()))?
                    .array(
                        &self.kernel,
                        map,
                        at,
                        per_cpu,
                        self.memory_size(),
                        &mut walker,
                    )?
                    .walk(&mut walker);
            }
            map_type => walker.unread_type(map_type),
        }
        Ok(walker.finish())
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        Some(&self.kernel)
    }
}
