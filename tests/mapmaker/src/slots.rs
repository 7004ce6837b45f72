//! Maps whose slots refer to programs, perf events, cgroups and other maps.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapHandle, Object};
use libbpf_sys::{
    BPF_F_PRESERVE_ELEMS, BPF_MAP_TYPE_CGROUP_ARRAY, BPF_MAP_TYPE_PERF_EVENT_ARRAY,
    BPF_MAP_TYPE_PROG_ARRAY,
};
use serde_json::{Value, json};

use crate::devices;
use crate::make::Maker;
use crate::programs;
use crate::sys::{self, MapSpec, PerfEvent};
use crate::truth::{Told, bytes};

/// Where the cgroups of the guest are.
const CGROUPS: &str = "/sys/fs/cgroup";

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("progs")?)?;
    for row in PROGRAM_ARRAYS {
        program_array(maker, &object, row)?;
    }
    devices::make(maker, &object).context("devices and CPUs")?;
    maker.hold(object);
    perf_events(maker)?;
    cgroup_arrays(maker)
}

/// A program of an object.
pub(crate) fn program<'o>(object: &'o Object, name: &str) -> Result<libbpf_rs::Program<'o>> {
    let found = object.progs().find(|program| program.name() == name);
    found.with_context(|| format!("the object has no program {name}"))
}

/// An array of programs: name, slots, programs by slot.
type ProgramArray = (&'static str, u32, &'static [(u32, &'static str)]);

const PROGRAM_ARRAYS: &[ProgramArray] = &[
    (
        "jumps",
        10,
        &[
            (0, "pass"),
            (3, "drop"),
            (4, "a_name_that_is_too_long_for_the_kernel"),
            (9, "pass"),
        ],
    ),
    ("jumps_full", 2, &[(0, "classify"), (1, "classify_too")]),
    ("jumps_empty", 5, &[]),
    ("jumps_one", 1, &[(0, "filter")]),
    (
        "jumps_far",
        3000,
        &[(1, "entered"), (2047, "entered"), (2999, "entered")],
    ),
    ("jumps_syscall", 4, &[(2, "called")]),
    ("jumps_probe", 4, &[(1, "probed")]),
    ("jumps_traced", 4, &[(1, "traced")]),
    ("jumps_leaving", 4, &[(3, "leaving")]),
];

fn program_array(maker: &mut Maker, object: &Object, row: &ProgramArray) -> Result<()> {
    let &(name, max_entries, slots) = row;
    let map = maker.create(&MapSpec {
        kind: BPF_MAP_TYPE_PROG_ARRAY,
        name,
        key_size: 4,
        value_size: 4,
        max_entries,
        ..MapSpec::default()
    })?;
    let mut expect = Vec::new();
    for &(index, program) in slots {
        let program = self::program(object, program)?;
        put(&map, index, program.as_fd().as_raw_fd())?;
        expect.push(id_slot(index, programs::refer(program.as_fd())?)?);
    }
    // What is deleted leaves a hole.
    if max_entries > 100 {
        let program = self::program(object, "entered")?;
        put(&map, 77, program.as_fd().as_raw_fd())?;
        map.delete(&77_u32.to_le_bytes())?;
    }
    maker.tell(map, Told::ordered(expect))
}

/// Writes a file descriptor into a slot.
///
/// # Errors
/// Fails if the kernel refuses.
pub(crate) fn put(map: &MapHandle, index: u32, fd: i32) -> Result<()> {
    sys::update(map, &index.to_le_bytes(), &fd.to_le_bytes(), 0)
        .with_context(|| format!("slot {index} of {}", map.name().display()))
}

/// A slot whose value is the id of what it refers to.
///
/// # Errors
/// Fails if that has no id.
pub(crate) fn id_slot(index: u32, refers: Value) -> Result<Value> {
    let id = refers.get("id").and_then(Value::as_u64);
    let id = u32::try_from(id.context("an object without an id")?)?;
    Ok(json!({"index": index, "refers": refers, "value": bytes(&id.to_le_bytes())}))
}

const SOFTWARE: u32 = 1;
const TRACEPOINT: u32 = 2;

/// What there is no way to look up.
pub(crate) const NO_LOOKUP: &str = "no lookup by bpf(2)";

/// An array of events: name, size, flags, events by slot.
type EventRow<'a> = (&'a str, u32, u32, Vec<(u32, PerfEvent)>);

fn perf_events(maker: &mut Maker) -> Result<()> {
    let me = i32::try_from(std::process::id())?;
    let tracepoint = fs::read_to_string("/sys/kernel/tracing/events/sched/sched_switch/id")
        .context("the number of a tracepoint")?;
    let tracepoint = tracepoint.trim().parse()?;
    let event = |kind, config, pid, cpu| PerfEvent {
        kind,
        config,
        pid,
        cpu,
    };
    let rows: [EventRow<'_>; 4] = [
        (
            "events",
            8,
            0,
            vec![
                // BPF output, for each CPU, as perf buffers do.
                (0, event(SOFTWARE, 10, -1, 0)),
                (1, event(SOFTWARE, 10, -1, 1)),
                // Page faults of one task, wherever it is; CPU clock of a task on one CPU.
                (3, event(SOFTWARE, 2, me, -1)),
                (6, event(SOFTWARE, 0, me, 1)),
                (7, event(SOFTWARE, 9, -1, 0)),
            ],
        ),
        (
            "events_kept",
            4,
            BPF_F_PRESERVE_ELEMS,
            vec![(2, event(SOFTWARE, 3, 1, -1))],
        ),
        (
            "events_traced",
            3,
            0,
            vec![(1, event(TRACEPOINT, tracepoint, me, -1))],
        ),
        ("events_empty", 5, 0, vec![]),
    ];
    for (name, max_entries, flags, slots) in rows {
        let map = maker.create(&MapSpec {
            kind: BPF_MAP_TYPE_PERF_EVENT_ARRAY,
            name,
            key_size: 4,
            value_size: 4,
            max_entries,
            flags,
            ..MapSpec::default()
        })?;
        let mut expect = Vec::new();
        for (index, event) in slots {
            let fd = sys::open_perf_event(&event)?;
            put(&map, index, fd.as_raw_fd())?;
            let mut refers = json!({
                "kind": "perf_event",
                "type": if event.kind == SOFTWARE { "software" } else { "tracepoint" },
                "config": format!("0x{:x}", event.config),
                "cpu": event.cpu,
            });
            if let Some(refers) = refers.as_object_mut()
                && event.pid >= 0
            {
                refers.insert("pid".to_owned(), json!(event.pid));
            }
            expect.push(json!({"index": index, "refers": refers}));
            maker.hold(fd);
        }
        maker.tell(map, Told::ordered(expect).not_live(NO_LOOKUP))?;
    }
    Ok(())
}

/// A cgroup of this guest, made if need be.
#[derive(Debug)]
pub(crate) struct Cgroup {
    pub(crate) folder: PathBuf,
    pub(crate) file: File,
    /// What bpfreeze says about it.
    pub(crate) object: Value,
    pub(crate) id: u64,
}

impl Cgroup {
    /// Makes it, or opens the one that is there. The path starts with `/`.
    pub(crate) fn make(path: &str) -> Result<Self> {
        let folder = PathBuf::from(format!("{CGROUPS}{path}"));
        fs::create_dir_all(&folder).with_context(|| format!("making cgroup {path}"))?;
        let file = File::open(&folder)?;
        let id = file.metadata()?.ino();
        Ok(Self {
            folder,
            file,
            object: json!({"kind": "cgroup", "id": id, "path": path}),
            id,
        })
    }
}

/// An array of cgroups: name, size, paths by slot.
type CgroupRow<'a> = (&'a str, u32, &'a [(u32, &'a str)]);

fn cgroup_arrays(maker: &mut Maker) -> Result<()> {
    let rows: [CgroupRow<'_>; 3] = [
        (
            "cgroups",
            12,
            &[
                (0, "/"),
                (2, "/made"),
                (3, "/made/inside"),
                (7, "/made/inside/a name with spaces"),
                (11, "/made"),
            ],
        ),
        ("cgroups_one", 1, &[(0, "/made/other")]),
        ("cgroups_empty", 3, &[]),
    ];
    for (name, max_entries, slots) in rows {
        let map = maker.create(&MapSpec {
            kind: BPF_MAP_TYPE_CGROUP_ARRAY,
            name,
            key_size: 4,
            value_size: 4,
            max_entries,
            ..MapSpec::default()
        })?;
        let mut expect = Vec::new();
        for &(index, path) in slots {
            let cgroup = Cgroup::make(path)?;
            put(&map, index, cgroup.file.as_raw_fd())?;
            expect.push(json!({"index": index, "refers": cgroup.object}));
        }
        maker.tell(map, Told::ordered(expect).not_live(NO_LOOKUP))?;
    }
    Ok(())
}
