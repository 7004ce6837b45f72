//! Bloom filters.

use btf_layout::build::Builder;
use guestmem::Address;

use super::{MAP, Made, check, on, record, state};
use crate::{MapInfo, MapState, MapType};

const MASK: u64 = 12;
const BITS: u64 = 32;

fn map() -> MapInfo {
    MapInfo {
        map_type: MapType::BLOOM_FILTER,
        ..MapInfo::default()
    }
}

/// A filter of `bits`, of which the first `there` bytes are in memory.
fn made(bits: u32, there: usize) -> Made {
    let mut types = Builder::new();
    let (u32_, u64_) = (types.int("u32", 4), types.int("u64", 8));
    let flexible = types.array(u64_, 0);
    let members = [
        ("bitset_mask", u32_, 12),
        ("nr_hash_funcs", u32_, 20),
        ("bitset", flexible, 32),
    ];
    record(&mut types, "bpf_bloom_filter", 32, &members);
    let mut made = Made::new(&types);
    made.zeros(MAP, 32);
    made.u32(on(MAP, MASK), bits.wrapping_sub(1));
    made.u32(on(MAP, 20), 5);
    made.bytes(on(MAP, BITS), &vec![0x81; there]);
    made
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    (made(1 << 12, 1 << 9), map())
}

#[test]
fn set_bits_are_counted() {
    for bits in [64, 1 << 22] {
        let made = made(bits, bits as usize / 8);
        check(&made, &map(), &[], &[]);
        let full = MapState::Bloom {
            bits: bits.into(),
            bits_set: u64::from(bits) / 4,
            hash_functions: 5,
        };
        assert_eq!(state(&made, &map()), Ok(full));
    }
}

#[test]
fn what_is_not_there_is_a_gap_and_an_error() {
    let gap = |at: u64| format!("{at:#x}: physical {at:#x} is not in the image");
    let (first, second) = (MAP.get() + 0x120, MAP.get() + 0x1000);
    let cut = made(0x1_0000, 0x100);
    check(
        &cut,
        &map(),
        &[],
        &[&gap(first), &gap(second), &gap(second + 0x1000)],
    );
    let error = format!("cannot read bpf_bloom_filter.bitset: {}", gap(first));
    assert_eq!(state(&cut, &map()), Err(error));
}

#[test]
fn sizes_that_cannot_be_are_gaps_and_errors() {
    let odd = made(65, 16);
    let reason = "bpf_bloom_filter.bitset_mask: expected 0x7f, found 0x40";
    check(&odd, &map(), &[], &[&format!("{MAP}: {reason}")]);
    assert_eq!(state(&odd, &map()), Err(reason.to_owned()));
    let mut huge = made(0, 16);
    let reason = "bits of a Bloom filter 0x100000000 is more than memory holds";
    check(&huge, &map(), &[], &[&format!("{MAP}: {reason}")]);
    assert_eq!(state(&huge, &map()), Err(reason.to_owned()));
    huge.size = 1 << 29;
    assert!(state(&huge, &map()).unwrap_err().starts_with("cannot read"));
}
