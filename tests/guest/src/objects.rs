//! Objects in arenas that pointers lead to, against what the map maker's program built.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::checks::agree;
use crate::documents::{Dump, Truth};
use crate::guest::Guest;
use crate::typed::{Floats, contradictions, short};
use crate::witnesses::Backend;

/// Each object is shown once, wherever that is, and is what it was made.
pub(crate) fn are_true(guest: &Guest, backend: Backend) {
    let truth: Truth = guest.document("truth.json");
    let has_arenas = truth.maps.iter().any(|map| map.kind == "arena");
    assert_eq!(truth.objects.is_empty(), !has_arenas, "objects made");
    agree(problems(&truth.objects, &backend.dump(guest)));
}

fn problems(truth: &[Value], dump: &Dump) -> Vec<String> {
    let mut shown = Shown::default();
    for value in dump.maps.iter().flat_map(|map| &map.entries) {
        shown.visit(value);
    }
    for value in dump.allocators.iter().chain(&dump.objects) {
        shown.visit(value);
    }
    let mut lines = Vec::new();
    for pattern in truth {
        let of = |name: &str| pattern.get(name).and_then(Value::as_str).expect("a text");
        let (address, kind) = (of("addr"), of("type"));
        let path = format!("{kind} at {address}");
        let found = shown.0.get(&(address, kind)).map_or(&[][..], Vec::as_slice);
        match found {
            [object] => {
                let typed = pattern.get("typed").expect("a pattern");
                lines.extend(contradictions(&path, typed, object, Floats::Exact));
            }
            others => lines.push(format!("{path} is shown {} times", others.len())),
        }
    }
    let wrong = dump.objects.iter().filter(|object| {
        let arena = |value: &Value| value.get("arena").cloned();
        let same = |other: &&Value| {
            ["addr", "type"]
                .iter()
                .all(|m| other.get(m) == object.get(m))
        };
        let pattern = truth.iter().find(same);
        pattern.is_some_and(|pattern| arena(pattern) != arena(object))
    });
    lines.extend(wrong.map(|object| format!("in another arena: {}", short(object))));
    lines
}

/// Objects that are shown, by address and type, inside of others or on their own.
#[derive(Default)]
struct Shown<'d>(BTreeMap<(&'d str, &'d str), Vec<&'d Value>>);

impl<'d> Shown<'d> {
    fn visit(&mut self, value: &'d Value) {
        match value {
            Value::Object(members) => {
                for (address, object) in [("ptr", "to"), ("addr", "typed")] {
                    let parts = [address, "type"].map(|name| members.get(name)?.as_str());
                    if let ([Some(address), Some(kind)], Some(object)) =
                        (parts, members.get(object))
                    {
                        self.0.entry((address, kind)).or_default().push(object);
                    }
                }
                members.values().for_each(|value| self.visit(value));
            }
            Value::Array(items) => items.iter().for_each(|value| self.visit(value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::problems;
    use crate::documents::Dump;

    #[test]
    fn each_object_is_wanted_once() {
        let check = |entry: Value, objects: Value, count: usize| {
            let about = json!({
                "id": 1, "name": "m", "type": "array", "type_id": 2, "key_size": 4,
                "value_size": 8, "max_entries": 1, "flags": 0, "btf_id": 1, "frozen": false,
                "visited": 1, "complete": true, "gaps": [], "entries": [entry],
            });
            let kernel = json!({
                "release": "", "arch": "", "page_size": 4096, "possible_cpus": 1,
            });
            let dump = json!({
                "schema": "bpfreeze/1", "kernel": kernel, "maps": [about], "complete": true,
                "objects": objects,
            });
            let dump: Dump = serde_json::from_value(dump).unwrap();
            let truth = json!({"arena": 7, "addr": "0x10", "type": "t", "typed": {"a": 1}});
            let lines = problems(&[truth], &dump);
            assert_eq!(lines.len(), count, "{lines:?}");
        };
        let nested = json!({"v": {"ptr": "0x10", "type": "t", "to": {"a": 1}}});
        let refers = json!({"v": [{"ptr": "0x10", "type": "t", "ref": true}]});
        let object = json!({"arena": 7, "addr": "0x10", "type": "t", "typed": {"a": 1}});
        check(nested.clone(), json!([]), 0);
        check(refers.clone(), json!([object]), 0);
        check(refers.clone(), json!([]), 1);
        check(nested, json!([object]), 1);
        let elsewhere = json!({"arena": 8, "addr": "0x10", "type": "t", "typed": {"a": 1}});
        check(refers.clone(), json!([elsewhere]), 1);
        let other = json!({"arena": 7, "addr": "0x10", "type": "t", "typed": {"a": 2}});
        check(refers, json!([other]), 1);
    }
}
