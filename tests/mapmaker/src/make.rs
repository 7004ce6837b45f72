//! Makes the maps of a plan and collects the truth about them.

use std::any::Any;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle, MapInfo, Object, OpenObject};
use serde_json::Value;

use crate::fill;
use crate::kinds::{self, Typed};
use crate::objects::{self, Filled};
use crate::plan::{self, Spec};
use crate::probe::Kernel;
use crate::programs::Programs;
use crate::rng::Rng;
use crate::sys::{self, MapSpec};
use crate::truth::{MapTruth, Skipped, Told, Truth};
use crate::{
    allocators, code, links, names, nested, ops, queues, rings, slots, sockets, special, stacks,
    storage, traffic, xdp,
};

/// The first id that does not fit 16 bits. The kernel's tree of ids has grown by then.
const PAST_ID: u32 = 65_536;

/// What has been made so far. The maps live as long as this does.
#[derive(Debug)]
pub(crate) struct Maker {
    pub(crate) seed: u64,
    pub(crate) kernel: Kernel,
    pub(crate) programs: Programs,
    folder: PathBuf,
    truths: Vec<MapTruth>,
    pub(crate) allocators: Vec<Value>,
    pub(crate) objects: Vec<Value>,
    skipped: Vec<Skipped>,
    maps: Vec<MapHandle>,
    held: Vec<Box<dyn Any>>,
}

impl Maker {
    /// Nothing is made yet. `folder` has the BPF objects.
    pub(crate) fn new(seed: u64, folder: PathBuf) -> Result<Self> {
        Ok(Self {
            seed,
            kernel: Kernel::running()?,
            programs: Programs::new()?,
            folder,
            truths: Vec::new(),
            allocators: Vec::new(),
            objects: Vec::new(),
            skipped: Vec::new(),
            maps: Vec::new(),
            held: Vec::new(),
        })
    }

    /// Makes the maps of the test guests.
    pub(crate) fn full(&mut self) -> Result<()> {
        objects::pin(0)?;
        self.plain(plan::FULL)?;
        self.typed("kinds", kinds::KINDS)?;
        self.filled_by_programs("sections", objects::sections)?;
        self.filled_by_programs("written", objects::written)?;
        self.plain(plan::TRIES)?;
        if self.has("RHASH") {
            self.plain(plan::RHASHES)?;
        }
        queues::make(self).context("queues, stacks and filters")?;
        slots::make(self).context("maps of slots")?;
        nested::make(self).context("maps of maps")?;
        sockets::make(self).context("maps of sockets")?;
        xdp::make(self).context("XDP sockets")?;
        storage::make(self).context("local storage")?;
        traffic::make(self).context("cgroup storage")?;
        stacks::make(self).context("stacks")?;
        ops::make(self).context("struct_ops")?;
        code::make(self).context("instructions and arenas")?;
        if self.kernel.map_type("ARENA") {
            links::make(self).context("links in arenas")?;
            allocators::make(self).context("allocators in arenas")?;
        }
        special::make(self).context("special fields")?;
        self.pass_ids()?;
        self.plain(plan::LATE)?;
        rings::make(self).context("ring buffers")
    }

    /// Makes the maps that the benchmarks read.
    pub(crate) fn bench(&mut self) -> Result<()> {
        self.typed("bench", kinds::BENCH)
    }

    /// The document about all maps made so far, which is taken out. Runs are counted no more.
    pub(crate) fn truth(&mut self) -> Result<Truth> {
        let programs = self.programs.truth()?;
        self.complete()?;
        Ok(Truth {
            seed: self.seed,
            possible_cpus: libbpf_rs::num_possible_cpus()?,
            maps: std::mem::take(&mut self.truths),
            programs,
            allocators: std::mem::take(&mut self.allocators),
            objects: std::mem::take(&mut self.objects),
            skipped: std::mem::take(&mut self.skipped),
        })
    }

    /// Whether the kernel has a map type; what it has not is noted.
    pub(crate) fn has(&mut self, kind: &str) -> bool {
        let has = self.kernel.map_type(kind);
        if !has {
            self.skip(kind, "the kernel's BTF has no such map type");
        }
        has
    }

    /// Notes what is not made.
    pub(crate) fn skip(&mut self, what: &str, reason: impl Into<String>) {
        self.skipped.push(Skipped {
            what: what.to_owned(),
            reason: reason.into(),
        });
    }

    /// Keeps something alive as long as the maps.
    pub(crate) fn hold(&mut self, thing: impl Any) {
        self.held.push(Box::new(thing));
    }

    /// Random numbers for what `label` names.
    pub(crate) fn rng(&self, label: &str) -> Rng {
        Rng::new(self.seed, label)
    }

    /// Opens an object, so that parts of it can be left out before it is loaded.
    pub(crate) fn open(&self, object: &str) -> Result<OpenObject> {
        objects::open(&self.folder, object)
    }

    /// Loads an object; its programs are part of the truth from now on.
    pub(crate) fn load(&mut self, object: OpenObject) -> Result<Object> {
        let object = objects::load(object)?;
        self.programs.add(&object)?;
        Ok(object)
    }

    /// Creates a map, which [`keep`](Self::keep) is still to hear of.
    pub(crate) fn create(&self, spec: &MapSpec<'_>) -> Result<MapHandle> {
        sys::create_map(spec)
    }

    /// Maps without types.
    fn plain(&mut self, specs: &[Spec]) -> Result<()> {
        for spec in specs {
            self.one(spec)
                .with_context(|| format!("map {:?}", spec.name))?;
        }
        Ok(())
    }

    /// Makes one map without types.
    pub(crate) fn one(&mut self, spec: &Spec) -> Result<()> {
        let map = create(spec)?;
        let rng = self.rng(&format!("{}/{}", spec.name, spec.key_size));
        let (knowledge, entries) = fill::fill(&map, spec.fill, rng)?;
        if spec.frozen {
            map.freeze()?;
        }
        self.keep(Filled {
            map,
            frozen: spec.frozen,
            told: Told::entries(knowledge, entries),
        })
    }

    /// The maps of an object that user space fills.
    fn typed(&mut self, object: &str, rows: &[Typed]) -> Result<()> {
        let object = self.load(self.open(object)?)?;
        for row in rows {
            let filled = objects::fill(&object, row, self.seed);
            self.keep(filled.with_context(|| format!("map {}", row.map))?)?;
        }
        self.hold(object);
        Ok(())
    }

    /// The maps of an object that its own program fills.
    fn filled_by_programs(
        &mut self,
        object: &str,
        fill: impl Fn(&Object, &mut Programs) -> Result<Vec<Filled>>,
    ) -> Result<()> {
        let object = self.load(self.open(object)?)?;
        for filled in fill(&object, &mut self.programs)? {
            self.keep(filled)?;
        }
        self.hold(object);
        Ok(())
    }

    /// Keeps a map that is not frozen.
    pub(crate) fn tell(&mut self, map: MapHandle, told: Told) -> Result<()> {
        self.keep(Filled {
            map,
            frozen: false,
            told,
        })
    }

    /// Records a map and keeps it alive.
    pub(crate) fn keep(&mut self, filled: Filled) -> Result<()> {
        let Filled { map, frozen, told } = filled;
        let info = MapInfo::new(map.as_fd())?;
        self.truths.push(MapTruth {
            id: info.info.id,
            name: info.name()?.to_owned(),
            kind: names::map_type(info.info.type_),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: map.max_entries(),
            flags: info.info.map_flags,
            frozen,
            btf: info.info.btf_id != 0,
            told,
        });
        self.maps.push(map);
        Ok(())
    }

    /// Sees to it that the truth names every map there is, each once. Maps of objects that
    /// nobody cared to describe are named without contents.
    fn complete(&mut self) -> Result<()> {
        let mut told = BTreeSet::new();
        for truth in &self.truths {
            ensure!(told.insert(truth.id), "map {} is told twice", truth.id);
        }
        for info in libbpf_rs::query::MapInfoIter::default() {
            if !told.contains(&info.id) {
                let frozen = info.name.to_string_lossy().contains(".rodata");
                let map = MapHandle::from_map_id(info.id)?;
                self.keep(Filled {
                    map,
                    frozen,
                    told: Told::nothing(),
                })?;
            }
        }
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
    sys::create_map(&MapSpec {
        kind: spec.kind,
        name: spec.name,
        key_size: spec.key_size,
        value_size: spec.value_size,
        max_entries: spec.max_entries,
        flags: spec.flags,
        ..MapSpec::default()
    })
}
