//! Perf events, behind the `struct bpf_event_entry` that maps hold.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::{Names, TaskNames, path};
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

/// The units of the software events that measure time. Since 6.5 the
/// kernel puts their own numbers in the place of `PERF_TYPE_SOFTWARE`, by which
/// they were asked for (`perf_swevent_init`).
const CLOCKS: [&str; 2] = ["cpu_clock", "task_clock"];

/// Where the members that name a perf event are.
#[derive(Debug)]
pub(crate) struct PerfEventNames {
    event: Member,
    event_type: Member,
    config: Member,
    cpu: Member,
    target: Member,
    unit: Member,
    unit_name: Member,
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
            unit: event.member("pmu")?,
            unit_name: btf.record("pmu")?.member("name")?,
            task: TaskNames::new(btf)?,
        })
    }

    /// The name of the type `number`, of an event of the unit at `unit`.
    fn type_name(
        &self,
        memory: &dyn Memory<Kva>,
        number: u32,
        unit: Option<Kva>,
        walk: &mut Walk,
    ) -> String {
        if let Some(name) = usize::try_from(number).ok().and_then(|at| TYPES.get(at)) {
            return (*name).to_owned();
        }
        let unit = Fields::load(memory, unit, &[&self.unit_name], walk);
        let unit = unit.address(&self.unit_name);
        match unit.and_then(|name| path::name(memory, name, None, walk)) {
            Some(name) if CLOCKS.contains(&name.as_str()) => "software".to_owned(),
            _ => number.to_string(),
        }
    }
}

impl Names for PerfEventNames {
    /// The event of the entry at `at`.
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let kva = Fields::load(memory, at, &[&self.event], walk).address(&self.event);
        let members = [
            &self.event_type,
            &self.config,
            &self.cpu,
            &self.target,
            &self.unit,
        ];
        let event = Fields::load(memory, kva, &members, walk);
        Object {
            kva,
            kind: ObjectKind::PerfEvent {
                event_type: event
                    .u32(&self.event_type)
                    .map(|number| self.type_name(memory, number, event.address(&self.unit), walk)),
                config: event.uint(&self.config),
                cpu: event.i32(&self.cpu),
                pid: self.task.pid(memory, event.pointer(&self.target), walk),
            },
        }
    }
}
