//! Bloom filters (`kernel/bpf/bloom_filter.c`).

use guestmem::Kva;

use crate::target::Target;
use crate::walk::Walker;
use crate::{Error, MapInfo};

/// Reads the filter of `map` at `at`, which has no entries that could be
/// visited.
pub(crate) fn walk(
    _target: &dyn Target,
    map: &MapInfo,
    _at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    walker.unread_type(map.map_type);
    Ok(())
}
