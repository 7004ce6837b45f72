#![cfg(test)]
//! The bytes of an arena's pages, in each format that has a place for them.

#[path = "common/schema.rs"]
mod schema;

use bpfmaps::arena::{Run, Window};
use bpfmaps::{BpfMapAccessor, MapState, MapType, PagesFrom};
use guestmem::{Address, ArenaPtr, Kva};
use render::fake::{Fake, FakeMap};
use render::{ArenaPages, Format, Options, Outcome, Source};
use serde_json::{Value, json};

const START: u64 = 0x1000_0000_0000;

/// An arena of which page 1 has text, page 2 is unreadable and page 5 zero.
fn kernel() -> Fake {
    let base = Kva::at(0xffff_c900_8000_0000);
    let window = Window::new(START, 64, base, 4096).unwrap();
    let map = FakeMap::new(27, "arena", MapType::ARENA, 0, 0)
        .state(MapState::Arena {
            user_start: Some(ArenaPtr::new(START)),
            kernel_base: Some(base),
            page_size: 4096,
            declared_pages: 64,
            runs: vec![Run { pgoff: 1, pages: 2 }, Run { pgoff: 5, pages: 1 }],
            faulted: vec![],
            complete: true,
            pages_from: PagesFrom::PageTables,
        })
        .arena(window)
        .holds(START + 0x1010, b"in the arena")
        .holds(START + 0x5000, &[0])
        .unreadable_page(2);
    Fake::new(vec![map])
}

fn dump(format: Format, arena_pages: ArenaPages) -> (Outcome, String) {
    let kernel = kernel();
    let mut options = Options::new(Source::new("raw"));
    options.format = format;
    options.arena_pages = arena_pages;
    let mut out = Vec::new();
    let maps = kernel.maps().unwrap();
    let outcome = render::dump(&kernel, &maps, &options, &mut out).unwrap();
    (outcome, String::from_utf8(out).unwrap())
}

/// Checks what the member `arena` has of the pages.
fn check(arena: &Value) {
    let pages = arena["pages"].as_array().unwrap();
    let zeros = "A".repeat(5456);
    assert_eq!(pages.len(), 3);
    assert_eq!(pages[0]["pgoff"], 1);
    let first = pages[0]["base64"].as_str().unwrap();
    // 16 zeros are 21 digits and a part of the next.
    assert_eq!(first.len(), 5464);
    assert_eq!(&first[..44], "AAAAAAAAAAAAAAAAAAAAAGluIHRoZSBhcmVuYQAAAAAA");
    assert_eq!(pages[1]["pgoff"], 2);
    assert!(pages[1]["base64"].is_null());
    assert!(pages[1]["missing"].is_string());
    assert_eq!(pages[2], json!({"pgoff": 5, "base64": zeros + "AAAAAA=="}));
}

#[test]
fn json_has_all_pages() {
    let (outcome, text) = dump(Format::Json, ArenaPages::Bytes);
    schema::check(&schema::schema(None), &text);
    let document: Value = serde_json::from_str(&text).unwrap();
    let map = &document["maps"][0];
    check(&map["arena"]);
    assert_eq!((outcome.gaps, &map["complete"]), (1, &json!(false)));
}

#[test]
fn so_have_lines() {
    let (outcome, text) = dump(Format::Jsonl, ArenaPages::Bytes);
    let line = schema::schema(Some("line"));
    text.lines().for_each(|text| schema::check(&line, text));
    let header: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    check(&header["map"]["arena"]);
    assert_eq!(outcome.gaps, 1);
}

#[test]
fn text_has_those_that_are_not_zero() {
    let (outcome, text) = dump(Format::Text, ArenaPages::Bytes);
    assert_eq!(outcome.gaps, 1);
    for part in [
        "page 1\n",
        "in the arena",
        "page 2 not read: ",
        "1 page of zeros",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("page 5"), "{text}");
}

#[test]
fn nothing_of_it_unless_it_is_asked_for() {
    for format in [Format::Text, Format::Json, Format::Jsonl] {
        let (outcome, text) = dump(format, ArenaPages::Listed);
        assert_eq!(outcome.gaps, 0);
        assert!(!text.contains("base64") && !text.contains("in the arena"));
    }
}
