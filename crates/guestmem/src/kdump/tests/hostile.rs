//! Files that end early, lie, or are noise.

use proptest::prelude::*;

use super::build::{Packing, Plan, flatten};
use super::{letters, open, reason};
use crate::Format;

/// What the pages of `file` are, or why it cannot be opened.
fn found(file: &[u8]) -> Result<String, String> {
    let image = open(file).map_err(|error| reason(&error))?;
    // Without its first bytes it is another's.
    match image.format() {
        Format::Kdump => Ok(letters(&image, 8, 12)),
        other => Err(other.name().to_owned()),
    }
}

/// That no page of `file` is anything but what the plan has there, or a fault.
fn check_honest(plan: &Plan<'_>, file: &[u8]) {
    let Ok(found) = found(file) else {
        return;
    };
    let wrong = (plan.pages.chars().zip(found.chars()))
        .find(|&(expected, found)| expected != found && !"!?".contains(found));
    assert_eq!(wrong, None, "{} bytes: {found}", file.len());
}

#[test]
fn a_file_that_ends_early_has_what_it_has() {
    let plan = Plan::default();
    for whole in [plan.build(), flatten(&plan.build(), 500)] {
        let structures = [
            0, 7, 8, 463, 464, 4096, 4200, 4201, 8192, 8193, 12288, 12289, 16384,
        ];
        let lengths = structures.into_iter().chain((0..whole.len()).step_by(61));
        for len in lengths.filter(|&len| len > 0) {
            check_honest(&plan, &whole[..len]);
        }
    }
    let whole = plan.build();
    let cut = |what: &str| Err(format!("its {what} cannot be read"));
    let check = |len: usize, expected| assert_eq!(found(&whole[..len]), expected, "{len} bytes");
    check(100, cut("header"));
    check(4100, cut("second header"));
    check(plan.bitmaps().start, cut("bitmap"));
    check(plan.descriptors().start - 4096, cut("bitmap"));
    check(plan.descriptors().start, Ok("????x.??".to_owned()));
    check(plan.descriptors().start + 24, Ok("????x.??".to_owned()));
    check(whole.len() - 1, Ok("abc0x.?0".to_owned()));
}

#[test]
fn numbers_that_lie_are_seen() {
    let plan = Plan::default();
    let check = |at: usize, bytes: &[u8], expected: &str| {
        let mut file = plan.build();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let found = found(&file).unwrap_or_else(|error| error);
        assert_eq!(found, expected, "at {at:#x}: {bytes:x?}");
    };
    let wide = |number: u64| number.to_le_bytes();
    let narrow = |number: u32| number.to_le_bytes();
    // The first header.
    let unknown = "its header is of version 7, and 6 is the last that is known";
    check(8, &narrow(7), unknown);
    check(428, &narrow(0), "its header states a page size of 0x0");
    check(
        428,
        &narrow(1 << 31),
        "its header states a page size of 0x80000000",
    );
    check(
        428,
        &narrow(4097),
        "its header states a page size of 0x1001",
    );
    let big = "it is of a big-endian machine, which is not read";
    check(428, &0x1000u32.to_be_bytes(), big);
    let cut = |what: &str| format!("its {what} cannot be read");
    check(432, &narrow(u32::MAX), &cut("bitmap"));
    check(436, &narrow(u32::MAX), &cut("bitmap"));
    check(
        436,
        &narrow(0),
        "its header states a size of the bitmaps of 0x0",
    );
    // The second one.
    let sub = 4096;
    let many = "its header states a number of pages of 0x8000000000000000";
    check(sub + 96, &wide(1 << 63), many);
    let size = "its header states a size of the bitmaps of 0x2000";
    check(sub + 96, &wide(1 << 34), size);
    check(sub + 96, &wide(0), "........");
    check(sub + 32, &[0xff; 16], plan.pages);
    check(sub + 48, &[0xff; 16], plan.pages);
    let missing = "it is one of the files that a dump was split into, and none beside it has the \
                   pages 0x0 to 0x7";
    check(sub + 12, &narrow(1), missing);
    // Bitmaps and descriptors.
    check(plan.bitmaps().start, &[0], "abc0..d0");
    check(plan.bitmaps().start + 4096, &[0], "xxxxx.xx");
    let descriptor = plan.descriptors().start;
    check(descriptor, &wide(0), "xbc0x.d0");
    check(descriptor, &wide(u64::MAX), "?bc0x.d0");
    check(descriptor, &wide(1 << 40), "?bc0x.d0");
    check(descriptor, &wide(0x10), "!bc0x.d0");
    check(descriptor + 8, &narrow(u32::MAX), "!bc0x.d0");
    check(descriptor + 8, &narrow(0), "!bc0x.d0");
    check(descriptor + 8, &narrow(4097), "!bc0x.d0");
    for flags in [0, 2, 3, 4, 8, 0x20, 0x40, u32::MAX] {
        check(descriptor + 12, &narrow(flags), "!bc0x.d0");
    }
}

#[test]
fn a_32_bit_dump_is_known() {
    let mut file = Plan::default().build();
    file[416..420].copy_from_slice(&0x1000u32.to_le_bytes());
    file[428..432].copy_from_slice(&0x9000u32.to_le_bytes());
    let expected = "it is of a 32-bit kernel, which is not read";
    assert_eq!(found(&file), Err(expected.to_owned()));
}

#[test]
fn records_that_lie_are_seen() {
    let plan = Plan::default();
    let whole = flatten(&plan.build(), 1 << 20);
    let check = |at: usize, number: i64, expected: &str| {
        let mut file = whole.clone();
        file[at..at + 8].copy_from_slice(&number.to_be_bytes());
        let found = found(&file).unwrap_or_else(|error| error);
        assert_eq!(found, expected, "at {at:#x}: {number:#x}");
    };
    let nonsense = "its record at 0x1000 makes no sense";
    check(4096, -2, nonsense);
    check(4096, i64::MAX, plan.pages);
    check(4104, -2, nonsense);
    check(4104, 0, "its record at 0x1010 makes no sense");
    check(
        4104,
        i64::MAX,
        "its header states a page size of 0xeeeeeeee",
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn flipped_bytes_do_no_harm(
        packing in 0..Packing::ALL.len(),
        record in prop::option::of(50usize..5000),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..24),
        in_tables in any::<bool>(),
    ) {
        let plan = Plan { packing: Packing::ALL[packing], ..Plan::default() };
        let mut file = plan.build();
        let end = if in_tables { plan.descriptors().end } else { file.len() };
        for (at, flip) in &flips {
            let at = at.index(end);
            file[at] ^= flip;
        }
        let _ = found(&file);
        if let Some(record) = record {
            let mut file = flatten(&plan.build(), record);
            for (at, flip) in &flips {
                let at = at.index(file.len());
                file[at] ^= flip;
            }
            let _ = found(&file);
        }
    }
}
