//! The documents: all of a dump in one, or a line for each part of it.

use std::cell::RefCell;
use std::io::Write;

use bpfmaps::{MapInfo, Maps, Walk};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::allocators::{AllocatorJson, Allocators, PlaceJson, SlotJson, unsearched};
use super::entry::EntryJson;
use super::follow::{Followed, Objects, QueuedJson};
use super::gaps::{gaps, listing};
use super::header::{MapHeader, header, start};
use super::object::known;
use super::value::Text;
use crate::allocators::Survey;
use crate::context::Context;
use crate::walk::{Causes, Described, Visited, visit};
use crate::{Error, Options, Outcome};

/// How much of the maps is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A description of each.
    List,
    /// That and what they hold.
    Contents,
}

/// A dump, or a list of maps.
pub(crate) struct Document<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) part: Part,
    pub(crate) maps: &'a Maps,
    pub(crate) options: &'a Options,
    pub(crate) outcome: RefCell<Outcome>,
}

impl Document<'_> {
    fn start<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        start(map, self.options, self.context.accessor.kernel())
    }

    /// What was followed, and what is missing of the list of maps.
    fn end<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let follower = &self.context.follower;
        if follower.has_followed() {
            map.serialize_entry("followed", &Followed(follower))?;
        }
        listing(map, &self.maps.walk)
    }

    /// Those in arenas, if there are any arenas.
    fn allocators<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Some(survey) = &self.context.survey else {
            return Ok(());
        };
        let wanted = &self.options.wanted;
        let follower = &self.context.follower;
        if let Some(place) = survey.whereabouts(wanted) {
            map.serialize_entry("addr", &PlaceJson(place))?;
        }
        let allocators = Allocators {
            survey,
            follower,
            wanted,
        };
        map.serialize_entry("allocators", &allocators)?;
        unsearched(map, survey)
    }

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
        let context = self.context;
        for info in &self.maps.maps {
            if self.part == Part::List {
                let map = None;
                line(Line::Map(&MapHeader { context, info, map }))?;
                continue;
            }
            let map = Described::new(context, info);
            line(Line::Map(&MapHeader {
                context,
                info,
                map: Some(&map),
            }))?;
            let limit = self.options.limit;
            let visited = visit(context.accessor, &map, limit, |entry| {
                line(Line::Entry(&EntryJson {
                    map: &map,
                    entry,
                    map_id: Some(info.id),
                }))
            })?;
            line(Line::MapEnd(info.id, &visited))?;
            self.outcome.borrow_mut().add(map, visited);
        }
        if let Some(survey) = &self.context.survey {
            let wanted = &self.options.wanted;
            for at in survey.wanted(wanted) {
                let slots = false;
                line(Line::Allocator(&AllocatorJson {
                    survey,
                    follower: &context.follower,
                    wanted,
                    at,
                    slots,
                }))?;
                for of in survey.slots_wanted(at, wanted) {
                    line(Line::Slot(&SlotJson {
                        survey,
                        follower: &context.follower,
                        of,
                    }))?;
                }
            }
            line(Line::Unsearched(survey))?;
        }
        let follower = &context.follower;
        while let Some(queued) = follower.next() {
            line(Line::Object(&QueuedJson(follower, queued)))?;
        }
        line(Line::End(&self))?;
        Ok(self.outcome.into_inner())
    }
}

enum Line<'l, 'd> {
    Start(&'l Document<'d>),
    Map(&'l MapHeader<'d>),
    Entry(&'l EntryJson<'l>),
    MapEnd(u32, &'l Visited),
    Allocator(&'l AllocatorJson<'l>),
    Slot(&'l SlotJson<'l>),
    Unsearched(&'l Survey<'l>),
    Object(&'l QueuedJson<'l>),
    End(&'l Document<'d>),
}

impl Serialize for Line<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Self::Entry(entry) = self {
            return entry.serialize(serializer);
        }
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Start(document) => document.start(&mut map)?,
            Self::Map(header) => map.serialize_entry("map", header)?,
            Self::Entry(_) => {}
            Self::MapEnd(id, visited) => {
                map.serialize_entry("map_id", id)?;
                account(&mut map, visited)?;
            }
            Self::Allocator(allocator) => map.serialize_entry("allocator", allocator)?,
            Self::Slot(slot) => {
                let of = slot.survey.allocators.get(slot.of.allocator);
                known(&mut map, "map_id", of.map(|of| of.map))?;
                known(&mut map, "symbol", of.map(|of| &of.symbol))?;
                map.serialize_entry("slot", slot)?;
            }
            Self::Unsearched(survey) => unsearched(&mut map, survey)?,
            Self::Object(object) => map.serialize_entry("object", object)?,
            Self::End(document) => document.end(&mut map)?,
        }
        map.end()
    }
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.start(&mut map)?;
        map.serialize_entry("maps", &MapList(self))?;
        self.allocators(&mut map)?;
        let follower = &self.context.follower;
        if follower.has_queued() {
            map.serialize_entry("objects", &Objects(follower))?;
        }
        self.end(&mut map)?;
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
        let Self { document, info } = *self;
        let context = document.context;
        let mut map = serializer.serialize_map(None)?;
        if document.part == Part::List {
            let listed = MapHeader {
                context,
                info,
                map: None,
            };
            header(&mut map, &listed)?;
            return map.end();
        }
        let described = Described::new(context, info);
        let dumped = MapHeader {
            context,
            info,
            map: Some(&described),
        };
        header(&mut map, &dumped)?;
        let entries = Entries {
            context,
            map: &described,
            limit: document.options.limit,
            visited: RefCell::new(None),
        };
        map.serialize_entry("entries", &entries)?;
        let visited = entries.visited.take();
        let visited = visited.ok_or_else(|| S::Error::custom("entries were not walked"))?;
        account(&mut map, &visited)?;
        document.outcome.borrow_mut().add(described, visited);
        map.end()
    }
}

/// The entries, each serialized while it is visited.
struct Entries<'a> {
    context: &'a Context<'a>,
    map: &'a Described<'a>,
    limit: Option<u64>,
    /// What became of the walk, once it is done.
    visited: RefCell<Option<Visited>>,
}

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(None)?;
        let accessor = self.context.accessor;
        let visited = visit(accessor, self.map, self.limit, |entry| {
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
