//! The documents: all of a dump in one, or a line for each part of it.

use std::cell::RefCell;
use std::io::Write;

use bpfmaps::{BpfMapAccessor, Gap, GapAt, KernelInfo, MapInfo, Maps, Walk};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::entry::EntryJson;
use super::value::{Address, Text};
use crate::hex::Hex;
use crate::walk::{Causes, Described, Visited, visit};
use crate::{Error, Options, Outcome, Source};

/// The version of the schema, as every document names it.
pub(crate) const SCHEMA: &str = "bpfreeze/1";

/// A dump, or (without an accessor) a list of maps.
pub(crate) struct Document<'a> {
    pub(crate) kernel: &'a KernelInfo,
    /// Where entries come from; a list of maps has none.
    pub(crate) accessor: Option<&'a dyn BpfMapAccessor>,
    pub(crate) maps: &'a Maps,
    pub(crate) options: &'a Options,
    pub(crate) outcome: RefCell<Outcome>,
}

impl Document<'_> {
    /// One document on one line.
    pub(crate) fn write(self, out: &mut dyn Write) -> Result<Outcome, Error> {
        serde_json::to_writer(&mut *out, &self)?;
        out.write_all(b"\n")?;
        Ok(self.outcome.into_inner())
    }

    /// One line for the whole, one for each map, each entry and each map's
    /// end, and one for the end of the whole.
    pub(crate) fn write_lines(self, out: &mut dyn Write) -> Result<Outcome, Error> {
        let mut line = |value: Line<'_, '_>| -> Result<(), Error> {
            serde_json::to_writer(&mut *out, &value)?;
            Ok(out.write_all(b"\n")?)
        };
        line(Line::Start(&self))?;
        for info in &self.maps.maps {
            let Some(accessor) = self.accessor else {
                line(Line::Map(&MapHeader { info, map: None }))?;
                continue;
            };
            let map = Described::new(accessor, info);
            line(Line::Map(&MapHeader {
                info,
                map: Some(&map),
            }))?;
            let visited = visit(accessor, info, self.options.limit, |entry| {
                line(Line::Entry(&EntryJson {
                    map: &map,
                    entry,
                    map_id: Some(info.id),
                }))
            })?;
            line(Line::MapEnd(info.id, &visited))?;
            self.outcome.borrow_mut().add(map, visited);
        }
        line(Line::End(&self.maps.walk))?;
        Ok(self.outcome.into_inner())
    }
}

enum Line<'l, 'd> {
    Start(&'l Document<'d>),
    Map(&'l MapHeader<'d>),
    Entry(&'l EntryJson<'l>),
    MapEnd(u32, &'l Visited),
    End(&'l Walk),
}

impl Serialize for Line<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Entry(entry) = self {
            return entry.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Start(document) => start(&mut map, document)?,
            Self::Map(header) => map.serialize_entry("map", header)?,
            Self::Entry(_) => {}
            Self::MapEnd(id, visited) => {
                map.serialize_entry("map_id", id)?;
                account(&mut map, visited)?;
            }
            Self::End(walk) => listing(&mut map, walk)?,
        }
        map.end()
    }
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        start(&mut map, self)?;
        map.serialize_entry("maps", &MapList(self))?;
        listing(&mut map, &self.maps.walk)?;
        map.end()
    }
}

fn start<M: SerializeMap>(map: &mut M, document: &Document<'_>) -> Result<(), M::Error> {
    map.serialize_entry("schema", SCHEMA)?;
    map.serialize_entry("source", &document.options.source)?;
    map.serialize_entry("kernel", &KernelJson(document.kernel))
}

/// Whether all maps are listed, and what is missing from the list.
fn listing<M: SerializeMap>(map: &mut M, walk: &Walk) -> Result<(), M::Error> {
    map.serialize_entry("complete", &walk.is_complete())?;
    gaps(map, walk)
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind)?;
        for (name, value) in &self.details {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A kernel, as the documents describe it.
pub(crate) struct KernelJson<'a>(pub(crate) &'a KernelInfo);

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

struct MapList<'a>(&'a Document<'a>);

impl Serialize for MapList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let maps = self.0.maps.maps.iter();
        serializer.collect_seq(maps.map(|info| MapJson {
            document: self.0,
            info,
        }))
    }
}

/// A map, with its entries in a dump.
struct MapJson<'a> {
    document: &'a Document<'a>,
    info: &'a MapInfo,
}

impl Serialize for MapJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let Some(accessor) = self.document.accessor else {
            header(&mut map, self.info, None)?;
            return map.end();
        };
        let described = Described::new(accessor, self.info);
        header(&mut map, self.info, Some(&described))?;
        let entries = Entries {
            accessor,
            map: &described,
            limit: self.document.options.limit,
            visited: RefCell::new(None),
        };
        map.serialize_entry("entries", &entries)?;
        let visited = entries.visited.take();
        let visited = visited.ok_or_else(|| S::Error::custom("entries were not walked"))?;
        account(&mut map, &visited)?;
        self.document.outcome.borrow_mut().add(described, visited);
        map.end()
    }
}

struct MapHeader<'a> {
    info: &'a MapInfo,
    map: Option<&'a Described<'a>>,
}

impl Serialize for MapHeader<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        header(&mut map, self.info, self.map)?;
        map.end()
    }
}

fn header<M: SerializeMap>(
    map: &mut M,
    info: &MapInfo,
    described: Option<&Described<'_>>,
) -> Result<(), M::Error> {
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
    let Some(described) = described else {
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
    Ok(())
}

/// The entries, each serialized while it is visited.
struct Entries<'a> {
    accessor: &'a dyn BpfMapAccessor,
    map: &'a Described<'a>,
    limit: Option<u64>,
    /// What became of the walk, once it is done.
    visited: RefCell<Option<Visited>>,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let visited = visit(self.accessor, self.map.info, self.limit, |entry| {
            seq.serialize_element(&EntryJson {
                map: self.map,
                entry,
                map_id: None,
            })
        })?;
        self.visited.replace(Some(visited));
        seq.end()
    }
}

/// How a map's walk ended.
fn account<M: SerializeMap>(map: &mut M, visited: &Visited) -> Result<(), M::Error> {
    map.serialize_entry("visited", &visited.count)?;
    map.serialize_entry("complete", &visited.is_complete())?;
    if visited.limited {
        map.serialize_entry("stopped", "limit")?;
    }
    match &visited.result {
        Ok(walk) => gaps(map, walk),
        Err(error) => {
            map.serialize_entry("error", &Text(Causes(error)))?;
            gaps(map, &Walk::default())
        }
    }
}

fn gaps<M: SerializeMap>(map: &mut M, walk: &Walk) -> Result<(), M::Error> {
    map.serialize_key("gaps")?;
    map.serialize_value(&Gaps(&walk.gaps))?;
    if walk.unlisted_gaps > 0 {
        map.serialize_entry("unlisted_gaps", &walk.unlisted_gaps)?;
    }
    Ok(())
}

struct Gaps<'a>(&'a [Gap]);

impl Serialize for Gaps<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(GapJson))
    }
}

struct GapJson<'a>(&'a Gap);

impl Serialize for GapJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0.at {
            GapAt::Kva(kva) => map.serialize_entry("kva", &Text(kva))?,
            GapAt::Index(index) => map.serialize_entry("index", index)?,
            GapAt::Key(key) => map.serialize_entry("key", &Text(Hex(key)))?,
            GapAt::Map => {}
            other => map.serialize_entry("at", &Text(other))?,
        }
        map.serialize_entry("reason", &Text(&self.0.reason))?;
        map.end()
    }
}
