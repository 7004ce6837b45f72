//! The values of a per-CPU entry, gathered from every possible CPU.

use std::ops::ControlFlow;

use guestmem::{Fault, Kva, Memory, MemoryExt};
use kernel::PerCpu;

use crate::entry::{Bytes, CpuValue, Entry};
use crate::walk::Walker;

/// Buffers for the values of one entry, kept from entry to entry.
pub(crate) struct Gatherer<'a> {
    memory: &'a dyn Memory<Kva>,
    per_cpu: &'a PerCpu,
    value_size: u64,
    parts: Vec<(u32, Vec<u8>, Option<Fault<Kva>>)>,
}

impl<'a> Gatherer<'a> {
    pub(crate) fn new(memory: &'a dyn Memory<Kva>, per_cpu: &'a PerCpu, value_size: u32) -> Self {
        Self {
            memory,
            per_cpu,
            value_size: value_size.into(),
            parts: per_cpu.cpus().map(|cpu| (cpu, Vec::new(), None)).collect(),
        }
    }

    /// Visits the entry of `key` whose values the `__percpu` pointer
    /// `pointer` stands for.
    pub(crate) fn visit(
        &mut self,
        key: &[u8],
        pointer: u64,
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        let values = &self.gather(pointer, walker);
        walker.visit(Entry::PerCpu { key, values })
    }

    /// The values that the `__percpu` pointer `pointer` stands for.
    pub(crate) fn gather(
        &mut self,
        pointer: u64,
        walker: &mut Walker<'_, '_>,
    ) -> Vec<CpuValue<'_>> {
        let addresses = self.per_cpu.addresses(pointer);
        for ((_, bytes, fault), (_, at)) in self.parts.iter_mut().zip(addresses) {
            *fault = self.memory.read_more(at, self.value_size, bytes).err();
            if let Some(fault) = *fault {
                walker.walk.fault(fault);
            }
        }
        let values = self.parts.iter().map(|(cpu, bytes, fault)| CpuValue {
            cpu: *cpu,
            value: Bytes {
                present: bytes,
                len: self.value_size,
                fault: *fault,
            },
        });
        values.collect()
    }
}
