//! Where the elements of arrays in kernel memory are, and what they are.

use std::ops::ControlFlow;

use guestmem::{Address, Fault, Kva, Memory, MemoryExt};

use crate::walk::{GapAt, Reason, Walker};

/// Bytes of a pointer.
pub(crate) const POINTER: u64 = 8;

/// The smallest page: what is unreadable is so for at least the rest of it.
const PAGE_MASK: u64 = 0xfff;

/// How much of an array is read at a time.
const BLOCK: u64 = 256 << 10;

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

/// The object whose member at `offset` is at `member`; an address that no
/// kernel has where that is before the start of memory.
pub(crate) fn container(member: Kva, offset: u64) -> Kva {
    let object = member.get().checked_sub(offset);
    object.map_or(Kva::at(u64::MAX), Kva::at)
}

/// An array in kernel memory.
pub(crate) struct Elements<'m> {
    pub(crate) memory: &'m dyn Memory<Kva>,
    /// The first element.
    pub(crate) at: Kva,
    pub(crate) count: u32,
    /// Bytes from one element to the next.
    pub(crate) stride: u64,
}

/// Takes an element: its index, its bytes, and what cut them short.
pub(crate) type Each<'e> =
    dyn FnMut(u32, &[u8], Option<Fault<Kva>>, &mut Walker<'_, '_>) -> ControlFlow<()> + 'e;

impl Elements<'_> {
    /// The same with no more elements than `memory_size` can hold; if those
    /// are fewer, a gap says that `what` is absurd.
    pub(crate) fn bounded(
        mut self,
        memory_size: u64,
        what: &'static str,
        walker: &mut Walker<'_, '_>,
    ) -> Self {
        let most = memory_size / self.stride.max(1);
        if u64::from(self.count) > most {
            let value = self.count.into();
            walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
            self.count = u32::try_from(most).unwrap_or(u32::MAX);
        }
        self
    }

    /// Hands out the elements, reading many at a time. One that a fault cuts
    /// short comes with the fault; those of which nothing is readable are a
    /// gap, a page of them at a time.
    pub(crate) fn walk(&self, walker: &mut Walker<'_, '_>, each: &mut Each<'_>) {
        let stride = self.stride.max(1);
        let per_block = (BLOCK / stride).max(1);
        let step = usize::try_from(stride).unwrap_or(usize::MAX);
        let count = u64::from(self.count);
        let mut block = Vec::new();
        let mut index = 0;
        while index < count {
            let at = element(self.at, index, stride);
            let len = per_block.min(count - index).saturating_mul(stride);
            let fault = self.memory.read_more(at, len, &mut block).err();
            let mut elements = block.chunks_exact(step);
            for element in &mut elements {
                if each(narrow(index), element, None, walker).is_break() {
                    return;
                }
                index += 1;
            }
            let Some(fault) = fault else {
                continue;
            };
            let partial = elements.remainder();
            let first = index;
            if partial.is_empty() {
                let readable = behind(fault, self.at, stride);
                index = readable.clamp(first + 1, count);
                let at = GapAt::Indices(first, index - 1);
                walker.walk.gap(at, fault.cause);
            } else {
                index += 1;
                if each(narrow(first), partial, Some(fault), walker).is_break() {
                    return;
                }
            }
        }
    }
}

/// An index, which is less than a count of 32 bits.
fn narrow(index: u64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// The first element that begins in the page of `fault`.
pub(crate) fn first_in_page(fault: Fault<Kva>, array: Kva, size: u64) -> u64 {
    let page = fault.addr.get() & !PAGE_MASK;
    page.saturating_sub(array.get()).div_ceil(size.max(1))
}
