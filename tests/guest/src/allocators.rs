//! The allocators in arenas, against the trees that the map maker built.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checks::agree;
use crate::documents::{Dump, Truth};
use crate::guest::Guest;
use crate::pattern::{Terms, mismatches};
use crate::typed::{Floats, contradictions, short};
use crate::witnesses::Backend;

/// Lists that are compared by themselves, not as a member of the allocator.
const LISTS: [&str; 2] = ["slots", "owners_without_slot"];

/// At most this many lines of a failure are about one allocator.
const LINES: usize = 8;

/// Each allocator is found, with what is in its slots and who owns them, and no others are.
pub(crate) fn are_true(guest: &Guest, backend: Backend) {
    let truth: Truth = guest.document("truth.json");
    let has_arenas = truth.maps.iter().any(|map| map.kind == "arena");
    assert_eq!(truth.allocators.is_empty(), !has_arenas, "allocators made");
    let dump: Dump = backend.dump(guest);
    agree(problems(&truth.allocators, &dump.allocators));
}

fn problems(truth: &[Value], found: &[Value]) -> Vec<String> {
    let mut found = by(found, name);
    let mut lines = Vec::new();
    for pattern in truth {
        let name = name(pattern);
        match found.remove(&name) {
            Some(allocator) => {
                let mut wrong = differences(&name, pattern, allocator);
                let more = wrong.len().saturating_sub(LINES);
                wrong.truncate(LINES);
                lines.extend(wrong);
                lines.extend((more > 0).then(|| format!("{name}: … and {more} more")));
            }
            None => lines.push(format!("{name} is not found")),
        }
    }
    lines.extend(found.keys().map(|name| format!("{name} was never made")));
    lines
}

fn differences(name: &str, pattern: &Value, allocator: &Value) -> Vec<String> {
    let mut head = pattern.clone();
    if let Some(head) = head.as_object_mut() {
        head.retain(|member, _| !LISTS.contains(&member.as_str()));
    }
    let mut lines = contradictions(name, &head, allocator, Floats::Exact);
    let [slots, lost] = LISTS.map(|list| (list_of(pattern, list), list_of(allocator, list)));
    let any = Terms {
        ordered: false,
        more: false,
    };
    if pattern.get("owners_without_slot").is_some() {
        let lost = mismatches(lost.0, lost.1, any);
        lines.extend(lost.iter().map(|line| format!("{name}: lost: {line}")));
    }
    // By index, because a list is too long for every slot to be compared with every pattern.
    let (patterns, mut found) = (slots.0, by(slots.1, index));
    for pattern in patterns {
        let index = index(pattern);
        let path = format!("{name}[{index}]");
        match found.remove(&index) {
            Some(slot) => lines.extend(contradictions(&path, pattern, slot, Floats::Exact)),
            None => lines.push(format!("{path} is not found")),
        }
    }
    let more = found.values();
    lines.extend(more.map(|slot| format!("{name}: nobody made {}", short(slot))));
    lines
}

/// The map and the symbol.
fn name(allocator: &Value) -> String {
    let [map, symbol] = ["map", "symbol"].map(|member| allocator.get(member));
    let symbol = symbol.and_then(Value::as_str);
    format!("{} {}", map.unwrap_or(&Value::Null), symbol.unwrap_or("?"))
}

fn index(slot: &Value) -> u64 {
    let index = slot.get("idx").and_then(Value::as_u64);
    index.unwrap_or_else(|| panic!("a slot without an index: {}", short(slot)))
}

fn list_of<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value
        .get(member)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Values by what tells them apart.
fn by<K: Ord>(values: &[Value], key: fn(&Value) -> K) -> BTreeMap<K, &Value> {
    let count = values.len();
    let values: BTreeMap<K, &Value> = values.iter().map(|value| (key(value), value)).collect();
    assert_eq!(values.len(), count, "something is told twice");
    values
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::problems;

    fn allocator(live: u32, slots: Value) -> Value {
        json!({"map": 1, "symbol": "a", "live": live, "slots": slots, "owners_without_slot": []})
    }

    #[test]
    fn whatever_differs_is_told() {
        let check = |found: Value, count: usize| {
            let slot = json!({"idx": 4, "state": "live", "payload": {"hex": "00"}});
            let truth = [allocator(1, json!([slot]))];
            let found = found.as_array().unwrap();
            let lines = problems(&truth, found);
            assert_eq!(lines.len(), count, "{lines:?}");
        };
        let slot = json!({"idx": 4, "addr": "0x1", "state": "live", "payload": {"hex": "00"}});
        let other = json!({"idx": 5, "state": "freed"});
        check(json!([allocator(1, json!([slot]))]), 0);
        check(json!([]), 1);
        check(json!([allocator(2, json!([slot]))]), 1);
        check(json!([allocator(1, json!([]))]), 1);
        check(json!([allocator(1, json!([other, slot]))]), 1);
        check(
            json!([allocator(1, json!([slot])), {"map": 1, "symbol": "b"}]),
            1,
        );
        let freed = json!({"idx": 4, "state": "freed"});
        check(json!([allocator(1, json!([freed]))]), 2);
        let mut lost = allocator(1, json!([slot]));
        lost["owners_without_slot"] = json!([{"ptr": "0x1"}]);
        check(json!([lost]), 1);
    }
}
