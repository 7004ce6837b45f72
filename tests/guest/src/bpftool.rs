//! bpftool in the guest against bpfreeze here, as bytes and in its own format.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::checks::{about, agree};
use crate::contents::{Contents, differences};
use crate::documents::TruthMap;
use crate::guest::{Guest, parse};
use crate::witnesses::{Backend, bpftool_ids, by_id, truth};

/// Why the heads of lists in values are not what bpftool prints.
const COPIED_HEADS: &str =
    "bpf(2) shows the heads of lists in its own copy of the value, by address";

/// Maps that bpftool's format cannot be compared for, and why.
const NOT_AS_BPFTOOL: &[(&str, &str)] = &[
    (
        "floats",
        "bpftool writes no JSON for floating-point members",
    ),
    (
        "sections.data",
        "bpftool writes no JSON for floating-point variables",
    ),
    ("graphs", COPIED_HEADS),
    ("graph_slots", COPIED_HEADS),
    ("pairs", COPIED_HEADS),
];

/// The types that bpftool dumps. Of others it says that they are empty, or that each of their
/// entries is an error.
const READABLE: &[&str] = &[
    "hash",
    "array",
    "prog_array",
    "percpu_hash",
    "percpu_array",
    "lru_hash",
    "lru_percpu_hash",
    "lpm_trie",
    "array_of_maps",
    "hash_of_maps",
    "devmap",
    "devmap_hash",
    "cpumap",
    "reuseport_sockarray",
    "struct_ops",
    "rhash",
];

/// Those of them whose entries come in the order of their index.
const IN_ORDER: &[&str] = &[
    "array",
    "percpu_array",
    "prog_array",
    "array_of_maps",
    "devmap",
    "cpumap",
    "reuseport_sockarray",
];

/// The maps that it dumped in this guest and can read, with its output.
fn dumps(guest: &Guest) -> Vec<(TruthMap, Vec<u8>)> {
    let (_, mut truth) = truth(guest);
    let maps = bpftool_ids(guest).into_iter().filter_map(|id| {
        let map = truth.remove(&id).expect("a map that was made");
        let readable = READABLE.contains(&map.kind.as_str());
        readable.then(|| (map, guest.witness(&format!("bpftool-dump-{id}"))))
    });
    maps.collect()
}

/// Keys and values, byte by byte.
pub(crate) fn agrees(guest: &Guest) {
    let frozen = by_id(Backend::Guest.dump(guest).maps, |map| map.about.id);
    let plain = dumps(guest);
    let plain = plain.into_iter().filter(|(map, _)| map.expect.is_none());
    let lines = plain.flat_map(|(map, output)| {
        let map = &frozen[&map.id];
        let tool = Contents::of_bpftool(&output, &map.about.name);
        let lines = match Contents::of_dump(map) {
            Ok(ours) => differences(("bpfreeze", &ours), ("bpftool", &tool)),
            Err(error) => vec![error],
        };
        about(&map.about, lines)
    });
    agree(lines.collect());
}

/// A map among several in bpftool's format.
#[derive(Debug, Deserialize)]
struct Listed {
    id: u32,
    elements: Vec<Box<RawValue>>,
}

/// Entries in bpftool's format, entry by entry and letter by letter.
fn same_text(map: &TruthMap, ours: Vec<Box<RawValue>>, theirs: Vec<Box<RawValue>>) -> Vec<String> {
    let [ours, theirs] = [ours, theirs].map(|entries| {
        let entries = entries.iter().map(|entry| entry.get());
        // Slots that are empty.
        let full = entries.filter(|entry| !entry.contains("\"value\":{\"error\":"));
        let mut texts: Vec<String> = full.map(str::to_owned).collect();
        if !IN_ORDER.contains(&map.kind.as_str()) {
            texts.sort();
        }
        texts
    });
    let head = format!("map {} {:?} ({})", map.id, map.name, map.kind);
    let mut pairs = ours.iter().zip(&theirs);
    match pairs.find(|(ours, theirs)| ours != theirs) {
        Some((ours, theirs)) => vec![format!("{head}: bpfreeze: {ours}\n   bpftool: {theirs}")],
        None if ours.len() == theirs.len() => Vec::new(),
        None => vec![format!(
            "{head}: {} and {} entries",
            ours.len(),
            theirs.len()
        )],
    }
}

/// What bpfreeze writes in bpftool's format of many maps, and of one.
pub(crate) fn format_is_met(guest: &Guest) {
    let mut dumps = dumps(guest);
    dumps.retain(|(map, _)| !NOT_AS_BPFTOOL.iter().any(|(name, _)| *name == map.name));
    let ids: Vec<String> = dumps.iter().map(|(map, _)| map.id.to_string()).collect();
    let mut arguments = vec!["dump", "RAM", "--format", "bpftool"];
    arguments.extend(ids.iter().flat_map(|id| ["--map", id]));
    let listed: Vec<Listed> = parse(&guest.bpfreeze(&arguments), "bpfreeze");
    let mut listed = by_id(listed, |map| map.id);
    let mut lines = Vec::new();
    for (map, theirs) in &dumps {
        let ours = listed.remove(&map.id).expect("a map that was asked for");
        lines.extend(same_text(map, ours.elements, parse(theirs, "bpftool")));
    }
    for name in singles(guest) {
        let arguments = ["dump", "RAM", "--map", &name, "--format", "bpftool"];
        lines.extend(single(&dumps, &name, &guest.bpfreeze(&arguments)));
    }
    agree(lines);
}

/// The same of bpfreeze in the guest, of one map.
pub(crate) fn format_is_met_live(guest: &Guest) {
    let dumps = dumps(guest);
    let lines = singles(guest).into_iter().flat_map(|name| {
        let ours = guest.witness(&format!("live-bpftool-{name}"));
        single(&dumps, &name, &ours)
    });
    agree(lines.collect());
}

/// The maps that bpfreeze dumped in the guest in bpftool's format, by name.
fn singles(guest: &Guest) -> Vec<String> {
    let witnesses = guest.text("witnesses.txt");
    let names = witnesses.lines().filter_map(|line| line.split(' ').next());
    let names = names.filter_map(|name| name.strip_prefix("live-bpftool-"));
    let names: Vec<String> = names.map(str::to_owned).collect();
    assert!(!names.is_empty(), "bpfreeze did not run in the guest");
    names
}

fn single(dumps: &[(TruthMap, Vec<u8>)], name: &str, ours: &[u8]) -> Vec<String> {
    let dump = dumps.iter().find(|(map, _)| map.name == name);
    let (map, theirs) = dump.expect("a map that bpftool dumped");
    same_text(map, parse(ours, "bpfreeze"), parse(theirs, "bpftool"))
}
