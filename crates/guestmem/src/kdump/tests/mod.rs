//! Whole files, whole and damaged.

mod build;
mod hostile;

use std::path::Path;

use self::build::{Packing, Plan, flatten, page};
use crate::{Address, Cause, Format, Gpa, Image, Memory, OpenError};

/// Opens these bytes as a file.
fn open(bytes: &[u8]) -> Result<Image, OpenError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dump");
    std::fs::write(&path, bytes).unwrap();
    Image::open(&path)
}

/// What the first `count` pages are, in the letters of a [`Plan`]; `!` stands
/// for damaged, `?` for vanished, `*` for anything else.
fn letters(image: &Image, count: usize, page_shift: u32) -> String {
    let len = 1 << page_shift;
    let read = |number: usize| {
        let mut bytes = vec![0; len];
        let at = Gpa::new((number as u64) << page_shift);
        match image.layouts()[0].read(at, &mut bytes) {
            Ok(()) => ('0'..='z')
                .find(|&letter| bytes[..1] == page(letter, 1))
                .filter(|&letter| bytes == page(letter, len)),
            Err(fault) => {
                assert_eq!(fault.addr, at);
                Some(match fault.cause {
                    Cause::Unbacked { gpa } if gpa == at => '.',
                    Cause::Excluded { gpa } if gpa == at => 'x',
                    Cause::Damaged { gpa } if gpa == at => '!',
                    Cause::Vanished { gpa } if gpa == at => '?',
                    cause => panic!("{cause:?}"),
                })
            }
        }
        .unwrap_or('*')
    };
    (0..count).map(read).collect()
}

/// The causes of a failure, as they are shown.
fn reason(error: &OpenError) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), ToString::to_string)
}

/// That the file has the pages of its plan.
fn check(plan: &Plan<'_>, bytes: &[u8]) {
    let image = open(bytes).unwrap();
    assert_eq!(image.format(), Format::Kdump);
    let count = plan.pages.len();
    let expected = format!("{}..", plan.pages);
    assert_eq!(
        letters(&image, count + 2, plan.page_shift),
        expected,
        "{plan:?}"
    );

    let memory = &image.layouts()[0];
    let existing = plan.pages.chars().filter(|&letter| letter != '.').count();
    assert_eq!(memory.size(), (existing as u64) << plan.page_shift);
    // Runs are what was dumped.
    let mut dumped = String::new();
    let mut from = Gpa::new(0);
    while let Some(run) = memory.next_data(from) {
        let at = |gpa: Gpa| usize::try_from(gpa.get() >> plan.page_shift).unwrap();
        let end = run.start.checked_add(run.len).unwrap();
        dumped.push_str(&plan.pages[at(run.start)..at(end)]);
        from = end;
    }
    assert_eq!(dumped, plan.pages.replace(['.', 'x'], ""));
}

#[test]
fn every_form_gives_the_same_memory() {
    for packing in Packing::ALL {
        for (page_shift, version) in [(12, 1), (12, 5), (12, 6), (14, 6), (16, 6)] {
            let plan = Plan {
                packing,
                page_shift,
                version,
                ..Plan::default()
            };
            check(&plan, &plan.build());
            for record in [100, 4096, 1 << 20] {
                check(&plan, &flatten(&plan.build(), record));
            }
        }
    }
}

#[test]
fn a_bitmap_may_have_many_counters() {
    let plan = Plan {
        pages: &"ab0x.".repeat(1000),
        ..Plan::default()
    };
    check(&plan, &plan.build());
}

#[test]
fn reads_cross_pages_and_end_at_the_first_that_is_not_there() {
    let plan = Plan::default();
    let image = open(&plan.build()).unwrap();
    let mut bytes = vec![9; 0x5000];
    let fault = image.layouts()[0]
        .read(Gpa::new(0x800), &mut bytes)
        .unwrap_err();
    assert_eq!(fault.addr, Gpa::new(0x4000));
    let whole: Vec<u8> = "abc0"
        .chars()
        .flat_map(|letter| page(letter, 4096))
        .collect();
    assert_eq!(bytes[..0x3800], whole[0x800..]);
    assert_eq!(bytes[0x3800..], [9; 0x1800]);
    let fault = image.layouts()[0].read(Gpa::new(u64::MAX), &mut bytes);
    assert_eq!(fault.unwrap_err().addr, Gpa::new(u64::MAX));
}

#[test]
fn old_dumps_have_one_bitmap_for_both() {
    let plan = Plan {
        pages: "ab0.c",
        version: 1,
        ..Plan::default()
    };
    let mut bytes = plan.build();
    let block = 1 << plan.page_shift;
    bytes[436] = 1;
    bytes.drain(3 * block..4 * block);
    let descriptors = plan.descriptors();
    for descriptor in bytes[3 * block..descriptors.end - block].chunks_mut(24) {
        let at = u64::from_le_bytes(descriptor[..8].try_into().unwrap());
        descriptor[..8].copy_from_slice(&(at - block as u64).to_le_bytes());
    }
    check(&plan, &bytes);
    bytes[..8].copy_from_slice(b"DISKDUMP");
    check(&plan, &bytes);
}

#[test]
fn the_headers_tell_of_the_kernel() {
    let mut notes = vec![5, 0, 0, 0, 0xb8, 1, 0, 0, 0, 0, 0, 0];
    notes.extend(b"QEMU\0\0\0\0\x01\0\0\0");
    notes.resize(20 + 416, 0);
    notes.extend(0x1234_5000u64.to_le_bytes());
    notes.resize(20 + 0x1b8, 0);
    let plan = Plan {
        vmcoreinfo: b"OSRELEASE=6.12\n",
        notes: &notes,
        ..Plan::default()
    };
    for bytes in [plan.build(), flatten(&plan.build(), 77)] {
        let image = open(&bytes).unwrap();
        assert_eq!(image.vmcoreinfo(), Some(plan.vmcoreinfo));
        assert_eq!(image.roots(), [Gpa::new(0x1234_5000)]);
    }
    let image = open(&Plan::default().build()).unwrap();
    assert_eq!((image.vmcoreinfo(), image.roots()), (None, [].as_slice()));
}

#[test]
fn what_is_particular_is_told() {
    let check = |bytes: &[u8], expected: &[(&str, &str)]| {
        let image = open(bytes).unwrap();
        let facts = image.facts().iter();
        let facts: Vec<_> = facts.map(|(name, text)| (*name, text.as_str())).collect();
        assert_eq!(facts, expected);
    };
    let plan = Plan {
        pages: &format!("{}{}", "a".repeat(256), "x".repeat(128)),
        packing: Packing::Lzo,
        ..Plan::default()
    };
    let dumped = ("dumped", "1.0 MiB of 1.5 MiB");
    let flattened = ("form", "flattened");
    let cut = ("incomplete", "the file ends before its last record does");
    let whole = plan.build();
    let flat = flatten(&whole, 4096);
    check(&whole, &[dumped]);
    check(&flat, &[dumped, flattened]);
    check(&flat[..flat.len() - 16], &[dumped, flattened, cut]);
}

/// That opening the file `name` of `folder` gives this.
fn check_split(folder: &Path, name: &str, expected: Result<&str, &str>) {
    let opened = Image::open(&folder.join(name));
    let found = opened.map(|image| letters(&image, 8, 12));
    let found = found.map_err(|error| reason(&error));
    assert_eq!(found.as_deref().map_err(String::as_str), expected, "{name}");
}

#[test]
fn a_dump_in_several_files_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let plan = Plan::default();
    let part = |start, end| Plan {
        split: Some((start, end)),
        ..plan
    };
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    write("first", &part(0, 2).build());
    write("middle", &part(2, 6).build());
    // Files that are no part of it.
    write("other", &Plan::default().build());
    write("text", b"KDUMP   and nothing more");
    std::fs::create_dir(folder.join("folder")).unwrap();
    let mut earlier = part(6, 8).build();
    earlier[408] += 1;
    write("earlier", &earlier);
    let missing = "it is one of the files that a dump was split into, and none beside it has the \
                   pages 0x6 to 0x7";
    check_split(folder, "first", Err(missing));
    check_split(folder, "middle", Err(missing));
    check_split(folder, "other", Ok(plan.pages));

    write("last", &flatten(&part(6, 8).build(), 1000));
    write("copy of the last", &part(6, 8).build());
    for name in ["first", "middle", "last", "copy of the last"] {
        check_split(folder, name, Ok(plan.pages));
    }
    std::fs::remove_file(folder.join("middle")).unwrap();
    check_split(
        folder,
        "last",
        Err(&missing.replace("0x6 to 0x7", "0x2 to 0x5")),
    );
}
