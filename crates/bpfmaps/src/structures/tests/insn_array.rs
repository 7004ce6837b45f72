//! Arrays of instructions.

use btf_layout::build::Builder;
use guestmem::{Address, Kva};

use super::{MAP, Made, NOWHERE, check, on, read, record};
use crate::{MapInfo, MapType};

const IPS_AT: u64 = 8;
const VALUES: u64 = 24;
const IPS: Kva = Kva::at(0xffff_8880_0005_0000);

fn map() -> MapInfo {
    MapInfo {
        map_type: MapType::INSN_ARRAY,
        key_size: 4,
        value_size: 16,
        max_entries: 2,
        ..MapInfo::default()
    }
}

fn made() -> Made {
    let mut types = Builder::new();
    let (u32_, u64_) = (types.int("u32", 4), types.int("u64", 8));
    let value = record(
        &mut types,
        "bpf_insn_array_value",
        16,
        &[("orig_off", u32_, 0)],
    );
    let values = types.array(value, 0);
    let members = [("ips", u64_, 8), ("values", values, 24)];
    record(&mut types, "bpf_insn_array", 24, &members);
    let mut made = Made::new(&types);
    made.zeros(MAP, 24);
    made.u64(on(MAP, IPS_AT), IPS.get());
    made.bytes(on(MAP, VALUES), &[7; 32]);
    made.u64(IPS, 0xffff_ffff_ffff_f010);
    made.u64(on(IPS, 8), 0);
    made
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    (made(), map())
}

#[test]
fn every_index_comes_compiled_or_not() {
    let bytes = "07".repeat(16);
    let found = [
        format!("0 0xfffffffffffff010 {bytes}"),
        format!("1 - {bytes}"),
    ];
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    check(&made(), &map(), &found, &[]);
}

#[test]
fn what_is_not_there_or_cannot_be_is_a_gap() {
    let mut lost = made();
    lost.u64(on(MAP, IPS_AT), NOWHERE);
    let (found, gaps) = read(&lost, &map());
    assert_eq!(found.len(), 2);
    assert_eq!(gaps.len(), 2);
    assert!(
        gaps[0].starts_with("index 0: physical 0xffff8880dead0000"),
        "{gaps:?}"
    );
    let other = MapInfo {
        value_size: 8,
        ..map()
    };
    let gap = format!("{MAP}: bpf_map.value_size of an insn_array: expected 0x10, found 0x8");
    check(&made(), &other, &[], &[&gap]);
    let huge = MapInfo {
        max_entries: u32::MAX,
        ..map()
    };
    let mut small = made();
    small.size = 240;
    let (found, gaps) = read(&small, &huge);
    assert_eq!(found.len(), 2);
    let first = format!("{MAP}: bpf_map.max_entries 0xffffffff is more than memory holds");
    assert_eq!(gaps[0], first);
    // Of ten that memory could hold, eight are not there, twice.
    assert_eq!(gaps.len(), 1 + 8 * 2);
}
