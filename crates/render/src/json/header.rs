//! What stands before the contents: the schema, the kernel, and a map's
//! description.

use bpfmaps::{KernelInfo, MapInfo, MapState, ProgInfo};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::allocators::{AccountJson, GlobalsJson};
use super::state::state;
use super::value::{Address, Text};
use crate::context::Context;
use crate::walk::{Causes, Described};
use crate::{Options, Source};

/// The version of the schema, as every document names it.
const SCHEMA: &str = "bpfreeze/1";

/// How every document starts.
pub(super) fn start<M: SerializeMap>(
    map: &mut M,
    options: &Options,
    kernel: &KernelInfo,
) -> Result<(), M::Error> {
    map.serialize_entry("schema", SCHEMA)?;
    map.serialize_entry("source", &options.source)?;
    map.serialize_entry("kernel", &KernelJson(kernel))
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind)?;
        for (name, value) in &self.details {
            map.serialize_entry(name, value)?;
        }
        if let Some(paused) = self.paused {
            // Microseconds are enough.
            let us = paused.as_nanos().div_ceil(1000);
            map.serialize_entry("paused_ms", &(us as f64 / 1000.0))?;
        }
        map.end()
    }
}

/// A kernel, as the documents describe it.
struct KernelJson<'a>(&'a KernelInfo);

impl Serialize for KernelJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kernel = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("release", &kernel.release)?;
        map.serialize_entry("arch", &Text(&kernel.arch))?;
        map.serialize_entry("page_size", &kernel.page_size)?;
        if let Some(levels) = kernel.paging_levels {
            map.serialize_entry("paging_levels", &levels)?;
        }
        map.serialize_entry("possible_cpus", &kernel.possible_cpus.0.len())?;
        map.end()
    }
}

/// A map's description, and in a dump the types of its contents.
pub(super) struct MapHeader<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) info: &'a MapInfo,
    pub(super) map: Option<&'a Described<'a>>,
}

impl Serialize for MapHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        header(&mut map, self)?;
        map.end()
    }
}

/// The members of a [`MapHeader`].
pub(super) fn header<M: SerializeMap>(map: &mut M, header: &MapHeader<'_>) -> Result<(), M::Error> {
    let info = header.info;
    map.serialize_entry("id", &info.id)?;
    map.serialize_entry("name", &info.name)?;
    map.serialize_entry("type", &Text(info.map_type))?;
    map.serialize_entry("type_id", &info.map_type.0)?;
    map.serialize_entry("key_size", &info.key_size)?;
    map.serialize_entry("value_size", &info.value_size)?;
    map.serialize_entry("max_entries", &info.max_entries)?;
    map.serialize_entry("flags", &info.flags)?;
    map.serialize_entry("map_extra", &Text(Address(info.map_extra)))?;
    if let Some(id) = info.btf_id {
        map.serialize_entry("btf_id", &id)?;
    }
    if let Some(frozen) = info.frozen {
        map.serialize_entry("frozen", &frozen)?;
    }
    if let Some(memory) = info.memory {
        map.serialize_entry("memory", &memory)?;
    }
    if let Some(kva) = info.kva {
        map.serialize_entry("kva", &Text(kva))?;
    }
    used_by(map, header)?;
    let Some(described) = header.map else {
        return Ok(());
    };
    if let Some(shape) = &described.key {
        map.serialize_entry("key_type", &shape.name)?;
    }
    if let Some(shape) = &described.value {
        map.serialize_entry("value_type", &shape.name)?;
    }
    if let Some(error) = &described.btf_error {
        map.serialize_entry("btf_error", &Text(Causes(error)))?;
    }
    match &described.state {
        Ok(Some(of_map)) => {
            let survey = header.context.survey.as_ref();
            let survey = survey.filter(|_| matches!(of_map, MapState::Arena { .. }));
            let known = survey.map(|survey| {
                let surveyed = survey.arenas.get(&info.id);
                let globals = surveyed.and_then(|surveyed| {
                    Some(GlobalsJson {
                        follower: &header.context.follower,
                        arena: &surveyed.arena,
                        id: info.id,
                        globals: surveyed.globals.as_ref()?,
                    })
                });
                let account = AccountJson {
                    survey,
                    arena: info.id,
                };
                (account, globals)
            });
            state(map, of_map, known, described.pages.as_ref())
        }
        Ok(None) => Ok(()),
        Err(error) => map.serialize_entry("state_error", &Text(Causes(error))),
    }
}

fn used_by<M: SerializeMap>(map: &mut M, header: &MapHeader<'_>) -> Result<(), M::Error> {
    match header.context.used_by(header.info.id) {
        Ok(users) => {
            let users: Vec<User<'_>> = users.into_iter().map(User).collect();
            map.serialize_entry("used_by", &users)?;
        }
        Err(error) => map.serialize_entry("used_by_error", &Text(Causes(error)))?,
    }
    match header.context.progs() {
        Ok(progs) if !progs.walk.is_complete() => {
            map.serialize_entry("used_by_error", "not every program could be read")
        }
        _ => Ok(()),
    }
}

/// A program, in brief.
struct User<'a>(&'a ProgInfo);

impl Serialize for User<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("id", &self.0.id)?;
        map.serialize_entry("name", &self.0.name)?;
        map.end()
    }
}
