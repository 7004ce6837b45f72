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

use crate::checks::{agree, problems, unread};
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
        let mut found = Found {
            has: has.contains(&map_type.0),
            filled: maps.iter().filter(|map| map.is_filled()).count(),
            ..Found::default()
        };
        for truth in &maps {
            match dumped.get(&truth.id) {
                Some(map) => {
                    found.reasons.extend(unread(truth, map, backend));
                    found.wrong.extend(problems(truth, map, backend, cpus));
                }
                None => {
                    let (id, name) = (truth.id, &truth.name);
                    let line = format!("map {id} {name:?} ({kind}) is not in the dump");
                    found.wrong.push(line);
                }
            }
        }
        Row {
            kind,
            maps: maps.len(),
            filled: found.filled,
            support: found.support(kind),
        }
    });
    rows.collect()
}

/// What was found of one type.
#[derive(Debug, Default)]
struct Found<'a> {
    /// Whether the kernel has it.
    has: bool,
    /// How many maps had contents.
    filled: usize,
    /// Why some of the maps are not read.
    reasons: BTreeSet<&'a str>,
    wrong: Vec<String>,
}

impl Found<'_> {
    fn support(self, kind: &str) -> Support {
        let wrong = |what: &str| Support::Wrong(vec![format!("{kind}: {what}")]);
        match (self.has, self.filled) {
            _ if !self.wrong.is_empty() => Support::Wrong(self.wrong),
            (false, 0) => Support::Absent,
            (false, _) => wrong("the kernel's BTF lacks it"),
            (true, 0) => wrong("the kernel has it, the map maker filled none"),
            (true, _) if self.reasons.is_empty() => Support::Read,
            (true, _) => {
                let reasons: Vec<&str> = self.reasons.into_iter().collect();
                Support::Unread(reasons.join("; "))
            }
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
    use std::collections::BTreeSet;

    use super::{Found, Support};

    #[test]
    fn no_row_without_evidence() {
        let check = |has: bool, filled: usize, reason: Option<&str>, wrong: &[&str], expected| {
            let found = Found {
                has,
                filled,
                reasons: reason.into_iter().collect::<BTreeSet<_>>(),
                wrong: wrong.iter().map(|&line| line.to_owned()).collect(),
            };
            match (found.support("queue"), expected) {
                (Support::Wrong(lines), None) => assert!(!lines.is_empty()),
                (found, expected) => assert_eq!(Some(found), expected),
            }
        };
        check(true, 1, None, &[], Some(Support::Read));
        check(false, 0, None, &[], Some(Support::Absent));
        let unread = Support::Unread("no look-up".to_owned());
        check(true, 1, Some("no look-up"), &[], Some(unread));
        check(true, 1, None, &["differs"], None);
        check(true, 1, Some("no look-up"), &["differs"], None);
        check(true, 0, None, &[], None);
        check(true, 0, Some("no look-up"), &[], None);
        check(false, 1, None, &[], None);
    }
}
