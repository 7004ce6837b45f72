//! Ring buffers.

use btf_layout::build::Builder;
use guestmem::{Address, Kva};

use super::{MAP, Made, NOWHERE, check, on, record, state};
use crate::{MapInfo, MapState, MapType};

const RING: Kva = Kva::at(0xffff_c900_0000_2000);
const MASK: u64 = 8;
const MODE: u64 = 20;
const CONSUMER: u64 = 0x1000;
const PRODUCER: u64 = 0x2000;
const PENDING: u64 = 0x2010;
const OVERWRITTEN: u64 = 0x2018;
const DATA: u64 = 0x3000;
const SIZE: u32 = 0x1000;

const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;

fn map(map_type: MapType) -> MapInfo {
    MapInfo {
        map_type,
        max_entries: SIZE,
        ..MapInfo::default()
    }
}

/// A ring buffer without records; a `recent` one knows all positions.
fn made(recent: bool, consumer: u64, producer: u64) -> Made {
    let mut types = Builder::new();
    let (u8_, u64_) = (types.int("u8", 1), types.int("u64", 8));
    let flexible = types.array(u8_, 0);
    record(&mut types, "bpf_ringbuf_map", 24, &[("rb", u64_, 16)]);
    let mut members = vec![
        ("mask", u64_, 8),
        ("consumer_pos", u64_, 0x1000),
        ("producer_pos", u64_, 0x2000),
        ("data", flexible, 0x3000),
    ];
    if recent {
        members.extend([
            ("overwrite_mode", u8_, 20),
            ("pending_pos", u64_, 0x2010),
            ("overwrite_pos", u64_, 0x2018),
        ]);
    }
    record(&mut types, "bpf_ringbuf", 0x3000, &members);
    let mut made = Made::new(&types);
    made.zeros(MAP, 24);
    made.u64(on(MAP, 16), RING.get());
    made.zeros(RING, 0x3000);
    made.zeros(on(RING, DATA), 2 * SIZE as usize);
    made.u64(on(RING, MASK), u64::from(SIZE) - 1);
    made.u64(on(RING, CONSUMER), consumer);
    made.u64(on(RING, PRODUCER), producer);
    made
}

/// Puts a record at `pos`: through both mappings of its page.
fn put(made: &mut Made, pos: u64, flags: u32, text: &[u8]) {
    let offset = DATA + pos % u64::from(SIZE);
    let len = u32::try_from(text.len()).unwrap();
    let mut bytes = (len | flags).to_le_bytes().to_vec();
    bytes.extend(u32::try_from(offset / 0x1000).unwrap().to_le_bytes());
    bytes.extend(text);
    for (index, byte) in (0u64..).zip(bytes) {
        let place = (pos + index) % u64::from(SIZE);
        made.bytes(on(RING, DATA + place), &[byte]);
        made.bytes(on(RING, DATA + u64::from(SIZE) + place), &[byte]);
    }
}

/// A ring buffer of three records, of which the second wraps around.
fn filled(recent: bool) -> Made {
    let mut made = made(recent, 0x3fe8, 0x4020);
    put(&mut made, 0x3fe8, 0, b"one");
    put(&mut made, 0x3ff8, DISCARD, b"wraps around");
    put(&mut made, 0x4010, BUSY, b"busy");
    made
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    (filled(true), map(MapType::RINGBUF))
}

#[test]
fn records_come_with_their_state_and_around_the_end() {
    for recent in [false, true] {
        let made = filled(recent);
        let found = [
            "16360 ready 6f6e65",
            "16376 discarded 77726170732061726f756e64",
            "16400 busy 62757379",
        ];
        check(&made, &map(MapType::RINGBUF), &found, &[]);
        check(&made, &map(MapType::USER_RINGBUF), &found, &[]);
        let expected = MapState::RingBuffer {
            size: 0x1000,
            consumer_pos: 0x3fe8,
            producer_pos: 0x4020,
            pending_pos: recent.then_some(0),
            overwrite_pos: recent.then_some(0),
            overwrite: false,
        };
        assert_eq!(state(&made, &map(MapType::RINGBUF)), Ok(expected));
    }
    check(&made(true, 64, 64), &map(MapType::RINGBUF), &[], &[]);
}

#[test]
fn in_overwrite_mode_the_oldest_is_what_was_not_overwritten() {
    let mut made = made(true, 0, 0x5010);
    made.bytes(on(RING, MODE), &[1]);
    made.u64(on(RING, OVERWRITTEN), 0x5000);
    made.u64(on(RING, PENDING), 0x5010);
    put(&mut made, 0x5000, 0, b"left");
    check(
        &made,
        &map(MapType::RINGBUF),
        &["20480 ready 6c656674"],
        &[],
    );
    let expected = MapState::RingBuffer {
        size: 0x1000,
        consumer_pos: 0,
        producer_pos: 0x5010,
        pending_pos: Some(0x5010),
        overwrite_pos: Some(0x5000),
        overwrite: true,
    };
    assert_eq!(state(&made, &map(MapType::RINGBUF)), Ok(expected));
    // What was consumed since does not come either.
    made.u64(on(RING, CONSUMER), 0x5010);
    check(&made, &map(MapType::RINGBUF), &[], &[]);
}

#[test]
fn positions_that_cannot_be_are_gaps() {
    let check = |consumer, producer, what: &str| {
        let gap = format!("{RING}: {what}");
        check(
            &made(true, consumer, producer),
            &map(MapType::USER_RINGBUF),
            &[],
            &[&gap],
        );
    };
    let by = "bpf_ringbuf.consumer_pos, by the producer's";
    check(0, 0x1008, &format!("{by}: expected 0x8, found 0x0"));
    check(0x18, 0x10, &format!("{by}: expected 0x10, found 0x18"));
    check(
        0,
        0x11,
        "bpf_ringbuf.producer_pos: expected 0x10, found 0x11",
    );
    check(4, 0x10, "bpf_ringbuf.consumer_pos: expected 0x0, found 0x4");
    let mut other = made(true, 0, 0);
    other.u64(on(RING, MASK), u64::MAX);
    let gap = format!("{RING}: bpf_ringbuf.mask: expected 0xfff, found 0xffffffffffffffff");
    super::check(&other, &map(MapType::RINGBUF), &[], &[&gap]);
}

#[test]
fn lengths_that_lie_end_the_walk() {
    let with = |flags, map_type: MapType, gap: &str| {
        let mut made = made(true, 0, 0x20);
        put(&mut made, 0, 0, b"first");
        put(&mut made, 0x10, flags, b"second");
        check(&made, &map(map_type), &["0 ready 6669727374"], &[gap]);
    };
    let at = "0xffffc90000005010";
    let what = "bytes of the records that are left";
    let gap = format!("{at}: {what}: expected 0x10, found 0x18");
    with(8, MapType::USER_RINGBUF, &gap);
    let gap = format!("{at}: {what}: expected 0x10, found 0x40000008");
    with(0x3fff_fff8, MapType::RINGBUF, &gap);
    // A kernel's header knows its page.
    let mut wrong = made(true, 0, 0x10);
    put(&mut wrong, 0, 0, b"first");
    wrong.u32(on(RING, DATA + 4), 7);
    let gap = format!(
        "{}: bpf_ringbuf_hdr.pg_off: expected 0x3, found 0x7",
        on(RING, DATA)
    );
    check(&wrong, &map(MapType::RINGBUF), &[], &[&gap]);
    check(
        &wrong,
        &map(MapType::USER_RINGBUF),
        &["0 ready 6669727374"],
        &[],
    );
}

#[test]
fn a_ring_that_is_nowhere_or_larger_than_memory_is_not_read() {
    let mut small = made(true, 0, 0x10);
    small.size = 0xfff;
    let gap = "map: size of a ring buffer 0x1000 is more than memory holds";
    check(&small, &map(MapType::RINGBUF), &[], &[gap]);
    let mut lost = made(true, 0, 0);
    lost.u64(on(MAP, 16), NOWHERE);
    let at = "0xffff8880dead1000";
    let gap = format!("{at}: physical {at} is not in the image");
    check(&lost, &map(MapType::RINGBUF), &[], &[&gap]);
    let error = format!("cannot read bpf_ringbuf.consumer_pos: {gap}");
    assert_eq!(state(&lost, &map(MapType::RINGBUF)), Err(error));
}
