//! Makes the maps of a plan and collects the truth about them.

use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapHandle, MapInfo, MapType, Object};
use libbpf_sys::bpf_map_create_opts;

use crate::fill;
use crate::kinds::{self, Typed};
use crate::objects::{self, Filled};
use crate::plan::{self, Spec};
use crate::rng::Rng;
use crate::truth::{MapTruth, Truth};

/// The first id that does not fit 16 bits. The kernel's tree of ids has grown by then.
const PAST_ID: u32 = 65_536;

/// What has been made so far. The maps live as long as this does.
#[derive(Debug)]
pub(crate) struct Maker {
    seed: u64,
    folder: PathBuf,
    truths: Vec<MapTruth>,
    maps: Vec<MapHandle>,
    objects: Vec<Object>,
}

impl Maker {
    /// Nothing is made yet. `folder` has the BPF objects.
    pub(crate) fn new(seed: u64, folder: PathBuf) -> Self {
        Self {
            seed,
            folder,
            truths: Vec::new(),
            maps: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// Makes the maps of the test guests.
    pub(crate) fn full(&mut self) -> Result<()> {
        objects::pin(0)?;
        self.plain(plan::FULL)?;
        self.typed("kinds", kinds::KINDS)?;
        self.programs("sections", objects::sections)?;
        self.programs("written", objects::written)?;
        self.pass_ids()?;
        self.plain(plan::LATE)
    }

    /// Makes the maps that the benchmarks read.
    pub(crate) fn bench(&mut self) -> Result<()> {
        self.typed("bench", kinds::BENCH)
    }

    /// The document about all maps made so far, which is taken out.
    pub(crate) fn truth(&mut self) -> Result<Truth> {
        Ok(Truth {
            seed: self.seed,
            possible_cpus: libbpf_rs::num_possible_cpus()?,
            maps: std::mem::take(&mut self.truths),
        })
    }

    /// Maps without types.
    fn plain(&mut self, specs: &[Spec]) -> Result<()> {
        for spec in specs {
            self.one(spec)
                .with_context(|| format!("map {:?}", spec.name))?;
        }
        Ok(())
    }

    fn one(&mut self, spec: &Spec) -> Result<()> {
        let map = create(spec)?;
        let rng = Rng::new(self.seed, &format!("{}/{}", spec.name, spec.key_size));
        let (knowledge, entries) = fill::fill(&map, spec.fill, rng)?;
        if spec.frozen {
            map.freeze()?;
        }
        self.keep(Filled {
            map,
            frozen: spec.frozen,
            knowledge,
            entries,
        })
    }

    /// The maps of an object that user space fills.
    fn typed(&mut self, object: &str, rows: &[Typed]) -> Result<()> {
        let object = objects::load(&self.folder, object)?;
        for row in rows {
            let filled = objects::fill(&object, row, self.seed);
            self.keep(filled.with_context(|| format!("map {}", row.map))?)?;
        }
        self.objects.push(object);
        Ok(())
    }

    /// The maps of an object that its own program fills.
    fn programs(
        &mut self,
        object: &str,
        fill: impl Fn(&Object) -> Result<Vec<Filled>>,
    ) -> Result<()> {
        let object = objects::load(&self.folder, object)?;
        for filled in fill(&object)? {
            self.keep(filled)?;
        }
        self.objects.push(object);
        Ok(())
    }

    /// Records a map and keeps it alive.
    fn keep(&mut self, filled: Filled) -> Result<()> {
        let Filled {
            map,
            frozen,
            knowledge,
            entries,
        } = filled;
        let info = MapInfo::new(map.as_fd())?;
        self.truths.push(MapTruth {
            id: info.info.id,
            name: info.name()?.to_owned(),
            kind: name_of(map.map_type()),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
            flags: info.info.map_flags,
            frozen,
            btf: info.info.btf_id != 0,
            knowledge,
            entries,
        });
        self.maps.push(map);
        Ok(())
    }

    /// Creates and drops maps until the kernel's ids have passed 65,536.
    fn pass_ids(&mut self) -> Result<()> {
        loop {
            let map = create(&plan::PASSING)?;
            if MapInfo::new(map.as_fd())?.info.id >= PAST_ID {
                return Ok(());
            }
        }
    }
}

fn create(spec: &Spec) -> Result<MapHandle> {
    let opts = bpf_map_create_opts {
        sz: u64::try_from(size_of::<bpf_map_create_opts>())?,
        map_flags: spec.flags,
        ..bpf_map_create_opts::default()
    };
    let name = (!spec.name.is_empty()).then_some(spec.name);
    MapHandle::create(
        spec.kind,
        name,
        spec.key_size,
        spec.value_size,
        spec.max_entries,
        &opts,
    )
    .context("creation")
}

/// The type as bpftool spells it.
fn name_of(kind: MapType) -> &'static str {
    match kind {
        MapType::Hash => "hash",
        MapType::Array => "array",
        MapType::PercpuHash => "percpu_hash",
        MapType::PercpuArray => "percpu_array",
        MapType::LruHash => "lru_hash",
        MapType::LruPercpuHash => "lru_percpu_hash",
        _ => "?",
    }
}
