//! The entries of arrays, by ascending index.

use nix::errno::Errno;

use super::Fetch;
use super::keys::Table;
use super::shape::{Shape, buffer};
use super::sys::{End, OpenMap};
use crate::walk::Walker;
use crate::{GapAt, Reason};

/// Visits every element of an array of `len` elements.
pub(super) fn walk(map: &OpenMap, shape: &Shape<'_>, fetch: Fetch, walker: &mut Walker<'_, '_>) {
    let len = map.info().max_entries;
    let room = shape.room(len);
    let buffers = room
        .checked_mul(shape.value_len())
        .and_then(|values| Some((buffer(room * shape.key_size())?, buffer(values)?)));
    let Some((mut keys, mut values)) = buffers else {
        return walker.walk.gap(GapAt::Map, shape.absurd());
    };
    let mut index = 0;
    // A batch of one only costs more than a look-up.
    let mut in_batches = fetch == Fetch::Batches && room > 1;
    while in_batches && index < len {
        // The cursor of an array is the last index done.
        let cursor = index.checked_sub(1).map(u32::to_ne_bytes);
        let cursor = cursor.as_ref().map(<[u8; 4]>::as_slice);
        let (count, end) = map.lookup_batch(cursor, &mut [0; 4], &mut keys, &mut values);
        let present = |buffer: &'_ [u8], each: usize| buffer.len().min(count as usize * each);
        let (key_end, value_end) = (
            present(&keys, shape.key_size()),
            present(&values, shape.value_len()),
        );
        let keys = keys.get(..key_end).unwrap_or_default();
        let values = values.get(..value_end).unwrap_or_default();
        if shape.visit_all(keys, values, walker).is_break() {
            return;
        }
        index = index.saturating_add(count);
        // Kernels without batches for the type refuse; one that meets an
        // element it cannot read gives none of the batch's elements. Either
        // way the rest comes one by one.
        in_batches = end == End::More && count > 0;
    }
    let value = values.get_mut(..shape.value_len()).unwrap_or_default();
    for index in index..len {
        match map.lookup(&index.to_ne_bytes(), value) {
            Ok(()) => {
                let key = index.to_le_bytes();
                if shape.visit_all(&key, value, walker).is_break() {
                    return;
                }
            }
            // A slot that refers to nothing.
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                let operation = "BPF_MAP_LOOKUP_ELEM";
                let reason = Reason::Refused { operation, errno };
                // Rights are the map's, not the element's.
                if errno == Errno::EPERM {
                    return walker.walk.gap(GapAt::Map, reason);
                }
                walker.walk.gap(GapAt::Index(index.into()), reason);
            }
        }
    }
}
