//! The state of a map as a whole.

use bpfmaps::MapState;
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::state::{fill, queue_len};

#[derive(Serialize)]
struct RingBuffer {
    size: u64,
    consumer_pos: u64,
    producer_pos: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_pos: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overwrite_pos: Option<u64>,
    overwrite: bool,
}

#[derive(Serialize)]
struct Bloom {
    bits: u64,
    bits_set: u64,
    hash_functions: u32,
    fill: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    estimated_entries: Option<f64>,
}

#[derive(Serialize)]
struct Queue {
    head: u32,
    tail: u32,
    capacity: u32,
    len: u64,
}

#[derive(Serialize)]
struct StructOps<'a> {
    state: &'a str,
    refcount: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// Adds a member for `state`, by the name of what it is the state of.
pub(super) fn state<M: SerializeMap>(map: &mut M, state: &MapState) -> Result<(), M::Error> {
    match *state {
        MapState::RingBuffer {
            size,
            consumer_pos,
            producer_pos,
            pending_pos,
            overwrite_pos,
            overwrite,
        } => map.serialize_entry(
            "ringbuf",
            &RingBuffer {
                size,
                consumer_pos,
                producer_pos,
                pending_pos,
                overwrite_pos,
                overwrite,
            },
        ),
        MapState::Bloom {
            bits,
            bits_set,
            hash_functions,
        } => {
            let (fill, estimated_entries) = fill(bits, bits_set, hash_functions);
            let bloom = Bloom {
                bits,
                bits_set,
                hash_functions,
                fill,
                estimated_entries,
            };
            map.serialize_entry("bloom", &bloom)
        }
        MapState::Queue { head, tail, slots } => map.serialize_entry(
            "queue",
            &Queue {
                head,
                tail,
                capacity: slots.saturating_sub(1),
                len: queue_len(head, tail, slots),
            },
        ),
        MapState::StructOps {
            ref state,
            refcount,
            ref name,
        } => map.serialize_entry(
            "struct_ops",
            &StructOps {
                state,
                refcount,
                name: name.as_deref(),
            },
        ),
        _ => map.serialize_entry("state_error", "a state of this kind is not rendered"),
    }
}
