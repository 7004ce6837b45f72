//! `map show`: descriptions of maps.

use std::io::Write;

use bpfmaps::{MapInfo, Maps};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::json::Text;
use crate::{Error, Outcome};

/// `map show`, as far as a [`MapInfo`] knows.
pub(crate) fn show(maps: &Maps, out: &mut dyn Write) -> Result<Outcome, Error> {
    let maps: Vec<MapShow<'_>> = maps.maps.iter().map(MapShow).collect();
    serde_json::to_writer(&mut *out, &maps)?;
    out.write_all(b"\n")?;
    Ok(Outcome::default())
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

/// What both commands say of a map.
pub(super) fn header<M: SerializeMap>(map: &mut M, info: &MapInfo) -> Result<(), M::Error> {
    map.serialize_entry("id", &info.id)?;
    map.serialize_entry("type", &Text(info.map_type))?;
    if !info.name.is_empty() {
        map.serialize_entry("name", &info.name)?;
    }
    map.serialize_entry("flags", &info.flags)
}
