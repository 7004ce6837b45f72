//! Storage that belongs to other objects of the kernel: tasks, inodes,
//! sockets, control groups.

mod cgroup;
mod local;

use guestmem::Kva;

use crate::target::Target;
use crate::walk::Walker;
use crate::{Error, MapInfo, MapType};

/// Visits the entries of `map` at `at`.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    match map.map_type {
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => {
            cgroup::walk(target, map, at, walker)
        }
        _ => local::walk(target, map, at, walker),
    }
}
