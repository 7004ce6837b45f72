//! What was put into the maps, as the JSON document that the host's tests read.

use serde::{Serialize, Serializer};
use serde_json::Value;

/// The whole document.
#[derive(Debug, Serialize)]
pub(crate) struct Truth {
    /// The seed that made it.
    pub(crate) seed: u64,
    /// How many CPUs a per-CPU value has one value for.
    pub(crate) possible_cpus: usize,
    /// Every map that was made, in the order of making.
    pub(crate) maps: Vec<MapTruth>,
}

/// One map.
#[derive(Debug, Serialize)]
pub(crate) struct MapTruth {
    /// The kernel's id of it.
    pub(crate) id: u32,
    /// The name as the kernel keeps it.
    pub(crate) name: String,
    /// The type as bpftool spells it.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) frozen: bool,
    /// Whether types were given for key and value.
    pub(crate) btf: bool,
    /// How far `entries` goes.
    pub(crate) knowledge: Knowledge,
    pub(crate) entries: Vec<EntryTruth>,
}

/// What the list of entries says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Knowledge {
    /// The map holds these entries and no others.
    Exact,
    /// The map holds some of these entries and no others: the kernel chose which to evict.
    Evicted,
    /// The map holds these entries; array slots that are not named hold zeroes.
    Sparse,
}

/// One entry.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct EntryTruth {
    /// The key's bytes.
    pub(crate) key: Hex,
    /// The value's bytes, where they are known by construction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<Hex>,
    /// One value for each possible CPU, in the order of the CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) percpu: Option<Vec<Hex>>,
    /// What the key's type makes of it, where the plan says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key_typed: Option<Value>,
    /// What the value's type makes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value_typed: Option<Value>,
    /// The same for each CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) percpu_typed: Option<Vec<Value>>,
}

/// Bytes that appear in JSON as lower-case hexadecimal digits.
#[derive(Debug, Default, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Hex(pub(crate) Vec<u8>);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
        let text: String = self
            .0
            .iter()
            .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
            .collect();
        serializer.serialize_str(&text)
    }
}
