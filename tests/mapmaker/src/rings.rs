//! Ring buffers, written by programs or by user space, and consumed in part.

use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object};
use libbpf_sys::{BPF_F_RB_OVERWRITE, BPF_MAP_TYPE_RINGBUF, BPF_MAP_TYPE_USER_RINGBUF};
use serde_json::json;

use crate::make::Maker;
use crate::objects::find;
use crate::programs::Input;
use crate::slots::{self, program};
use crate::sys::{self, MapSpec, Mapping};
use crate::truth::{Told, bytes};
use crate::uffd::Never;

const PAGE: usize = 4096;
const HEADER: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Discarded,
    Busy,
}
use State::{Busy, Discarded, Ready};

/// What is done to a ring.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A record of so many bytes.
    Push(u32, State),
    /// The consumer takes so many records.
    Take(u32),
    /// Records of so many bytes, for as long as there is room.
    Fill(u32),
}
use Step::{Fill, Push, Take};

/// A ring: name, size, steps.
type Row = (&'static str, u32, &'static [Step]);

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

/// A record that a ring holds.
#[derive(Debug, Clone)]
struct Record {
    position: u64,
    state: State,
    value: Vec<u8>,
}

impl Record {
    fn end(&self) -> u64 {
        self.position + room(self.value.len())
    }
}

/// What a record takes, its header included.
fn room(len: usize) -> u64 {
    (u64::try_from(len).unwrap_or(0) + HEADER).next_multiple_of(8)
}

/// What a ring is to hold, by the kernel's rules.
#[derive(Debug)]
struct Model {
    size: u64,
    overwrite: bool,
    /// All that was ever written.
    records: Vec<Record>,
    consumer: u64,
    producer: u64,
    pending: u64,
    overwritten: u64,
}

impl Model {
    fn new(size: u32, overwrite: bool) -> Self {
        Self {
            size: u64::from(size),
            overwrite,
            records: Vec::new(),
            consumer: 0,
            producer: 0,
            pending: 0,
            overwritten: 0,
        }
    }

    /// Takes note of a record, unless there is no room for it.
    fn push(&mut self, value: Vec<u8>, state: State) -> bool {
        let end = self.producer + room(value.len());
        // Whoever reserves looks how far everything is submitted.
        let busy = self.records.iter().find(|record| record.state == Busy);
        let pending = busy.map_or(self.producer, |record| record.position);
        let held = if self.overwrite {
            pending
        } else {
            pending.min(self.consumer)
        };
        self.pending = pending;
        if end - held > self.size - 1 {
            return false;
        }
        let mut overwritten = self.overwritten;
        for record in &self.records {
            let oldest = record.position == overwritten;
            if self.overwrite && oldest && end - overwritten > self.size - 1 {
                overwritten = record.end();
            }
        }
        self.overwritten = overwritten;
        self.records.push(Record {
            position: self.producer,
            state,
            value,
        });
        self.producer = end;
        true
    }

    /// Where the consumer is when it has taken so many records.
    fn take(&mut self, count: u32) -> Result<u64> {
        for _ in 0..count {
            let next = self.held().next().context("nothing to take")?;
            self.consumer = next.end();
        }
        Ok(self.consumer)
    }

    fn held(&self) -> impl Iterator<Item = &Record> {
        let from = self.consumer.max(self.overwritten);
        self.records
            .iter()
            .filter(move |record| record.position >= from)
    }

    fn told(&self, maker: &Maker) -> Told {
        let expect = self.held().map(|record| {
            let state = match record.state {
                Ready => "ready",
                Discarded => "discarded",
                Busy => "busy",
            };
            json!({"record": record.position, "state": state, "value": bytes(&record.value)})
        });
        let mut state = json!({
            "size": self.size, "consumer_pos": self.consumer, "producer_pos": self.producer,
            "overwrite": self.overwrite,
        });
        let mut frozen = json!({});
        if let (Some(state), Some(frozen)) = (state.as_object_mut(), frozen.as_object_mut()) {
            if maker.kernel.member("bpf_ringbuf", "pending_pos") {
                frozen.insert("pending_pos".to_owned(), json!(self.pending));
            }
            if self.overwrite {
                state.insert("overwrite_pos".to_owned(), json!(self.overwritten));
            }
        }
        Told::ordered(expect.collect())
            .state(json!({"ringbuf": state}))
            .state_frozen(json!({"ringbuf": frozen}))
    }
}

/// Bytes that count up, as the program writes them.
fn counting(first: u32, len: u32) -> Vec<u8> {
    let byte = |n: u32| u8::try_from((first + n) % 251).unwrap_or(0);
    (0..len).map(byte).collect()
}

/// Makes them all. Those that never end their records hold up the freeing of sleepable programs,
/// so that this comes last.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let never = Never::new()?;
    let object = kind(maker, "rings", 0, RINGS, &never)?;
    if maker.has("USER_RINGBUF") {
        written_by_user(maker, &object)?;
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
        let refers = slots::refer(ring.as_fd())?;
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
        Fill(len) => while push(maker, object, ring, len, Ready, 0, model)? {},
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

const BUSY_BIT: u32 = 1 << 31;
const DISCARD_BIT: u32 = 1 << 30;

const USER_RINGS: &[Row] = &[
    (
        "ur",
        4096,
        &[
            Push(16, Ready),
            Push(5, Ready),
            Push(100, Discarded),
            Push(1, Ready),
        ],
    ),
    ("ur_empty", 4096, &[]),
    (
        "ur_busy",
        8192,
        &[
            Push(30, Ready),
            Push(1000, Busy),
            Push(9, Ready),
            Push(8, Busy),
        ],
    ),
    ("ur_full", 4096, &[Fill(120)]),
];

/// Rings whose producer is user space.
fn written_by_user(maker: &mut Maker, object: &Object) -> Result<()> {
    for &(name, size, steps) in USER_RINGS {
        let map = maker.create(&MapSpec {
            kind: BPF_MAP_TYPE_USER_RINGBUF,
            name,
            max_entries: size,
            ..MapSpec::default()
        })?;
        let mut ring = UserRing::new(&map, size)?;
        ring.steps(steps)?;
        let told = ring.model.told(maker);
        maker.tell(map, told)?;
    }
    let map = find(object, "ur_drained")?;
    let mut ring = UserRing::new(&map, 8192)?;
    // The kernel's consumer is at the end of the second record, then further on, past the end of
    // the buffer.
    ring.steps(&[
        Push(3000, Ready),
        Push(13, Ready),
        Push(1, Discarded),
        Push(2000, Ready),
    ])?;
    drain(maker, object, 2, &mut ring.model)?;
    ring.steps(&[Push(2000, Ready), Push(3900, Ready), Push(3, Ready)])?;
    drain(maker, object, 2, &mut ring.model)?;
    ring.steps(&[Push(600, Ready), Push(50, Discarded), Push(50, Busy)])?;
    let told = ring.model.told(maker);
    maker.tell(map, told)
}

fn drain(maker: &mut Maker, object: &Object, count: u32, model: &mut Model) -> Result<()> {
    let mut request = vec![0; 24];
    if let Some(place) = request.get_mut(4..8) {
        place.copy_from_slice(&count.to_le_bytes());
    }
    let drained = maker
        .programs
        .run(object, "consume", Input::Context(&request))?;
    ensure!(
        drained == count,
        "{drained} samples were consumed, not {count}"
    );
    // What was discarded goes on the way.
    let mut left = count;
    while left > 0 {
        let next = model.held().next().context("nothing to take")?;
        left -= u32::from(next.state == Ready);
        model.take(1)?;
    }
    Ok(())
}

/// The memory of a ring that user space writes to: the producer's page, then the data twice.
struct UserRing {
    memory: Mapping,
    model: Model,
}

impl UserRing {
    fn new(map: &MapHandle, size: u32) -> Result<Self> {
        let len = PAGE + 2 * usize::try_from(size)?;
        Ok(Self {
            memory: Mapping::shared(map.as_fd(), PAGE, len)?,
            model: Model::new(size, false),
        })
    }

    fn steps(&mut self, steps: &[Step]) -> Result<()> {
        for &step in steps {
            match step {
                Push(len, state) => ensure!(self.push(len, state)?, "there is no room"),
                Fill(len) => while self.push(len, Ready)? {},
                Take(_) => bail!("user space does not consume"),
            }
        }
        Ok(())
    }

    fn push(&mut self, len: u32, state: State) -> Result<bool> {
        let at = self.model.producer;
        let value = counting(u32::try_from(at % 251)?, len);
        if at + room(value.len()) - self.model.consumer > self.model.size {
            return Ok(false);
        }
        self.model.records.push(Record {
            position: at,
            state,
            value: value.clone(),
        });
        self.model.producer = at + room(value.len());
        let flags = match state {
            Ready => 0,
            Discarded => DISCARD_BIT,
            Busy => BUSY_BIT,
        };
        let place = PAGE + usize::try_from(at % self.model.size)?;
        self.memory.write(place, &(len | flags).to_le_bytes())?;
        self.memory.write(place + 4, &[0; 4])?;
        self.memory.write(place + 8, &value)?;
        self.memory.write(0, &self.model.producer.to_le_bytes())?;
        Ok(true)
    }
}
