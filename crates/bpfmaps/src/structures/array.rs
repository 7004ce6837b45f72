//! Arrays (`kernel/bpf/arraymap.c`): values one after the other, or a pointer
//! to each index's per-CPU values.

use std::ops::ControlFlow;

use btf_layout::{Btf, Member};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};
use kernel::PerCpu;

use super::per_cpu::Gatherer;
use super::place::{Elements, POINTER};
use crate::entry::{Bytes, Entry};
use crate::walk::{Reason, Walker};
use crate::{Error, MapInfo, MapType};

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

    /// The address and the bytes of the only value of `map` at `at`, which
    /// programs can refer to; `None` for other maps.
    pub(crate) fn single_value(&self, map: &MapInfo, at: Kva) -> Option<(Kva, u64)> {
        let has_one = map.map_type == MapType::ARRAY && map.max_entries == 1;
        let value = at.checked_add(self.value.offset).filter(|_| has_one)?;
        Some((value, stride(map.value_size)))
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
        self.elements(stride(self.value_size)).walk(
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
        self.elements(POINTER)
            .walk(
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

    fn elements(&self, stride: u64) -> Elements<'_> {
        Elements {
            memory: self.memory,
            at: self.values,
            count: self.count,
            stride,
        }
    }
}
