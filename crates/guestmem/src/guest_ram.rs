//! Guest memory as the crates of rust-vmm have it.

use std::fmt;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::residency::Residency;
use crate::{Address, Cause, Fault, Gpa, Memory, PhysicalMemory, Span};

/// Any [`GuestMemoryBackend`], such as `GuestMemoryMmap`, a reference to one
/// or an `Arc` of one.
///
/// Reads are those of `vm-memory`, and as safe beside running vCPUs. Searching
/// asks `/proc/self/pagemap` and mincore(2) which pages exist at all, so as not
/// to make those exist that the guest never touched; where these refuse, or
/// the memory has no host address, everything is searched.
pub struct GuestRam<M> {
    memory: M,
    residency: Residency,
}

impl<M> fmt::Debug for GuestRam<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestRam").finish_non_exhaustive()
    }
}

impl<M: std::ops::Deref<Target: GuestMemoryBackend>> GuestRam<M> {
    /// The memory of this guest.
    pub fn new(memory: M) -> Self {
        Self {
            memory,
            residency: Residency::new(),
        }
    }
}

impl<M: std::ops::Deref<Target: GuestMemoryBackend>> Memory<Gpa> for GuestRam<M> {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut buf = buf;
        while !buf.is_empty() {
            let found = self.memory.to_region_addr(GuestAddress(at.get()));
            let Some((region, inside)) = found else {
                return Err(Fault::new(at, Cause::Unbacked { gpa: at }));
            };
            let left = region.len().saturating_sub(inside.0);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let (now, later) = buf.split_at_mut(left.min(buf.len()));
            if region.read_slice(now, inside).is_err() {
                return Err(Fault::new(at, Cause::Vanished { gpa: at }));
            }
            let step = now.len() as u64;
            buf = later;
            if !buf.is_empty() {
                at = at
                    .checked_add(step)
                    .ok_or(Fault::new(at, Cause::EndOfSpace))?;
            }
        }
        Ok(())
    }
}

impl<M: std::ops::Deref<Target: GuestMemoryBackend>> PhysicalMemory for GuestRam<M> {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        let mut regions: Vec<_> = self.memory.iter().collect();
        regions.sort_by_key(|region| region.start_addr());
        regions.into_iter().find_map(|region| {
            let skip = from.get().saturating_sub(region.start_addr().0);
            let left = region.len().checked_sub(skip).filter(|&left| left > 0)?;
            let (skip, len) = match region.get_host_address(MemoryRegionAddress(0)) {
                Ok(host) => {
                    let host = host.addr() as u64;
                    let (start, len) = self.residency.next(host.checked_add(skip)?, left)?;
                    (start - host, len)
                }
                Err(_) => (skip, left),
            };
            Some(Span {
                start: Gpa::new(region.start_addr().0.checked_add(skip)?),
                len,
            })
        })
    }

    fn size(&self) -> u64 {
        self.memory.iter().map(GuestMemoryRegion::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use vm_memory::GuestMemoryMmap;

    use super::*;
    use crate::MemoryExt;

    const HIGH: u64 = 1 << 32;

    #[test]
    fn regions_are_read_and_searched_where_they_are() {
        let ranges = [(GuestAddress(0), 1 << 20), (GuestAddress(HIGH), 16 << 20)];
        let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        memory
            .write_slice(b"kernel\0", GuestAddress(HIGH + 0x5ffc))
            .unwrap();
        let ram = GuestRam::new(Arc::new(memory));
        assert_eq!(
            ram.read_cstr(Gpa::at(HIGH + 0x5ffc), 64).unwrap(),
            b"kernel"
        );
        assert_eq!(ram.size(), 17 << 20);
        let found = ram.next_data(Gpa::at(0)).unwrap();
        let end = found.start.get() + found.len;
        assert!(
            (found.start.get()..end).contains(&(HIGH + 0x5ffc)),
            "{found:?}"
        );
        assert_eq!(ram.next_data(Gpa::at(HIGH + (16 << 20))), None);
    }

    #[test]
    fn the_first_byte_that_is_not_there_is_named() {
        let ranges = [(GuestAddress(0), 0x2000), (GuestAddress(0x2000), 0x1000)];
        let memory: GuestMemoryMmap = GuestMemoryMmap::from_ranges(&ranges).unwrap();
        let ram = GuestRam::new(&memory);
        let partial = ram.read_up_to(Gpa::at(0x1000), 0x4000);
        assert_eq!(partial.bytes.len(), 0x2000);
        let end = Gpa::at(0x3000);
        assert_eq!(
            partial.fault,
            Some(Fault::new(end, Cause::Unbacked { gpa: end }))
        );
    }
}
