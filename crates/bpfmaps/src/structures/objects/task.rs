//! Tasks (`struct task_struct`).

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::Names;
use crate::structures::fields::Fields;
use crate::walk::Walk;
use crate::{Object, ObjectKind};

/// Where the members that name a task are.
#[derive(Debug)]
pub(crate) struct TaskNames {
    pid: Member,
    tgid: Member,
    comm: Member,
}

impl TaskNames {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let task = btf.record("task_struct")?;
        Ok(Self {
            pid: task.member("pid")?,
            tgid: task.member("tgid")?,
            comm: task.member("comm")?,
        })
    }

    /// The id of the thread at `at`.
    pub(crate) fn pid(
        &self,
        memory: &dyn Memory<Kva>,
        at: Option<Kva>,
        walk: &mut Walk,
    ) -> Option<i32> {
        Fields::load(memory, at, &[&self.pid], walk).i32(&self.pid)
    }
}

impl Names for TaskNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let task = Fields::load(memory, at, &[&self.pid, &self.tgid, &self.comm], walk);
        Object {
            kva: at,
            kind: ObjectKind::Task {
                pid: task.i32(&self.pid),
                tgid: task.i32(&self.tgid),
                comm: task.text(&self.comm),
            },
        }
    }
}
