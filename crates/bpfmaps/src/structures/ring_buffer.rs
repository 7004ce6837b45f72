//! Ring buffers, of the kernel and of user space (`kernel/bpf/ringbuf.c`).

use guestmem::Kva;

use crate::target::Target;
use crate::walk::Walker;
use crate::{Error, MapInfo};

/// Visits the entries of `map` at `at`.
pub(crate) fn walk(
    _target: &dyn Target,
    map: &MapInfo,
    _at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    walker.unread_type(map.map_type);
    Ok(())
}
