//! Checks of a whole dump against what was put in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::contents::{Contents, differences, differing};
use crate::documents::{About, Dump, DumpMap, Knowledge, TruthMap};
use crate::guest::Guest;
use crate::typed::contradictions;
use crate::witnesses::{by_id, truth};

/// At most this many lines of a failure are shown.
const LINES: usize = 25;

/// Fails with the lines, if there are any.
pub(crate) fn agree(lines: Vec<String>) {
    let shown = lines.get(..LINES.min(lines.len())).unwrap_or_default();
    assert!(
        lines.is_empty(),
        "{} contradictions:\n{}",
        lines.len(),
        shown.join("\n")
    );
}

/// Prefixes lines with the map that they are about.
pub(crate) fn about(map: &About, lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let head = format!("map {} {:?} ({})", map.id, map.name, map.kind);
    lines
        .into_iter()
        .map(|line| format!("{head}: {line}"))
        .collect()
}

/// A dump must say that it is complete, and be it.
pub(crate) fn complete(dump: &Dump) {
    assert_eq!(dump.schema, "bpfreeze/1");
    let lines = dump.maps.iter().flat_map(|map| {
        let mut lines = Vec::new();
        if !map.complete || !map.gaps.is_empty() {
            lines.push(format!("not complete: {:?}", map.gaps));
        }
        if usize::try_from(map.visited) != Ok(map.entries.len()) {
            lines.push(format!(
                "{} visited, {} told",
                map.visited,
                map.entries.len()
            ));
        }
        about(&map.about, lines)
    });
    agree(lines.collect());
}

/// Compares a dump with what was put in, bytes and types.
pub(crate) fn dump_is_true(guest: &Guest, dump: Dump) {
    complete(&dump);
    let (cpus, truth) = truth(guest);
    let maps = by_id(dump.maps, |map| map.about.id);
    let made: Vec<u32> = truth.keys().copied().collect();
    let found: Vec<u32> = maps.keys().copied().collect();
    assert_eq!(made, found, "the ids of the maps that exist");
    let lines = truth.values().flat_map(|truth| {
        let map = &maps[&truth.id];
        let contents = Contents::of_dump(map);
        let mut lines = bytes_are_true(truth, &contents, cpus);
        lines.extend(types_are_true(truth, map));
        about(&map.about, lines)
    });
    agree(lines.collect());
}

fn bytes_are_true(truth: &TruthMap, contents: &Contents, cpus: usize) -> Vec<String> {
    let Some(made) = Contents::of_truth(truth, cpus) else {
        // Known by types only; the keys must be there.
        let keys: BTreeSet<&str> = truth
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect();
        let found: BTreeSet<&str> = contents.cells.keys().map(String::as_str).collect();
        return match keys == found {
            true => Vec::new(),
            false => vec![format!("keys {found:?} instead of {keys:?}")],
        };
    };
    if truth.knowledge == Knowledge::Evicted {
        return survivors_are_true(truth, &made, contents);
    }
    let mut lines = differences(("the maker", &made), ("bpfreeze", contents));
    if truth.kind.ends_with("array") && made.order != contents.order {
        lines.push("slots are out of order".to_owned());
    }
    lines
}

/// Which keys an LRU map evicted is its own business; what is left must have been put in.
fn survivors_are_true(truth: &TruthMap, made: &Contents, contents: &Contents) -> Vec<String> {
    let mut lines = Vec::new();
    for (key, cell) in &contents.cells {
        match made.cells.get(key) {
            None => lines.push(format!("key {key} was never put in")),
            Some(other) => lines.extend(
                differing(other, cell).map(|what| format!("key {key}: values differ {what}")),
            ),
        }
    }
    let most = usize::try_from(truth.max_entries).expect("a 64-bit host");
    if contents.cells.is_empty() || contents.cells.len() > most {
        lines.push(format!(
            "{} survivors of at most {most}",
            contents.cells.len()
        ));
    }
    lines
}

fn types_are_true(truth: &TruthMap, map: &DumpMap) -> Vec<String> {
    let told: BTreeMap<&str, _> = map
        .entries
        .iter()
        .map(|entry| (entry.key.hex.as_str(), entry))
        .collect();
    let mut lines = Vec::new();
    let mut compare =
        |what: String, expected: &Option<Value>, actual: Option<&Value>| match (expected, actual) {
            (None, _) => {}
            (Some(_), None) => lines.push(format!("{what}: no types are shown")),
            (Some(expected), Some(actual)) => {
                lines.extend(contradictions(&what, expected, actual));
            }
        };
    for entry in &truth.entries {
        let Some(shown) = told.get(entry.key.as_str()) else {
            continue;
        };
        let head = format!("key {}", entry.key);
        compare(head.clone(), &entry.key_typed, shown.key.typed.as_ref());
        if let Some(value) = &shown.value {
            compare(
                format!("{head}: value"),
                &entry.value_typed,
                value.typed.as_ref(),
            );
        }
        let pairs = entry
            .percpu_typed
            .iter()
            .flatten()
            .zip(shown.percpu.iter().flatten());
        for (expected, actual) in pairs {
            let actual_typed = actual.value.as_ref().and_then(|value| value.typed.as_ref());
            let what = format!("{head}: CPU {}", actual.cpu);
            compare(what, &Some(expected.clone()), actual_typed);
        }
    }
    lines
}
