//! Perf events, behind the `struct bpf_event_entry` that maps hold.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::{Names, TaskNames};
use crate::structures::fields::Fields;
use crate::walk::Walk;
use crate::{Object, ObjectKind};

/// The names of `enum perf_type_id`, by number. The types of other events are
/// numbers that the kernel gives out as drivers register.
const TYPES: &[&str] = &[
    "hardware",
    "software",
    "tracepoint",
    "hw_cache",
    "raw",
    "breakpoint",
];

/// Where the members that name a perf event are.
#[derive(Debug)]
pub(crate) struct PerfEventNames {
    event: Member,
    event_type: Member,
    config: Member,
    cpu: Member,
    target: Member,
    task: TaskNames,
}

impl PerfEventNames {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let event = btf.record("perf_event")?;
        Ok(Self {
            event: btf.record("bpf_event_entry")?.member("event")?,
            event_type: event.member("attr.type")?,
            config: event.member("attr.config")?,
            cpu: event.member("cpu")?,
            target: event.member("hw.target")?,
            task: TaskNames::new(btf)?,
        })
    }
}

impl Names for PerfEventNames {
    /// The event of the entry at `at`.
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let kva = Fields::load(memory, at, &[&self.event], walk).address(&self.event);
        let members = [&self.event_type, &self.config, &self.cpu, &self.target];
        let event = Fields::load(memory, kva, &members, walk);
        Object {
            kva,
            kind: ObjectKind::PerfEvent {
                event_type: event.u32(&self.event_type).map(type_name),
                config: event.uint(&self.config),
                cpu: event.i32(&self.cpu),
                pid: self.task.pid(memory, event.pointer(&self.target), walk),
            },
        }
    }
}

fn type_name(number: u32) -> String {
    let name = usize::try_from(number).ok().and_then(|at| TYPES.get(at));
    name.map_or_else(|| number.to_string(), |&name| name.to_owned())
}
