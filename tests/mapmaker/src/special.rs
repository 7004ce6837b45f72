//! Values with special fields: what the kernel fills and bpf(2) does not show.

use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, Object};
use serde_json::{Value, json};

use crate::make::Maker;
use crate::objects::{find, pin};
use crate::programs::{Input, refer};
use crate::slots::{Cgroup, program};
use crate::sys::{self, Mapping};
use crate::truth::{Told, bytes};

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    timers(maker).context("timers")?;
    let kernel = &maker.kernel;
    let needs = |functions: &[&'static str]| {
        let lacks = functions.iter().find(|name| !kernel.function(name));
        lacks.map(|name| format!("the kernel has no function {name}"))
    };
    let no_references = needs(&["bpf_task_from_pid", "bpf_cgroup_from_id"]);
    type Make = fn(&mut Maker) -> Result<()>;
    let rows: [(&str, Option<String>, Make); 4] = [
        ("bpf_wq", needs(&["bpf_wq_init"]), works),
        (
            "lists and trees",
            needs(&[
                "bpf_obj_new_impl",
                "bpf_rbtree_add_impl",
                "bpf_refcount_acquire_impl",
            ]),
            graphs,
        ),
        ("percpu kptrs", needs(&["bpf_percpu_obj_new_impl"]), percpu),
        (
            "uptrs",
            match kernel.enumerator("btf_field_type", "BPF_UPTR") {
                true => None,
                false => Some("btf_field_type has no BPF_UPTR".to_owned()),
            },
            uptrs,
        ),
    ];
    for (what, lacks, make) in rows {
        match lacks {
            Some(reason) => maker.skip(what, reason),
            None => make(maker).context(what)?,
        }
    }
    let kptrs = if let Some(reason) = no_references {
        maker.skip("kptrs with references", reason);
        maker.load(maker.open("kptrs_old")?)?
    } else {
        let object = maker.load(maker.open("kptrs")?)?;
        references(maker, &object).context("kptrs with references")?;
        object
    };
    sightings(maker, &kptrs).context("kptrs without references")?;
    maker.hold(kptrs);
    Ok(())
}

/// Asks a program, and fails unless it returns 0.
fn ask(maker: &mut Maker, object: &Object, name: &str, request: Request) -> Result<()> {
    let result = answer(maker, object, name, request)?;
    ensure!(result == 0, "{name} returned {result} for {request:?}");
    Ok(())
}

/// What a program is asked: key, number, argument.
type Request = (u32, u32, u64);

fn answer(maker: &mut Maker, object: &Object, name: &str, request: Request) -> Result<u32> {
    let (key, number, argument) = request;
    let mut packet = key.to_le_bytes().to_vec();
    packet.extend(number.to_le_bytes());
    packet.extend(argument.to_le_bytes());
    maker.programs.run(object, name, Input::Packet(&packet))
}

/// An entry as everybody sees it, and what the kernel's memory shows beyond.
type Entry = (u32, Value, Value);

/// Tells about a map of such entries.
fn tell(maker: &mut Maker, object: &Object, name: &str, entries: &[Entry]) -> Result<()> {
    let expect = entries.iter().map(
        |(key, plain, _)| json!({"key": bytes(&key.to_le_bytes()), "value": {"typed": plain}}),
    );
    let frozen = entries
        .iter()
        .map(|(_, _, special)| json!({"value": {"typed": special}}));
    let told = Told::unordered(expect.collect()).frozen(frozen.collect());
    maker.tell(find(object, name)?, told)
}

/// A time that never comes while a guest is alive: a hundred days after boot, in nanoseconds.
const FAR: u64 = 100 * 24 * 3600 * 1_000_000_000;

fn timers(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("timers")?)?;
    for (map, name, keys) in [
        ("timers", "arm", 9),
        ("timers_lru", "arm_lru", 6),
        ("timer_slots", "arm_slot", 5),
    ] {
        let about = refer(program(&object, name)?.as_fd())?;
        let prog = json!({"id": about.get("id"), "name": about.get("name")});
        let mut entries = Vec::new();
        for n in 0..keys {
            // The low bits say what is to become of it.
            let (what, number) = (n % 5, n * 0x0101_0100 + n % 5);
            let expires = FAR + u64::from(n) * 1_000_003;
            let result = answer(maker, &object, name, (n, number, expires))?;
            ensure!(result < 2, "{name} returned {result}");
            let callback = match what {
                3 => "rings_otherwise",
                _ => "rings",
            };
            let timer = match what {
                // A cancelled one has lost its callback.
                0 | 4 => json!({"armed": false}),
                1 => json!({"armed": false, "callback": callback, "prog": prog}),
                _ if result == 1 => json!({"armed": true, "callback": callback, "prog": prog}),
                _ => json!({
                    "armed": true, "expires_ns": expires, "callback": callback, "prog": prog,
                }),
            };
            let mut special = json!({"timer": {"timer": timer}});
            if map != "timers_lru" {
                special["guard"] = json!({"spin_lock": {"held": false}});
            }
            entries.push((n, json!({"before": number, "after": !number}), special));
        }
        if map == "timer_slots" {
            // The last slot was never touched.
            let timer = json!({"timer": {"armed": false}});
            entries.push((5, json!({"before": 0, "after": 0}), json!({"timer": timer})));
        }
        tell(maker, &object, map, &entries)?;
    }
    maker.hold(object);
    Ok(())
}

fn works(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("works")?)?;
    for (map, name, keys) in [("jobs", "start", 7), ("job_slots", "start_slot", 5)] {
        let mut entries = Vec::new();
        for n in 0..keys {
            let (what, number) = (n % 3, n * 0x100 + n % 3);
            ask(maker, &object, name, (n, number, 0))?;
            if what == 2 {
                wait_done(&object, map, n)?;
            }
            let work = match what {
                0 => json!({"pending": false}),
                _ => json!({"pending": false, "callback": "work_done"}),
            };
            entries.push((
                n,
                json!({"number": number, "done": u32::from(what == 2)}),
                json!({"work": {"wq": work}}),
            ));
        }
        tell(maker, &object, map, &entries)?;
    }
    maker.hold(object);
    Ok(())
}

/// Waits until a piece of work has been done.
fn wait_done(object: &Object, map: &str, key: u32) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let map = find(object, map)?;
    let start = Instant::now();
    loop {
        let value = map.lookup(&key.to_le_bytes(), MapFlags::ANY)?;
        if value.is_some_and(|value| value.get(4) == Some(&1)) {
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "work {key} is not done");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// This program's task, as a value's pointer leads to it.
fn this_task() -> Value {
    let pid = std::process::id();
    json!({"kind": "task", "pid": pid, "tgid": pid, "comm": "mapmaker"})
}

/// A pointer to an object of the kernel; null leads nowhere.
fn kptr(to: Option<Value>) -> Value {
    match to {
        Some(to) => json!({"to": to}),
        None => json!({"kptr": "0x0"}),
    }
}

/// Pointers that nobody holds a reference for.
fn sightings(maker: &mut Maker, object: &Object) -> Result<()> {
    for (names, program) in [
        (&["sightings", "sightings_lru"][..], "see"),
        (&["sighting_slots"], "see_slot"),
    ] {
        let mut entries = Vec::new();
        for key in 0..4_u32 {
            // None in every other entry.
            let number = key % 2 * (key + 5);
            let argument = u64::from(key) << 40 | 9;
            ask(maker, object, program, (key, number, argument))?;
            let task = kptr((number != 0).then(this_task));
            entries.push((
                key,
                json!({"before": argument, "after": number}),
                json!({"task": task}),
            ));
        }
        for name in names {
            tell(maker, object, name, &entries)?;
        }
    }
    Ok(())
}

fn references(maker: &mut Maker, object: &Object) -> Result<()> {
    let me = std::process::id();
    let group = Cgroup::make("/made/held")?;
    let wide = |id: u64| u32::try_from(id & 0xffff_ffff).unwrap_or(0);
    let rows = [
        (0, 0),
        (me, 0),
        (0, group.id),
        (me, group.id),
        (1, group.id),
    ];
    let fields = |(pid, id): (u32, u64)| {
        let task = match pid {
            0 => None,
            1 => Some(json!({"kind": "task", "pid": 1, "tgid": 1})),
            _ => Some(this_task()),
        };
        (
            json!({"before": pid, "after": wide(id)}),
            json!({
                "task": kptr(task),
                "group": kptr((id != 0).then(|| group.object.clone())),
            }),
        )
    };
    for (map, program) in [("holdings", "hold_key"), ("holding_slots", "hold_slot")] {
        let mut entries = Vec::new();
        for (key, row) in (0_u32..).zip(rows) {
            ask(maker, object, program, (key, row.0, row.1))?;
            // A second time: what was held before is let go.
            ask(maker, object, program, (key, row.0, row.1))?;
            let (plain, special) = fields(row);
            entries.push((key, plain, special));
        }
        tell(maker, object, map, &entries)?;
    }
    // One slot of the per-CPU array, on each of two CPUs.
    let cpus = libbpf_rs::num_possible_cpus()?;
    let mut slots = vec![vec![(0, 0); cpus]; 3];
    for (slot, cpu, row) in [
        (0, 0, (me, group.id)),
        (0, 1, (1, 0)),
        (2, 1, (0, group.id)),
    ] {
        pin(cpu)?;
        let key = u32::try_from(slot)?;
        ask(maker, object, "hold_here", (key, row.0, row.1))?;
        let place = slots.get_mut(slot).and_then(|cells| cells.get_mut(cpu));
        *place.context("no such cell")? = row;
    }
    pin(0)?;
    let (mut expect, mut frozen) = (Vec::new(), Vec::new());
    for (key, cells) in (0_u32..).zip(slots) {
        let (mut plain, mut special) = (Vec::new(), Vec::new());
        for (cpu, row) in cells.into_iter().enumerate() {
            let fields = fields(row);
            plain.push(json!({"cpu": cpu, "value": {"typed": fields.0}}));
            let mut whole = fields.0;
            if let (Some(whole), Value::Object(more)) = (whole.as_object_mut(), fields.1) {
                whole.extend(more);
            }
            special.push(json!({"cpu": cpu, "value": {"typed": whole}}));
        }
        expect.push(json!({"key": bytes(&key.to_le_bytes()), "percpu": plain}));
        frozen.push(json!({"percpu": special}));
    }
    let told = Told::unordered(expect).frozen(frozen);
    maker.tell(find(object, "holdings_pc")?, told)?;
    maker.hold(group);
    Ok(())
}

/// The objects of a list or a tree.
fn nodes(kind: &str, numbers: &[u32]) -> Value {
    let nodes = numbers.iter();
    let nodes = nodes.map(|&n| json!({"typed": {"number": n, "twice": n * 2}}));
    json!({kind: nodes.collect::<Vec<_>>(), "complete": true})
}

fn graphs(maker: &mut Maker) -> Result<()> {
    const FRONT: u64 = 0;
    const BACK: u64 = 1;
    const TREE: u64 = 2;
    const NOTHING: u64 = 3;
    let object = maker.load(maker.open("graphs")?)?;
    for (map, program) in [("graphs", "put_key"), ("graph_slots", "put_slot")] {
        ask(maker, &object, program, (0, 0, NOTHING))?;
        for number in [30, 20, 10] {
            ask(maker, &object, program, (1, number, FRONT))?;
        }
        for number in [40, 50] {
            ask(maker, &object, program, (1, number, BACK))?;
        }
        for number in [7, 3, 9, 1, 8, 5, 2, 6, 4] {
            ask(maker, &object, program, (2, number, TREE))?;
        }
        ask(maker, &object, program, (2, 77, BACK))?;
        let rows: [(&[u32], &[u32]); 3] = [
            (&[], &[]),
            (&[10, 20, 30, 40, 50], &[]),
            (&[77], &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ];
        let entries = (0_u32..).zip(rows).map(|(key, (list, tree))| {
            (
                key,
                json!({"id": key}),
                json!({
                    "guard": {"spin_lock": {"held": false}},
                    "list": nodes("list", list),
                    "tree": nodes("rbtree", tree),
                }),
            )
        });
        let entries: Vec<Entry> = entries.collect();
        tell(maker, &object, map, &entries)?;
    }
    for number in [5, 11, 2] {
        ask(maker, &object, "put_pair", (1, number, 0))?;
    }
    let both = |kind: &str, numbers: &[u32]| {
        let nodes = numbers.iter();
        let nodes = nodes.map(|&n| json!({"typed": {"number": n, "references": {"refcount": 2}}}));
        json!({kind: nodes.collect::<Vec<_>>(), "complete": true})
    };
    let pairs = [
        (
            0,
            json!({"id": 0}),
            json!({"list": both("list", &[]), "tree": both("rbtree", &[])}),
        ),
        (
            1,
            json!({"id": 1}),
            json!({"list": both("list", &[5, 11, 2]), "tree": both("rbtree", &[2, 5, 11])}),
        ),
    ];
    tell(maker, &object, "pairs", &pairs)?;
    let mut stashes = Vec::new();
    for key in 0..5_u32 {
        let (number, argument) = (key + 100, u64::from(key % 3) << 33);
        ask(maker, &object, "put_stash", (key, number, argument))?;
        let thing = match argument {
            0 => json!({"kptr": "0x0"}),
            _ => json!({"typed": {"number": argument, "words": [number, key, 77]}}),
        };
        stashes.push((key, json!({"id": number}), json!({"thing": thing})));
    }
    tell(maker, &object, "stashes", &stashes)?;
    maker.hold(object);
    Ok(())
}

fn percpu(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("percpu")?)?;
    let cpus = u32::try_from(libbpf_rs::num_possible_cpus()?)?;
    for (map, program) in [("shelves", "fill_key"), ("shelf_slots", "fill_slot")] {
        let mut entries = Vec::new();
        for (key, number) in (0_u32..).zip([0, 1001, 44, 0]) {
            ask(maker, &object, program, (key, number, u64::from(cpus)))?;
            let cells = (0..cpus).map(|cpu| {
                let wide = u64::from(number) << 32 | u64::from(cpu);
                let cell = json!({"number": wide, "cpu": cpu, "half": number / 2});
                json!({"cpu": cpu, "typed": cell})
            });
            let cells = match number {
                0 => json!({"percpu_kptr": "0x0"}),
                _ => json!({"percpu": cells.collect::<Vec<_>>()}),
            };
            entries.push((key, json!({"id": number}), json!({"cells": cells})));
        }
        tell(maker, &object, map, &entries)?;
    }
    maker.hold(object);
    Ok(())
}

fn uptrs(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("uptrs")?)?;
    let map = find(&object, "loans")?;
    let mut memory = Mapping::anonymous(8192)?;
    let mut shared = 0x1234_5678_9abc_u64.to_le_bytes().to_vec();
    shared.extend(b"from user space\0");
    for word in [1_u32, 2, 3, 4] {
        shared.extend(word.to_le_bytes());
    }
    // In the midst of the second page.
    const AT: usize = 4096 + 1000;
    memory.write(AT, &shared)?;
    let me = i32::try_from(std::process::id())?;
    let owner = sys::open_pidfd(me, 0)?;
    let mut value = 17_u64.to_le_bytes().to_vec();
    value.extend((memory.address() + u64::try_from(AT)?).to_le_bytes());
    value.extend(18_u32.to_le_bytes());
    value.extend([0; 4]);
    sys::update(&map, &owner.as_raw_fd().to_le_bytes(), &value, 0)?;
    let expect = json!({
        "owner": this_task(), "value": {"typed": {"before": 17, "after": 18}},
    });
    let shared = json!({
        "number": 0x1234_5678_9abc_u64, "text": "from user space", "more": [1, 2, 3, 4],
    });
    let frozen = json!({"value": {"typed": {"shared": {"typed": shared}}}});
    let told = Told::unordered(vec![expect]).frozen(vec![frozen]);
    maker.tell(map, told)?;
    maker.hold((object, memory, owner));
    Ok(())
}
