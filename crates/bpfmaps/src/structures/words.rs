//! Arrays of pointers and other words, read many at a time.

use std::ops::ControlFlow;

use guestmem::{Kva, Memory, MemoryExt};

use super::place::{self, POINTER};
use crate::walk::{GapAt, Walker};

/// How many words are read at a time.
const BLOCK: u64 = 8 << 10;

/// Takes a word: its index, where it is, and the word.
pub(crate) type Each<'e> = dyn FnMut(u64, Kva, u64, &mut Walker<'_, '_>) -> ControlFlow<()> + 'e;

/// Hands out `count` words from `array` on, the first one as the index
/// `first`. Those that are unreadable are gaps, a page of them at a time.
pub(crate) fn walk(
    memory: &dyn Memory<Kva>,
    array: Kva,
    first: u64,
    count: u64,
    walker: &mut Walker<'_, '_>,
    each: &mut Each<'_>,
) -> ControlFlow<()> {
    let mut block = Vec::new();
    let mut index = 0;
    while index < count {
        let at = place::element(array, index, POINTER);
        let len = BLOCK.min(count - index) * POINTER;
        let fault = memory.read_more(at, len, &mut block).err();
        for word in block.as_chunks().0 {
            let at = place::element(array, index, POINTER);
            each(
                first.saturating_add(index),
                at,
                u64::from_le_bytes(*word),
                walker,
            )?;
            index += 1;
        }
        if let Some(fault) = fault {
            let start = index;
            let readable = place::behind(fault, array, POINTER);
            index = readable.clamp(start + 1, count.max(start + 1));
            let lost = GapAt::Indices(first.saturating_add(start), first.saturating_add(index - 1));
            walker.walk.gap(lost, fault.cause);
        }
    }
    ControlFlow::Continue(())
}
