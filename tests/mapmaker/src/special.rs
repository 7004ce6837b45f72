//! Values with special fields: what the kernel fills and bpf(2) does not show.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, Object};
use serde_json::{Value, json};

use crate::graphs;
use crate::make::Maker;
use crate::objects::{find, pin};
use crate::programs::{Input, refer};
use crate::slots::{Cgroup, program};
use crate::sockets::add;
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
            graphs::make,
        ),
        (
            "percpu kptrs",
            needs(&["bpf_percpu_obj_new_impl"]),
            graphs::percpu,
        ),
        (
            "uptrs",
            match kernel.enumerator("btf_field_type", "BPF_UPTR") {
                true => None,
                false => Some("btf_field_type has no BPF_UPTR".to_owned()),
            },
            graphs::uptrs,
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
pub(crate) fn ask(maker: &mut Maker, object: &Object, name: &str, request: Request) -> Result<()> {
    let result = answer(maker, object, name, request)?;
    ensure!(result == 0, "{name} returned {result} for {request:?}");
    Ok(())
}

/// What a program is asked: key, number, argument.
pub(crate) type Request = (u32, u32, u64);

fn answer(maker: &mut Maker, object: &Object, name: &str, request: Request) -> Result<u32> {
    let (key, number, argument) = request;
    let mut packet = key.to_le_bytes().to_vec();
    packet.extend(number.to_le_bytes());
    packet.extend(argument.to_le_bytes());
    maker.programs.run(object, name, Input::Packet(&packet))
}

/// An entry as everybody sees it, and what the kernel's memory shows beyond.
pub(crate) type Entry = (u32, Value, Value);

/// Tells about a map of such entries.
pub(crate) fn tell(
    maker: &mut Maker,
    object: &Object,
    name: &str,
    entries: &[Entry],
) -> Result<()> {
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
                add(&mut special, "guard", json!({"spin_lock": {"held": false}}));
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
pub(crate) fn this_task() -> Value {
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
            // What bpf(2) hides, the kernel takes for a pointer and not for a number.
            let value = find(object, name)?.lookup(&1_u32.to_le_bytes(), MapFlags::ANY)?;
            let pointer = value.as_ref().and_then(|value| value.get(8..16));
            ensure!(
                pointer == Some(&[0; 8]),
                "{name}: bpf(2) shows {value:02x?}"
            );
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
