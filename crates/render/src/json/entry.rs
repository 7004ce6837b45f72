//! Entries as JSON.

use bpfmaps::{Bytes, CpuValue, Entry, Frame, SlotAt};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::object::ObjectJson;
use super::value::{Address, Text};
use crate::follow::Site;
use crate::hex::Hex;
use crate::object::Object;
use crate::shape::Shape;
use crate::special::Place;
use crate::walk::Described;

/// One entry, as an element of `entries` or, with its map's id, as a line.
pub(super) struct EntryJson<'a> {
    pub(super) map: &'a Described<'a>,
    pub(super) entry: Entry<'a>,
    pub(super) map_id: Option<u32>,
}

impl Serialize for EntryJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = self.map_id {
            map.serialize_entry("map_id", &id)?;
        }
        match self.entry {
            Entry::KeyValue { key, value } => {
                map.serialize_entry("key", &self.key(key))?;
                map.serialize_entry("value", &self.value(value))?;
            }
            Entry::PerCpu { key, values } => {
                map.serialize_entry("key", &self.key(key))?;
                map.serialize_entry("percpu", &self.per_cpu(values))?;
            }
            Entry::Owned { owner, key, value } => {
                map.serialize_entry("owner", &ObjectJson(owner))?;
                if let Some(key) = key {
                    map.serialize_entry("key", &self.key(key))?;
                }
                map.serialize_entry("value", &self.value(value))?;
            }
            Entry::OwnedPerCpu { owner, key, values } => {
                map.serialize_entry("owner", &ObjectJson(owner))?;
                map.serialize_entry("key", &self.key(key))?;
                map.serialize_entry("percpu", &self.per_cpu(values))?;
            }
            Entry::Slot { at, refers, value } => {
                match at {
                    SlotAt::Index(index) => map.serialize_entry("index", &index)?,
                    SlotAt::Key(key) => map.serialize_entry("key", &self.key(key))?,
                }
                map.serialize_entry("refers", &ObjectJson(refers))?;
                if let Some(value) = value {
                    map.serialize_entry("value", &self.value(value))?;
                }
            }
            Entry::Record {
                position,
                state,
                value,
            } => {
                map.serialize_entry("record", &position)?;
                map.serialize_entry("state", state.name())?;
                map.serialize_entry("value", &self.value(value))?;
            }
            Entry::Element { position, value } => {
                map.serialize_entry("element", &position)?;
                map.serialize_entry("value", &self.value(value))?;
            }
            Entry::Stack { id, frames } => {
                map.serialize_entry("stack", &id)?;
                map.serialize_entry("frames", &Frames(frames))?;
            }
            _ => map.serialize_entry("unsupported", "entries of this kind are not rendered")?,
        }
        map.end()
    }
}

impl<'a> EntryJson<'a> {
    fn key(&self, key: &'a [u8]) -> ValueJson<'a> {
        ValueJson {
            shape: self.map.key.as_ref(),
            bytes: Bytes::whole(key),
            place: None,
            site: None,
        }
    }

    fn value(&self, bytes: Bytes<'a>) -> ValueJson<'a> {
        ValueJson {
            shape: self.map.value.as_ref(),
            bytes,
            place: self.map.place(),
            site: self.map.site(),
        }
    }

    fn per_cpu(&'a self, values: &'a [CpuValue<'a>]) -> PerCpu<'a> {
        PerCpu {
            entry: self,
            values,
        }
    }
}

struct Frames<'a>(&'a [Frame]);

impl Serialize for Frames<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(FrameJson))
    }
}

struct FrameJson<'a>(&'a Frame);

impl Serialize for FrameJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.0 {
            Frame::Address { ip, symbol } => {
                map.serialize_entry("ip", &Text(Address(*ip)))?;
                if let Some(symbol) = symbol {
                    map.serialize_entry("symbol", &Text(symbol))?;
                }
            }
            Frame::BuildId { build_id, offset } => {
                map.serialize_entry("build_id", &Text(Hex(build_id)))?;
                map.serialize_entry("offset", offset)?;
            }
            Frame::NoBuildId { ip } => {
                map.serialize_entry("ip", &Text(Address(*ip)))?;
                map.serialize_entry("why", "no build id")?;
            }
        }
        map.end()
    }
}

struct PerCpu<'a> {
    entry: &'a EntryJson<'a>,
    values: &'a [CpuValue<'a>],
}

impl Serialize for PerCpu<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.values.iter().map(|value| CpuJson {
            cpu: value.cpu,
            value: self.entry.value(value.value),
        }))
    }
}

struct CpuJson<'a> {
    cpu: u32,
    value: ValueJson<'a>,
}

impl Serialize for CpuJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.value.bytes;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("cpu", &self.cpu)?;
        match bytes.present.is_empty() && !bytes.is_whole() {
            true => map.serialize_entry("missing", &Text(Why(bytes)))?,
            false => map.serialize_entry("value", &self.value)?,
        }
        map.end()
    }
}

/// A key or value: its bytes, its typed form, and what is missing of it.
pub(super) struct ValueJson<'a> {
    pub(super) shape: Option<&'a Shape>,
    pub(super) bytes: Bytes<'a>,
    pub(super) place: Option<Place<'a>>,
    pub(super) site: Option<Site<'a>>,
}

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("hex", &Text(Hex(self.bytes.present)))?;
        if let Some(shape) = self.shape {
            let object = Object::new(shape, self.bytes);
            let object = self.place.iter().fold(object, Object::within);
            let object = self.site.iter().fold(object, Object::following);
            map.serialize_entry("typed", &object)?;
        }
        if !self.bytes.is_whole() {
            map.serialize_entry("missing", &Missing(self.bytes))?;
        }
        map.end()
    }
}

/// The part of a value that could not be read.
pub(super) struct Missing<'a>(pub(super) Bytes<'a>);

impl Serialize for Missing<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let present = self.0.present.len() as u64;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("offset", &present)?;
        map.serialize_entry("len", &self.0.len.saturating_sub(present))?;
        map.serialize_entry("why", &Text(Why(self.0)))?;
        map.end()
    }
}

/// Why a value is incomplete.
struct Why<'a>(Bytes<'a>);

impl std::fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.fault {
            Some(fault) => fault.fmt(f),
            None => f.write_str("not read"),
        }
    }
}
