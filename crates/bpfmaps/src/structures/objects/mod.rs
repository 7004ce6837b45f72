//! Naming the kernel's objects that entries of maps belong to or refer to.
//!
//! What cannot be read of an object is a gap and leaves its part of the name
//! out; a pointer to nowhere thus gives an object of which only the address is
//! known.

mod bpf;
mod cgroup;
mod device;
mod inode;
mod path;
mod perf_event;
mod socket;
mod task;

use guestmem::{Kva, Memory};

use crate::Object;
use crate::walk::Walk;

pub(crate) use bpf::{MapNames, ProgNames};
pub(crate) use cgroup::CgroupNames;
pub(crate) use device::DeviceNames;
pub(crate) use inode::InodeNames;
pub(crate) use perf_event::PerfEventNames;
pub(crate) use socket::SocketNames;
pub(crate) use task::TaskNames;

/// Where the members that name one kind of object are.
pub(crate) trait Names {
    /// The object at `at`; one of which nothing is known where that is not.
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object;
}
