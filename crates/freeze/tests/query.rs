#![cfg(test)]
//! What is asked of a dump, and what the answers are where there is none.

mod fixture;

use std::fmt::Display;

use bpfreeze_freeze::{Dump, QueryError};
use fixture::dump;
use serde::{Deserialize, Serialize};
use serde_json::json;

type Answer = Result<Box<dyn Display>, QueryError>;

/// A question, and its answer or the error's words.
type Case<'a> = (fn(&Dump) -> Answer, &'a str);

fn told(value: impl Display + 'static) -> Box<dyn Display> {
    Box::new(value)
}

fn check(cases: &[Case<'_>]) {
    let dump = dump();
    let answers = cases.iter().map(|(ask, _)| match ask(&dump) {
        Ok(value) => value.to_string(),
        Err(error) => format!("! {error}"),
    });
    let answers: Vec<String> = answers.collect();
    let expected: Vec<&str> = cases.iter().map(|(_, expected)| *expected).collect();
    assert_eq!(answers, expected);
}

#[test]
fn variables_are_found_in_every_section() {
    check(&[
        (
            |d| Ok(told(d.var("slice_ns")?)),
            "! variable `slice_ns` is ambiguous: there are `one_bpf.data::slice_ns`, `21::slice_ns`, `22::slice_ns`",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("phase")?.as_str()?.to_owned())),
            "RUN",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("balance")?.as_i64()?)),
            "-7",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("comm")?.as_str()?.to_owned())),
            "stress",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("busy")?.as_bool()?)),
            "true",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("counts[2]")?.as_u64()?)),
            "3",
        ),
        (|d| Ok(told(d.var("pick.last")?.as_u64()?)), "5"),
        (|d| Ok(told(d.var("stats.counts[1]")?.as_u64()?)), "2"),
        (|d| Ok(told(d.var("3::twin@16")?.as_u64()?)), "7"),
        (|d| Ok(told(d.var("3::twin@20")?.as_u64()?)), "8"),
        (
            |d| Ok(told(d.var("3::twin")?.as_u64()?)),
            "! variable `3::twin` is ambiguous: there are `one_bpf.data::twin@16`, \
             `one_bpf.data::twin@20`",
        ),
        (|d| Ok(told(d.map("arena")?.var("first.next.number")?)), "1"),
        (
            |d| Ok(told(d.map("raw")?.var("first")?)),
            "! raw::first could not be read: the map is no data section, and has no variables",
        ),
        (
            |d| Ok(told(d.var("first")?.field("number")?.as_u64()?)),
            "77",
        ),
        (
            |d| Ok(told(d.var("one_bpf.bss::nr_dispatched")?.as_u64()?)),
            "12",
        ),
        (|d| Ok(told(d.var("3::nr_dispatched")?.as_u64()?)), "13"),
        (
            |d| Ok(told(d.map("one_bpf.data")?.var("nr_dispatched")?.as_u64()?)),
            "13",
        ),
        (
            |d| Ok(told(d.var("nr_dispatched")?)),
            "! variable `nr_dispatched` is ambiguous: there are `one_bpf.bss::nr_dispatched`, `one_bpf.data::nr_dispatched`, `21::nr_dispatched`, `22::nr_dispatched`",
        ),
        (
            |d| Ok(told(d.var("nr_dispatchd")?)),
            "! there is no variable `nr_dispatchd`; there are nr_dispatched, stats, head, pick.last, first, slice_ns, twin",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("cunts[2]")?)),
            "! there is no `cunts` in one_bpf.bss::stats; there are counts, balance, busy, comm, phase",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("counts[4]")?)),
            "! there is no element 4 in one_bpf.bss::stats.counts; there are 0, 1, 2, 3",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("counts[x]")?)),
            "! `[x]` is no index, not like `[3]`",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("phase.x")?)),
            "! one_bpf.bss::stats.phase is `RUN`, not a struct",
        ),
        (
            |d| Ok(told(d.var("stats")?.field("phase")?.as_u64()?)),
            "! one_bpf.bss::stats.phase is `RUN`, not an unsigned number",
        ),
        (
            |d| Ok(told(d.var("stats")?.as_bool()?)),
            "! one_bpf.bss::stats is a struct, not a bool",
        ),
    ]);
}

#[test]
fn pointers_are_gone_through() {
    check(&[
        (|d| Ok(told(d.var("head")?.field("number")?)), "1"),
        (|d| Ok(told(d.var("head")?.field("[0].next.number")?)), "2"),
        // Behind the maps, and back at the ring's beginning.
        (
            |d| {
                Ok(told(
                    d.var("head")?
                        .field(&format!("{}number", "next.".repeat(7)))?,
                ))
            },
            "8",
        ),
        (
            |d| {
                Ok(told(
                    d.var("head")?
                        .field(&format!("{}number", "next.".repeat(10)))?,
                ))
            },
            "2",
        ),
        (
            |d| Ok(told(format!("{:#x}", d.var("head")?.as_pointer()?))),
            "0x700000000040",
        ),
        (
            |d| Ok(told(d.var("head")?.as_u64()?)),
            "! one_bpf.bss::head is a pointer to struct node, not an unsigned number",
        ),
        (
            |d| Ok(told(d.var("head")?.field("[1]")?)),
            "! one_bpf.bss::head is a struct, not an array",
        ),
        (
            |d| {
                Ok(told(
                    d.map("task_ctx_storage")?
                        .entry(812)?
                        .field("node.number")?,
                ))
            },
            "2",
        ),
    ]);
}

#[derive(Serialize)]
struct Flow {
    from: u32,
    to: u32,
}

#[test]
fn entries_are_found_by_typed_keys() {
    check(&[
        (
            |d| {
                Ok(told(
                    d.map("flows")?
                        .entry(Flow { from: 7, to: 9 })?
                        .value()?
                        .as_u64()?,
                ))
            },
            "70",
        ),
        (
            |d| {
                Ok(told(
                    d.map("4")?.entry(json!({"to": 9, "from": 7}))?.value()?,
                ))
            },
            "70",
        ),
        (
            |d| {
                Ok(told(
                    d.map("flows")?
                        .entry_bytes(&[7, 0, 0, 0, 9, 0, 0, 0])?
                        .value()?,
                ))
            },
            "70",
        ),
        (
            |d| {
                Ok(told(
                    d.map("task_ctx_storage")?
                        .entry(812)?
                        .field("dsq_id")?
                        .as_u64()?,
                ))
            },
            "3",
        ),
        (
            |d| {
                Ok(told(
                    d.map("task_ctx_storage")?
                        .entry(812)?
                        .owner()?
                        .field("comm")?,
                ))
            },
            "\"stress\"",
        ),
        (
            |d| Ok(told(format!("{:?}", d.map("raw")?.entry(-2)?.bytes()?))),
            "[1, 2]",
        ),
        (
            |d| Ok(told(format!("{:?}", d.map("raw")?.entry(5_u8)?.bytes()?))),
            "[3, 4]",
        ),
        (
            |d| Ok(told(d.map("outer")?.entry(3)?.refers()?.field("name")?)),
            "\"raw\"",
        ),
        (|d| Ok(told(d.map("raw")?.find(6)?.is_none())), "true"),
        (
            |d| Ok(told(d.map("raw")?.entry(6)?.json().clone())),
            "! there is no entry 6 in map `raw`; there are feffffff, 05000000",
        ),
        (
            |d| Ok(told(d.map("raw")?.entry(5)?.value()?)),
            "! raw[05000000] is of a type that is not known, not a value to look into",
        ),
        (
            |d| Ok(told(d.map("outer")?.entry(3)?.value()?)),
            "! there is no value in outer[3]; there are index, refers",
        ),
        // The idle threads of all CPUs.
        (
            |d| Ok(told(d.map("task_ctx_storage")?.entry(0)?.value()?)),
            "! entry 0 in map `task_ctx_storag` is ambiguous: there are the 1st of `entries`, the 2nd of `entries`",
        ),
        (
            |d| Ok(told(d.map("task_ctx_storage")?.entry(813)?.value()?)),
            "! there is no entry 813 in map `task_ctx_storag`; there are 812, 0",
        ),
        (
            |d| Ok(told(d.map("two_bpf.data")?.len())),
            "! map `two_bpf.data` is ambiguous: there are `21` (array), `22` (array)",
        ),
        (
            |d| Ok(told(d.map("flow")?.len())),
            "! there is no map `flow`; there are flows, one_bpf.bss, arena, one_bpf.data, task_ctx_storag, counts, raw, outer, two_bpf.data",
        ),
        (|d| Ok(told(d.map("flows")?.entries().count())), "2"),
    ]);
}

#[test]
fn each_cpu_has_a_value() {
    check(&[
        (
            |d| Ok(told(d.map("counts")?.entry(0)?.cpu(1)?.as_u64()?)),
            "30",
        ),
        (|d| Ok(told(d.map("counts")?.entry(0)?.sum("")?)), "42"),
        (
            |d| Ok(told(d.map("counts")?.entry(0)?.cpu(2)?)),
            "! there is no CPU 2 in counts[0]; there are 0, 1",
        ),
        (
            |d| Ok(told(d.map("counts")?.entry(0)?.value()?)),
            "! there is no value in counts[0]; there are key, percpu",
        ),
        (
            |d| Ok(told(d.map("counts")?.entry(1)?.cpu(0)?)),
            "! counts[1] on CPU 0 could not be read: 0xffff888000002000: page not present at level 1",
        ),
        (
            |d| Ok(told(d.map("counts")?.entry(1)?.sum("")?)),
            "! counts[1] on CPU 0 could not be read: 0xffff888000002000: page not present at level 1",
        ),
        (
            |d| Ok(told(d.map("raw")?.entry(5)?.sum("")?)),
            "! there is no value for each CPU in raw[05000000]; there are key, value",
        ),
    ]);
}

#[test]
fn what_could_not_be_read_is_never_a_value() {
    check(&[
        (
            |d| {
                Ok(told(
                    d.map("flows")?
                        .entry(json!({"from": 8, "to": 9}))?
                        .value()?
                        .as_u64()?,
                ))
            },
            "! flows[{\"from\":8,\"to\":9}] could not be read: 0xffff888000001000: page not present at level 1",
        ),
        (
            |d| {
                Ok(told(
                    d.map("flows")?
                        .entry(json!({"from": 8, "to": 9}))?
                        .value()?
                        .get::<Option<u64>>()?
                        .is_none(),
                ))
            },
            "! flows[{\"from\":8,\"to\":9}] could not be read: 0xffff888000001000: page not present at level 1",
        ),
        (
            |d| {
                Ok(told(
                    d.map("flows")?
                        .entry(json!({"from": 8, "to": 9}))?
                        .bytes()?
                        .len(),
                ))
            },
            "! flows[{\"from\":8,\"to\":9}] could not be read: 0xffff888000001000: page not present at level 1",
        ),
        // It may be in what is missing.
        (
            |d| {
                Ok(told(
                    d.map("flows")?.find(json!({"from": 1, "to": 9}))?.is_none(),
                ))
            },
            "! there is no entry {\"from\":1,\"to\":9} in map `flows` in what could be read; missing is index 3: page not present at level 1",
        ),
        (|d| Ok(told(d.map("flows")?.is_complete())), "false"),
        (
            |d| Ok(told(d.map("flows")?.gaps().join("; "))),
            "index 3: page not present at level 1",
        ),
    ]);
}

#[test]
fn values_are_read_into_types() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Stats {
        phase: String,
        balance: i32,
        counts: Vec<u32>,
    }
    let dump = dump();
    let stats: Stats = dump.var("stats").unwrap().get().unwrap();
    let expected = Stats {
        phase: "RUN".to_owned(),
        balance: -7,
        counts: vec![1, 2, 3, 4],
    };
    assert_eq!(stats, expected);
    let error = dump.var("3::slice_ns").unwrap().get::<u8>().unwrap_err();
    let said = "one_bpf.data::slice_ns is 20000000, not what u8 is read from: invalid value: integer \
                `20000000`, expected u8";
    assert_eq!(error.to_string(), said);
}

#[test]
fn one_map_is_printed_alone() {
    let dump = dump();
    let raw = dump.map("raw").unwrap();
    assert_eq!(
        raw.text().unwrap().lines().next(),
        Some("7 raw   hash   4 + 2 bytes   at most 64 entries")
    );
    let alone: serde_json::Value = serde_json::from_str(&raw.json().unwrap()).unwrap();
    let whole: serde_json::Value = serde_json::from_str(&dump.json().unwrap()).unwrap();
    assert_eq!(alone["maps"][0], whole["maps"][6]);
    assert_eq!(alone["maps"].as_array().unwrap().len(), 1);
    assert!(dump.text().unwrap().contains(&raw.text().unwrap()));
}
