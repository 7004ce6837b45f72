//! Queues and stacks.

use btf_layout::build::Builder;
use guestmem::{Fake, Memory};

use super::{MAP, Made, check, on, read, record, state};
use crate::{MapInfo, MapState, MapType};

const HEAD: u64 = 20;
const TAIL: u64 = 28;
const SLOTS: u64 = 24;
const ELEMENTS: u64 = 40;

fn map(map_type: MapType) -> MapInfo {
    MapInfo {
        map_type,
        value_size: 3,
        max_entries: 4,
        ..MapInfo::default()
    }
}

/// Five slots that hold `s0`, `s1`, …
fn made(head: u32, tail: u32) -> Made {
    let mut types = Builder::new();
    let (u8_, u32_) = (types.int("u8", 1), types.int("u32", 4));
    let flexible = types.array(u8_, 0);
    let members = [
        ("head", u32_, 20),
        ("size", u32_, 24),
        ("tail", u32_, 28),
        ("elements", flexible, 40),
    ];
    record(&mut types, "bpf_queue_stack", 40, &members);
    let mut made = Made::new(&types);
    made.zeros(MAP, 40);
    made.u32(on(MAP, HEAD), head);
    made.u32(on(MAP, TAIL), tail);
    made.u32(on(MAP, SLOTS), 5);
    made.bytes(on(MAP, ELEMENTS), b"s00s11s22s33s44");
    made
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    (made(1, 3), map(MapType::STACK))
}

#[test]
fn a_queue_comes_oldest_first_and_a_stack_newest_first() {
    let (queue, stack) = (map(MapType::QUEUE), map(MapType::STACK));
    check(&made(2, 2), &queue, &[], &[]);
    check(&made(2, 0), &queue, &["0 733030", "1 733131"], &[]);
    check(&made(2, 0), &stack, &["0 733131", "1 733030"], &[]);
    // Around the end.
    let wrapped = ["0 733333", "1 733434", "2 733030"];
    check(&made(1, 3), &queue, &wrapped, &[]);
    check(
        &made(1, 3),
        &stack,
        &["0 733030", "1 733434", "2 733333"],
        &[],
    );
    assert_eq!(
        state(&made(1, 3), &queue),
        Ok(MapState::Queue {
            head: 1,
            tail: 3,
            slots: 5
        })
    );
}

#[test]
fn ends_outside_and_sizes_that_differ_are_gaps() {
    let gap = "0xffff888000001000: bpf_queue_stack.tail: expected 0x4, found 0x5";
    check(&made(0, 5), &map(MapType::QUEUE), &[], &[gap]);
    let error = "bpf_queue_stack.tail: expected 0x4, found 0x5";
    assert_eq!(
        state(&made(0, 5), &map(MapType::QUEUE)),
        Err(error.to_owned())
    );
    let gap = "0xffff888000001000: bpf_queue_stack.head: expected 0x4, found 0xffffffff";
    check(&made(u32::MAX, 0), &map(MapType::STACK), &[], &[gap]);
    let other = MapInfo {
        max_entries: 7,
        ..map(MapType::STACK)
    };
    let gap = "0xffff888000001000: bpf_queue_stack.size: expected 0x8, found 0x5";
    check(&made(2, 0), &other, &[], &[gap]);
    let empty = MapInfo {
        value_size: 0,
        ..map(MapType::QUEUE)
    };
    let gap = "0xffff888000001000: bpf_map.value_size of a queue: expected 0x1, found 0x0";
    check(&made(2, 0), &empty, &[], &[gap]);
}

#[test]
fn what_is_not_there_is_one_gap() {
    // The first slot and a part of the second are there.
    let mut bytes = vec![0; 44];
    made(4, 0).memory.read(MAP, &mut bytes).unwrap();
    let mut cut = made(4, 0);
    cut.memory = Fake::new().with(MAP, &bytes);
    let first = "0xffff88800000102c: physical 0xffff88800000102c is not in the image";
    let rest = "indices 2 to 3: physical 0xffff88800000102e is not in the image";
    let found = ["0 733030", "1 73…"];
    check(&cut, &map(MapType::QUEUE), &found, &[first, rest]);
    // From the other end, one after the other: the page's start is there.
    let (found, gaps) = read(&cut, &map(MapType::STACK));
    assert_eq!(found, ["2 73…", "3 733030"]);
    assert!(gaps[0].starts_with("index 0: physical 0xffff888000001031"));
    assert!(gaps[1].starts_with("index 1: physical 0xffff88800000102e"));
    assert_eq!(gaps[2..], [first]);
    let huge = MapInfo {
        value_size: 1 << 30,
        ..map(MapType::QUEUE)
    };
    let gap = "0xffff888000001000: slots of a queue 0x5 is more than memory holds";
    check(&cut, &huge, &[], &[gap]);
}
