//! The documents of the witnesses, as far as the tests read them.

use serde::Deserialize;
use serde_json::Value;

/// What the map maker put in.
#[derive(Debug, Deserialize)]
pub(crate) struct Truth {
    pub(crate) possible_cpus: usize,
    pub(crate) maps: Vec<TruthMap>,
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
    pub(crate) gaps: Vec<Value>,
    pub(crate) entries: Vec<DumpEntry>,
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
    pub(crate) kind: String,
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
