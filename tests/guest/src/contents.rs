//! What a map holds, in the one form in which witnesses are compared: bytes as hexadecimal text.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::documents::{CpuValue, DumpMap, Knowledge, ToolEntry, TruthMap};

/// A value, or one for each possible CPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    One(String),
    PerCpu(Vec<String>),
}

/// The entries of one map, each once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Keys in the order in which they were told.
    pub(crate) order: Vec<String>,
    pub(crate) cells: BTreeMap<String, Cell>,
}

impl Contents {
    fn insert(&mut self, key: String, cell: Cell) {
        let twice = self.cells.insert(key.clone(), cell);
        assert_eq!(twice, None, "key {key} is told twice");
        self.order.push(key);
    }

    /// From bpfreeze's own dump.
    ///
    /// # Errors
    /// Fails if an entry is not of a key and values, or one for each CPU.
    pub(crate) fn of_dump(map: &DumpMap) -> Result<Self, String> {
        let mut contents = Self::default();
        for entry in map.plain()? {
            let key = entry.key.hex.clone();
            let cell = match (&entry.value, &entry.percpu) {
                (Some(value), None) => Cell::One(value.hex.clone()),
                (None, Some(values)) => Cell::PerCpu(per_cpu(&key, values)?),
                other => return Err(format!("key {key}: {other:?}")),
            };
            contents.insert(key, cell);
        }
        Ok(contents)
    }

    /// From bpftool's dump. It leaves unfinished what it cannot show, which is no JSON; the bytes
    /// are there all the same.
    pub(crate) fn of_bpftool(output: &[u8], name: &str) -> Self {
        let text = String::from_utf8_lossy(output).replace("(unsupported-kind", "null");
        let entries: Vec<ToolEntry> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("bpftool, {name}: {error}"));
        let mut contents = Self::default();
        for entry in entries {
            let cell = match (entry.value, entry.values) {
                (Some(value), None) => Cell::One(joined(&value)),
                (None, Some(values)) => Cell::PerCpu(
                    values
                        .iter()
                        .enumerate()
                        .map(|(cpu, value)| {
                            assert_eq!(value.cpu, cpu, "{name}: CPUs are out of order");
                            joined(&value.value)
                        })
                        .collect(),
                ),
                other => panic!("bpftool, {name}: {other:?}"),
            };
            contents.insert(joined(&entry.key), cell);
        }
        contents
    }

    /// From what the map maker put in, array slots that it left alone included. `None` if it
    /// knows the values by their types only.
    pub(crate) fn of_truth(map: &TruthMap, cpus: usize) -> Option<Self> {
        let mut told: BTreeMap<&str, Cell> = BTreeMap::new();
        for entry in &map.entries {
            let cell = match (&entry.value, &entry.percpu) {
                (Some(value), None) => Cell::One(value.clone()),
                (None, Some(values)) => Cell::PerCpu(values.clone()),
                _ => return None,
            };
            told.insert(&entry.key, cell);
        }
        let mut contents = Self::default();
        if map.knowledge == Knowledge::Sparse && map.kind.ends_with("array") {
            let zero = "00".repeat(map.value_size);
            let untouched = match map.kind.as_str() {
                "percpu_array" => Cell::PerCpu(vec![zero; cpus]),
                _ => Cell::One(zero),
            };
            for index in 0..map.max_entries {
                let key = hex(&index.to_le_bytes());
                let cell = told.remove(key.as_str());
                contents.insert(key, cell.unwrap_or_else(|| untouched.clone()));
            }
            assert!(told.is_empty(), "slots beyond the map's end");
        } else {
            for (key, cell) in told {
                contents.insert(key.to_owned(), cell);
            }
        }
        Some(contents)
    }
}

fn per_cpu(key: &str, values: &[CpuValue]) -> Result<Vec<String>, String> {
    let values = values.iter().enumerate().map(|(cpu, value)| {
        match (value.cpu == cpu, &value.value, &value.missing) {
            (true, Some(value), None) => Ok(value.hex.clone()),
            _ => Err(format!("key {key}, CPU {cpu}: {value:?}")),
        }
    });
    values.collect()
}

fn joined(bytes: &[String]) -> String {
    let digits = bytes.iter().map(|byte| byte.strip_prefix("0x"));
    digits.map(|digits| digits.expect("0x")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

/// How two witnesses' accounts of a map differ; no line means that they agree.
pub(crate) fn differences(
    (left_name, left): (&str, &Contents),
    (right_name, right): (&str, &Contents),
) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, cell) in &left.cells {
        match right.cells.get(key) {
            None => lines.push(format!("key {key}: only {left_name} has it")),
            Some(other) => lines.extend(
                differing(cell, other)
                    .map(|what| format!("key {key}: {left_name} and {right_name} differ {what}")),
            ),
        }
    }
    let only_right = right
        .cells
        .keys()
        .filter(|key| !left.cells.contains_key(*key));
    lines.extend(only_right.map(|key| format!("key {key}: only {right_name} has it")));
    lines
}

/// Where two values differ.
pub(crate) fn differing(left: &Cell, right: &Cell) -> Option<String> {
    match (left, right) {
        (Cell::One(left), Cell::One(right)) => first_difference(left, right),
        (Cell::PerCpu(left), Cell::PerCpu(right)) => {
            if left.len() != right.len() {
                return Some(format!("in their CPUs: {} and {}", left.len(), right.len()));
            }
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(cpu, (left, right))| {
                first_difference(left, right).map(|what| format!("on CPU {cpu} {what}"))
            })
        }
        _ => Some("in having a value for each CPU".to_owned()),
    }
}

fn first_difference(left: &str, right: &str) -> Option<String> {
    if left == right {
        return None;
    }
    if left.len() != right.len() {
        let (left, right) = (left.len() / 2, right.len() / 2);
        return Some(format!("in length: {left} and {right} bytes"));
    }
    let at = left.bytes().zip(right.bytes()).position(|(l, r)| l != r)? / 2 * 2;
    let part = |text: &str| text.chars().skip(at).take(32).collect::<String>();
    Some(format!(
        "from byte {}: {} and {}",
        at / 2,
        part(left),
        part(right)
    ))
}
