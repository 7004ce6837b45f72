#![cfg(test)]
//! What each format looks like. `UPDATE_EXPECT=1` rewrites the expectations.

mod zoo;

use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, GapAt, MapType, Reason};
use btf_layout::Btf;
use btf_layout::build::Builder;
use expect_test::expect_file;
use guestmem::Kva;
use render::fake::{Fake, FakeMap};
use render::{Format, Options, Source, Style};

#[test]
fn text() {
    expect_file!["golden/all.txt"].assert_eq(&zoo::dump(Format::Text, &[], None));
}

/// Programs read one line; people compare one entry a line.
fn entry_lines(json: &str) -> String {
    json.replace("{\"key\":{", "\n{\"key\":{")
        .replace("{\"key\":[", "\n{\"key\":[")
}

#[test]
fn json() {
    expect_file!["golden/all.json"].assert_eq(&entry_lines(&zoo::dump(Format::Json, &[], None)));
}

#[test]
fn jsonl() {
    expect_file!["golden/some.jsonl"].assert_eq(&zoo::dump(Format::Jsonl, &[3, 4, 9], None));
}

#[test]
fn bpftool_of_one_map() {
    let text = zoo::dump(Format::Bpftool, &[4], None);
    expect_file!["golden/one.bpftool.json"].assert_eq(&entry_lines(&text));
}

#[test]
fn bpftool_of_several_maps() {
    let text = zoo::dump(Format::Bpftool, &[1, 5, 7], None);
    expect_file!["golden/several.bpftool.json"].assert_eq(&entry_lines(&text));
}

#[test]
fn colour() {
    let kernel = zoo::kernel();
    let mut options = Options::new(Source::new("raw"));
    options.style = Style::Ansi;
    let mut out = Vec::new();
    let outcome = render::dump(&kernel, &zoo::choose(&kernel, &[2, 5]), &options, &mut out);
    assert_eq!(outcome.unwrap().entries, 4);
    let text = String::from_utf8(out).unwrap().replace('\x1b', "^");
    expect_file!["golden/colour.txt"].assert_eq(&text);
}

#[test]
fn narrow() {
    let kernel = zoo::kernel();
    let mut options = Options::new(Source::new("raw"));
    options.width = 40;
    options.limit = Some(1);
    let mut out = Vec::new();
    let outcome = render::dump(
        &kernel,
        &zoo::choose(&kernel, &[1, 2, 5]),
        &options,
        &mut out,
    );
    assert_eq!(outcome.unwrap().limited, [1, 2]);
    expect_file!["golden/narrow.txt"].assert_eq(&String::from_utf8(out).unwrap());
}

/// Arrays that are too long for text, and a key that is too long for a line.
#[test]
fn long() {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let item = types.record("item", 8, &[("id", u32_, 0), ("weight", u32_, 32)]);
    let (items, numbers) = (types.array(item, 100), types.array(u32_, 100));
    let long = types.record(
        "long",
        1200,
        &[("items", items, 0), ("numbers", numbers, 6400)],
    );
    let btf = Rc::new(Btf::parse(types.finish(), "a test").unwrap());
    let words = (0..300_u32).map(|word| if word < 290 { word } else { 0 });
    let value: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
    let by_key = FakeMap::new(2, "by_key", MapType::HASH, 40, 4);
    let kernel = Fake::new(vec![
        FakeMap::new(1, "long", MapType::HASH, 4, 1200)
            .typed(&btf, u32_, long)
            .entry(&[7, 0, 0, 0], value.as_slice()),
        by_key.entry(&[0x61; 40], [1, 2, 3, 4].as_slice()),
    ]);
    let mut out = Vec::new();
    let maps = kernel.maps().unwrap();
    let options = Options::new(Source::new("raw"));
    let outcome = render::dump(&kernel, &maps, &options, &mut out).unwrap();
    assert!(outcome.is_complete());
    expect_file!["golden/long.txt"].assert_eq(&String::from_utf8(out).unwrap());
}

#[test]
fn lists_of_maps() {
    let kernel = zoo::kernel();
    let mut maps = kernel.maps().unwrap();
    maps.maps[2].memory = Some(1_572_864);
    maps.maps[2].kva = Some(Kva::at(0xffff_8880_0000_1000));
    maps.walk
        .gap(GapAt::Map, Reason::Cycle { what: "the list" });
    let mut all = String::new();
    for format in [Format::Text, Format::Json, Format::Jsonl, Format::Bpftool] {
        let mut options = Options::new(Source::new("raw"));
        options.format = format;
        let mut out = Vec::new();
        let outcome = render::maps(&kernel, &maps, &options, &mut out).unwrap();
        assert_eq!(outcome.gaps, 1);
        all += &String::from_utf8(out).unwrap();
        all += "\n";
    }
    expect_file!["golden/maps.txt"].assert_eq(&all);
}
