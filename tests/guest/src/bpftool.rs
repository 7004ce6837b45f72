//! bpftool in the guest against bpfreeze here, as bytes and in its own format.

use serde_json::value::RawValue;

use crate::checks::{about, agree};
use crate::contents::{Contents, differences};
use crate::documents::TruthMap;
use crate::guest::{Guest, parse};
use crate::witnesses::{Backend, bpftool_ids, by_id, truth};

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

/// Two outputs in bpftool's format, entry by entry and letter by letter.
fn same_text(ours: &[u8], theirs: &[u8], map: &TruthMap) -> Vec<String> {
    let entries = |bytes: &[u8], who: &str| -> Vec<String> {
        let entries: Vec<Box<RawValue>> = parse(bytes, who);
        let entries = entries.iter().map(|entry| entry.get());
        // Slots that are empty.
        let full = entries.filter(|entry| !entry.contains("\"value\":{\"error\":"));
        full.map(str::to_owned).collect()
    };
    let (mut ours, mut theirs) = (entries(ours, "bpfreeze"), entries(theirs, "bpftool"));
    if !IN_ORDER.contains(&map.kind.as_str()) {
        ours.sort();
        theirs.sort();
    }
    if ours == theirs {
        return Vec::new();
    }
    let mut pairs = ours.iter().zip(&theirs);
    match pairs.find(|(ours, theirs)| ours != theirs) {
        Some((ours, theirs)) => vec![format!("bpfreeze: {ours}\n   bpftool: {theirs}")],
        None => vec![format!("{} and {} entries", ours.len(), theirs.len())],
    }
}

/// What bpfreeze writes in bpftool's format, entry by entry and letter by letter.
pub(crate) fn format_is_met(guest: &Guest) {
    let is_left_out = |map: &TruthMap| NOT_AS_BPFTOOL.iter().any(|(name, _)| *name == map.name);
    let dumps = dumps(guest);
    let dumps = dumps.into_iter().filter(|(map, _)| !is_left_out(map));
    let lines = dumps.flat_map(|(map, theirs)| {
        let id = map.id.to_string();
        let ours = guest.run(&["dump", "RAM", "--map", &id, "--format", "bpftool"]);
        let head = format!("map {id} {:?} ({})", map.name, map.kind);
        let lines = match ours.status.code() {
            Some(0) => same_text(&ours.stdout, &theirs, &map),
            _ => vec![String::from_utf8_lossy(&ours.stderr).trim().to_owned()],
        };
        lines.into_iter().map(move |line| format!("{head}: {line}"))
    });
    agree(lines.collect());
}

/// The same, of bpfreeze in the guest.
pub(crate) fn format_is_met_live(guest: &Guest) {
    let witnesses = guest.text("witnesses.txt");
    let names = witnesses.lines().filter_map(|line| line.split(' ').next());
    let names: Vec<&str> = names
        .filter_map(|name| name.strip_prefix("live-bpftool-"))
        .collect();
    assert!(!names.is_empty(), "bpfreeze did not run in the guest");
    let dumps = dumps(guest);
    let lines = names.into_iter().flat_map(|name| {
        let (map, theirs) = dumps
            .iter()
            .find(|(map, _)| map.name == name)
            .expect("a map that was made");
        let ours = guest.witness(&format!("live-bpftool-{name}"));
        let lines = same_text(&ours, theirs, map);
        lines
            .into_iter()
            .map(move |line| format!("map {name}: {line}"))
    });
    agree(lines.collect());
}
