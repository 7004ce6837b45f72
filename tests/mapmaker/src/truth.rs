//! What was put into the maps, as the JSON document that the host's tests read.

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::datum::Datum;

/// The whole document.
#[derive(Debug, Serialize)]
pub(crate) struct Truth {
    /// The seed that made it.
    pub(crate) seed: u64,
    /// How many CPUs a per-CPU value has one value for.
    pub(crate) possible_cpus: usize,
    /// Every map that was made, in the order of making.
    pub(crate) maps: Vec<MapTruth>,
    /// Every program that was loaded.
    pub(crate) programs: Vec<Value>,
    /// Patterns of the allocators in arenas.
    pub(crate) allocators: Vec<Value>,
    /// Patterns of objects in arenas that pointers lead to.
    pub(crate) objects: Vec<Value>,
    /// What this kernel lacks, so that it was not made.
    pub(crate) skipped: Vec<Skipped>,
}

/// Something that was not made.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Skipped {
    pub(crate) what: String,
    pub(crate) reason: String,
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
    #[serde(flatten)]
    pub(crate) told: Told,
}

/// What is known of a map's contents: either entries, or patterns of what bpfreeze says.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Told {
    /// How far `entries` or `expect` goes.
    pub(crate) knowledge: Knowledge,
    pub(crate) entries: Vec<EntryTruth>,
    /// One pattern for each entry of the dump.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expect: Option<Vec<Value>>,
    /// What the frozen dump says beyond `expect`, in the same order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expect_frozen: Option<Vec<Value>>,
    /// Whether the entries come in the order of the patterns.
    pub(crate) ordered: bool,
    /// A pattern of the map's state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<Value>,
    /// What the frozen dump says of the state beyond that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) state_frozen: Option<Value>,
    /// Why bpf(2) has no way to read the entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) live: Option<&'static str>,
}

impl Told {
    /// Keys and values.
    pub(crate) fn entries(knowledge: Knowledge, entries: Vec<EntryTruth>) -> Self {
        Self {
            knowledge,
            entries,
            expect: None,
            expect_frozen: None,
            ordered: false,
            state: None,
            state_frozen: None,
            live: None,
        }
    }

    /// Exactly these entries, in this order.
    pub(crate) fn ordered(expect: Vec<Value>) -> Self {
        Self {
            ordered: true,
            ..Self::unordered(expect)
        }
    }

    /// Exactly these entries, in any order.
    pub(crate) fn unordered(expect: Vec<Value>) -> Self {
        Self {
            expect: Some(expect),
            ..Self::entries(Knowledge::Exact, Vec::new())
        }
    }

    /// A map of which nothing is said.
    pub(crate) fn nothing() -> Self {
        Self {
            knowledge: Knowledge::AtLeast,
            ..Self::unordered(Vec::new())
        }
    }

    /// There may be further entries.
    pub(crate) fn at_least(self) -> Self {
        Self {
            knowledge: Knowledge::AtLeast,
            ..self
        }
    }

    pub(crate) fn state(self, state: Value) -> Self {
        Self {
            state: Some(state),
            ..self
        }
    }

    pub(crate) fn state_frozen(self, state: Value) -> Self {
        Self {
            state_frozen: Some(state),
            ..self
        }
    }

    /// What the frozen dump says beyond the patterns.
    pub(crate) fn frozen(self, more: Vec<Value>) -> Self {
        Self {
            expect_frozen: Some(more),
            ..self
        }
    }

    /// The entries cannot be read through bpf(2).
    pub(crate) fn not_live(self, reason: &'static str) -> Self {
        Self {
            live: Some(reason),
            ..self
        }
    }
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
    /// The map holds these entries, and possibly others.
    AtLeast,
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
        serializer.serialize_str(&hex(&self.0))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('?');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The pattern of a key or a value whose types are known.
pub(crate) fn typed(datum: &Datum) -> Value {
    let mut pattern = bytes(&datum.bytes);
    if let Some(pattern) = pattern.as_object_mut()
        && !datum.json.is_null()
    {
        pattern.insert("typed".to_owned(), datum.json.clone());
    }
    pattern
}

/// The pattern of a key or a value that has these bytes.
pub(crate) fn bytes(bytes: &[u8]) -> Value {
    json!({ "hex": hex(bytes) })
}
