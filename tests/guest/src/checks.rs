//! Checks of one map's dump against what was put in.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::contents::{Contents, differences, differing};
use crate::documents::{About, DumpEntry, DumpMap, Knowledge, TruthMap};
use crate::pattern::{Terms, merged, mismatches};
use crate::typed::{Floats, contradictions, short};
use crate::witnesses::Backend;

/// At most this many lines of a failure are shown.
const LINES: usize = 60;

/// And so many of one map.
const LINES_OF_A_MAP: usize = 4;

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
    let mut lines: Vec<String> = lines
        .into_iter()
        .map(|line| format!("{head}: {line}"))
        .collect();
    let more = lines.len().saturating_sub(LINES_OF_A_MAP);
    if more > 0 {
        lines.truncate(LINES_OF_A_MAP);
        lines.push(format!("{head}: … and {more} more"));
    }
    lines
}

/// Why a map's entries are not read, if the backend may leave them out and says that it does: a
/// map that is not read must not look empty.
pub(crate) fn unread<'a>(truth: &'a TruthMap, map: &DumpMap, backend: Backend) -> Option<&'a str> {
    let is_said = !map.complete && (map.error.is_some() || !map.gaps.is_empty());
    let reason = backend.unread(truth)?;
    (is_said && map.entries.is_empty()).then_some(reason)
}

/// What is wrong with a map's dump.
pub(crate) fn problems(
    truth: &TruthMap,
    map: &DumpMap,
    backend: Backend,
    cpus: usize,
) -> Vec<String> {
    if unread(truth, map, backend).is_some() {
        return Vec::new();
    }
    let mut lines = incompleteness(map);
    lines.extend(state_is_true(truth, map, backend));
    lines.extend(match &truth.expect {
        Some(patterns) => patterns_are_met(truth, patterns, map, backend),
        None => contents_are_true(truth, map, cpus),
    });
    about(&map.about, lines)
}

/// A dump must say that it is complete, and be it.
fn incompleteness(map: &DumpMap) -> Vec<String> {
    let mut lines = Vec::new();
    if !map.complete || !map.gaps.is_empty() || map.error.is_some() {
        let (error, gaps) = (map.error.as_deref().unwrap_or_default(), &map.gaps);
        let gaps = short(&Value::from(gaps.clone()));
        lines.push(format!("not complete: {error} {gaps}"));
    }
    if usize::try_from(map.visited) != Ok(map.entries.len()) {
        let told = map.entries.len();
        lines.push(format!("{} visited, {told} told", map.visited));
    }
    lines
}

fn state_is_true(truth: &TruthMap, map: &DumpMap, backend: Backend) -> Vec<String> {
    let mut state = truth.state.clone().unwrap_or(Value::Null);
    if let (true, Some(more)) = (backend.sees_memory(), &truth.state_frozen) {
        state = match state {
            Value::Null => more.clone(),
            state => merged(&state, more),
        };
    }
    let header = Value::Object(map.more.clone());
    contradictions("header", &state, &header, Floats::Near)
}

fn patterns_are_met(
    truth: &TruthMap,
    patterns: &[Value],
    map: &DumpMap,
    backend: Backend,
) -> Vec<String> {
    let mut patterns = patterns.to_vec();
    if let (true, Some(more)) = (backend.sees_memory(), &truth.expect_frozen) {
        assert_eq!(more.len(), patterns.len(), "patterns of {}", truth.name);
        let pairs = patterns.iter().zip(more);
        patterns = pairs.map(|(pattern, more)| merged(pattern, more)).collect();
    }
    let terms = Terms {
        ordered: truth.ordered,
        more: truth.knowledge == Knowledge::AtLeast,
    };
    mismatches(&patterns, &map.entries, terms)
}

/// Keys and values, as bytes and as types.
fn contents_are_true(truth: &TruthMap, map: &DumpMap, cpus: usize) -> Vec<String> {
    let (contents, entries) = match (Contents::of_dump(map), map.plain()) {
        (Ok(contents), Ok(entries)) => (contents, entries),
        (Err(error), _) | (_, Err(error)) => return vec![error],
    };
    let mut lines = bytes_are_true(truth, &contents, cpus);
    lines.extend(types_are_true(truth, &entries));
    lines
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

fn types_are_true(truth: &TruthMap, entries: &[DumpEntry]) -> Vec<String> {
    let told: BTreeMap<&str, _> = entries
        .iter()
        .map(|entry| (entry.key.hex.as_str(), entry))
        .collect();
    let mut lines = Vec::new();
    let mut compare =
        |what: String, expected: &Option<Value>, actual: Option<&Value>| match (expected, actual) {
            (None, _) => {}
            (Some(_), None) => lines.push(format!("{what}: no types are shown")),
            (Some(expected), Some(actual)) => {
                lines.extend(contradictions(&what, expected, actual, Floats::Exact));
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
