//! Stack traces.

use btf_layout::build::Builder;
use guestmem::{Address, Kva};

use super::{MAP, Made, NOWHERE, check, on, record};
use crate::{MapInfo, MapType};

const COUNT: u64 = 8;
const BUCKETS: u64 = 16;
const TRACE: Kva = Kva::at(0xffff_8880_0002_0000);

const BUILD_IDS: u32 = 1 << 5;

fn map(flags: u32) -> MapInfo {
    MapInfo {
        map_type: MapType::STACK_TRACE,
        value_size: 64,
        max_entries: 3,
        flags,
        ..MapInfo::default()
    }
}

/// Four buckets, of which the second has a trace of `nr` frames.
fn made(nr: u32, frames: &[u8]) -> Made {
    let mut types = Builder::new();
    let (u8_, u32_, u64_) = (types.int("u8", 1), types.int("u32", 4), types.int("u64", 8));
    let flexible = types.array(u64_, 0);
    let build_id = types.array(u8_, 20);
    let stacks = [("n_buckets", u32_, 8), ("buckets", flexible, 16)];
    record(&mut types, "bpf_stack_map", 16, &stacks);
    let bucket = [("nr", u32_, 4), ("data", flexible, 8)];
    record(&mut types, "stack_map_bucket", 8, &bucket);
    let frame = [
        ("status", u32_, 28),
        ("build_id", build_id, 8),
        ("offset", u64_, 0),
    ];
    record(&mut types, "bpf_stack_build_id", 32, &frame);
    let mut made = Made::new(&types);
    made.zeros(MAP, 48);
    made.u32(on(MAP, COUNT), 4);
    made.u64(on(MAP, BUCKETS + 8), TRACE.get());
    made.zeros(TRACE, 8);
    made.u32(on(TRACE, 4), nr);
    made.bytes(on(TRACE, 8), frames);
    made
}

fn addresses(ips: &[u64]) -> Vec<u8> {
    ips.iter().flat_map(|ip| ip.to_le_bytes()).collect()
}

fn frame(offset: u64, id: u8, status: u32) -> Vec<u8> {
    let mut raw = offset.to_le_bytes().to_vec();
    raw.extend([id; 20]);
    raw.extend(status.to_le_bytes());
    raw
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    let mut frames = frame(0x123, 0xab, 1);
    frames.extend(frame(0x7f00, 0, 2));
    (made(2, &frames), map(BUILD_IDS))
}

#[test]
fn addresses_have_symbols_where_the_kernel_has() {
    let frames = addresses(&[0xffff_ffff_ffff_f010, 0x7f00_0000_1234]);
    let line = "1 0xfffffffffffff010=last_page+0x10 0x7f0000001234";
    check(&made(2, &frames), &map(0), &[line], &[]);
    check(&made(0, &[]), &map(0), &["1 "], &[]);
    let mut none = made(2, &frames);
    none.u64(on(MAP, BUCKETS + 8), 0);
    check(&none, &map(0), &[], &[]);
}

#[test]
fn places_in_files_and_those_without_one() {
    let mut frames = frame(0x123, 0xab, 1);
    frames.extend(frame(0x7f00, 0, 2));
    let line = "1 abab@0x123 ?0x7f00";
    check(&made(2, &frames), &map(BUILD_IDS), &[line], &[]);
    frames[28] = 9;
    let gap = "index 1: bpf_stack_build_id.status: expected 0x1, found 0x9";
    check(&made(2, &frames), &map(BUILD_IDS), &["1 ?0x7f00"], &[gap]);
}

#[test]
fn numbers_that_lie_are_gaps() {
    let frames = addresses(&[1; 9]);
    let gap = |most: u32, nr: u32| {
        format!("{TRACE}: stack_map_bucket.nr: expected {most:#x}, found {nr:#x}")
    };
    check(&made(9, &frames), &map(0), &[], &[&gap(8, 9)]);
    check(&made(u32::MAX, &frames), &map(0), &[], &[&gap(8, u32::MAX)]);
    check(&made(3, &frames), &map(BUILD_IDS), &[], &[&gap(2, 3)]);
    let mut other = made(1, &frames);
    other.u32(on(MAP, COUNT), 8);
    let gap = format!("{MAP}: bpf_stack_map.n_buckets: expected 0x4, found 0x8");
    check(&other, &map(0), &[], &[&gap]);
}

#[test]
fn what_is_not_there_is_a_gap() {
    // Two of three frames.
    let cut = made(3, &addresses(&[0x10, 0x20]));
    let at = "0xffff888000020018";
    let gap = format!("{at}: physical {at} is not in the image");
    check(&cut, &map(0), &["1 0x10 0x20"], &[&gap]);
    let mut wild = made(1, &addresses(&[0x10]));
    wild.u64(on(MAP, BUCKETS), NOWHERE);
    let gap = format!("{NOWHERE:#x}: physical {NOWHERE:#x} is not in the image");
    check(&wild, &map(0), &["1 0x10"], &[&gap]);
    // More buckets than memory has.
    let mut huge = made(1, &addresses(&[0x10]));
    huge.u32(on(MAP, COUNT), 1 << 31);
    let map = MapInfo {
        max_entries: 1 << 31,
        ..map(0)
    };
    let (found, gaps) = super::read(&huge, &map);
    assert_eq!(found, ["1 0x10"]);
    let first = format!("{MAP}: bpf_stack_map.n_buckets 0x80000000 is more than memory holds");
    assert_eq!(gaps[0], first);
    assert!(gaps.len() < 1000);
}
