//! What one entry looks like in the buffers of bpf(2).

use std::ops::ControlFlow;

use crate::walk::Walker;
use crate::{Bytes, CpuValue, Entry, Reason};

/// How much a batch of entries may take.
const BATCH_BYTES: usize = 1 << 20;

/// The sizes of a map's keys and values.
#[derive(Debug)]
pub(super) struct Shape<'c> {
    key_size: usize,
    value_size: usize,
    /// The CPUs that each have a value of their own, if they have.
    cpus: Option<&'c [u32]>,
}

impl<'c> Shape<'c> {
    pub(super) fn new(key_size: u32, value_size: u32, cpus: Option<&'c [u32]>) -> Self {
        Self {
            key_size: key_size as usize,
            value_size: value_size as usize,
            cpus,
        }
    }

    pub(super) fn key_size(&self) -> usize {
        self.key_size
    }

    /// Bytes of all values of one entry.
    pub(super) fn value_len(&self) -> usize {
        match self.cpus {
            None => self.value_size,
            Some(cpus) => self.stride().saturating_mul(cpus.len()),
        }
    }

    /// From one CPU's value to the next one's.
    fn stride(&self) -> usize {
        self.value_size.saturating_add(7) & !7
    }

    /// How many entries of a map of `max_entries` go into one batch; at least
    /// one.
    pub(super) fn room(&self, max_entries: u32) -> usize {
        let entry = self.key_size.saturating_add(self.value_len()).max(1);
        (BATCH_BYTES / entry).clamp(1, (max_entries as usize).max(1))
    }

    /// Says that memory does not hold one entry.
    pub(super) fn absurd(&self) -> Reason {
        Reason::Absurd {
            what: "the size of an entry",
            value: self.value_len().saturating_add(self.key_size) as u64,
        }
    }

    /// Visits as many entries as `keys` and `values` hold.
    pub(super) fn visit_all(
        &self,
        keys: &[u8],
        values: &[u8],
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        // The kernel makes no such map with a size of 0.
        let keys = keys.chunks_exact(self.key_size.max(1));
        let values = values.chunks_exact(self.value_len().max(1));
        let mut per_cpu = Vec::new();
        for (key, value) in keys.zip(values) {
            match self.cpus {
                None => walker.visit(Entry::KeyValue {
                    key,
                    value: Bytes::whole(value),
                })?,
                Some(cpus) => {
                    let each = value.chunks_exact(self.stride().max(1));
                    per_cpu.clear();
                    per_cpu.extend(cpus.iter().zip(each).map(|(&cpu, value)| CpuValue {
                        cpu,
                        value: Bytes::whole(value.get(..self.value_size).unwrap_or(value)),
                    }));
                    walker.visit(Entry::PerCpu {
                        key,
                        values: &per_cpu,
                    })?;
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// A buffer of `len` zeros, if memory has that much.
pub(super) fn buffer(len: usize) -> Option<Vec<u8>> {
    let mut buffer = Vec::new();
    grow(&mut buffer, len).then_some(buffer)
}

/// Makes a buffer `len` bytes long, if memory has that much.
pub(super) fn grow(buffer: &mut Vec<u8>, len: usize) -> bool {
    let more = len.saturating_sub(buffer.len());
    let there = buffer.try_reserve_exact(more).is_ok();
    if there {
        buffer.resize(len, 0);
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn per_cpu_values_are_apart_and_named_by_their_cpus() {
        let shape = Shape::new(1, 5, Some(&[0, 4]));
        assert_eq!((shape.value_len(), shape.room(8)), (16, 8));
        let mut seen = Vec::new();
        let values: Vec<u8> = (0..32).collect();
        let mut visit = |entry: Entry<'_>| {
            let Entry::PerCpu { key, values } = entry else {
                panic!("{entry:?}");
            };
            seen.push((
                key[0],
                values.iter().map(|v| (v.cpu, v.value.present[0])).collect(),
            ));
            ControlFlow::Continue(())
        };
        let mut walker = Walker::new(&mut visit);
        assert!(shape.visit_all(b"kl", &values, &mut walker).is_continue());
        let walk = walker.finish();
        let expected: [(u8, Vec<(u32, u8)>); 2] =
            [(b'k', vec![(0, 0), (4, 8)]), (b'l', vec![(0, 16), (4, 24)])];
        assert_eq!(seen, expected);
        assert_eq!((walk.visited, walk.stopped), (2, false));
    }

    #[test]
    fn a_batch_is_bounded_but_never_empty() {
        let check = |key, value, max, room| {
            assert_eq!(Shape::new(key, value, None).room(max), room);
        };
        check(4, 4, 100, 100);
        check(4, 4, 1_000_000, (1 << 20) / 8);
        check(4, 20 << 20, 3, 1);
        check(4, 4, 0, 1);
    }
}
