//! Page tables of the running kernel, through the direct map.
//!
//! Page tables hold physical addresses. The kernel maps all of physical
//! memory in one stretch, whose place no symbol tells in kernels without
//! `CONFIG_KALLSYMS_ALL`; so it is proved: under the right place, and no
//! other, tables lead from the address of the root table to the very physical
//! address that the place gives it, and from an address in the kernel's image
//! to the bytes that are there. The first alone is not enough: what is taken
//! for a table in a wrong place may be another machine's, a guest's, which
//! maps its memory in the same way.

use guestmem::{Address, Cause, Fault, Gpa, Kva, Memory, MemoryExt};
use pagewalk::{AddressSpace, Format};

use crate::Error;

/// KASLR moves the direct map by multiples of this (`PUD_SIZE`).
const GRAIN: u64 = 1 << 30;

/// How many bytes of the kernel's image are compared.
const WITNESS: usize = 128;

/// No machine has more physical address space (52 bits).
const MOST_GRAINS: u64 = 1 << 22;

/// Physical memory as far as the kernel maps it.
pub(super) struct DirectMap<'m> {
    memory: &'m dyn Memory<Kva>,
    base: Kva,
}

impl Memory<Gpa> for DirectMap<'_> {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let at = self.base.checked_add(addr.get());
        let at = at.ok_or(Fault::new(addr, Cause::EndOfSpace))?;
        self.memory.read(at, buf).map_err(|fault| {
            let good = fault.addr.checked_offset_from(at).unwrap_or(0);
            Fault::new(addr.checked_add(good).unwrap_or(addr), fault.cause)
        })
    }
}

/// The address space of the x86-64 page tables whose root is at `root`, in a
/// machine whose physical addresses end below `end`. At `witness`, outside of
/// the direct map, are [`WITNESS`] bytes that do not change and that no other
/// place has, such as pointers in the kernel's image.
///
/// # Errors
///
/// If no place of the direct map makes sense of the tables.
pub(super) fn address_space(
    memory: &dyn Memory<Kva>,
    root: Kva,
    witness: Kva,
    format: Format,
    end: u64,
) -> Result<AddressSpace<DirectMap<'_>>, Error> {
    let told: [u8; WITNESS] = memory
        .load(witness)
        .map_err(|_unreadable| Error::NoDirectMap { root })?;
    let highest = root.get() & !(GRAIN - 1);
    let grains = (end / GRAIN).saturating_add(1).min(MOST_GRAINS);
    for grain in 0..grains {
        let Some(base) = highest.checked_sub(grain * GRAIN).map(Kva::new) else {
            break;
        };
        let gpa = Gpa::new(root.get() - base.get());
        let space = AddressSpace::new(DirectMap { memory, base }, gpa, format);
        if space.translate(root).is_ok_and(|found| found.gpa == gpa)
            && space.load(witness) == Ok(told)
        {
            return Ok(space);
        }
    }
    Err(Error::NoDirectMap { root })
}

#[cfg(test)]
mod tests {
    use guestmem::Fake;
    use pagewalk::build::Tables;

    use super::*;

    const BASE: u64 = 0xffff_8f41_4000_0000;
    const ROOT: u64 = 0x1_4010_0000;
    const IMAGE: Kva = Kva::at(0xffff_ffff_8100_0000);
    const IMAGE_GPA: u64 = 0x1_4050_0000;

    /// A machine whose direct map is at `BASE`, as its kernel sees it.
    fn machine() -> Fake<Kva> {
        let format = Format::x86_64(4, 0).unwrap();
        let mut tables = Tables::new(Fake::new(), Gpa::new(ROOT), format);
        for page in 0..16 {
            let gpa = ROOT + page * 0x1000;
            tables.map(Kva::new(BASE + gpa), 1, Gpa::new(gpa));
        }
        tables.map(Kva::at(0xffff_c900_0000_0000), 1, Gpa::at(0x7000));
        tables.map(IMAGE, 1, Gpa::at(IMAGE_GPA));
        let mut seen = Fake::new();
        let image: Vec<u8> = (0..=255).collect();
        for at in [IMAGE, Kva::new(BASE + IMAGE_GPA)] {
            seen.write(at, &image);
        }
        for page in 0..16 {
            let gpa = ROOT + page * 0x1000;
            if let Ok(bytes) = tables.ram.load::<0x1000>(Gpa::new(gpa)) {
                seen.write(Kva::new(BASE + gpa), &bytes);
            }
        }
        seen
    }

    #[test]
    fn the_place_that_explains_the_tables_is_found() {
        let memory = machine();
        let format = Format::x86_64(4, 0).unwrap();
        let root = Kva::new(BASE + ROOT);
        let space = address_space(&memory, root, IMAGE, format, 1 << 36).unwrap();
        assert_eq!(space.root(), Gpa::new(ROOT));
        let there = space.translate(Kva::at(0xffff_c900_0000_0abc)).unwrap();
        assert_eq!(there.gpa, Gpa::at(0x7abc));
        // Memory that ends below the root table has no such place.
        let refused = address_space(&memory, root, IMAGE, format, 1 << 32).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot tell where the direct map is from the page tables at 0xffff8f4280100000"
        );
    }

    /// A table of another machine that maps the root table's address as a
    /// wrong place of the direct map would have it.
    #[test]
    fn a_table_that_fits_by_chance_is_no_proof() {
        const GIB: u64 = 1 << 30;
        let mut memory = machine();
        let format = Format::x86_64(4, 0).unwrap();
        let root = BASE + ROOT;
        let wrong = BASE + 2 * GIB;
        let entry = memory
            .load_u64(Kva::new(root + (root >> 39 & 511) * 8))
            .unwrap();
        let table = entry & 0xf_ffff_ffff_f000;
        let block = (root - wrong) & !(GIB - 1) | 0x83;
        let at = wrong + table + (root >> 30 & 511) * 8;
        memory.write(Kva::new(at), &block.to_le_bytes());
        let map = DirectMap {
            memory: &memory,
            base: Kva::new(wrong),
        };
        let gpa = Gpa::new(root - wrong);
        let space = AddressSpace::new(map, gpa, format);
        assert_eq!(space.translate(Kva::new(root)).unwrap().gpa, gpa);
        let space = address_space(&memory, Kva::new(root), IMAGE, format, 1 << 36).unwrap();
        assert_eq!(space.root(), Gpa::new(ROOT));
    }
}
