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
//!   among the formatted values;
//! * the head of a list in a value is zero, as other special fields are; bpf(2)
//!   shows two pointers to where the kernel just made its copy;
//! * a map without keys to iterate over does not keep the next ones from being
//!   dumped. As there it is `[]`, and the [`Outcome`] names it.
//!
//! [`Outcome`]: crate::Outcome

mod lookup;
mod show;
mod stack;
mod value;

use std::cell::RefCell;
use std::io::{self, Write};

use std::ops::ControlFlow;

use bpfmaps::{Bytes, CpuValue, Entry, MapInfo, Maps, SlotAt, Walk};
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use crate::context::Context;
use crate::hex::prefixed;
use crate::json::Text;
use crate::object::Object;
use crate::shape::Shape;
use crate::walk::{Described, Visited, visit};
use crate::{Error, Options, Outcome};
use lookup::Lookup;
use show::header;
use value::Formatted;

pub(crate) use show::show;

/// `map dump`: one map as its entries, several with a header each.
pub(crate) fn dump(
    context: &Context<'_>,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let dump = Dump {
        context,
        maps: &maps.maps,
        limit: options.limit,
        outcome: RefCell::new(Outcome::default()),
    };
    let mut serializer = serde_json::Serializer::with_formatter(&mut *out, ByteStrings);
    dump.serialize(&mut serializer)?;
    out.write_all(b"\n")?;
    Ok(dump.outcome.into_inner())
}

struct Dump<'a> {
    context: &'a Context<'a>,
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

impl Elements<'_> {
    /// What is said of the slots that are free; nothing if some cannot be
    /// told from those that could not be read.
    fn free(&self, lookup: &Lookup) -> Option<&'static str> {
        let mut pass = |_: Entry<'_>| ControlFlow::Continue(());
        let free = lookup.free?;
        let walk = self.dump.context.accessor.entries(self.info, &mut pass);
        walk.as_ref().is_ok_and(Walk::is_complete).then_some(free)
    }
}

impl Serialize for Elements<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { dump, info } = *self;
        let mut seq = serializer.serialize_seq(None)?;
        if !lookup::has_place(info.map_type) {
            let outcome = dump.outcome.try_borrow_mut();
            outcome.map_err(S::Error::custom)?.unplaced.push(info.id);
            return seq.end();
        }
        let map = Described::new(dump.context, info);
        let lookup = Lookup::of(info);
        let free = self.free(&lookup);
        let mut next = 0;
        let visited: Visited = visit(dump.context.accessor, &map, dump.limit, |entry| {
            if let (Entry::Slot { at, .. }, Some(why)) = (entry, free)
                && let SlotAt::Index(index) = at
            {
                (next..index).try_for_each(|index| seq.serialize_element(&Free(index, why)))?;
                next = index.saturating_add(1);
            }
            seq.serialize_element(&Element {
                map: &map,
                lookup: &lookup,
                entry,
            })
        })?;
        if let Some(why) = free.filter(|_| !visited.limited) {
            let mut rest = next..info.max_entries;
            rest.try_for_each(|index| seq.serialize_element(&Free(index, why)))?;
        }
        dump.outcome
            .try_borrow_mut()
            .map_err(S::Error::custom)?
            .add(map, visited);
        seq.end()
    }
}

/// A slot that is free, and what a look-up there answers.
struct Free(u32, &'static str);

impl Serialize for Free {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("key", &ByteList(&self.0.to_le_bytes()))?;
        map.serialize_entry("value", &Failed(self.1))?;
        map.end()
    }
}

struct Element<'a> {
    map: &'a Described<'a>,
    lookup: &'a Lookup,
    entry: Entry<'a>,
}

impl Serialize for Element<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let index;
        let key = match self.entry {
            Entry::Stack { id: number, .. }
            | Entry::Slot {
                at: SlotAt::Index(number),
                ..
            } => {
                index = number.to_le_bytes();
                index.as_slice()
            }
            entry => entry.key().unwrap_or_default(),
        };
        map.serialize_entry("key", &ByteList(key))?;
        match self.entry {
            Entry::KeyValue { value, .. } | Entry::Owned { value, .. } => {
                let mut copy = Vec::new();
                let value = self.shown(value, &mut copy);
                map.serialize_entry("value", &Raw(value))?;
                self.formatted(&mut map, key, Values::One(value))?;
            }
            Entry::PerCpu { values, .. } | Entry::OwnedPerCpu { values, .. } => {
                let mut copies = vec![Vec::new(); values.len()];
                let values: Vec<CpuValue<'_>> = values
                    .iter()
                    .zip(&mut copies)
                    .map(|(of_cpu, copy)| CpuValue {
                        cpu: of_cpu.cpu,
                        value: self.shown(of_cpu.value, copy),
                    })
                    .collect();
                let raw = values
                    .iter()
                    .map(|value| OfCpu(value.cpu, Raw(value.value)));
                map.serialize_entry("values", &raw.collect::<Vec<_>>())?;
                self.formatted(&mut map, key, Values::PerCpu(&values))?;
            }
            Entry::Slot { value, .. } => match (self.lookup.taken, value) {
                (Some(why), _) => map.serialize_entry("value", &Failed(why))?,
                (None, Some(value)) => {
                    map.serialize_entry("value", &Raw(value))?;
                    self.formatted(&mut map, key, Values::One(value))?;
                }
                (None, None) => map.serialize_entry("value", &Failed("it has no value yet"))?,
            },
            Entry::Stack { frames, .. } => match stack::value(self.map.info, frames) {
                Some(bytes) => map.serialize_entry("value", &ByteList(&bytes))?,
                None => map.serialize_entry("value", &Failed("more bytes than a stack has"))?,
            },
            _ => map.serialize_entry("value", &Failed("entries of this kind are not rendered"))?,
        }
        map.end()
    }
}

impl Element<'_> {
    /// What bpf(2) shows of a value: nothing of its special fields.
    fn shown<'c>(&'c self, value: Bytes<'c>, copy: &'c mut Vec<u8>) -> Bytes<'c> {
        match &self.map.specials {
            Some(specials) => {
                *copy = specials.shown(value.present);
                Bytes {
                    present: copy,
                    ..value
                }
            }
            None => value,
        }
    }

    /// Adds key and value by their types. Types of keys alone do not make
    /// bpftool format anything.
    fn formatted<M: SerializeMap>(
        &self,
        map: &mut M,
        key: &[u8],
        values: Values<'_>,
    ) -> Result<(), M::Error> {
        match &self.map.value {
            Some(shape) if self.map.states_value_type() => {
                let key = self.map.key.as_ref().map(|shape| (shape, key));
                map.serialize_entry("formatted", &FormattedEntry { key, shape, values })
            }
            _ => Ok(()),
        }
    }
}

#[derive(Clone, Copy)]
enum Values<'a> {
    One(Bytes<'a>),
    PerCpu(&'a [CpuValue<'a>]),
}

struct FormattedEntry<'a> {
    key: Option<(&'a Shape, &'a [u8])>,
    shape: &'a Shape,
    values: Values<'a>,
}

impl Serialize for FormattedEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some((shape, bytes)) = self.key {
            let key = Object::new(shape, Bytes::whole(bytes));
            map.serialize_entry("key", &Formatted(key))?;
        }
        match self.values {
            Values::One(value) => {
                map.serialize_entry("value", &Formatted(Object::new(self.shape, value)))?;
            }
            Values::PerCpu(values) => {
                let values = values.iter().map(|value| {
                    let object = Object::new(self.shape, value.value);
                    OfCpu(value.cpu, Formatted(object))
                });
                map.serialize_entry("values", &values.collect::<Vec<_>>())?;
            }
        }
        map.end()
    }
}

/// Why there is no value.
struct Failed<'a>(&'a str);

impl Serialize for Failed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("error", self.0)?;
        map.end()
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
