#![cfg(test)]
//! What is written is what the schema says.

#[path = "common/schema.rs"]
mod schema;
mod zoo;

use bpfmaps::{BpfMapAccessor, GapAt, Reason};
use render::{Format, Options, Source};
use schema::{check, schema};
use serde_json::{Value, json};

#[test]
fn documents_and_lines_are_valid() {
    let (document, line) = (schema(None), schema(Some("line")));
    for limit in [None, Some(0), Some(1)] {
        check(&document, &zoo::dump(Format::Json, &[], limit));
        for text in zoo::dump(Format::Jsonl, &[], limit).lines() {
            check(&line, text);
        }
    }
}

#[test]
fn lists_of_maps_are_valid() {
    let kernel = zoo::kernel();
    let mut maps = kernel.maps().unwrap();
    maps.walk
        .gap(GapAt::Map, Reason::Cycle { what: "the list" });
    let list = |format| {
        let mut options = Options::new(Source::new("live"));
        options.format = format;
        let mut out = Vec::new();
        let outcome = render::maps(&kernel, &maps, &options, &mut out).unwrap();
        assert_eq!(outcome.gaps, 1);
        String::from_utf8(out).unwrap()
    };
    check(&schema(None), &list(Format::Json));
    for text in list(Format::Jsonl).lines() {
        check(&schema(Some("line")), text);
    }
}

#[test]
fn the_schema_refuses_what_is_not_in_it() {
    let schema = schema(None);
    let text = zoo::dump(Format::Json, &[3], None);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(schema.is_valid(&value));
    for (path, wrong) in [
        ("/schema", json!("bpfreeze/2")),
        ("/maps/0/map_extra", json!(0)),
        ("/maps/0/entries/0/key/hex", json!("0x00")),
        ("/maps/0/entries/0/value", json!({"typed": 1})),
        ("/maps/0/entries/0", json!({"key": {"hex": ""}, "extra": 1})),
        ("/maps/0/gaps", json!([{"kva": "0x1"}])),
        ("/kernel/page_size", json!(-1)),
    ] {
        let mut value = value.clone();
        *value.pointer_mut(path).unwrap() = wrong;
        assert!(!schema.is_valid(&value), "{path}");
    }
    let mut value = value;
    value["maps"][0]["surprise"] = json!(1);
    assert!(!schema.is_valid(&value));
}
