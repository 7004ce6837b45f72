//! All of them with words overwritten at random: whatever they hold, a walk
//! ends, and hands out no more than memory could hold.

use guestmem::{Address, MemoryExt};

use super::{Made, read};
use crate::MapInfo;

/// Damages the map in many ways and reads it each time.
fn check(made: impl Fn() -> (Made, MapInfo)) {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random >> 33).unwrap() % below
    };
    for _ in 0..500 {
        let (mut made, map) = made();
        made.size = 1 << 16;
        let areas = made.areas.clone();
        for _ in 0..=next(3) {
            let (area, len) = areas[next(areas.len())];
            let at = super::on(area, (next(len.max(1)) & !7) as u64);
            // Another address, a small number, a large one, or a few bits.
            let word = match next(4) {
                0 => areas[next(areas.len())].0.get(),
                1 => next(300) as u64,
                2 => u64::MAX >> next(64),
                _ => made.load_u64(at).unwrap_or(0) ^ 1 << next(64),
            };
            made.bytes(at, &word.to_le_bytes());
        }
        let (lines, gaps) = read(&made, &map);
        assert!(lines.len() + gaps.len() <= 1 << 16);
        // The state is there or an error.
        let _ = super::super::state(&made, &map, super::MAP);
    }
}

#[test]
fn every_walk_ends() {
    check(super::bloom::healthy);
    check(super::insn_array::healthy);
    check(super::lpm_trie::healthy);
    check(super::queue::healthy);
    check(super::rhash::healthy);
    check(super::ring_buffer::healthy);
    check(super::stack_trace::healthy);
    check(super::struct_ops::healthy);
}
