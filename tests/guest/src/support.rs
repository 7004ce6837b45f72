//! Which types of map are read from a kernel by a backend, with the evidence: the dump of a guest
//! in which every type was filled.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use bpfmaps::MapType;
use btf_layout::{Kind, Type};
use guestmem::RawImage;
use kernel::Finder;
use serde::Serialize;

use crate::checks::{agree, problems};
use crate::documents::{Dump, TruthMap};
use crate::guest::Guest;
use crate::witnesses::{Backend, truth};

/// What is found of one type of map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Support {
    /// Every map of the type is dumped, whole and true.
    Read,
    /// The kernel has no such type.
    Absent,
    /// The backend has no way to the entries, and says so.
    Unread(String),
    /// Contradictions.
    Wrong(Vec<String>),
}

/// A row of the document that is written.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(rename = "type")]
    kind: &'static str,
    /// How many maps of the type there were, and how many of them had contents.
    maps: usize,
    filled: usize,
    support: Support,
}

/// The document: one cell of the matrix.
#[derive(Debug, Serialize)]
struct Cell<'a> {
    release: &'a str,
    types: &'a [Row],
}

/// Compares a whole dump with what was put in, writes down which types are read, and fails if
/// anything differs.
pub(crate) fn dump_is_true(guest: &Guest, backend: Backend) {
    let dump = backend.dump(guest);
    assert_eq!(dump.schema, "bpfreeze/1");
    let rows = rows(guest, backend, &dump);
    let cell = Cell {
        release: &dump.kernel.release,
        types: &rows,
    };
    if let Some(folder) = env::var_os("BPFREEZE_RESULTS") {
        let file = format!("{}-{}.json", guest.name(), backend.name());
        let text = serde_json::to_vec_pretty(&cell).expect("JSON");
        fs::write(PathBuf::from(folder).join(file), text).expect("a place for results");
    }
    assert!(dump.complete, "maps are missing in the dump");
    let (_, truth) = truth(guest);
    let made: Vec<u32> = truth.keys().copied().collect();
    let mut found: Vec<u32> = dump.maps.iter().map(|map| map.about.id).collect();
    found.sort_unstable();
    let wrong = rows.into_iter().flat_map(|row| match row.support {
        Support::Wrong(lines) => lines,
        _ => Vec::new(),
    });
    agree(wrong.collect());
    assert_eq!(made, found, "the ids of the maps that exist");
}

fn rows(guest: &Guest, backend: Backend, dump: &Dump) -> Vec<Row> {
    let (cpus, truth) = truth(guest);
    let dumped: BTreeMap<u32, _> = dump.maps.iter().map(|map| (map.about.id, map)).collect();
    let has = types_of_kernel(guest);
    let rows = MapType::KNOWN.iter().map(|&map_type| {
        let kind = map_type.name().expect("a known type");
        let maps: Vec<&TruthMap> = truth.values().filter(|map| map.kind == kind).collect();
        let lines = maps.iter().flat_map(|truth| match dumped.get(&truth.id) {
            Some(map) => problems(truth, map, backend, cpus),
            None => vec![format!(
                "map {} {:?} ({kind}) is not in the dump",
                truth.id, truth.name
            )],
        });
        Row {
            kind,
            maps: maps.len(),
            filled: maps.iter().filter(|map| map.is_filled()).count(),
            support: support(
                kind,
                has.contains(&map_type.0),
                &maps,
                lines.collect(),
                backend,
            ),
        }
    });
    rows.collect()
}

fn support(
    kind: &str,
    has: bool,
    maps: &[&TruthMap],
    lines: Vec<String>,
    backend: Backend,
) -> Support {
    let is_filled = maps.iter().any(|map| map.is_filled());
    let reasons = maps.iter().filter_map(|map| backend.unread(map));
    let reasons: BTreeSet<&str> = reasons.collect();
    match (has, is_filled) {
        _ if !lines.is_empty() => Support::Wrong(lines),
        (false, false) => Support::Absent,
        (false, true) => Support::Wrong(vec![format!("{kind}: the kernel's BTF lacks it")]),
        (true, false) => Support::Wrong(vec![format!(
            "{kind}: the kernel has it, the map maker filled none"
        )]),
        (true, true) if reasons.is_empty() => Support::Read,
        (true, true) => {
            let reasons: Vec<&str> = reasons.into_iter().collect();
            Support::Unread(reasons.join("; "))
        }
    }
}

/// The numbers of the map types that the guest's kernel has, from its own BTF.
fn types_of_kernel(guest: &Guest) -> BTreeSet<u32> {
    let image = RawImage::open(&guest.ram()).expect("an image");
    let kernel = Finder::new().find_in_image(&image).expect("a kernel");
    let btf = kernel.btf();
    let id = btf.find(Kind::Enum, "bpf_map_type").expect("the enum");
    let Type::Enum { values, .. } = btf.get(id).expect("a type") else {
        panic!("bpf_map_type is no enum");
    };
    let named = values.filter_map(|value| {
        let value = value.expect("an enumerator");
        // The count of types is an enumerator too.
        let counts = value.name.starts_with("__");
        (!counts).then(|| u32::try_from(value.value).expect("a type's number"))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Support, support};
    use crate::documents::TruthMap;
    use crate::witnesses::Backend;

    #[test]
    fn no_row_without_evidence() {
        let map = |filled: bool, unread: Option<&str>| -> TruthMap {
            let expect = if filled { json!([{}]) } else { json!([]) };
            let map = json!({
                "id": 1, "name": "m", "type": "queue", "key_size": 0, "value_size": 4,
                "max_entries": 1, "flags": 0, "frozen": false, "btf": false,
                "knowledge": "exact", "entries": [], "expect": expect, "live": unread,
            });
            serde_json::from_value(map).unwrap()
        };
        let check = |has: bool, maps: &[TruthMap], lines: &[&str], expected: Option<Support>| {
            let maps: Vec<&TruthMap> = maps.iter().collect();
            let lines = lines.iter().map(|&line| line.to_owned()).collect();
            let found = support("queue", has, &maps, lines, Backend::Live);
            match expected {
                Some(expected) => assert_eq!(found, expected),
                None => assert!(matches!(found, Support::Wrong(_)), "{found:?}"),
            }
        };
        check(true, &[map(true, None)], &[], Some(Support::Read));
        check(
            true,
            &[map(true, None), map(false, None)],
            &[],
            Some(Support::Read),
        );
        check(false, &[], &[], Some(Support::Absent));
        let reason = Support::Unread("no look-up".to_owned());
        check(true, &[map(true, Some("no look-up"))], &[], Some(reason));
        check(true, &[map(true, None)], &["differs"], None);
        check(true, &[], &[], None);
        check(true, &[map(false, None)], &[], None);
        check(false, &[map(true, None)], &[], None);
    }
}
