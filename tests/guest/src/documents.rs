//! The documents of the witnesses, as far as the tests read them.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::typed::short;

/// What the map maker put in.
#[derive(Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) possible_cpus: usize,
    pub(crate) maps: Vec<TruthMap>,
    /// Patterns of the allocators in arenas.
    pub(crate) allocators: Vec<Value>,
    /// Patterns of objects in arenas that pointers lead to.
    pub(crate) objects: Vec<Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TruthMap {
    pub(crate) id: u32,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) key_size: u32,
    pub(crate) value_size: usize,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) frozen: bool,
    pub(crate) btf: bool,
    pub(crate) knowledge: Knowledge,
    pub(crate) entries: Vec<TruthEntry>,
    /// Patterns of the dump's entries, for maps that are more than keys and values.
    pub(crate) expect: Option<Vec<Value>>,
    /// What the frozen dump says beyond `expect`, pattern by pattern.
    pub(crate) expect_frozen: Option<Vec<Value>>,
    /// Whether entries come in the order of the patterns.
    #[serde(default)]
    pub(crate) ordered: bool,
    /// A pattern of the map's header.
    pub(crate) state: Option<Value>,
    /// What the frozen dump's header says beyond `state`.
    pub(crate) state_frozen: Option<Value>,
    /// Why bpf(2) has no way to the entries.
    #[serde(rename = "live")]
    pub(crate) unread_live: Option<String>,
    /// Why memory has no way to them.
    pub(crate) unread_frozen: Option<String>,
}

impl TruthMap {
    /// Whether anything was put in.
    pub(crate) fn is_filled(&self) -> bool {
        let expects = self.expect.as_ref().is_some_and(|list| !list.is_empty());
        let has_state = self.state.is_some() || self.state_frozen.is_some();
        expects || has_state || !self.entries.is_empty()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Knowledge {
    /// These entries and no others.
    Exact,
    /// Some of these entries and no others.
    Evicted,
    /// These slots; the others are zero.
    Sparse,
    /// These entries and possibly others.
    AtLeast,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TruthEntry {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
    pub(crate) percpu: Option<Vec<String>>,
    pub(crate) key_typed: Option<Value>,
    pub(crate) value_typed: Option<Value>,
    pub(crate) percpu_typed: Option<Vec<Value>>,
}

/// What `bpfreeze dump --format json` writes.
#[derive(Debug, Deserialize)]
pub(crate) struct Dump {
    pub(crate) schema: String,
    pub(crate) kernel: Kernel,
    pub(crate) maps: Vec<DumpMap>,
    /// The allocators in arenas.
    #[serde(default)]
    pub(crate) allocators: Vec<Value>,
    /// Objects in arenas that are shown on their own.
    #[serde(default)]
    pub(crate) objects: Vec<Value>,
    /// Whether all maps could be listed.
    pub(crate) complete: bool,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Kernel {
    pub(crate) release: String,
    pub(crate) arch: String,
    pub(crate) page_size: u64,
    pub(crate) paging_levels: Option<u32>,
    pub(crate) possible_cpus: usize,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DumpMap {
    #[serde(flatten)]
    pub(crate) about: About,
    pub(crate) visited: u64,
    pub(crate) complete: bool,
    /// Why the map could not be read.
    pub(crate) error: Option<String>,
    pub(crate) gaps: Vec<Value>,
    pub(crate) entries: Vec<Value>,
    /// What else its header says.
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

impl DumpMap {
    /// The entries of a map of keys and values.
    ///
    /// # Errors
    /// Fails at an entry of another form.
    pub(crate) fn plain(&self) -> Result<Vec<DumpEntry>, String> {
        let entries = self.entries.iter().map(|entry| {
            let plain = DumpEntry::deserialize(entry);
            plain.map_err(|error| format!("{error}: {}", short(entry)))
        });
        entries.collect()
    }
}

/// A row of `bpfreeze maps --format json`, and the head of a dump.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct About {
    pub(crate) id: u32,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) type_id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) btf_id: Option<u32>,
    pub(crate) frozen: bool,
    /// Bytes that the kernel reckons for the map.
    pub(crate) memory: Option<u64>,
}

/// What `bpfreeze maps --format json` writes.
#[derive(Debug, Deserialize)]
pub(crate) struct Maps {
    pub(crate) maps: Vec<About>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct DumpEntry {
    pub(crate) key: Shown,
    pub(crate) value: Option<Shown>,
    pub(crate) percpu: Option<Vec<CpuValue>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct CpuValue {
    pub(crate) cpu: usize,
    pub(crate) value: Option<Shown>,
    pub(crate) missing: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Shown {
    pub(crate) hex: String,
    pub(crate) typed: Option<Value>,
}

/// A row of `bpftool -j map show`.
#[derive(Debug, Deserialize)]
pub(crate) struct ToolMap {
    pub(crate) id: u32,
    #[serde(rename = "type")]
    pub(crate) kind: ToolKind,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) flags: u32,
    pub(crate) bytes_key: u32,
    pub(crate) bytes_value: u32,
    pub(crate) max_entries: u32,
    pub(crate) bytes_memlock: Option<u64>,
    pub(crate) frozen: u32,
    pub(crate) btf_id: Option<u32>,
}

/// A map's type as bpftool tells it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum ToolKind {
    Name(String),
    /// One that is newer than bpftool.
    Number(u32),
}

/// An entry of `bpftool -j map dump`; what it makes of the types is compared as text elsewhere.
#[derive(Debug, Deserialize)]
pub(crate) struct ToolEntry {
    pub(crate) key: Vec<String>,
    pub(crate) value: Option<Vec<String>>,
    pub(crate) values: Option<Vec<ToolCpu>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ToolCpu {
    pub(crate) cpu: usize,
    pub(crate) value: Vec<String>,
}
