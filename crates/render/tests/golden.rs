#![cfg(test)]
//! What each format looks like. `UPDATE_EXPECT=1` rewrites the expectations.

mod zoo;

use bpfmaps::{BpfMapAccessor, GapAt, Reason};
use expect_test::expect_file;
use guestmem::Kva;
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
        render::maps(kernel.kernel(), &maps, &options, &mut out).unwrap();
        all += &String::from_utf8(out).unwrap();
        all += "\n";
    }
    expect_file!["golden/maps.txt"].assert_eq(&all);
}
