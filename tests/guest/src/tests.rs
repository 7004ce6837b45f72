//! The tests, once for each guest.

use std::collections::BTreeMap;

use bpfmaps::Guest as Frozen;
use bpfmaps::contract::{self, World};
use guestmem::RawImage;
use kernel::Finder;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::checks::{about, agree, dump_is_true};
use crate::contents::{Contents, differences};
use crate::documents::{About, Dump, DumpMap, Maps};
use crate::guest::{Guest, parse};
use crate::witnesses::{bpftool_ids, bpftool_maps, by_id, frozen_dump, live_dump, truth};

const SCHEMA: &str = include_str!("../../../crates/render/schema/bpfreeze-1.schema.json");

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

/// The rows of `maps` against bpftool's and against what was made.
fn rows_are_true(guest: &Guest, maps: Vec<About>) {
    let (_, truth) = truth(guest);
    let tool = bpftool_maps(guest);
    let maps = by_id(maps, |map| map.id);
    let ids: Vec<u32> = maps.keys().copied().collect();
    assert_eq!(
        ids,
        tool.keys().copied().collect::<Vec<_>>(),
        "ids, by bpftool"
    );
    assert_eq!(
        ids,
        truth.keys().copied().collect::<Vec<_>>(),
        "ids, by the maker"
    );
    for (id, map) in &maps {
        let told = &tool[id];
        let by_tool = About {
            id: told.id,
            name: told.name.clone(),
            kind: told.kind.clone(),
            type_id: map.type_id,
            key_size: told.bytes_key,
            value_size: told.bytes_value,
            max_entries: told.max_entries,
            flags: told.flags,
            btf_id: told.btf_id,
            frozen: told.frozen != 0,
            memory: told.bytes_memlock,
        };
        assert_eq!(*map, by_tool, "bpfreeze and bpftool");
        let made = &truth[id];
        let by_maker = About {
            id: made.id,
            name: made.name.clone(),
            kind: made.kind.clone(),
            type_id: map.type_id,
            key_size: made.key_size,
            value_size: u32::try_from(made.value_size).expect("a value's size"),
            max_entries: made.max_entries,
            flags: made.flags,
            btf_id: map.btf_id,
            frozen: made.frozen,
            memory: map.memory,
        };
        assert_eq!(*map, by_maker, "bpfreeze and the map maker");
        assert_eq!(map.btf_id.is_some(), made.btf, "types of map {id}");
    }
}

fn maps_are_listed(guest: &Guest) {
    let output = guest.bpfreeze(&["maps", "RAM", "--format", "json"]);
    let maps: Maps = parse(&output, "bpfreeze maps");
    rows_are_true(guest, maps.maps);
}

fn live_maps_are_listed(guest: &Guest) {
    let maps: Maps = parse(&guest.witness("live-maps"), "bpfreeze maps live");
    rows_are_true(guest, maps.maps);
}

fn frozen_dump_is_true(guest: &Guest) {
    dump_is_true(guest, frozen_dump(guest));
}

fn live_dump_is_true(guest: &Guest) {
    dump_is_true(guest, live_dump(guest));
}

/// The promises of the trait, on every map of a real kernel.
fn contract_is_kept(guest: &Guest) {
    let image = RawImage::open(&guest.ram()).expect("an image");
    let kernel = Finder::new().find_in_image(&image).expect("a kernel");
    let frozen = Frozen::new(kernel).expect("maps");
    contract::check(&frozen, World::Still);
}

/// What is written of a real kernel is what the schema says.
fn documents_are_valid(guest: &Guest) {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    for arguments in [["dump", "RAM", "--limit", "3"].as_slice(), &["maps", "RAM"]] {
        let arguments = [arguments, &["--format", "json"]].concat();
        let document: Value = parse(&guest.bpfreeze(&arguments), "bpfreeze");
        let errors = schema.iter_errors(&document);
        agree(
            errors
                .map(|error| format!("{} at {}", error, error.instance_path()))
                .collect(),
        );
    }
}

/// Both backends, one document: everything that does not say where it comes from is the same.
fn frozen_and_live_agree(guest: &Guest) {
    let (frozen, live) = (frozen_dump(guest), live_dump(guest));
    assert_eq!(frozen.kernel.release, live.kernel.release);
    assert_eq!(frozen.kernel.arch, live.kernel.arch);
    assert_eq!(frozen.kernel.page_size, live.kernel.page_size);
    assert_eq!(frozen.kernel.possible_cpus, live.kernel.possible_cpus);
    let live = by_id(live.maps, |map| map.about.id);
    let mut lines = Vec::new();
    for map in &frozen.maps {
        let Some(other) = live.get(&map.about.id) else {
            lines.push(format!("map {} is not there live", map.about.id));
            continue;
        };
        assert_eq!(map.about, other.about, "frozen and live");
        let (here, there) = (Contents::of_dump(map), Contents::of_dump(other));
        lines.extend(about(
            &map.about,
            differences(("frozen", &here), ("live", &there)),
        ));
        let typed = |map: &DumpMap| -> BTreeMap<String, String> {
            let entries = map.entries.iter();
            entries
                .map(|entry| {
                    let percpu = entry.percpu.iter().flatten();
                    let percpu = percpu
                        .filter_map(|cpu| cpu.value.as_ref())
                        .map(|v| &v.typed);
                    let all: Vec<_> = percpu.collect();
                    let value = entry.value.as_ref().map(|value| &value.typed);
                    let text = format!("{:?} {value:?} {all:?}", entry.key.typed);
                    (entry.key.hex.clone(), text)
                })
                .collect()
        };
        if typed(map) != typed(other) {
            lines.extend(about(
                &map.about,
                ["types are shown differently".to_owned()],
            ));
        }
    }
    assert_eq!(frozen.maps.len(), live.len(), "count of maps");
    agree(lines);
}

fn bpftool_agrees(guest: &Guest) {
    let frozen = by_id(frozen_dump(guest).maps, |map| map.about.id);
    let lines = bpftool_ids(guest).into_iter().flat_map(|id| {
        let map = &frozen[&id];
        let output = guest.witness(&format!("bpftool-dump-{id}"));
        let tool = Contents::of_bpftool(&output, &map.about.name);
        let ours = Contents::of_dump(map);
        about(
            &map.about,
            differences(("bpfreeze", &ours), ("bpftool", &tool)),
        )
    });
    agree(lines.collect());
}

/// Two outputs in bpftool's format, entry by entry and letter by letter.
fn same_text(ours: &[u8], theirs: &[u8], in_order: bool) -> Vec<String> {
    let entries = |bytes: &[u8], who: &str| -> Vec<String> {
        let entries: Vec<Box<RawValue>> = parse(bytes, who);
        entries.iter().map(|entry| entry.get().to_owned()).collect()
    };
    let (mut ours, mut theirs) = (entries(ours, "bpfreeze"), entries(theirs, "bpftool"));
    if !in_order {
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

fn is_left_out(name: &str) -> bool {
    NOT_AS_BPFTOOL.iter().any(|(left_out, _)| *left_out == name)
}

fn bpftools_format_is_met(guest: &Guest) {
    let (_, truth) = truth(guest);
    let lines = bpftool_ids(guest).into_iter().flat_map(|id| {
        let map = &truth[&id];
        if is_left_out(&map.name) {
            return Vec::new();
        }
        let arguments = [
            "dump",
            "RAM",
            "--map",
            &id.to_string(),
            "--format",
            "bpftool",
        ];
        let ours = guest.bpfreeze(&arguments);
        let theirs = guest.witness(&format!("bpftool-dump-{id}"));
        let lines = same_text(&ours, &theirs, map.kind.ends_with("array"));
        let head = format!("map {id} {:?} ({})", map.name, map.kind);
        lines
            .into_iter()
            .map(|line| format!("{head}: {line}"))
            .collect()
    });
    agree(lines.collect());
}

fn bpftools_format_is_met_live(guest: &Guest) {
    let (_, truth) = truth(guest);
    let witnesses = guest.text("witnesses.txt");
    let names = witnesses.lines().filter_map(|line| line.split(' ').next());
    let names: Vec<&str> = names
        .filter_map(|name| name.strip_prefix("live-bpftool-"))
        .collect();
    assert!(!names.is_empty(), "bpfreeze did not run in the guest");
    let lines = names.into_iter().flat_map(|name| {
        let map = truth
            .values()
            .find(|map| map.name == name)
            .expect("a map that was made");
        let ours = guest.witness(&format!("live-bpftool-{name}"));
        let theirs = guest.witness(&format!("bpftool-dump-{}", map.id));
        let lines = same_text(&ours, &theirs, map.kind.ends_with("array"));
        lines
            .into_iter()
            .map(move |line| format!("map {name}: {line}"))
    });
    agree(lines.collect());
}

/// What `info` finds in the memory against what the guest said about itself.
fn info_is_true(guest: &Guest) {
    let info: Value = parse(
        &guest.bpfreeze(&["info", "RAM", "--format", "json"]),
        "info",
    );
    let at = |pointer: &str| {
        let found = info.pointer(pointer);
        found.unwrap_or_else(|| panic!("`info` does not tell {pointer}"))
    };
    let address = |pointer: &str| {
        let text = at(pointer)
            .as_str()
            .and_then(|text| text.strip_prefix("0x"));
        let text = text.unwrap_or_else(|| panic!("{pointer} is no address"));
        u64::from_str_radix(text, 16).expect("hexadecimal digits")
    };
    assert_eq!(
        at("/kernel/release"),
        guest.text("uname.txt").trim(),
        "release"
    );
    assert_eq!(at("/kernel/arch"), "x86_64");
    assert_eq!(at("/kernel/page_size"), 4096);
    let has_la57 = guest
        .text("cpuflags.txt")
        .split_whitespace()
        .any(|flag| flag == "la57");
    assert_eq!(at("/kernel/paging_levels"), if has_la57 { 5 } else { 4 });
    let possible = guest.text("possible.txt");
    assert_eq!(at("/kernel/cpus"), possible.trim(), "possible CPUs");
    let (cpus, _) = truth(guest);
    assert_eq!(at("/kernel/possible_cpus"), cpus);
    // Where the kernel was linked to begin.
    let linked = 0xffff_ffff_8100_0000_u64;
    let symbols = guest.symbols();
    assert_eq!(address("/found/slide"), symbols["_stext"] - linked, "slide");
    let types = at("/btf/bytes").as_u64().expect("a number");
    assert_eq!(
        types,
        symbols["__stop_BTF"] - symbols["__start_BTF"],
        "bytes of BTF"
    );
    let count = guest.text("kallsyms-count.txt");
    let count: u64 = count.trim().parse().expect("a number");
    assert_eq!(at("/found/symbols/in_memory"), count, "symbols");
    regions_are_true(guest, at("/source/regions"));
    // VMCOREINFO's own address, page-aligned, is in sysfs: "0xADDRESS SIZE".
    let note = guest.text("vmcoreinfo.txt");
    let note = note.split_whitespace().next().expect("an address");
    let note = u64::from_str_radix(note.trim_start_matches("0x"), 16).expect("an address");
    let candidates = at("/found/vmcoreinfo").as_array().expect("candidates");
    let proved = candidates.iter().any(|candidate| {
        let gpa = candidate
            .get("gpa")
            .and_then(Value::as_str)
            .unwrap_or_default();
        gpa == format!("0x{note:x}") && candidate.get("proved") == Some(&Value::Bool(true))
    });
    assert!(proved, "0x{note:x} is not among {candidates:?}");
}

/// What `info` says of the running kernel, inside the guest.
fn live_info_is_true(guest: &Guest) {
    let info: Value = parse(&guest.witness("live-info"), "bpfreeze info live");
    let at = |pointer: &str| info.pointer(pointer).and_then(Value::as_str);
    assert_eq!(at("/kernel/release"), Some(guest.text("uname.txt").trim()));
    assert_eq!(at("/kernel/arch"), Some("x86_64"));
    assert_eq!(at("/kernel/cpus"), Some(guest.text("possible.txt").trim()));
}

/// The regions that were found must put every byte of RAM where QEMU had it.
fn regions_are_true(guest: &Guest, regions: &Value) {
    #[derive(Debug, Deserialize)]
    struct Region {
        file_offset: u64,
        gpa: String,
        bytes: u64,
    }
    let number = |digits: &str| u64::from_str_radix(digits, 16).expect("hexadecimal digits");
    let regions: Vec<Region> = Deserialize::deserialize(regions).expect("regions");
    let mut lines = 0;
    for line in guest.memory_tree().lines() {
        // `0000000000000000-00000000000c2fff (prio 0, ram): mem @0000000000000000`
        let Some((range, rest)) = line.trim().split_once(" (prio 0, ram): mem") else {
            continue;
        };
        let (first, last) = range.split_once('-').expect("a range");
        let (first, last) = (number(first), number(last));
        let offset = rest.trim().strip_prefix('@').map_or(0, number);
        let covered = regions.iter().any(|region| {
            let gpa = number(region.gpa.trim_start_matches("0x"));
            gpa <= first
                && last - gpa < region.bytes
                && region.file_offset + (first - gpa) == offset
        });
        assert!(covered, "{line:?} is not in {regions:?}");
        lines += 1;
    }
    assert!(lines > 0, "QEMU told no memory");
}

/// The head of a dump and `info` speak of the same kernel.
fn dump_names_the_kernel(guest: &Guest) {
    let output = guest.bpfreeze(&["dump", "RAM", "--map", "h", "--format", "json"]);
    let dump: Dump = parse(&output, "bpfreeze dump");
    assert_eq!(dump.kernel.release, guest.text("uname.txt").trim());
    assert_eq!(dump.maps.len(), 1, "one map is called h");
    let output = guest.bpfreeze(&["dump", "RAM", "--map", "twin", "--format", "json"]);
    let dump: Dump = parse(&output, "bpfreeze dump");
    assert_eq!(dump.maps.len(), 2, "two maps are called twin");
}

macro_rules! for_each_guest {
    ($($guest:ident)*: $tests:tt) => {
        $(for_each_guest!(@one $guest $tests);)*
    };
    (@one $guest:ident [$($test:ident)*]) => {
        mod $guest {
            $(#[test]
            fn $test() {
                super::$test(&crate::guest::Guest::open(stringify!($guest)));
            })*
        }
    };
}

for_each_guest! { la57 la48 high: [
    info_is_true
    live_info_is_true
    maps_are_listed
    live_maps_are_listed
    contract_is_kept
    documents_are_valid
    frozen_dump_is_true
    live_dump_is_true
    frozen_and_live_agree
    bpftool_agrees
    bpftools_format_is_met
    bpftools_format_is_met_live
    dump_names_the_kernel
] }
