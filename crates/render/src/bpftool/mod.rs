//! What `bpftool -j` prints for the same maps, byte for byte as parsed JSON:
//! `map dump id`, `map dump name` where several maps are rendered, and
//! `map show`.
//!
//! Where bpftool stops, or prints what is no JSON or not what is there, this
//! goes on:
//!
//! * a backslash in text is a backslash (bpftool 7.1 makes it a newline), and
//!   a quotation mark that is a single character is escaped;
//! * a float is a number (bpftool ends at `(unsupported-kind)`), a type that
//!   is only declared a string of hexadecimal digits;
//! * what could not be read is `{"error": …}` among the bytes, and `null`
//!   among the formatted values.

mod value;

use std::cell::RefCell;
use std::io::{self, Write};

use bpfmaps::{BpfMapAccessor, Bytes, Entry, MapInfo, Maps};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::hex::prefixed;
use crate::json::Text;
use crate::object::Object;
use crate::shape::Shape;
use crate::walk::{Described, Visited, visit};
use crate::{Error, Options, Outcome};
use value::Formatted;

/// `map dump`: one map as its entries, several with a header each.
pub(crate) fn dump(
    accessor: &dyn BpfMapAccessor,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let dump = Dump {
        accessor,
        maps: &maps.maps,
        limit: options.limit,
        outcome: RefCell::new(Outcome::default()),
    };
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, ByteStrings);
    dump.serialize(&mut serializer)?;
    out.write_all(b"\n")?;
    Ok(dump.outcome.into_inner())
}

/// `map show`, as far as a [`MapInfo`] knows.
pub(crate) fn show(maps: &Maps, out: &mut dyn Write) -> Result<(), Error> {
    let maps: Vec<MapShow<'_>> = maps.maps.iter().map(MapShow).collect();
    serde_json::to_writer(&mut *out, &maps)?;
    Ok(out.write_all(b"\n")?)
}

struct MapShow<'a>(&'a MapInfo);

impl Serialize for MapShow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let info = self.0;
        let mut map = serializer.serialize_map(None)?;
        header(&mut map, info)?;
        map.serialize_entry("bytes_key", &info.key_size)?;
        map.serialize_entry("bytes_value", &info.value_size)?;
        map.serialize_entry("max_entries", &info.max_entries)?;
        if let Some(memory) = info.memory {
            map.serialize_entry("bytes_memlock", &memory)?;
        }
        if let Some(frozen) = info.frozen {
            map.serialize_entry("frozen", &u8::from(frozen))?;
        }
        if let Some(id) = info.btf_id {
            map.serialize_entry("btf_id", &id)?;
        }
        map.end()
    }
}

fn header<M: SerializeMap>(map: &mut M, info: &MapInfo) -> Result<(), M::Error> {
    map.serialize_entry("id", &info.id)?;
    map.serialize_entry("type", &Text(info.map_type))?;
    if !info.name.is_empty() {
        map.serialize_entry("name", &info.name)?;
    }
    map.serialize_entry("flags", &info.flags)
}

struct Dump<'a> {
    accessor: &'a dyn BpfMapAccessor,
    maps: &'a [MapInfo],
    limit: Option<u64>,
    outcome: RefCell<Outcome>,
}

impl Serialize for Dump<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let [info] = self.maps {
            return Elements { dump: self, info }.serialize(serializer);
        }
        serializer.collect_seq(self.maps.iter().map(|info| MapDump { dump: self, info }))
    }
}

struct MapDump<'a> {
    dump: &'a Dump<'a>,
    info: &'a MapInfo,
}

impl Serialize for MapDump<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { dump, info } = *self;
        let mut map = serializer.serialize_map(None)?;
        header(&mut map, info)?;
        map.serialize_entry("elements", &Elements { dump, info })?;
        map.end()
    }
}

struct Elements<'a> {
    dump: &'a Dump<'a>,
    info: &'a MapInfo,
}

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { dump, info } = *self;
        let map = Described::new(dump.accessor, info);
        let mut seq = serializer.serialize_seq(None)?;
        let visited: Visited = visit(dump.accessor, info, dump.limit, |entry| {
            seq.serialize_element(&Element { map: &map, entry })
        })?;
        dump.outcome
            .try_borrow_mut()
            .map_err(S::Error::custom)?
            .add(map, visited);
        seq.end()
    }
}

struct Element<'a> {
    map: &'a Described<'a>,
    entry: Entry<'a>,
}

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("key", &ByteList(self.entry.key().unwrap_or_default()))?;
        match self.entry {
            Entry::KeyValue { value, .. } => map.serialize_entry("value", &Raw(value))?,
            Entry::PerCpu { values, .. } => {
                map.serialize_entry(
                    "values",
                    &List(values.len(), |index: usize| {
                        let value = values.get(index)?;
                        Some(OfCpu(value.cpu, Raw(value.value)))
                    }),
                )?;
            }
            _ => map.serialize_entry("error", "entries of this kind are not rendered")?,
        }
        // Types of keys alone do not make bpftool format anything.
        if let Some(shape) = &self.map.value {
            map.serialize_entry(
                "formatted",
                &FormattedEntry {
                    element: self,
                    shape,
                },
            )?;
        }
        map.end()
    }
}

struct FormattedEntry<'a> {
    element: &'a Element<'a>,
    shape: &'a Shape,
}

impl Serialize for FormattedEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = self.element.entry;
        let mut map = serializer.serialize_map(None)?;
        if let Some(shape) = &self.element.map.key {
            let key = Object::new(shape, Bytes::whole(entry.key().unwrap_or_default()));
            map.serialize_entry("key", &Formatted(key))?;
        }
        match entry {
            Entry::KeyValue { value, .. } => {
                map.serialize_entry("value", &Formatted(Object::new(self.shape, value)))?;
            }
            Entry::PerCpu { values, .. } => {
                map.serialize_entry(
                    "values",
                    &List(values.len(), |index: usize| {
                        let value = values.get(index)?;
                        let object = Object::new(self.shape, value.value);
                        Some(OfCpu(value.cpu, Formatted(object)))
                    }),
                )?;
            }
            _ => {}
        }
        map.end()
    }
}

/// So many items, made one by one.
struct List<F>(usize, F);

impl<T: Serialize, F: Fn(usize) -> Option<T>> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.0).map(&self.1))
    }
}

struct OfCpu<T>(u32, T);

impl<T: Serialize> Serialize for OfCpu<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("cpu", &self.0)?;
        map.serialize_entry("value", &self.1)?;
        map.end()
    }
}

/// A value's bytes, or that it could not be read.
struct Raw<'a>(Bytes<'a>);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_whole() {
            return ByteList(self.0.present).serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        match self.0.fault {
            Some(fault) => map.serialize_entry("error", &Text(fault))?,
            None => map.serialize_entry("error", "not read")?,
        }
        map.end()
    }
}

struct ByteList<'a>(&'a [u8]);

impl Serialize for ByteList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Writes bytes as bpftool does, compact like everything else.
struct ByteStrings;

impl Formatter for ByteStrings {
    fn write_byte_array<W: ?Sized + Write>(&mut self, out: &mut W, bytes: &[u8]) -> io::Result<()> {
        // Most of the output is made of these bytes, so they go out by the
        // block.
        const ITEM: usize = 7;
        let mut block = [0; 64 * ITEM];
        out.write_all(b"[")?;
        let mut first = true;
        for bytes in bytes.chunks(block.len() / ITEM) {
            let (items, _) = block.as_chunks_mut::<ITEM>();
            for (item, &byte) in items.iter_mut().zip(bytes) {
                let [zero, x, high, low] = prefixed(byte);
                *item = [b',', b'"', zero, x, high, low, b'"'];
            }
            let text = block.get(..bytes.len() * ITEM).unwrap_or_default();
            out.write_all(text.get(usize::from(first)..).unwrap_or_default())?;
            first = false;
        }
        out.write_all(b"]")
    }
}
