//! Ring buffers that user space writes to, and that a program consumes in part.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapHandle, Object};
use libbpf_sys::BPF_MAP_TYPE_USER_RINGBUF;

use crate::make::Maker;
use crate::memory::Mapping;
use crate::objects::find;
use crate::programs::Input;
use crate::ring::{
    Busy, Discarded, Fill, Model, PAGE, Push, Ready, Record, Row, State, Step, Take, counting, room,
};
use crate::sys::MapSpec;

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

/// Makes them all. `object` is `rings.bpf.c`.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker, object: &Object) -> Result<()> {
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
