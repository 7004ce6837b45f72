//! The BPF objects: loads them, fills their typed maps, runs their programs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{Map, MapCore, MapHandle, Object, ObjectBuilder, OpenObject};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::datum::{Datum, num, record};
use crate::fill::{Content, put};
use crate::kinds::Typed;
use crate::programs::Programs;
use crate::rng::Rng;
use crate::truth::{EntryTruth, Hex, Knowledge, Told};

/// How often the program of `sections.bpf.c` runs.
const BUMPS: u32 = 700;

/// How often the program of `written.bpf.c` runs.
const RECORDS: u32 = 200;

/// A map of an object, filled, with what it holds.
#[derive(Debug)]
pub(crate) struct Filled {
    pub(crate) map: MapHandle,
    pub(crate) frozen: bool,
    pub(crate) told: Told,
}

/// Opens an object.
///
/// # Errors
/// Fails if libbpf does not like it.
pub(crate) fn open(folder: &Path, name: &str) -> Result<OpenObject> {
    let path = folder.join(format!("{name}.bpf.o"));
    ObjectBuilder::default()
        .open_file(&path)
        .with_context(|| format!("opening {}", path.display()))
}

/// Loads an object.
///
/// # Errors
/// Fails if libbpf or the kernel does not like it.
pub(crate) fn load(open: OpenObject) -> Result<Object> {
    let name = open.name().unwrap_or_default().to_owned();
    open.load()
        .with_context(|| format!("loading {}", name.display()))
}

/// A map of an object, by the name it has in C.
pub(crate) fn find(object: &Object, name: &str) -> Result<MapHandle> {
    let map = object.maps().find(|map| map.name() == name);
    let map = map.with_context(|| format!("the object has no map {name}"))?;
    MapHandle::try_from(&map).with_context(|| format!("map {name}"))
}

/// The map of an object's variables that are zero at first.
pub(crate) fn variables(object: &Object) -> Result<MapHandle> {
    let is_one = |map: &Map<'_>| map.name().to_string_lossy().ends_with(".bss");
    let map = object.maps().find(is_one);
    let map = map.context("the object has no variables")?;
    Ok(MapHandle::try_from(&map)?)
}

/// Fills one typed map.
///
/// # Errors
/// Fails if the sizes are not what the row makes, or if the kernel refuses an entry.
pub(crate) fn fill(object: &Object, row: &Typed, seed: u64) -> Result<Filled> {
    let map = find(object, row.map)?;
    let mut rng = Rng::new(seed, row.map);
    let cpus = match map.map_type().is_percpu() {
        true => Some(libbpf_rs::num_possible_cpus()?),
        false => None,
    };
    let mut entries = BTreeMap::new();
    for n in 0..row.count {
        let mut key = (row.key)(&mut rng, n);
        while entries.contains_key(&key.bytes) {
            key = (row.key)(&mut rng, n);
        }
        let values: Vec<Datum> = (0..cpus.unwrap_or(1))
            .map(|_| (row.value)(&mut rng, n))
            .collect();
        for (datum, size) in std::iter::once((&key, map.key_size()))
            .chain(values.iter().map(|value| (value, map.value_size())))
        {
            let len = datum.bytes.len();
            ensure!(
                u32::try_from(len) == Ok(size),
                "map {}: made {len} bytes where BTF says {size}",
                row.map
            );
        }
        let entry = typed_entry(&key, values, cpus.is_some());
        put(&map, &key.bytes, &content(&entry))?;
        entries.insert(key.bytes, entry);
    }
    let is_array = matches!(
        map.map_type(),
        libbpf_rs::MapType::Array | libbpf_rs::MapType::PercpuArray
    );
    Ok(Filled {
        map,
        frozen: false,
        told: Told::entries(
            match is_array {
                true => Knowledge::Sparse,
                false => Knowledge::Exact,
            },
            entries.into_values().collect(),
        ),
    })
}

fn typed_entry(key: &Datum, mut values: Vec<Datum>, percpu: bool) -> EntryTruth {
    let mut entry = EntryTruth {
        key: Hex(key.bytes.clone()),
        key_typed: Some(key.json.clone()),
        ..EntryTruth::default()
    };
    if percpu {
        entry.percpu_typed = Some(values.iter().map(|value| value.json.clone()).collect());
        entry.percpu = Some(values.into_iter().map(|value| Hex(value.bytes)).collect());
    } else if let Some(value) = values.pop() {
        entry.value_typed = Some(value.json);
        entry.value = Some(Hex(value.bytes));
    }
    entry
}

fn content(entry: &EntryTruth) -> Content {
    match (&entry.value, &entry.percpu) {
        (_, Some(values)) => Content::PerCpu(values.iter().map(|value| value.0.clone()).collect()),
        (Some(value), None) => Content::One(value.0.clone()),
        (None, None) => Content::One(Vec::new()),
    }
}

/// Stays on one CPU from now on.
///
/// # Errors
/// Fails if there is no such CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("moving to CPU {cpu}"))
}

/// Runs the program of `sections.bpf.c` and says what its variables hold then.
///
/// # Errors
/// Fails if a program cannot be run.
pub(crate) fn sections(object: &Object, programs: &mut Programs) -> Result<Vec<Filled>> {
    programs.run_steps(object, "bump", BUMPS, |_| 0)?;
    let mut history = vec![0_u64; 512];
    let mut table: Vec<Value> = vec![json!({"id": 0, "weight": 0, "tag": ""}); 40];
    let mut counted = 100_u64;
    for run in 0..BUMPS {
        let at = usize::try_from(run)?;
        if let Some(slot) = history.get_mut(at & 511) {
            *slot = u64::from(run) * 4;
        }
        if let Some(item) = table.get_mut((at + 1) & 31) {
            *item = json!({"id": run + 1, "weight": 0, "tag": ""});
        }
        counted += u64::from(run);
    }
    let item = |id: u32, weight: u32, tag: &str| json!({"id": id, "weight": weight, "tag": tag});
    let secret = 0x1122_3344_5566_7788_u64 + 0xfeed * u64::from(BUMPS);
    let key_bytes = [0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0];
    let truths = [
        (
            ".bss",
            json!({
                "runs": BUMPS, "untouched": 0, "hidden_runs": BUMPS,
                "last_item": item(BUMPS, 7, "z"), "history": history, "phase": "PHASE_END",
                "busy": true, "note": "ok", "small_static": -2 * i64::from(BUMPS),
                "table": table, "zeroes": vec![0_u8; 9000], "nowhere": "0x0",
            }),
        ),
        (
            ".data",
            json!({
                "version": 7, "secret": secret, "minus": -5, "greeting": "hello from data",
                "first": item(1, 2, "one"), "ratio": 0.75, "ports": [22, 80, 443, 0, 0, 8080],
                "counted": counted, "bundle": {"count": 2},
            }),
        ),
        (
            ".rodata",
            json!({
                "limit": 4096, "banner": "read only", "initial": "PHASE_WORK",
                "key_bytes": key_bytes, "tuned": 0xfeed,
            }),
        ),
        (
            ".data.foo",
            json!({"in_foo": 11 + BUMPS, "item_in_foo": item(12, 13, "foo")}),
        ),
        (".rodata.bar", json!({"in_bar": 21})),
        (".bss.baz", json!({"in_baz": 2 * BUMPS})),
    ];
    truths
        .into_iter()
        .map(|(section, value)| {
            Ok(Filled {
                map: section_map(object, section)?,
                frozen: section.starts_with(".rodata"),
                told: Told::entries(
                    Knowledge::Exact,
                    vec![EntryTruth {
                        key: Hex(vec![0; 4]),
                        value_typed: Some(value),
                        ..EntryTruth::default()
                    }],
                ),
            })
        })
        .collect()
}

/// The map of a section. libbpf puts the object's name before those of the common sections.
fn section_map(object: &Object, section: &str) -> Result<MapHandle> {
    let name = object
        .maps()
        .map(|map| map.name().to_string_lossy().into_owned())
        .find(|name| name == section || name.strip_prefix("sections") == Some(section))
        .with_context(|| format!("no map of section {section}"))?;
    find(object, &name)
}

/// Runs the program of `written.bpf.c` and says what its maps hold then.
///
/// # Errors
/// Fails if a program cannot be run.
pub(crate) fn written(object: &Object, programs: &mut Programs) -> Result<Vec<Filled>> {
    // A possible CPU need not be there; two always are.
    let cpu_of = |step: u32| step % 2;
    programs.run_steps(
        object,
        "record",
        RECORDS,
        |step| if step % 2 == 0 { 0 } else { 1 },
    )?;
    let cpus = u32::try_from(libbpf_rs::num_possible_cpus()?)?;
    let tally = |runs: u64, cpu: u32, step: u32| {
        record([("runs", num(runs)), ("cpu", num(cpu)), ("step", num(step))])
    };
    // What one slot holds after all runs that `mine` picks.
    let last = |mine: &dyn Fn(u32) -> bool| {
        let mine: Vec<u32> = (0..RECORDS).filter(|&step| mine(step)).collect();
        match mine.last() {
            Some(&step) => tally(u64::try_from(mine.len()).unwrap_or(0), cpu_of(step), step),
            None => tally(0, 0, 0),
        }
    };
    let per_cpu = |mine: &dyn Fn(u32) -> bool| -> Vec<Datum> {
        (0..cpus)
            .map(|cpu| last(&|step| mine(step) && cpu_of(step) == cpu))
            .collect()
    };
    let one = |key: u32, value: Datum| typed_entry(&num(key), vec![value], false);
    let many = |key: u32, values: Vec<Datum>| typed_entry(&num(key), values, true);
    let kept = (0..RECORDS).filter(|step| step % 4 != 3);
    let contents: [(&str, Knowledge, Vec<EntryTruth>); 4] = [
        (
            "by_prog",
            Knowledge::Exact,
            kept.map(|step| one(step, tally(1, cpu_of(step), step)))
                .collect(),
        ),
        (
            "by_prog_arr",
            Knowledge::Sparse,
            (0..20)
                .map(|slot| one(slot, last(&|step| step % 20 == slot)))
                .collect(),
        ),
        (
            "by_prog_arr_pc",
            Knowledge::Sparse,
            (0..5)
                .map(|slot| many(slot, per_cpu(&|step| step % 5 == slot)))
                .collect(),
        ),
        (
            "by_prog_pc",
            Knowledge::Exact,
            (0..20)
                .map(|slot| many(slot, per_cpu(&|step| step % 20 == slot)))
                .collect(),
        ),
    ];
    contents
        .into_iter()
        .map(|(name, knowledge, entries)| {
            Ok(Filled {
                map: find(object, name)?,
                frozen: false,
                told: Told::entries(knowledge, entries),
            })
        })
        .collect()
}
