//! The state of a map as a whole.

use bpfmaps::arena::Run;
use bpfmaps::{MapState, PagesFrom};
use guestmem::{ArenaPtr, Kva};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::allocators::{AccountJson, GlobalsJson};
use super::page_bytes::PageList;
use super::value::Text;
use crate::page_bytes::PageBytes;
use crate::state::{fill, pages, queue_len};
use crate::walk::Causes;

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

#[derive(Serialize)]
struct Arena<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    user_vm_start: Option<Text<ArenaPtr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kern_vm_start: Option<Text<Kva>>,
    page_size: u64,
    declared_pages: u64,
    mapped_pages: u64,
    runs: Runs<'a>,
    faulted_pages: Runs<'a>,
    complete: bool,
    pages_from: Text<&'a PagesFrom>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    globals: Option<GlobalsJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages: Option<PageList<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pages_error: Option<Text<Causes<'a>>>,
}

/// Runs of pages.
pub(super) struct Runs<'a>(pub(super) &'a [Run]);

impl Serialize for Runs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Pages {
            pgoff: u64,
            pages: u64,
        }
        serializer.collect_seq(self.0.iter().map(|run| Pages {
            pgoff: run.pgoff,
            pages: run.pages,
        }))
    }
}

/// Adds a member for `state`, by the name of what it is the state of.
pub(super) fn state<M: SerializeMap>(
    map: &mut M,
    state: &MapState,
    known: Option<(AccountJson<'_>, Option<GlobalsJson<'_>>)>,
    bytes: Option<&PageBytes<'_>>,
) -> Result<(), M::Error> {
    let (account, globals) = known.unzip();
    match *state {
        MapState::Arena {
            user_start,
            kernel_base,
            page_size,
            declared_pages,
            ref runs,
            ref faulted,
            complete,
            ref pages_from,
        } => map.serialize_entry(
            "arena",
            &Arena {
                user_vm_start: user_start.map(Text),
                kern_vm_start: kernel_base.map(Text),
                page_size,
                declared_pages,
                mapped_pages: pages(runs),
                runs: Runs(runs),
                faulted_pages: Runs(faulted),
                complete,
                pages_from: Text(pages_from),
                account,
                globals: globals.flatten(),
                pages: bytes.filter(|bytes| bytes.error().is_none()).map(PageList),
                pages_error: bytes.and_then(PageBytes::error).map(Causes).map(Text),
            },
        ),
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
