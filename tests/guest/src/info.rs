//! What `bpfreeze info` finds against what the guest and QEMU said.

use serde::Deserialize;
use serde_json::Value;

use crate::guest::{Guest, parse};
use crate::witnesses::truth;

/// What `info` finds in the memory against what the guest said about itself.
pub(crate) fn is_true(guest: &Guest) {
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
pub(crate) fn is_true_live(guest: &Guest) {
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
