#![cfg(test)]
//! Entries, objects and states of every kind, and programs.
//! `UPDATE_EXPECT=1` rewrites the expectations.

#[path = "kinds/mod.rs"]
mod builder;
#[path = "common/schema.rs"]
mod schema;

use bpfmaps::{BpfMapAccessor, GapAt, Maps, ProgInfo, Progs, Reason};
use expect_test::{ExpectFile, expect_file};
use render::fake::Fake;
use render::{Format, Options, Outcome, Source, Style};
use schema::{check, schema};
use serde_json::{Value, json};

fn options(format: Format) -> Options {
    let mut options = Options::new(Source::new("raw").with("file", "guest.ram"));
    options.format = format;
    options
}

fn dump_of(kernel: &Fake, maps: &Maps, options: &Options) -> (String, Outcome) {
    let mut out = Vec::new();
    let outcome = render::dump(kernel, maps, options, &mut out).unwrap();
    (String::from_utf8(out).unwrap(), outcome)
}

fn dump(options: &Options) -> (String, Outcome) {
    let kernel = builder::kernel();
    dump_of(&kernel, &kernel.maps().unwrap(), options)
}

/// Programs read one line; people compare one map and one entry a line.
fn lines(json: &str) -> String {
    [
        "{\"id\":",
        "{\"key\":{",
        "{\"key\":[",
        "{\"owner\":",
        "{\"index\":",
    ]
    .iter()
    .fold(json.to_owned(), |text, start| {
        text.replace(start, &format!("\n{start}"))
    })
}

#[test]
fn text() {
    let (text, outcome) = dump(&options(Format::Text));
    assert!(outcome.is_complete());
    expect_file!["golden/kinds.txt"].assert_eq(&text);
}

#[test]
fn colour() {
    let mut options = options(Format::Text);
    options.style = Style::Ansi;
    let (text, _) = dump(&options);
    expect_file!["golden/kinds.colour.txt"].assert_eq(&text.replace('\x1b', "^"));
}

#[test]
fn json() {
    let (text, outcome) = dump(&options(Format::Json));
    assert!(outcome.is_complete());
    check(&schema(None), &text);
    expect_file!["golden/kinds.json"].assert_eq(&lines(&text));
    let line_schema = schema(Some("line"));
    for line in dump(&options(Format::Jsonl)).0.lines() {
        check(&line_schema, line);
    }
}

#[test]
fn the_schema_refuses_what_is_no_entry() {
    let schema = schema(None);
    let value: Value = serde_json::from_str(&dump(&options(Format::Json)).0).unwrap();
    let at = |name: &str| {
        let maps = value["maps"].as_array().unwrap();
        let index = maps.iter().position(|map| map["name"] == name).unwrap();
        format!("/maps/{index}")
    };
    for (map, path, wrong) in [
        ("tasks", "/entries/0/owner/kind", json!("file")),
        (
            "tasks",
            "/entries/0/owner",
            json!({"kind": "task", "path": "/"}),
        ),
        ("tasks", "/entries/0", json!({"owner": {"kind": "task"}})),
        ("jumps", "/entries/0/refers", json!({"id": 5})),
        ("jumps", "/entries/0/index", json!(-1)),
        ("jumps", "/used_by/0", json!({"name": "tail"})),
        ("ring", "/entries/0/state", json!("lost")),
        ("ring", "/ringbuf/surprise", json!(1)),
        ("filter", "/bloom", json!({"bits": 64})),
        ("stacks", "/entries/0/frames/0", json!({"symbol": "f+0x1"})),
        (
            "queue",
            "/entries/0",
            json!({"element": 0, "value": {"hex": ""}, "key": {"hex": ""}}),
        ),
    ] {
        let mut value = value.clone();
        let path = at(map) + path;
        match value.pointer_mut(&path) {
            Some(old) => *old = wrong,
            None => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                value.pointer_mut(parent).unwrap()[name] = wrong;
            }
        }
        assert!(!schema.is_valid(&value), "{path}");
    }
    assert!(schema.is_valid(&value));
}

#[test]
fn bpftool() {
    let (text, outcome) = dump(&options(Format::Bpftool));
    assert_eq!(outcome.unplaced, [1, 2, 3, 4, 20, 21, 22, 23, 27, 28]);
    assert!(!outcome.is_complete() && outcome.gaps == 0 && outcome.errors.is_empty());
    expect_file!["golden/kinds.bpftool.json"].assert_eq(&lines(&text));
}

#[test]
fn free_slots_are_told_from_those_that_could_not_be_read() {
    let kernel = builder::kernel();
    let mut maps = kernel.maps().unwrap();
    maps.maps.retain(|map| map.name == "devices");
    let free = |kernel: &Fake, limit| {
        let mut options = options(Format::Bpftool);
        options.limit = limit;
        dump_of(kernel, &maps, &options)
            .0
            .matches("No such file")
            .count()
    };
    assert_eq!(free(&kernel, None), 2);
    assert_eq!(free(&kernel, Some(1)), 2);
    assert_eq!(free(&kernel, Some(0)), 0);
    let device = builder::maps()
        .into_iter()
        .find(|map| map.info.name == "devices");
    let broken = device.unwrap().gap(bpfmaps::Gap {
        at: GapAt::Index(2),
        reason: Reason::Cycle { what: "a slot" },
    });
    assert_eq!(free(&Fake::new(vec![broken]), None), 0);
}

#[test]
fn a_state_that_could_not_be_read_is_told() {
    let queue = builder::maps()
        .into_iter()
        .find(|map| map.info.name == "queue");
    let kernel = Fake::new(vec![queue.unwrap().gone()]);
    let maps = kernel.maps().unwrap();
    let (json, outcome) = dump_of(&kernel, &maps, &options(Format::Json));
    assert!(json.contains(r#""state_error":"map 20 is gone""#), "{json}");
    check(&schema(None), &json);
    // The types, the state, and the entries.
    assert_eq!(outcome.errors.len(), 3);
    let (text, _) = dump_of(&kernel, &maps, &options(Format::Text));
    assert!(
        text.contains("  state not read: map 20 is gone\n"),
        "{text}"
    );
}

#[test]
fn inner_maps_name_their_outer_one() {
    let kernel = builder::kernel();
    let mut maps = kernel.maps().unwrap();
    maps.maps.retain(|map| [11, 20].contains(&map.id));
    let mut options = options(Format::Text);
    options.inner_of.insert(20, 11);
    let (text, _) = dump_of(&kernel, &maps, &options);
    assert!(text.contains("inner of 11 outer\n"), "{text}");
}

fn check_list(write: impl Fn(&Options, &mut Vec<u8>), formats: &[Format], golden: &ExpectFile) {
    let mut all = String::new();
    let line_schema = schema(Some("line"));
    for &format in formats {
        let mut out = Vec::new();
        write(&options(format), &mut out);
        let text = String::from_utf8(out).unwrap();
        match format {
            Format::Json => check(&schema(None), &text),
            Format::Jsonl => text.lines().for_each(|line| check(&line_schema, line)),
            Format::Text | Format::Bpftool => {}
        }
        all += &text;
        all += "\n";
    }
    golden.assert_eq(&all);
}

const OURS: [Format; 3] = [Format::Text, Format::Json, Format::Jsonl];

#[test]
fn lists_of_programs() {
    let kernel = builder::kernel();
    let mut progs = kernel.progs().unwrap();
    progs
        .walk
        .gap(GapAt::Map, Reason::Cycle { what: "the list" });
    let write = |options: &Options, out: &mut Vec<u8>| {
        render::progs(kernel.kernel(), &progs, options, out).unwrap();
    };
    check_list(write, &OURS, &expect_file!["golden/progs.txt"]);
}

#[test]
fn lists_of_maps_say_who_uses_them() {
    let write = |kernel: Fake, golden: ExpectFile| {
        let mut maps = kernel.maps().unwrap();
        maps.maps.retain(|map| [1, 10, 11, 12].contains(&map.id));
        let write = |options: &Options, out: &mut Vec<u8>| {
            let outcome = render::maps(&kernel, &maps, options, out).unwrap();
            assert_eq!(outcome.is_complete(), kernel.progs().is_ok());
        };
        check_list(write, &OURS, &golden);
    };
    write(builder::kernel(), expect_file!["golden/used_by.txt"]);
    let without = builder::kernel().without_progs();
    write(without, expect_file!["golden/used_by_nobody_knows.txt"]);
}

#[test]
fn programs_that_could_not_be_read_are_missing_from_the_users() {
    let mut progs = Progs {
        progs: vec![ProgInfo::default()],
        ..Progs::default()
    };
    progs
        .walk
        .gap(GapAt::Id(7), Reason::Cycle { what: "a list" });
    let kernel = builder::kernel().with_progs(progs);
    let (text, outcome) = dump_of(&kernel, &kernel.maps().unwrap(), &options(Format::Json));
    assert_eq!(outcome.gaps, 1);
    assert!(text.contains(r#""used_by_error":"not every program could be read""#));
    check(&schema(None), &text);
}
