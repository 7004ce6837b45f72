//! A dump's document, taken apart only as far as to leave out where it came from.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::guest::{parse, program};

/// So much of the texts is shown where they begin to differ.
const SHOWN: usize = 300;

/// The members of a document, as they were written.
pub(super) struct Document {
    pub(super) source: Value,
    rest: BTreeMap<String, Box<RawValue>>,
}

impl Document {
    /// The dump of a source. Gaps are no failure: they must be the same.
    #[track_caller]
    pub(super) fn of(source: &OsStr) -> Self {
        let mut command = program();
        command.arg("dump").arg(source).args(["--format", "json"]);
        let output = command.output().expect("bpfreeze starts");
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "bpfreeze dump {}: {}\n{}",
            source.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let mut rest: BTreeMap<String, Box<RawValue>> = parse(&output.stdout, "bpfreeze dump");
        let source = rest.remove("source").expect("a source");
        Self {
            source: parse(source.get().as_bytes(), "source"),
            rest,
        }
    }
}

/// Fails at the first difference.
#[track_caller]
pub(super) fn assert_same(name: &str, expected: &Document, found: &Document) {
    let names = |document: &Document| document.rest.keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(expected), names(found), "{name}");
    for (member, text) in &expected.rest {
        let (expected, found) = (text.get().as_bytes(), found.rest[member].get().as_bytes());
        if expected == found {
            continue;
        }
        let pairs = expected.iter().zip(found);
        let same = pairs.take_while(|(one, other)| one == other).count();
        let around = |text: &[u8]| {
            let end = text.len().min(same + SHOWN);
            String::from_utf8_lossy(&text[same.saturating_sub(SHOWN)..end]).into_owned()
        };
        panic!(
            "{name}: {member} differs at byte {same}:\n{}\ninstead of\n{}",
            around(found),
            around(expected)
        );
    }
}

/// What a gap says where a dump lacks pages.
const LEFT_OUT: &str = "was left out of the dump";

/// A map of a document, as far as it tells of what is missing.
#[derive(Deserialize)]
struct Map {
    id: u32,
    complete: bool,
    error: Option<String>,
    gaps: Vec<Value>,
    entries: Option<Box<RawValue>>,
}

impl Document {
    fn maps(&self) -> BTreeMap<u32, Map> {
        let maps: Vec<Map> = parse(self.rest["maps"].get().as_bytes(), "maps");
        maps.into_iter().map(|map| (map.id, map)).collect()
    }
}

/// The bytes of keys and values, and the addresses of stacks. What these lead to, and by which
/// name, other objects tell, whose absence is told where they are.
fn bytes(entries: &str) -> Vec<String> {
    let entries: Vec<Value> = match entries {
        "" => Vec::new(),
        text => parse(text.as_bytes(), "entries"),
    };
    let parts = |entry: &Value| -> Vec<String> {
        let list = |name: &str| entry[name].as_array().cloned().unwrap_or_default();
        let values = list("percpu").into_iter().map(|cpu| cpu["value"].clone());
        let hex = [entry["key"].clone(), entry["value"].clone()];
        let hex = hex
            .into_iter()
            .chain(values)
            .map(|it| it["hex"].to_string());
        let frames = list("frames")
            .into_iter()
            .map(|frame| frame["ip"].to_string());
        hex.chain(frames).collect()
    };
    entries.iter().flat_map(parts).collect()
}

/// Fails if something is missing for another reason than that pages were left out, or without
/// any.
#[track_caller]
pub(super) fn assert_left_out(expected: &Document, found: &Document) {
    let gaps: Vec<Value> = parse(found.rest["gaps"].get().as_bytes(), "gaps");
    let (expected, maps) = (expected.maps(), found.maps());
    assert!(maps.len() == expected.len() || !gaps.is_empty());
    let said = |gap: &Value| gap.to_string().contains(LEFT_OUT);
    assert!(gaps.iter().all(said), "{gaps:?}");
    for (id, map) in maps {
        let gaps: Vec<Value> = map
            .error
            .into_iter()
            .map(Value::from)
            .chain(map.gaps)
            .collect();
        assert!(gaps.iter().all(said), "map {id}: {gaps:?}");
        let text = |entries: &Option<Box<RawValue>>| -> String {
            let text = entries.as_ref().map(|entries| entries.get().to_owned());
            text.unwrap_or_default()
        };
        let (found, whole) = (text(&map.entries), text(&expected[&id].entries));
        // What is missing behind a special field is said there.
        assert!(!map.complete || gaps.is_empty(), "map {id}: {gaps:?}");
        let is_told = !map.complete || found.contains(LEFT_OUT) || bytes(&found) == bytes(&whole);
        assert!(is_told, "map {id} is not what it was, and nothing says why");
    }
}
