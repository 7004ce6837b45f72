//! What the library answers, against the whole document: every entry is found by its key, every
//! variable by its name, every slot by its owner, and what is found is what stands there.

use std::collections::{BTreeMap, BTreeSet};

use freeze::{Dump, QueryError};
use serde_json::Value;

use crate::checks::agree;
use crate::guest::{Guest, parse};

/// How many entries of each map are looked for.
const SOME: usize = 8;

/// What one query should have given.
struct Query {
    asked: String,
    found: Result<Value, QueryError>,
    /// `None` where several answer to the same.
    expected: Option<Value>,
}

impl Query {
    fn problem(self) -> Option<String> {
        let Self {
            asked,
            found,
            expected,
        } = self;
        match (found, expected) {
            (Ok(found), Some(expected)) if found == expected => None,
            (Err(QueryError::Ambiguous { .. }), None) => None,
            // Nothing of it could be read, which the document says, too.
            (Err(QueryError::Unreadable { .. }), Some(Value::Null)) => None,
            (found, expected) => Some(format!("{asked}: {found:?}, not {expected:?}")),
        }
    }
}

/// Asks for what the document of the same guest has.
pub(crate) fn are_answered(guest: &Guest) {
    let dump = Dump::open(&guest.ram()).expect("a dump");
    let document = dump.json().expect("JSON");
    let document: Value = parse(document.as_bytes(), "the document");
    let maps = document["maps"].as_array().expect("maps");
    let mut queries = Vec::new();
    for map in maps {
        queries.extend(of_map(&dump, map));
    }
    queries.extend(of_variables(&dump, maps));
    let allocators = document["allocators"].as_array();
    for allocator in allocators.into_iter().flatten() {
        queries.extend(of_slots(&dump, allocator));
    }
    assert!(queries.len() > 100, "{} queries", queries.len());
    agree(queries.into_iter().filter_map(Query::problem).collect());
}

/// Without what pointers lead to: which pointer an object is shown at depends on how much is
/// printed.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) if members.contains_key("ptr") => members["ptr"].clone(),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), plain(member)))
            .collect(),
        Value::Array(elements) => elements.iter().map(plain).collect(),
        value => value.clone(),
    }
}

/// The entries with typed keys that are whole, and what belongs to tasks.
fn of_map(dump: &Dump, map: &Value) -> Vec<Query> {
    let id = map["id"].to_string();
    let entries = map["entries"].as_array().expect("entries");
    let key = |entry: &Value| match &entry["owner"]["kind"] {
        Value::String(kind) if kind == "task" => entry["owner"]["pid"].clone(),
        _ => entry["key"]["typed"].clone(),
    };
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for entry in entries {
        *times.entry(key(entry).to_string()).or_default() += 1;
    }
    let typed = |entry: &&Value| !key(entry).is_null() && !entry["value"]["typed"].is_null();
    let some: Vec<&Value> = entries.iter().filter(typed).take(SOME).collect();
    if some.is_empty() {
        return Vec::new();
    }
    let view = dump.map(&id).expect("a map that is listed");
    let ask = |entry: &Value| {
        let key = key(entry);
        let found = view.entry(&key).and_then(|entry| entry.value());
        Query {
            asked: format!("entry {key} of map {id}"),
            found: found.map(|value| plain(value.json())),
            expected: (times[&key.to_string()] == 1).then(|| plain(&entry["value"]["typed"])),
        }
    };
    some.into_iter().map(ask).collect()
}

/// The variables of all data sections and arenas.
fn of_variables(dump: &Dump, maps: &[Value]) -> Vec<Query> {
    let mut variables: BTreeMap<&String, Vec<&Value>> = BTreeMap::new();
    for map in maps {
        let is_section = map["value_type"]
            .as_str()
            .is_some_and(|name| name.starts_with('.'));
        let section = match is_section {
            true => &map["entries"][0]["value"]["typed"],
            false => &map["arena"]["globals"]["typed"],
        };
        for (name, value) in section.as_object().into_iter().flatten() {
            variables.entry(name).or_default().push(value);
        }
    }
    // Of two with one name in a section the second is shown with its offset.
    let twice: BTreeSet<&str> = variables
        .keys()
        .filter_map(|name| Some(name.rsplit_once('@')?.0))
        .collect();
    let ask = |(name, values): (&&String, &Vec<&Value>)| Query {
        asked: format!("variable {name}"),
        found: dump.var(name).map(|value| plain(value.json())),
        expected: match values.as_slice() {
            [value] if !twice.contains(name.as_str()) => Some(plain(value)),
            _ => None,
        },
    };
    variables.iter().map(ask).collect()
}

/// The slots that belong to tasks, and whose type is known.
fn of_slots(dump: &Dump, allocator: &Value) -> Vec<Query> {
    let symbol = allocator["symbol"].as_str().expect("a name");
    let spelled = format!("{}::{symbol}", allocator["map"]);
    let found = dump.slots(&spelled).expect("an allocator that is listed");
    let slots = allocator["slots"].as_array().expect("slots");
    let typed = |slot: &&Value| !slot["payload"]["typed"].is_null();
    let pid = |slot: &Value| i32::try_from(slot["owner"]["pid"].as_i64()?).ok();
    let ask = |slot: &Value| {
        let pid = pid(slot)?;
        let count = slots
            .iter()
            .filter(|other| other["owner"]["pid"] == pid)
            .count();
        let payload = found.of_pid(pid).and_then(|slot| slot.payload());
        Some(Query {
            asked: format!("slot of {pid} in {symbol}"),
            found: payload.map(|value| plain(value.json())),
            expected: (count == 1).then(|| plain(&slot["payload"]["typed"])),
        })
    };
    slots.iter().filter(typed).filter_map(ask).collect()
}
