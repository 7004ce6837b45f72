//! Parts of what was copied out of memory.

use guestmem::{Kva, Memory, MemoryExt};

use crate::entry::Bytes;
use crate::walk::Walk;

/// The `len` bytes at `at`; `None` where they are not all there.
pub(crate) fn part(bytes: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(usize::try_from(len).ok()?)?)
}

/// The little-endian `u32` at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: u64) -> Option<u32> {
    let word = part(bytes, at, 4)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

/// The little-endian `u64` at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: u64) -> Option<u64> {
    let word = part(bytes, at, 8)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

/// Reads a value of `len` bytes as far as it is there; what ends it is a gap.
pub(crate) fn value<'b>(
    memory: &dyn Memory<Kva>,
    at: Kva,
    len: u64,
    buf: &'b mut Vec<u8>,
    walk: &mut Walk,
) -> Bytes<'b> {
    let fault = memory.read_more(at, len, buf).err();
    if let Some(fault) = fault {
        walk.fault(fault);
    }
    Bytes {
        present: buf,
        len,
        fault,
    }
}
