//! Arrays (`kernel/bpf/arraymap.c`): values one after the other, or a pointer
//! to each index's per-CPU values.

use std::ops::ControlFlow;

use btf_layout::{Btf, Member};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};
use kernel::PerCpu;

use super::per_cpu::Gatherer;
use super::place::{self, POINTER};
use crate::entry::{Bytes, Entry};
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo};

/// How much is read at a time.
const BLOCK: u64 = 256 << 10;

/// Where the members of `struct bpf_array` are.
#[derive(Debug)]
pub(crate) struct ArrayLayout {
    elem_size: Member,
    value: Member,
    pptrs: Member,
}

/// One array map.
pub(crate) struct Array<'m> {
    memory: &'m dyn Memory<Kva>,
    /// The first value, or the first per-CPU pointer.
    values: Kva,
    count: u32,
    value_size: u32,
    per_cpu: Option<&'m PerCpu>,
}

impl ArrayLayout {
    pub(crate) fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let array = btf.record("bpf_array")?;
        Ok(Self {
            elem_size: array.member("elem_size")?,
            value: array.member("value")?,
            pptrs: array.member("pptrs")?,
        })
    }

    /// The array `map` at `at`, no longer than `memory_size` can hold;
    /// `per_cpu` for arrays whose values are.
    pub(crate) fn array<'m>(
        &self,
        memory: &'m dyn Memory<Kva>,
        map: &MapInfo,
        at: Kva,
        per_cpu: Option<&'m PerCpu>,
        memory_size: u64,
        walker: &mut Walker<'_, '_>,
    ) -> Result<Array<'m>, Error> {
        let expected = stride(map.value_size);
        let (values, each) = match per_cpu {
            Some(per_cpu) => (&self.pptrs, POINTER + per_cpu.size_of(expected)),
            None => (&self.value, expected),
        };
        let elem_size = at
            .checked_add(self.elem_size.offset)
            .ok_or(Fault::new(at, Cause::EndOfSpace))
            .and_then(|elem_size| memory.load_u32(elem_size))
            .map_err(|source| Error::Unreadable {
                what: "bpf_array.elem_size",
                source,
            })?;
        if u64::from(elem_size) != expected {
            walker.walk.gap(
                at,
                Reason::Contradiction {
                    what: "bpf_array.elem_size",
                    expected,
                    found: elem_size.into(),
                },
            );
        }
        let mut count = map.max_entries;
        let most = memory_size / each.max(1);
        if map.value_size == 0 {
            walker.walk.gap(
                at,
                Reason::Contradiction {
                    what: "bpf_map.value_size of an array",
                    expected: elem_size.max(1).into(),
                    found: 0,
                },
            );
            count = 0;
        } else if u64::from(count) > most {
            walker.walk.gap(
                at,
                Reason::Absurd {
                    what: "size of an array",
                    value: u64::from(count).saturating_mul(each),
                },
            );
            count = u32::try_from(most).unwrap_or(u32::MAX);
        }
        Ok(Array {
            memory,
            values: at.checked_add(values.offset).unwrap_or(at),
            count,
            value_size: map.value_size,
            per_cpu,
        })
    }
}

/// Values are this many bytes apart (`bpf_array.elem_size`, which per-CPU
/// arrays have as well).
fn stride(value_size: u32) -> u64 {
    u64::from(value_size).next_multiple_of(8)
}

impl Array<'_> {
    /// Visits every index and its value, or its values on each CPU.
    pub(crate) fn walk(&self, walker: &mut Walker<'_, '_>) {
        match self.per_cpu {
            Some(per_cpu) => self.walk_per_cpu(per_cpu, walker),
            None => self.walk_values(walker),
        }
    }

    fn walk_values(&self, walker: &mut Walker<'_, '_>) {
        let value_size = usize::try_from(self.value_size).unwrap_or(usize::MAX);
        self.elements(
            stride(self.value_size),
            walker,
            &mut |index, element, fault, walker| {
                let present = element.get(..value_size).unwrap_or(element);
                // What follows the value in its stride is nobody's loss.
                let fault = fault.filter(|_| present.len() < value_size);
                if let Some(fault) = fault {
                    walker.walk.fault(fault);
                }
                walker.visit(Entry::KeyValue {
                    key: &index.to_le_bytes(),
                    value: Bytes {
                        present,
                        len: self.value_size.into(),
                        fault,
                    },
                })
            },
        );
    }

    fn walk_per_cpu(&self, per_cpu: &PerCpu, walker: &mut Walker<'_, '_>) {
        let mut gatherer = Gatherer::new(self.memory, per_cpu, self.value_size);
        self.elements(
            POINTER,
            walker,
            &mut |index, element, fault, walker| match (element.first_chunk(), fault) {
                (Some(pointer), _) => {
                    let pointer = u64::from_le_bytes(*pointer);
                    gatherer.visit(&index.to_le_bytes(), pointer, walker)
                }
                (None, fault) => {
                    if let Some(fault) = fault {
                        walker.walk.fault(fault);
                    }
                    ControlFlow::Continue(())
                }
            },
        );
    }

    /// Hands out the elements, `stride` bytes each, reading many at a time.
    /// One that a fault cuts short comes with the fault; those of which
    /// nothing is readable are a gap, a page of them at a time.
    fn elements(&self, stride: u64, walker: &mut Walker<'_, '_>, each: &mut Each<'_>) {
        let per_block = (BLOCK / stride.max(1)).max(1);
        let step = usize::try_from(stride).unwrap_or(usize::MAX);
        let count = u64::from(self.count);
        let mut block = Vec::new();
        let mut index = 0;
        while index < count {
            let at = place::element(self.values, index, stride);
            let len = per_block.min(count - index) * stride;
            let fault = self.memory.read_more(at, len, &mut block).err();
            let mut elements = block.chunks_exact(step.max(1));
            for element in &mut elements {
                if each(key(index), element, None, walker).is_break() {
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
                let readable = place::behind(fault, self.values, stride);
                index = readable.clamp(first + 1, count);
                let at = GapAt::Indices(first, index - 1);
                walker.walk.gap(at, fault.cause);
            } else {
                index += 1;
                if each(key(first), partial, Some(fault), walker).is_break() {
                    return;
                }
            }
        }
    }
}

/// An index as the key that it is. It is less than a `max_entries`.
fn key(index: u64) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Takes an element: its index, its bytes, and what cut them short.
type Each<'e> =
    dyn FnMut(u32, &[u8], Option<Fault<Kva>>, &mut Walker<'_, '_>) -> ControlFlow<()> + 'e;
