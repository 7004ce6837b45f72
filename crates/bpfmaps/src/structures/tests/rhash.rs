//! Resizable hash tables.

use btf_layout::build::Builder;
use guestmem::{Address, Kva};

use super::{MAP, Made, NOWHERE, check, on, read, record};
use crate::{MapInfo, MapType};

const TABLE: u64 = 8;
const ELEM_SIZE: u64 = 16;

/// Of a table.
const COUNT: u64 = 8;
const NEST: u64 = 12;
const FUTURE: u64 = 16;
const BUCKETS: u64 = 64;

/// Of an element.
const NEXT: u64 = 0;
const KEY: u64 = 8;

const OLD: Kva = Kva::at(0xffff_8880_0006_0000);
const NEW: Kva = Kva::at(0xffff_8880_0007_0000);
const PAGES: Kva = Kva::at(0xffff_8880_0008_0000);

fn map() -> MapInfo {
    MapInfo {
        map_type: MapType::RHASH,
        key_size: 3,
        value_size: 2,
        max_entries: 100,
        ..MapInfo::default()
    }
}

fn element(index: u64) -> Kva {
    Kva::at(0xffff_8880_0009_0000 + index * 0x100)
}

fn bucket(table: Kva, index: u64) -> Kva {
    on(table, BUCKETS + index * 8)
}

fn end(bucket: Kva) -> u64 {
    bucket.get() | 1
}

/// A map whose table at `OLD` is empty, with four buckets.
fn made() -> Made {
    let mut types = Builder::new();
    let (u8_, u32_, u64_) = (types.int("u8", 1), types.int("u32", 4), types.int("u64", 8));
    let flexible = types.array(u64_, 0);
    let bytes = types.array(u8_, 0);
    let table = record(&mut types, "rhashtable", 8, &[("tbl", u64_, 0)]);
    let map = [("ht", table, 8), ("elem_size", u32_, 16)];
    record(&mut types, "bpf_rhtab", 24, &map);
    let table = [
        ("size", u32_, 8),
        ("nest", u32_, 12),
        ("future_tbl", u64_, 16),
        ("buckets", flexible, 64),
    ];
    record(&mut types, "bucket_table", 64, &table);
    let head = record(&mut types, "rhash_head", 8, &[("next", u64_, 0)]);
    let element = [("node", head, 0), ("data", bytes, 8)];
    record(&mut types, "rhtab_elem", 8, &element);
    let mut made = Made::new(&types);
    made.zeros(MAP, 24);
    made.u64(on(MAP, TABLE), OLD.get());
    made.u32(on(MAP, ELEM_SIZE), 24);
    table_at(&mut made, OLD, 4);
    made
}

/// Puts an empty table there.
fn table_at(made: &mut Made, at: Kva, count: u32) {
    made.zeros(at, 64 + count as usize * 8);
    made.u32(on(at, COUNT), count);
}

/// Puts a chain of elements into a bucket.
fn chain(made: &mut Made, bucket: Kva, elements: &[u64]) {
    let links = elements.iter().map(|&index| element(index).get());
    let mut links = links.chain([end(bucket)]);
    made.u64(bucket, links.next().unwrap());
    for (&index, next) in elements.iter().zip(links) {
        made.zeros(element(index), 32);
        made.u64(on(element(index), NEXT), next);
        made.bytes(on(element(index), KEY), format!("k{index:02}").as_bytes());
        made.bytes(on(element(index), KEY + 8), format!("v{index}").as_bytes());
    }
}

/// The lines of these elements.
fn lines(elements: &[u64]) -> Vec<String> {
    let line = |index| {
        let key = super::hex(format!("k{index:02}").as_bytes());
        format!("{key} {}", super::hex(format!("v{index}").as_bytes()))
    };
    elements.iter().map(line).collect()
}

#[track_caller]
fn finds(made: &Made, elements: &[u64], gaps: &[&str]) {
    let lines = lines(elements);
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    check(made, &map(), &lines, gaps);
}

fn filled() -> Made {
    let mut made = made();
    chain(&mut made, bucket(OLD, 0), &[1, 2, 3]);
    chain(&mut made, bucket(OLD, 2), &[4]);
    // One whose lock is held.
    made.u64(bucket(OLD, 2), element(4).get() | 1);
    // And one that is locked and empty.
    made.u64(bucket(OLD, 3), 1);
    made
}

#[test]
fn chains_read_back_also_of_locked_buckets() {
    finds(&filled(), &[1, 2, 3, 4], &[]);
    finds(&made(), &[], &[]);
}

/// A table that is being resized: 1 and 2 are still in the old one.
fn resizing() -> Made {
    let mut made = made();
    table_at(&mut made, NEW, 8);
    made.u64(on(OLD, FUTURE), NEW.get());
    chain(&mut made, bucket(OLD, 1), &[1, 2]);
    chain(&mut made, bucket(NEW, 5), &[3, 4]);
    made
}

/// A map as a kernel leaves it.
pub(super) fn healthy() -> (Made, MapInfo) {
    let mut made = resizing();
    made.u64(on(element(2), NEXT), element(3).get());
    (made, map())
}

#[test]
fn elements_that_are_being_moved_come_once() {
    finds(&resizing(), &[1, 2, 3, 4], &[]);
    // 2 is linked to the chain that it goes to, but not yet its head.
    let mut made = resizing();
    made.u64(on(element(2), NEXT), element(3).get());
    finds(&made, &[1, 2, 3, 4], &[]);
    // It is its head, and still the old chain's end.
    made.u64(bucket(NEW, 5), element(2).get() | 1);
    finds(&made, &[1, 2, 3, 4], &[]);
    // The old chain's end, where the new one was empty.
    let mut made = resizing();
    made.u64(on(element(2), NEXT), end(bucket(NEW, 7)));
    made.u64(bucket(NEW, 7), element(2).get());
    finds(&made, &[1, 3, 4, 2], &[]);
}

#[test]
fn an_end_of_no_bucket_is_a_gap() {
    let gap = |end| {
        format!(
            "0xffff888000060048: the end of a bucket's chain: expected 0xffff888000060049, found {end:#x}"
        )
    };
    let mut made = resizing();
    made.u64(on(element(2), NEXT), 0x1235);
    finds(&made, &[1, 2, 3, 4], &[&gap(0x1235)]);
    // Behind the last bucket of the new table.
    let behind = end(bucket(NEW, 8));
    made.u64(on(element(2), NEXT), behind);
    finds(&made, &[1, 2, 3, 4], &[&gap(behind)]);
}

#[test]
fn nested_tables_read_back() {
    // 2048 buckets: 2 pointers, to pages with 512 pointers each, to pages
    // with 2 buckets each.
    let mut made = made();
    table_at(&mut made, OLD, 1 << 11);
    made.u32(on(OLD, NEST), 1);
    made.u64(bucket(OLD, 0), PAGES.get());
    made.zeros(PAGES, 0x5000);
    let page = |index: u64| on(PAGES, index * 0x1000);
    made.u64(page(0), page(1).get());
    made.u64(on(page(0), 8), page(2).get());
    made.u64(on(page(1), 511 * 8), page(3).get());
    made.u64(on(page(2), 8), page(4).get());
    chain(&mut made, on(page(3), 8), &[1, 2]);
    chain(&mut made, page(4), &[3]);
    finds(&made, &[1, 2, 3], &[]);
    made.u32(on(OLD, NEST), 10);
    let gap = format!("{OLD}: bucket_table.nest: expected 0x9, found 0xa");
    finds(&made, &[], &[&gap]);
}

#[test]
fn cycles_end() {
    let mut made = filled();
    made.u64(on(element(3), NEXT), element(1).get());
    let (found, gaps) = read(&made, &map());
    assert!(found.len() >= 4 && found.len() < 12, "{found:?}");
    assert_eq!(
        gaps,
        ["0xffff888000060040: the chain of a bucket is a cycle"]
    );
    let mut made = resizing();
    made.u64(on(NEW, FUTURE), OLD.get());
    let (found, gaps) = read(&made, &map());
    assert!(found.len() >= 4 && found.len() < 16, "{found:?}");
    assert!(
        gaps[0].ends_with("bucket_table.future_tbl is a cycle"),
        "{gaps:?}"
    );
}

#[test]
fn wild_pointers_are_gaps() {
    let wild = format!("{NOWHERE:#x}: physical {NOWHERE:#x} is not in the image");
    let mut made = filled();
    made.u64(on(element(1), NEXT), NOWHERE);
    finds(&made, &[1, 4], &[&wild]);
    made.u64(on(MAP, TABLE), NOWHERE);
    finds(&made, &[], &[&wild]);
    let mut made = resizing();
    made.u64(on(OLD, FUTURE), NOWHERE);
    finds(&made, &[1, 2], &[&wild]);
}

#[test]
fn sizes_that_cannot_be_are_gaps() {
    let check = |at, word, gap: &str| {
        let mut made = filled();
        made.u32(at, word);
        finds(&made, &[], &[gap]);
    };
    let at = "0xffff888000060000: bucket_table.size";
    check(on(OLD, COUNT), 0, &format!("{at}: expected 0x1, found 0x0"));
    check(on(OLD, COUNT), 5, &format!("{at}: expected 0x8, found 0x5"));
    let absurd = format!("{at} 0x80000000 is more than memory holds");
    check(on(OLD, COUNT), 1 << 31, &absurd);
    let gap = "0xffff888000001000: bpf_rhtab.elem_size: expected 0x18, found 0x20";
    check(on(MAP, ELEM_SIZE), 32, gap);
}
