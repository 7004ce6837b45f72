//! The state of a map as a whole, for the types that have one.

use guestmem::Kva;

use super::{arena, bloom, queue, ring_buffer, struct_ops};
use crate::target::Target;
use crate::{Error, MapInfo, MapState, MapType, PagesFrom};

/// Whether maps of this type have a state.
#[cfg(feature = "live")]
pub(crate) fn has_state(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::BLOOM_FILTER
            | MapType::QUEUE
            | MapType::STACK
            | MapType::RINGBUF
            | MapType::USER_RINGBUF
            | MapType::STRUCT_OPS
            | MapType::ARENA
    )
}

/// The state of `map`, whose `struct bpf_map` is at `at`; `None` for types
/// that have none.
pub(crate) fn state(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
) -> Result<Option<MapState>, Error> {
    match map.map_type {
        MapType::BLOOM_FILTER => bloom::state(target, at),
        MapType::QUEUE | MapType::STACK => queue::state(target, at),
        MapType::RINGBUF | MapType::USER_RINGBUF => ring_buffer::state(target, at),
        MapType::STRUCT_OPS => struct_ops::state(target, map, at),
        MapType::ARENA => {
            let arena = arena::open(target, map, at)?;
            Ok(arena::state(&arena, PagesFrom::PageTables))
        }
        _ => return Ok(None),
    }
    .map(Some)
}
