//! Which CPUs a kernel may have, and where each keeps its per-CPU data.

use guestmem::{Address, Fault, Kva, Memory, MemoryExt};

use crate::Error;
use crate::symbols::Symbols;

/// More CPUs than any kernel is built for (`NR_CPUS` is at most 8192).
const MOST_CPUS: u32 = 1 << 16;

/// The possible CPUs of a kernel and the offsets of their per-CPU data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PerCpu {
    /// (CPU number, offset), by ascending number.
    offsets: Vec<(u32, u64)>,
}

impl PerCpu {
    /// The symbols that tell them.
    pub(crate) const SYMBOLS: [&str; 3] = ["__per_cpu_offset", "__cpu_possible_mask", "nr_cpu_ids"];

    /// The possible CPUs and the offset of each one's data, by whoever knows
    /// them.
    #[must_use]
    pub fn new(offsets: impl IntoIterator<Item = (u32, u64)>) -> Self {
        let mut offsets: Vec<_> = offsets.into_iter().collect();
        offsets.sort_unstable();
        Self { offsets }
    }

    /// Reads `__cpu_possible_mask` and `__per_cpu_offset`; `None` if the
    /// kernel has no symbols for them.
    pub(crate) fn load(memory: &dyn Memory<Kva>, symbols: &Symbols) -> Result<Option<Self>, Error> {
        let found = symbols.lookup(Self::SYMBOLS);
        let [Some(offsets), Some(mask), Some(count)] = found else {
            return Ok(None);
        };
        let unreadable = Error::unreadable;
        let count = memory.load_u32(count).map_err(unreadable("nr_cpu_ids"))?;
        let mut per_cpu = Self::default();
        for cpu in 0..count.min(MOST_CPUS) {
            let word = element(mask, cpu / 64)
                .and_then(|at| memory.load_u64(at))
                .map_err(unreadable("__cpu_possible_mask"))?;
            if word >> (cpu % 64) & 1 == 0 {
                continue;
            }
            let offset = element(offsets, cpu)
                .and_then(|at| memory.load_u64(at))
                .map_err(unreadable("__per_cpu_offset"))?;
            per_cpu.offsets.push((cpu, offset));
        }
        Ok(Some(per_cpu))
    }

    /// The numbers of the possible CPUs, ascending.
    pub fn cpus(&self) -> impl Iterator<Item = u32> + '_ {
        self.offsets.iter().map(|&(cpu, _)| cpu)
    }

    /// Bytes that `each` bytes on every possible CPU are.
    #[must_use]
    pub fn size_of(&self, each: u64) -> u64 {
        each.saturating_mul(self.offsets.len() as u64)
    }

    /// Where each possible CPU has the object that the `__percpu` pointer
    /// `pointer` stands for, by ascending CPU number.
    pub fn addresses(&self, pointer: u64) -> impl Iterator<Item = (u32, Kva)> + '_ {
        self.offsets
            .iter()
            .map(move |&(cpu, offset)| (cpu, Kva::new(pointer.wrapping_add(offset))))
    }
}

/// The address of the `index`th word of an array.
fn element(array: Kva, index: u32) -> Result<Kva, Fault<Kva>> {
    array
        .checked_add(u64::from(index) * 8)
        .ok_or(Fault::new(array, guestmem::Cause::EndOfSpace))
}
