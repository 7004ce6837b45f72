//! drgn on a capture: another reader of cores finds the same bytes in it.

use std::process::Command;

use guestmem::RawImage;
use kernel::Finder;
use serde_json::Value;

use crate::guest::{Guest, parse, program, told};

/// Opens a core, and prints its kernel's release and the bytes at an address, for each pair.
const SCRIPT: &str = "
import sys, drgn
core = drgn.Program()
core.set_core_dump(sys.argv[1])
print(core['UTS_RELEASE'].string_().decode())
for pair in sys.argv[2:]:
    address, length = pair.split(',')
    print(core.read(int(address, 16), int(length)).hex())
";

/// Arrays whose values are one behind the other: in the direct map, in pages of their own, and
/// in pages that processes may map.
const MAPS: [&str; 3] = ["flow_slots", "a_long", "sections.bss"];

#[test]
fn drgn_reads_the_same() {
    let guest = Guest::open("la48");
    let folder = tempfile::tempdir().expect("a folder");
    let core = folder.path().join("core");
    let mut capture = program();
    capture.arg("capture").arg(guest.ram()).arg("-o").arg(&core);
    let captured = capture.output().expect("bpfreeze starts");
    assert!(captured.status.success(), "{captured:?}");

    let mut drgn = Command::new("python3");
    drgn.env("PYTHONPATH", told("BPFREEZE_DRGN"));
    drgn.args(["-c", SCRIPT]).arg(&core);
    let mut expected = vec![guest.text("uname.txt").trim().to_owned()];
    let offset = offset_of_values(&guest);
    for name in MAPS {
        let arguments = ["dump", "RAM", "--map", name, "--format", "json"];
        let dump: Value = parse(&guest.bpfreeze(&arguments), "bpfreeze dump");
        let map = &dump["maps"][0];
        let kva = map["kva"].as_str().and_then(|kva| kva.strip_prefix("0x"));
        let kva = u64::from_str_radix(kva.expect("an address"), 16).expect("digits");
        let entries = map["entries"].as_array().expect("entries").iter();
        let values = entries.map(|entry| entry["value"]["hex"].as_str().expect("bytes"));
        let values: String = values.collect();
        drgn.arg(format!("{:x},{}", kva + offset, values.len() / 2));
        expected.push(values);
    }
    let output = drgn.output().expect("python3 starts");
    let messages = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{messages}");
    let found = String::from_utf8(output.stdout).expect("text");
    let found: Vec<&str> = found.lines().collect();
    assert!(found == expected, "{found:?} instead of {expected:?}");
}

/// How far behind the beginning of an array its values are.
fn offset_of_values(guest: &Guest) -> u64 {
    let image = RawImage::open(&guest.ram()).expect("an image");
    let kernel = Finder::new().find_in_image(&image).expect("a kernel");
    let array = kernel.btf().record("bpf_array").expect("a type");
    array.member("value").expect("a member").offset
}
