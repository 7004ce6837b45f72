#![cfg(test)]
//! Pointers into arenas. `UPDATE_EXPECT=1` rewrites the expectations.

mod pointers;
#[path = "common/schema.rs"]
mod schema;

use std::collections::BTreeSet;

use expect_test::expect_file;
use pointers::{BASE, Case, OTHER, START, TASK, arena, each_pointer, node, own, words};
use render::{Budget, Format};
use serde_json::{Value, json};

const SECOND: u64 = START + 0x100;
const THIRD: u64 = START + 0x200;

/// The kernel's address of the arena's beginning.
const OF_KERNEL: u64 = BASE + (2 << 33);

/// How the fake memory says that nothing is at an address of the kernel.
fn unbacked(at: u64) -> String {
    format!("physical {at:#x} is not in the image")
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

/// A list of `len` nodes, 32 bytes apart.
fn list(len: u64) -> Case {
    let at = |index: u64| START + index * 32;
    Case::new((0..len).fold(own(), |arena, index| {
        let next = if index + 1 < len { at(index + 1) } else { 0 };
        arena.holds(at(index), &node(index, next))
    }))
}

/// The numbers of all nodes that are shown, and how often any is.
fn numbers(document: &Value) -> (BTreeSet<u64>, usize) {
    let mut found = Vec::new();
    each_pointer(document, &mut |pointer| {
        found.push(pointer["to"]["number"].as_u64());
    });
    let queued = document["objects"].as_array().into_iter().flatten();
    found.extend(queued.map(|object| object["typed"]["number"].as_u64()));
    let found: Vec<u64> = found.into_iter().flatten().collect();
    (found.iter().copied().collect(), found.len())
}

#[test]
fn a_long_list_is_whole_without_nesting_deep() {
    let case = list(300);
    let (document, outcome) = case.json("node *", &words(&[START]));
    assert!(outcome.is_complete());
    assert_eq!(numbers(&document), ((0..300).collect(), 300));
    assert_eq!(document["objects"].as_array().unwrap().len(), 296);
    let (object, first) = (&document["objects"][0], START + 4 * 32);
    assert_eq!(
        *object,
        json!({"arena": 2, "addr": hex(first), "type": "struct node", "typed": {
            "number": 4,
            "next": {"ptr": hex(first + 32), "type": "struct node", "ref": true}}})
    );
    let want =
        json!({"objects": 300, "bytes": 4800, "dangling": 0, "foreign": 0, "complete": true});
    assert_eq!(document["followed"], want);
}

#[test]
fn each_object_is_shown_once() {
    let case = Case::new(
        own()
            .holds(START, &node(1, SECOND))
            .holds(SECOND, &node(2, START)),
    );
    let reference = |at| json!({"ptr": hex(at), "type": "struct node", "ref": true});
    let second = json!({"ptr": hex(SECOND), "type": "struct node",
        "to": {"number": 2, "next": reference(START)}});
    let first = json!({"ptr": hex(START), "type": "struct node",
        "to": {"number": 1, "next": second}});
    case.check("node *", &words(&[START]), first.clone());
    let both = json!({"left": first, "right": reference(SECOND)});
    case.check("pair", &words(&[START, SECOND]), both);
    let nodes = json!({"nodes": [first, reference(START), "0x0", reference(SECOND)]});
    case.check("many", &words(&[START, START, 0, SECOND]), nodes);
    let either = json!({"node": first, "pair": {"ptr": hex(START), "type": "struct pair",
        "to": {"left": "0x1", "right": reference(SECOND)}}});
    case.check("either", &words(&[START]), either);
}

#[test]
fn pointers_lead_by_their_types() {
    let case = Case::new(
        own()
            .holds(START, &node(1, 0))
            .holds(SECOND, &words(&[START])),
    );
    let object = |ptr, ty: &str, to: Value| json!({"ptr": hex(ptr), "type": ty, "to": to});
    let one = json!({"number": 1, "next": "0x0"});
    let check = |ty, value, want: Value| case.check(ty, &words(&[value]), want);
    check("node *", START, object(START, "struct node", one.clone()));
    // As the kernel sees the arena.
    check(
        "node *",
        OF_KERNEL,
        object(OF_KERNEL, "struct node", one.clone()),
    );
    check(
        "declared *",
        START,
        object(START, "struct node", one.clone()),
    );
    check("u32 *", START, object(START, "u32", json!(1)));
    let inner = object(START, "struct node", one);
    check("node **", SECOND, object(SECOND, "struct node *", inner));
    let task = json!({"kind": "task", "kva": hex(TASK), "pid": 812, "tgid": 812, "comm": "stress"});
    check(
        "task *",
        TASK,
        json!({"ptr": hex(TASK), "type": "struct task_struct", "object": task}),
    );
    // Nothing tells what these lead to, or nobody asked.
    check("void *", START, json!(hex(START)));
    check("unknown *", START, json!(hex(START)));
    check("node *", 0, json!("0x0"));
    check("node *", TASK, json!(hex(TASK)));
    check("node *", 0x1234, json!("0x1234"));
}

/// Where programs do not convert addresses, they keep their low halves.
#[test]
fn halves_lead_where_programs_keep_them() {
    let start = 0x7000_ffff_f000;
    let mut case = Case::new(arena(2, start).holds(start + 0x1010, &node(1, 0)));
    case.check("node *", &words(&[0x10]), json!("0x10"));
    case.arenas[0].info.flags = 1 << 18;
    let to = json!({"number": 1, "next": "0x0"});
    case.check(
        "node *",
        &words(&[0x10]),
        json!({"ptr": "0x10", "type": "struct node", "to": to}),
    );
    case.check("node *", &words(&[0x5000_0000]), json!("0x50000000"));
}

#[test]
fn what_leads_nowhere_says_why() {
    let why = |case: &Case, ty, value, want: &str| {
        let (document, outcome) = case.json(ty, &words(&[value]));
        let typed = &document["maps"][0]["entries"][0]["value"]["typed"];
        assert_eq!(typed["why"], want);
        (document["followed"].clone(), outcome.gaps)
    };
    let case = Case::new(own().unreadable_page(5));
    let (followed, gaps) = why(&case, "node *", START + 0x2000, "page not present");
    assert_eq!((&followed["dangling"], gaps), (&json!(1), 0));
    let (followed, gaps) = why(
        &case,
        "node *",
        OTHER + 8,
        "in the window of arena 3, which its programs do not use",
    );
    assert_eq!((&followed["foreign"], gaps), (&json!(1), 0));
    let physical = unbacked(OF_KERNEL + 0x5008);
    let (followed, gaps) = why(&case, "node *", START + 0x5008, &physical);
    assert_eq!((&followed["complete"], gaps), (&json!(false), 1));
    let missing = TASK + 0x1000;
    let gone = format!("{}: {}", hex(missing), unbacked(missing));
    assert_eq!(why(&case, "task *", missing, &gone).1, 0);
    // Two arenas at the same address in different processes.
    let mut twins = Case::new(own());
    twins.arenas.push(arena(4, START));
    twins.used.push(4);
    why(&twins, "node *", START, "in the windows of arenas 2 and 4");
}

#[test]
fn large_objects_are_shown_as_far_as_they_are_there() {
    let large: Vec<u8> = (0..2048_u32).flat_map(u32::to_le_bytes).collect();
    let at = START + 0x10;
    let whole = own().holds(at, &large).holds(at + 8192, &node(9, 0));
    let case = Case::new(whole.clone());
    let (document, outcome) = case.json("both", &words(&[at, at + 8192]));
    assert!(outcome.is_complete());
    let typed = &document["maps"][0]["entries"][0]["value"]["typed"];
    assert_eq!(typed["large"]["to"]["words"][2047], json!(2047));
    let within = json!({"addr": hex(at), "type": "struct large", "offset": 8192});
    let node = json!({"ptr": hex(at + 8192), "type": "struct node", "ref": true, "within": within});
    assert_eq!(typed["node"], node);

    for (arena, why, gaps) in [
        (
            own().holds(at, &large[..0xff0]),
            "page not present".to_owned(),
            0,
        ),
        (
            own().holds(at, &large[..0xff0]).unreadable_page(1),
            unbacked(OF_KERNEL + 0x1000),
            1,
        ),
    ] {
        let (document, outcome) = Case::new(arena).json("large *", &words(&[at]));
        let typed = &document["maps"][0]["entries"][0]["value"]["typed"];
        let missing = json!({"offset": 0xff0, "len": 8208 - 0xff0, "why": why});
        assert_eq!(typed["missing"], missing);
        assert_eq!(
            typed["to"]["words"].as_array().unwrap().len(),
            0xff0 / 4 + 1
        );
        assert_eq!(outcome.gaps, gaps);
    }
}

#[test]
fn the_budget_is_kept_and_stated() {
    let mut case = list(10);
    let mut check = |objects, bytes, shown, why: &str| {
        case.budget = Budget { objects, bytes };
        let (document, outcome) = case.json("node *", &words(&[START]));
        assert!(outcome.is_complete());
        assert_eq!(numbers(&document).1, shown);
        let mut reasons = Vec::new();
        each_pointer(&document, &mut |pointer| {
            reasons.extend(pointer.get("why").cloned());
        });
        assert_eq!(reasons, [json!(why)]);
        assert_eq!(document["followed"]["left_out"], json!(1));
        assert_eq!(document["followed"]["stopped"], "budget");
    };
    check(2, 1000, 2, "the budget of 2 objects is spent");
    check(7, 1000, 7, "the budget of 7 objects is spent");
    check(100, 32, 2, "the budget of 32 bytes is spent");
    case.budget = Budget::NONE;
    let (document, _) = case.json("node *", &words(&[START]));
    let typed = &document["maps"][0]["entries"][0]["value"]["typed"];
    assert_eq!(*typed, json!(hex(START)));
    assert_eq!(document.get("followed"), None);
}

#[test]
fn maps_of_other_programs_are_as_they_are() {
    let mut case = list(3);
    case.used.clear();
    case.check("node *", &words(&[START]), json!(hex(START)));
    let (text, _) = case.dump(Format::Text, "pair", &words(&[START, 0]));
    assert!(text.contains("0x700000000000  NULL"), "{text}");
}

#[test]
fn types_without_end_end() {
    let case = Case::new(
        own()
            .holds(START, &words(&[START]))
            .holds(SECOND, &node(2, THIRD))
            .holds(THIRD, &node(3, SECOND)),
    );
    for ty in ["itself *", "endless *", "node **", "node *", "large *"] {
        for at in [START, SECOND, THIRD, START + 0xffc, START + 0x3_ffff] {
            for format in [Format::Json, Format::Text, Format::Jsonl] {
                let (text, outcome) = case.dump(format, ty, &words(&[at]));
                assert!(outcome.is_complete(), "{outcome:?}");
                assert!(text.len() < 1 << 20, "{} bytes for {ty}", text.len());
            }
        }
    }
}

#[test]
fn text() {
    let large: Vec<u8> = (0..2048_u32).flat_map(|_| 7_u32.to_le_bytes()).collect();
    let case = Case::new(
        (0..7)
            .fold(own(), |arena, index| {
                let at = |index: u64| START + 0x4000 + index * 32;
                let next = if index < 6 { at(index + 1) } else { at(0) };
                arena.holds(at(index), &node(index, next))
            })
            .holds(START, &node(1, SECOND))
            .holds(SECOND, &node(2, START))
            .holds(START + 0x1000, &large),
    );
    let mut all = String::new();
    for (ty, value) in [
        ("pair", vec![START, START + 0x4000]),
        ("many", vec![START, 0, START, SECOND]),
        ("both", vec![START + 0x1000, START + 0x3000]),
        ("pair", vec![START + 0x9000, OTHER]),
        ("task *", vec![TASK]),
        ("large *", vec![START + 0x2008]),
    ] {
        let (text, outcome) = case.dump(Format::Text, ty, &words(&value));
        assert!(outcome.is_complete());
        for line in text.lines() {
            assert_eq!(line, line.trim_end());
        }
        all += &text;
        all += "\n";
    }
    expect_file!["golden/follow.txt"].assert_eq(&all);
}
