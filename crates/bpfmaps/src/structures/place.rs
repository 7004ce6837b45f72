//! Where the elements of arrays in kernel memory are.

use guestmem::{Address, Fault, Kva};

/// Bytes of a pointer.
pub(crate) const POINTER: u64 = 8;

/// The smallest page: what is unreadable is so for at least the rest of it.
const PAGE_MASK: u64 = 0xfff;

/// The address of the element `index` of an array of elements of `size` bytes;
/// an address that no kernel has where that passes the end of memory.
pub(crate) fn element(array: Kva, index: u64, size: u64) -> Kva {
    let offset = index.checked_mul(size);
    offset
        .and_then(|offset| array.checked_add(offset))
        .unwrap_or(Kva::at(u64::MAX))
}

/// The element that holds the first byte behind the page of `fault`.
pub(crate) fn behind(fault: Fault<Kva>, array: Kva, size: u64) -> u64 {
    let page_end = (fault.addr.get() | PAGE_MASK).saturating_add(1);
    page_end.saturating_sub(array.get()) / size.max(1)
}

/// The first element that begins in the page of `fault`.
pub(crate) fn first_in_page(fault: Fault<Kva>, array: Kva, size: u64) -> u64 {
    let page = fault.addr.get() & !PAGE_MASK;
    page.saturating_sub(array.get()).div_ceil(size.max(1))
}
