//! Names of the kernel's objects that pointers lead to.

use std::cell::OnceCell;

use guestmem::Kva;

use super::Pointee;
use crate::structures::objects::{CgroupNames, Names, TaskNames};
use crate::walk::Walk;
use crate::{BpfMapAccessor, Object};

/// Names objects of the kernel, with layouts that it takes from BTF once.
#[derive(Debug, Default)]
pub struct KernelNames {
    task: OnceCell<Option<TaskNames>>,
    cgroup: OnceCell<Option<CgroupNames>>,
}

impl KernelNames {
    /// The object at `at`, if it is a task or a control group of the kernel
    /// and memory is there. What cannot be read of it is a gap of `walk`.
    pub fn object(
        &self,
        accessor: &dyn BpfMapAccessor,
        pointee: &Pointee,
        at: Kva,
        walk: &mut Walk,
    ) -> Option<Object> {
        let memory = accessor.memory().filter(|_| pointee.of_kernel)?;
        let btf = &pointee.btf;
        let names: &dyn Names = match pointee.type_name.as_str() {
            "struct task_struct" => self
                .task
                .get_or_init(|| TaskNames::new(btf).ok())
                .as_ref()?,
            "struct cgroup" => self
                .cgroup
                .get_or_init(|| {
                    CgroupNames::new(btf, accessor.memory_size().unwrap_or(u64::MAX)).ok()
                })
                .as_ref()?,
            _ => return None,
        };
        Some(names.object(memory, Some(at), walk))
    }
}
