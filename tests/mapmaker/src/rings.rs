//! Ring buffers that programs write to, and that are consumed in part.

use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapCore, MapFlags, Object};
use libbpf_sys::{BPF_F_RB_OVERWRITE, BPF_MAP_TYPE_RINGBUF};
use serde_json::json;

use crate::make::Maker;
use crate::memory::Mapping;
use crate::objects::find;
use crate::programs::Input;
use crate::ring::{
    Busy, Discarded, Fill, Model, PAGE, Push, Ready, Row, State, Step, Take, counting,
};
use crate::slots::{self, program};
use crate::sys::{self, MapSpec};
use crate::truth::Told;
use crate::uffd::Never;
use crate::{nested, user_rings};

const RINGS: &[Row] = &[
    (
        "rb",
        4096,
        &[
            Push(16, Ready),
            Push(5, Ready),
            Push(100, Discarded),
            Push(1, Ready),
        ],
    ),
    ("rb_empty", 4096, &[]),
    (
        "rb_consumed",
        4096,
        &[Push(40, Ready), Push(8, Discarded), Take(2)],
    ),
    (
        "rb_part",
        8192,
        &[
            Push(40, Ready),
            Push(13, Ready),
            Push(700, Ready),
            Take(2),
            Push(3, Ready),
        ],
    ),
    ("rb_full", 4096, &[Fill(56)]),
    (
        "rb_wrapped",
        4096,
        &[
            Push(3000, Ready),
            Push(500, Ready),
            Take(1),
            Push(2000, Ready),
            Push(17, Discarded),
        ],
    ),
    (
        "rb_far",
        4096,
        &[
            Fill(1000),
            Take(4),
            Fill(1000),
            Take(3),
            Fill(777),
            Take(3),
            Push(2000, Discarded),
            Push(0, Ready),
        ],
    ),
    (
        "rb_large",
        1 << 20,
        &[Push(4000, Ready), Fill(4095), Take(200), Fill(4001)],
    ),
    (
        "rb_busy",
        4096,
        &[
            Push(24, Ready),
            Push(33, Busy),
            Push(16, Ready),
            Push(16, Discarded),
            Push(2000, Busy),
            Push(8, Ready),
        ],
    ),
    (
        "rb_busy_first",
        65_536,
        &[Push(24, Ready), Take(1), Push(7, Busy), Push(1000, Ready)],
    ),
    ("rb_busy_only", 4096, &[Push(24, Busy)]),
];

const OVERWRITTEN: &[Row] = &[
    ("ro", 4096, &[Push(16, Ready), Push(50, Discarded)]),
    (
        "ro_over",
        4096,
        &[
            Fill(500),
            Push(500, Ready),
            Push(100, Ready),
            Push(9, Ready),
        ],
    ),
    (
        "ro_twice",
        4096,
        &[
            Push(3000, Ready),
            Push(3000, Ready),
            Push(3000, Discarded),
            Push(1000, Ready),
            Push(20, Ready),
        ],
    ),
    (
        "ro_taken",
        4096,
        &[Fill(500), Take(3), Push(300, Ready), Push(200, Ready)],
    ),
    ("ro_empty", 8192, &[]),
];

/// Makes them all. Those that never end their records hold up the freeing of sleepable programs,
/// so that this comes last.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let never = Never::new()?;
    let object = kind(maker, "rings", 0, RINGS, &never)?;
    if maker.has("USER_RINGBUF") {
        user_rings::make(maker, &object)?;
    }
    maker.hold(object);
    if maker.kernel.member("bpf_ringbuf", "overwrite_mode") {
        let object = kind(maker, "rings_over", BPF_F_RB_OVERWRITE, OVERWRITTEN, &never)?;
        maker.hold(object);
    } else {
        maker.skip(
            "RINGBUF overwrite mode",
            "bpf_ringbuf has no overwrite_mode",
        );
    }
    maker.hold(never);
    Ok(())
}

/// Makes the rings of one kind.
fn kind(
    maker: &mut Maker,
    object: &str,
    flags: u32,
    rows: &[Row],
    never: &Never,
) -> Result<Object> {
    let create = |&(name, max_entries, _): &Row| {
        sys::create_map(&MapSpec {
            kind: BPF_MAP_TYPE_RINGBUF,
            name,
            max_entries,
            flags,
            ..MapSpec::default()
        })
    };
    let rings = rows.iter().map(create).collect::<Result<Vec<_>>>()?;
    let model = rings.first().context("no rings")?.as_fd();
    let mut open = maker.open(object)?;
    for mut map in open.maps_mut() {
        if map.name().to_string_lossy().ends_with("rings") {
            map.set_inner_map_fd(model)?;
        }
    }
    let object = maker.load(open)?;
    let outer = if flags == 0 { "rings" } else { "over_rings" };
    let outer = find(&object, outer)?;
    let bss = object
        .maps()
        .find(|map| map.name().to_string_lossy().ends_with(".bss"));
    let bss = bss.context("the object has no .bss")?;
    let pattern = counting(0, 8192);
    bss.update(&[0; 4], &pattern, MapFlags::ANY)?;
    let mut slots = Vec::new();
    for (at, ring) in (0_u32..).zip(&rings) {
        slots::put(&outer, at, ring.as_fd().as_raw_fd())?;
        let refers = nested::refer(ring.as_fd())?;
        slots.push(json!({"index": at, "refers": refers}));
    }
    maker.tell(outer, Told::ordered(slots))?;
    for ((at, ring), &(name, size, steps)) in (0_u32..).zip(rings).zip(rows) {
        let mut model = Model::new(size, flags != 0);
        let mut consumer = Mapping::shared(ring.as_fd(), 0, PAGE)?;
        for &step in steps {
            do_step(maker, &object, at, step, &mut model, never)
                .with_context(|| format!("{name}: {step:?}"))?;
            consumer.write(0, &model.consumer.to_le_bytes())?;
        }
        let told = model.told(maker);
        maker.tell(ring, told)?;
    }
    Ok(object)
}

fn do_step(
    maker: &mut Maker,
    object: &Object,
    ring: u32,
    step: Step,
    model: &mut Model,
    never: &Never,
) -> Result<()> {
    match step {
        Take(count) => {
            model.take(count)?;
        }
        Push(len, state) => {
            let wait = if state == Busy { never.address() } else { 0 };
            ensure!(
                push(maker, object, ring, len, state, wait, model)?,
                "there is no room"
            );
        }
        // Where there is always room, for as long as nothing is lost.
        Fill(len) => {
            while (!model.overwrite || model.is_free(len))
                && push(maker, object, ring, len, Ready, 0, model)?
            {}
        }
    }
    Ok(())
}

/// Lets the program push a record. False if there is no room, by the model and by the kernel.
fn push(
    maker: &mut Maker,
    object: &Object,
    ring: u32,
    len: u32,
    state: State,
    wait: u64,
    model: &mut Model,
) -> Result<bool> {
    let first = u32::try_from(model.records.len())? * 7 % 251;
    let mut request = Vec::new();
    for number in [ring, len, u32::from(state == Discarded), first] {
        request.extend(number.to_le_bytes());
    }
    request.extend(wait.to_le_bytes());
    let room = model.push(counting(first, len), state);
    if wait == 0 {
        let result = maker
            .programs
            .run(object, "push", Input::Context(&request))?;
        return match (result, room) {
            (0, true) => Ok(true),
            (1, false) => Ok(false),
            _ => bail!("the kernel says {result} where there is room: {room}"),
        };
    }
    // The program stays in the kernel, and so does the thread that runs it.
    let fd = program(object, "push")?.as_fd().try_clone_to_owned()?;
    let waiting = thread::Builder::new().name("never ends".to_owned());
    let waiting = waiting.spawn(move || sys::run_program(fd.as_fd(), Input::Context(&request)))?;
    let patience = Duration::from_secs(1);
    thread::sleep(patience);
    ensure!(
        !waiting.is_finished(),
        "the program did not wait: {:?}",
        waiting.join()
    );
    Ok(room)
}
