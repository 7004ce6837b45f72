//! Both backends, one document: everything that does not say where it comes from is the same.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::checks::{about, agree, unread};
use crate::contents::{Contents, differences};
use crate::documents::{About, DumpMap, TruthMap};
use crate::guest::Guest;
use crate::pattern::{Terms, mismatches};
use crate::typed::{Floats, contradictions};
use crate::witnesses::{Backend, by_id, truth};

/// The members in which an entry refers to a thing of the kernel. Of that, memory tells more than
/// bpf(2) does.
const OBJECTS: [&str; 2] = ["owner", "refers"];

/// The states of whole maps.
const STATES: [&str; 4] = ["ringbuf", "bloom", "queue", "struct_ops"];

/// Compares the dump from memory with one from inside.
pub(crate) fn agrees_with_frozen(guest: &Guest, backend: Backend) {
    let (_, truth) = truth(guest);
    let (frozen, live) = (Backend::Guest.dump(guest), backend.dump(guest));
    assert_eq!(frozen.kernel.release, live.kernel.release);
    assert_eq!(frozen.kernel.arch, live.kernel.arch);
    assert_eq!(frozen.kernel.page_size, live.kernel.page_size);
    assert_eq!(frozen.kernel.possible_cpus, live.kernel.possible_cpus);
    assert_eq!(frozen.maps.len(), live.maps.len(), "count of maps");
    let live = by_id(live.maps, |map| map.about.id);
    let lines = frozen.maps.iter().flat_map(|map| {
        let lines = match (live.get(&map.about.id), truth.get(&map.about.id)) {
            (Some(other), Some(truth)) => compare(map, (other, backend), truth),
            _ => vec!["is not there live, or was not made".to_owned()],
        };
        about(&map.about, lines)
    });
    agree(lines.collect());
}

fn compare(
    frozen: &DumpMap,
    (live, backend): (&DumpMap, Backend),
    truth: &TruthMap,
) -> Vec<String> {
    let mut lines = Vec::new();
    // What memory a map takes is not the same question to both; the rows' own test has it.
    let [here, there] = [frozen, live].map(|map| About {
        memory: None,
        ..map.about.clone()
    });
    if here != there {
        lines.push(format!("{here:?}, live: {there:?}"));
    }
    let left_out = |map, backend| unread(truth, map, backend).is_some();
    if left_out(frozen, Backend::Guest) || left_out(live, backend) {
        return lines;
    }
    for state in STATES {
        if let Some(told) = live.more.get(state) {
            let ours = frozen.more.get(state).unwrap_or(&Value::Null);
            lines.extend(contradictions(state, told, ours, Floats::Near));
        }
    }
    match truth.expect {
        None => lines.extend(plain(frozen, live)),
        Some(_) => lines.extend(objects(frozen, live, truth)),
    }
    lines
}

/// Keys and values: the same bytes, shown alike.
fn plain(frozen: &DumpMap, live: &DumpMap) -> Vec<String> {
    let (here, there) = match (Contents::of_dump(frozen), Contents::of_dump(live)) {
        (Ok(here), Ok(there)) => (here, there),
        (Err(error), _) | (_, Err(error)) => return vec![error],
    };
    let mut lines = differences(("frozen", &here), ("live", &there));
    let typed = |map: &DumpMap| {
        let entries = map.entries.iter().map(Value::to_string);
        entries.collect::<BTreeSet<String>>()
    };
    if lines.is_empty() && typed(frozen) != typed(live) {
        lines.push("types are shown differently".to_owned());
    }
    lines
}

/// Entries that refer to things: live is contained in frozen, and no whole part of an entry is in
/// one of them only.
fn objects(frozen: &DumpMap, live: &DumpMap, truth: &TruthMap) -> Vec<String> {
    let terms = Terms {
        ordered: truth.ordered,
        more: false,
    };
    let lists = [live, frozen].map(|map| {
        let entries = map.entries.iter().map(comparable);
        entries.collect::<Vec<Value>>()
    });
    let [live, frozen] = lists;
    mismatches(&live, &frozen, terms)
}

/// An entry without addresses, which bpf(2) does not tell, with the names of its parts.
fn comparable(entry: &Value) -> Value {
    let Value::Object(members) = entry else {
        return entry.clone();
    };
    let parts: Vec<Value> = members.keys().cloned().map(Value::from).collect();
    let without_kva = |object: &Map<String, Value>| {
        let mut object = object.clone();
        object.remove("kva");
        Value::Object(object)
    };
    let mut members = members.clone();
    for name in OBJECTS {
        if let Some(Value::Object(object)) = members.get(name) {
            let object = without_kva(object);
            members.insert(name.to_owned(), object);
        }
    }
    members.insert("parts".to_owned(), parts.into());
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::comparable;
    use crate::pattern::{Terms, mismatches};

    #[test]
    fn memory_may_tell_more_of_objects_only() {
        let check = |live: Value, frozen: Value, count: usize| {
            let terms = Terms {
                ordered: false,
                more: false,
            };
            let found = mismatches(&[comparable(&live)], &[comparable(&frozen)], terms);
            assert_eq!(found.len(), count, "{found:?}");
        };
        let live = json!({"index": 1, "refers": {"kind": "map", "id": 3}});
        let more =
            json!({"index": 1, "refers": {"kind": "map", "id": 3, "kva": "0x1", "name": "x"}});
        check(live.clone(), more.clone(), 0);
        check(more.clone(), live.clone(), 2);
        let other = json!({"index": 1, "refers": {"kind": "map", "id": 4}});
        check(live.clone(), other, 2);
        let with_value =
            json!({"index": 1, "refers": {"kind": "map", "id": 3}, "value": {"hex": "03"}});
        check(live, with_value, 2);
    }
}
