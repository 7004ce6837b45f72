//! What could not be read.

use bpfmaps::{Gap, GapAt, Walk};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::value::Text;
use crate::hex::Hex;

/// Whether a list is whole, and what is missing from it.
pub(super) fn listing<M: SerializeMap>(map: &mut M, walk: &Walk) -> Result<(), M::Error> {
    map.serialize_entry("complete", &walk.is_complete())?;
    gaps(map, walk)
}

pub(super) fn gaps<M: SerializeMap>(map: &mut M, walk: &Walk) -> Result<(), M::Error> {
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
