//! Structs of functions.

use btf_layout::build::Builder;
use btf_layout::{Btf, TypeId};
use guestmem::{Address, Kva};

use super::{MAP, Made, NOWHERE, check, on, record, state};
use crate::{MapInfo, MapState, MapType};

const REFCOUNT: u64 = 8;
const USERCOUNT: u64 = 16;
const UVALUE: u64 = 24;
const BTF: u64 = 32;
const STATE: u64 = 44;
const VALUE: Kva = Kva::at(0xffff_8880_0003_0000);
const MODULE_BTF: Kva = Kva::at(0xffff_8880_0004_0000);

/// The kernel's types: with a struct of their own for what values share, and
/// a BTF of the map's own, or with neither. Gives the value's type.
fn types(recent: bool) -> (Builder, TypeId) {
    let mut types = Builder::new();
    let types_ = &mut types;
    let (u8_, u32_, u64_) = (
        types_.int("u8", 1),
        types_.int("u32", 4),
        types_.int("u64", 8),
    );
    let atomic = record(types_, "atomic64_t", 8, &[("counter", u64_, 0)]);
    let map = [("refcnt", atomic, 8), ("usercnt", atomic, 16)];
    let map = record(types_, "bpf_map", 24, &map);
    let common = [("refcnt", u32_, 0), ("state", u32_, 4)];
    let flexible = types_.array(u8_, 0);
    let value = if recent {
        let common = record(types_, "bpf_struct_ops_common_value", 8, &common);
        let value = [("common", common, 0), ("data", flexible, 8)];
        record(types_, "bpf_struct_ops_value", 8, &value)
    } else {
        let [refcount, state] = common;
        let value = [refcount, state, ("data", flexible, 8)];
        record(types_, "bpf_struct_ops_value", 8, &value)
    };
    let mut members = vec![("map", map, 0), ("uvalue", u64_, 24), ("kvalue", value, 40)];
    if recent {
        members.push(("btf", u64_, 32));
    }
    record(types_, "bpf_struct_ops_map", 48, &members);
    let name = types_.array(u8_, 8);
    let btf = [
        ("data", u64_, 0),
        ("data_size", u32_, 8),
        ("id", u32_, 12),
        ("base_btf", u64_, 16),
        ("kernel_btf", u8_, 24),
        ("name", name, 25),
    ];
    record(types_, "btf", 40, &btf);
    let value = record(types_, "bpf_struct_ops_tcp_ops", 16, &[("data", u64_, 8)]);
    (types, value)
}

fn map(value: TypeId) -> MapInfo {
    MapInfo {
        map_type: MapType::STRUCT_OPS,
        key_size: 4,
        value_size: 16,
        max_entries: 1,
        btf_vmlinux_value_type_id: value.0,
        ..MapInfo::default()
    }
}

fn made(recent: bool, state: u32) -> (Made, MapInfo) {
    let (types, value) = types(recent);
    let mut made = Made::new(&types);
    made.zeros(MAP, 48);
    made.u64(on(MAP, REFCOUNT), 5);
    made.u64(on(MAP, USERCOUNT), 2);
    made.u64(on(MAP, UVALUE), VALUE.get());
    made.u32(on(MAP, STATE), state);
    made.bytes(VALUE, b"rrrrssssprogram ");
    (made, map(value))
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    made(true, 1)
}

fn expected(state: &str, refcount: u64, name: &str) -> Result<MapState, String> {
    Ok(MapState::StructOps {
        state: state.to_owned(),
        refcount,
        name: Some(name.to_owned()),
    })
}

#[test]
fn a_value_has_the_state_that_a_look_up_gives() {
    for recent in [false, true] {
        let line = "00000000 030000000100000070726f6772616d20";
        let (used, map) = made(recent, 1);
        check(&used, &map, &[line], &[]);
        assert_eq!(state(&used, &map), expected("in use", 3, "tcp_ops"));
        let (fresh, map) = made(recent, 0);
        let zeros = "00000000 00000000000000000000000000000000";
        check(&fresh, &map, &[zeros], &[]);
        assert_eq!(state(&fresh, &map), expected("init", 0, "tcp_ops"));
        for (number, name) in [(2, "to be freed"), (3, "ready"), (77, "77")] {
            let (other, map) = made(recent, number);
            assert_eq!(state(&other, &map), expected(name, 3, "tcp_ops"));
        }
    }
}

#[test]
fn the_struct_may_be_of_a_module() {
    let (kernel, _) = types(true);
    let kernel = Btf::parse(kernel.finish(), "the kernel").unwrap();
    let mut module = Builder::split(&kernel);
    let value = record(&mut module, "bpf_struct_ops_mod_ops", 16, &[]);
    let (mut made, _) = made(true, 1);
    let data = module.finish();
    made.u64(on(MAP, BTF), MODULE_BTF.get());
    made.zeros(MODULE_BTF, 80);
    // The kernel's own, behind it.
    made.bytes(on(MODULE_BTF, 40 + 24), &[1]);
    made.u64(MODULE_BTF, MODULE_BTF.get() + 0x100);
    made.u32(on(MODULE_BTF, 8), u32::try_from(data.len()).unwrap());
    made.u64(on(MODULE_BTF, 16), MODULE_BTF.get() + 40);
    made.bytes(on(MODULE_BTF, 24), &[1]);
    made.bytes(on(MODULE_BTF, 0x100), &data);
    assert_eq!(state(&made, &map(value)), expected("in use", 3, "mod_ops"));
    made.u64(on(MAP, BTF), NOWHERE);
    let error = state(&made, &map(value)).unwrap_err();
    assert!(error.starts_with("cannot read struct btf: "), "{error}");
}

#[test]
fn counts_that_lie_and_values_that_are_not_there() {
    let (mut made, map) = made(true, 1);
    made.u64(on(MAP, USERCOUNT), 9);
    let line = "00000000 000000000100000070726f6772616d20";
    check(&made, &map, &[line], &[]);
    made.u64(on(MAP, UVALUE), VALUE.get() + 6);
    let at = "0xffff888000030010";
    let gap = format!("{at}: physical {at} is not in the image");
    let line = "00000000 00000000010000006d20…";
    check(&made, &map, &[line], &[&gap]);
    made.u64(on(MAP, UVALUE), NOWHERE);
    let gap = format!("{NOWHERE:#x}: physical {NOWHERE:#x} is not in the image");
    check(&made, &map, &[], &[&gap]);
    let huge = MapInfo {
        value_size: u32::MAX,
        ..map
    };
    let gap = format!("{MAP}: bpf_map.value_size 0xffffffff is more than memory holds");
    check(&made, &huge, &[], &[&gap]);
}
