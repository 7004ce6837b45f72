//! The kernel's side of what runs later: timers, work for workqueues, work
//! for tasks (`kernel/bpf/helpers.c`).

use btf_layout::{Btf, Error, Kind, Member, Type};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};

use super::reader::long;
use super::{Callback, FieldKind, Reader, TaskWork, Timer, Work};
use crate::ProgRef;
use crate::structures::Copied;
use crate::structures::objects::ProgNames;
use crate::walk::{Gap, Walk};

/// `HRTIMER_STATE_ENQUEUED` of `hrtimer.state`, and `true` of
/// `hrtimer.is_queued`.
const QUEUED: u64 = 1;

/// `WORK_STRUCT_PENDING` of `work_struct.data`.
const PENDING: u64 = 1;

/// What the enumerators of `enum bpf_task_work_state` begin with.
const TASK_WORK_STATE: &str = "BPF_TW_";

/// What the symbol of a program's function begins with, before its tag.
const PROGRAM_SYMBOL: &str = "bpf_prog_";

/// The layouts that this needs; each is missing in kernels that do not have
/// such fields.
#[derive(Debug)]
pub(super) struct Layouts {
    timer: Result<TimerLayout, Error>,
    work: Result<WorkLayout, Error>,
    task_work: Result<TaskWorkLayout, Error>,
    prog: Result<ProgNames, Error>,
}

/// What all of them have: a pointer to the kernel's object in the field, and
/// there the callback and the program that it is part of.
#[derive(Debug)]
struct Common {
    /// Where in the field the pointer is.
    pointer: Member,
    size: u64,
    callback: Member,
    prog: Member,
}

/// `struct bpf_hrtimer`.
#[derive(Debug)]
struct TimerLayout {
    common: Common,
    state: Member,
    expires: Member,
    base: Member,
    /// In what `base` points at.
    clock: Member,
}

/// `struct bpf_work`.
#[derive(Debug)]
struct WorkLayout {
    common: Common,
    data: Member,
}

/// `struct bpf_task_work_ctx`.
#[derive(Debug)]
struct TaskWorkLayout {
    common: Common,
    state: Member,
    task: Member,
    /// The states by their values.
    names: Vec<(i128, String)>,
}

impl Common {
    fn new(btf: &Btf, pointer: Member, name: &str) -> Result<Self, Error> {
        let object = btf.record(name)?;
        Ok(Self {
            pointer,
            size: object.size(),
            // bpf_async_cb is apart since 6.10 (be2749beff62).
            callback: object.member_any(&["cb.callback_fn", "callback_fn"])?,
            prog: object.member_any(&["cb.prog", "prog"])?,
        })
    }
}

impl TimerLayout {
    fn new(btf: &Btf) -> Result<Self, Error> {
        // bpf_timer_kern before bpf_async_kern (6.10, 56b4a177ae63).
        let field = btf
            .record("bpf_async_kern")
            .or_else(|_| btf.record("bpf_timer_kern"))?;
        let object = btf.record("bpf_hrtimer")?;
        Ok(Self {
            common: Common::new(btf, field.member("timer")?, "bpf_hrtimer")?,
            // `state` had one bit left, and became `is_queued` in 7.1.
            state: object.member_any(&["timer.is_queued", "timer.state"])?,
            expires: object.member("timer.node.expires")?,
            base: object.member("timer.base")?,
            clock: btf.record("hrtimer_clock_base")?.member("clockid")?,
        })
    }
}

impl WorkLayout {
    fn new(btf: &Btf) -> Result<Self, Error> {
        let field = btf.record("bpf_async_kern")?;
        Ok(Self {
            common: Common::new(btf, field.member("work")?, "bpf_work")?,
            data: btf.record("bpf_work")?.member("work.data")?,
        })
    }
}

impl TaskWorkLayout {
    fn new(btf: &Btf) -> Result<Self, Error> {
        let field = btf.record("bpf_task_work_kern")?;
        let object = btf.record("bpf_task_work_ctx")?;
        let mut names = Vec::new();
        if let Some(id) = btf.find(Kind::Enum, "bpf_task_work_state")
            && let Type::Enum { values, .. } = btf.get(id)?
        {
            for value in values {
                let value = value?;
                let name = value.name.strip_prefix(TASK_WORK_STATE);
                let name = name.unwrap_or(value.name).to_ascii_lowercase();
                names.push((value.value, name));
            }
        }
        Ok(Self {
            common: Common::new(btf, field.member("ctx")?, "bpf_task_work_ctx")?,
            state: object.member("state")?,
            task: object.member("task")?,
            names,
        })
    }
}

impl Layouts {
    pub(super) fn new(btf: &Btf) -> Self {
        Self {
            timer: TimerLayout::new(btf),
            work: WorkLayout::new(btf),
            task_work: TaskWorkLayout::new(btf),
            prog: ProgNames::new(btf),
        }
    }

    /// The pointer in the `bytes` of such a field. It is what they begin with
    /// where no layout says otherwise.
    pub(super) fn pointer(&self, kind: FieldKind, bytes: &[u8]) -> u64 {
        let common = match kind {
            FieldKind::Timer => self.timer.as_ref().ok().map(|timer| &timer.common),
            FieldKind::Workqueue => self.work.as_ref().ok().map(|work| &work.common),
            _ => self.task_work.as_ref().ok().map(|work| &work.common),
        };
        let offset = common.and_then(|common| usize::try_from(common.pointer.offset).ok());
        long(bytes.get(offset.unwrap_or(0)..).unwrap_or_default())
    }

    pub(super) fn timer(&self, reader: &Reader<'_>, at: Kva) -> Result<Timer, Gap> {
        let layout = known(&self.timer, at)?;
        let (memory, object) = load(reader, at, layout.common.size)?;
        let base = object.pointer(&layout.base);
        let clock = base
            .checked_add(layout.clock.offset)
            .ok_or(Fault::new(base, Cause::EndOfSpace))
            .and_then(|at| memory.load_u32(at))
            .map_err(unreadable)?;
        let (callback, prog) = self.callback(reader, memory, &object, &layout.common)?;
        Ok(Timer {
            armed: object.uint(&layout.state) & QUEUED != 0,
            expires_ns: object.uint(&layout.expires),
            clock: clock_name(clock),
            callback,
            prog,
        })
    }

    pub(super) fn work(&self, reader: &Reader<'_>, at: Kva) -> Result<Work, Gap> {
        let layout = known(&self.work, at)?;
        let (memory, object) = load(reader, at, layout.common.size)?;
        let (callback, prog) = self.callback(reader, memory, &object, &layout.common)?;
        Ok(Work {
            pending: object.uint(&layout.data) & PENDING != 0,
            callback,
            prog,
        })
    }

    pub(super) fn task_work(&self, reader: &Reader<'_>, at: Kva) -> Result<TaskWork, Gap> {
        let layout = known(&self.task_work, at)?;
        let (memory, object) = load(reader, at, layout.common.size)?;
        let (callback, prog) = self.callback(reader, memory, &object, &layout.common)?;
        let state = object.uint(&layout.state);
        let known = layout.names.iter();
        let mut known = known.filter(|(value, _)| *value == i128::from(state));
        let task = object.pointer(&layout.task);
        Ok(TaskWork {
            state: known
                .next()
                .map_or_else(|| state.to_string(), |(_, name)| name.clone()),
            callback,
            prog,
            task: (task.get() != 0).then_some(task),
        })
    }

    /// What an object calls, and the program that this is part of.
    fn callback(
        &self,
        reader: &Reader<'_>,
        memory: &dyn Memory<Kva>,
        object: &Copied,
        common: &Common,
    ) -> Result<(Option<Callback>, Option<ProgRef>), Gap> {
        let set = |at: Kva| (at.get() != 0).then_some(at);
        let callback = set(object.pointer(&common.callback)).map(|address| {
            let symbol = reader.accessor.symbol(address);
            let name = symbol.and_then(|symbol| function_of(&symbol.name));
            Callback { address, name }
        });
        let Some(at) = set(object.pointer(&common.prog)) else {
            return Ok((callback, None));
        };
        let mut walk = Walk::default();
        let prog = known(&self.prog, at)?.brief(memory, Some(at), &mut walk);
        match walk.gaps.pop() {
            Some(gap) => Err(gap),
            None => Ok((callback, prog)),
        }
    }
}

/// The gap that a fault leaves.
fn unreadable(fault: Fault<Kva>) -> Gap {
    Gap {
        at: fault.addr.into(),
        reason: fault.cause.into(),
    }
}

/// The layout, if the kernel's BTF has it.
fn known<T>(layout: &Result<T, Error>, at: Kva) -> Result<&T, Gap> {
    layout.as_ref().map_err(|error| Gap {
        at: at.into(),
        reason: error.clone().into(),
    })
}

/// The kernel's object at `at`.
fn load<'r>(
    reader: &'r Reader<'_>,
    at: Kva,
    size: u64,
) -> Result<(&'r dyn Memory<Kva>, Copied), Gap> {
    let memory = reader.memory().map_err(|reason| Gap {
        at: at.into(),
        reason,
    })?;
    let object = Copied::load(memory, at, size).map_err(unreadable)?;
    Ok((memory, object))
}

/// The name of a function of a program in its symbol,
/// `bpf_prog_<16 digits>_<name>`.
fn function_of(symbol: &str) -> Option<String> {
    let (tag, name) = symbol.strip_prefix(PROGRAM_SYMBOL)?.split_once('_')?;
    let is_tag = tag.len() == 16 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_tag.then(|| name.to_owned())
}

/// The clocks that timers may have (`include/uapi/linux/time.h`).
fn clock_name(clock: u32) -> String {
    match clock {
        0 => "realtime".to_owned(),
        1 => "monotonic".to_owned(),
        7 => "boottime".to_owned(),
        other => other.to_string(),
    }
}
