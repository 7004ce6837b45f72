//! How an architecture lays out its page tables.
//!
//! Sources: Intel SDM volume 3, chapter 4 (4- and 5-level paging); Arm ARM
//! D8 (VMSAv8-64 descriptors, `FEAT_LPA`, `FEAT_LPA2`).

use guestmem::{Address, Gpa, Kva};
use thiserror::Error;

/// A combination of sizes that no such architecture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FormatError {
    /// x86-64 has four levels or five.
    #[error("x86-64 has no page tables of {levels} levels")]
    Levels {
        /// The number asked for.
        levels: u8,
    },
    /// arm64 has pages of 4, 16 or 64 KiB and addresses of 36 to 52 bits.
    #[error("arm64 has no {va_bits}-bit addresses with pages of {page_size:#x} bytes")]
    Sizes {
        /// The page size asked for, in bytes.
        page_size: u64,
        /// The size of the address asked for, in bits.
        va_bits: u8,
    },
}

/// The shape of page tables and the meaning of their entries.
///
/// A property of the kernel that is read, not of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    encoding: Encoding,
    page_shift: u8,
    levels: u8,
    va_bits: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    X86_64 {
        /// Bits that mark encrypted pages (AMD SME), not part of an address.
        encryption_mask: u64,
    },
    Arm64 {
        output: Output,
    },
}

/// Where an arm64 descriptor keeps the bits of its address above bit 47.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// It has none: 48-bit addresses.
    Bits48,
    /// In bits 15:12 (64 KiB pages, `FEAT_LPA`).
    Lpa,
    /// In bits 9:8, with 49:48 in place (4 and 16 KiB pages, `FEAT_LPA2`).
    Lpa2,
}

/// One decoded page-table entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    NotPresent,
    Malformed,
    Table(Gpa),
    Leaf(Gpa),
}

/// Bytes of a page-table entry on every supported architecture.
pub(crate) const ENTRY_SIZE: u64 = 8;

const X86_PRESENT: u64 = 1;
const X86_LARGE: u64 = 1 << 7;
const X86_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const ARM_VALID: u64 = 1;
const ARM_TABLE_OR_PAGE: u64 = 1 << 1;

impl Format {
    /// x86-64 tables of `levels` (4, or 5 with LA57). Bits of
    /// `encryption_mask` (VMCOREINFO's `sme_mask`) are not part of an address.
    ///
    /// # Errors
    ///
    /// If `levels` is neither 4 nor 5.
    pub fn x86_64(levels: u8, encryption_mask: u64) -> Result<Self, FormatError> {
        let va_bits = match levels {
            4 => 48,
            5 => 57,
            _ => return Err(FormatError::Levels { levels }),
        };
        Ok(Self {
            encoding: Encoding::X86_64 { encryption_mask },
            page_shift: 12,
            levels,
            va_bits,
        })
    }

    /// arm64 tables of the kernel's half (`TTBR1_EL1`) with pages of
    /// `page_size` bytes and addresses of `va_bits` bits. Kernels with 52-bit
    /// addresses are taken to keep 52-bit physical addresses as well.
    ///
    /// # Errors
    ///
    /// If arm64 has no such combination.
    pub fn arm64(page_size: u64, va_bits: u8) -> Result<Self, FormatError> {
        let error = FormatError::Sizes { page_size, va_bits };
        let page_shift: u8 = match page_size {
            0x1000 => 12,
            0x4000 => 14,
            0x1_0000 => 16,
            _ => return Err(error),
        };
        if !(36..=52).contains(&va_bits) {
            return Err(error);
        }
        let output = match (va_bits, page_shift) {
            // 64 KiB granule: the high bits are reserved as zero without
            // FEAT_LPA, so decoding them is right either way.
            (_, 16) => Output::Lpa,
            (49.., _) => Output::Lpa2,
            _ => Output::Bits48,
        };
        Ok(Self {
            encoding: Encoding::Arm64 { output },
            page_shift,
            levels: (va_bits - page_shift).div_ceil(page_shift - 3),
            va_bits,
        })
    }

    /// Bytes of the smallest page.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        1 << self.page_shift
    }

    /// Levels of tables between the root and a smallest page.
    #[must_use]
    pub fn levels(&self) -> u8 {
        self.levels
    }

    /// Bytes of address space that one entry at `level` (1 = PTE) covers.
    pub(crate) fn span(&self, level: u8) -> u64 {
        1 << self.shift(level)
    }

    fn shift(&self, level: u8) -> u8 {
        self.page_shift + (level - 1) * (self.page_shift - 3)
    }

    /// How many entries a table at `level` has. Root tables may be short.
    pub(crate) fn entries(&self, level: u8) -> u64 {
        let bits = if level == self.levels {
            self.va_bits - self.shift(level)
        } else {
            self.page_shift - 3
        };
        1 << bits
    }

    /// The index of `va` in a table at `level`.
    pub(crate) fn index(&self, va: u64, level: u8) -> u64 {
        (va >> self.shift(level)) & (self.entries(level) - 1)
    }

    /// Whether the tables can say anything about `va`.
    pub(crate) fn covers(&self, va: Kva) -> bool {
        let (low_end, high_start) = self.hole();
        va.get() < low_end || va.get() >= high_start
    }

    /// The addresses between the halves of the address space, which no table
    /// translates: the first one, and the first one after them. Tables of the
    /// upper half only have no low half.
    pub(crate) fn hole(&self) -> (u64, u64) {
        match self.encoding {
            Encoding::X86_64 { .. } => {
                let half = 1 << (self.va_bits - 1);
                (half, half.wrapping_neg())
            }
            Encoding::Arm64 { .. } => (0, (1u64 << self.va_bits).wrapping_neg()),
        }
    }

    /// An entry that maps `gpa` at `level`, as [`decode`](Self::decode) reads
    /// it. Addresses above bit 47 are not encoded.
    pub(crate) fn leaf(&self, gpa: Gpa, level: u8) -> u64 {
        let flags = match (self.encoding, level) {
            (Encoding::X86_64 { .. }, 1) => X86_PRESENT,
            (Encoding::X86_64 { .. }, _) => X86_PRESENT | X86_LARGE,
            (Encoding::Arm64 { .. }, 1) => ARM_VALID | ARM_TABLE_OR_PAGE,
            (Encoding::Arm64 { .. }, _) => ARM_VALID,
        };
        gpa.get() | flags
    }

    /// An entry that refers to the table at `gpa`.
    pub(crate) fn table(&self, gpa: Gpa) -> u64 {
        gpa.get() | X86_PRESENT | ARM_TABLE_OR_PAGE
    }

    /// Whether `raw` maps nothing, at any level; so do then all entries whose
    /// bits are among those of `raw`.
    pub(crate) fn is_absent(&self, raw: u64) -> bool {
        raw & X86_PRESENT == 0 && raw & ARM_VALID == 0
    }

    /// Whether `raw` maps a page at level 1; so do then all entries that have
    /// its bits.
    pub(crate) fn is_leaf(&self, raw: u64) -> bool {
        let bits = match self.encoding {
            Encoding::X86_64 { .. } => X86_PRESENT,
            Encoding::Arm64 { .. } => ARM_VALID | ARM_TABLE_OR_PAGE,
        };
        raw & bits == bits
    }

    /// Whether the entry `raw` at level 1 may map `frame`, by the part of the
    /// address that it has in place.
    pub(crate) fn may_map(&self, raw: u64, frame: Gpa) -> bool {
        let mask = match self.encoding {
            Encoding::X86_64 { encryption_mask } => X86_ADDRESS & !encryption_mask,
            Encoding::Arm64 { .. } => 0x0000_ffff_ffff_ffff & !(self.page_size() - 1),
        };
        (raw ^ frame.get()) & mask == 0
    }

    /// What the entry `raw` of a table at `level` says.
    pub(crate) fn decode(&self, raw: u64, level: u8) -> Entry {
        let offset_mask = self.span(level) - 1;
        match self.encoding {
            Encoding::X86_64 { encryption_mask } => {
                let address = raw & X86_ADDRESS & !encryption_mask;
                match (level, raw & X86_LARGE != 0) {
                    _ if raw & X86_PRESENT == 0 => Entry::NotPresent,
                    (1, _) => Entry::Leaf(Gpa::at(address)),
                    (2 | 3, true) => Entry::Leaf(Gpa::at(address & !offset_mask)),
                    (_, true) => Entry::Malformed,
                    (_, false) => Entry::Table(Gpa::at(address)),
                }
            }
            Encoding::Arm64 { output } => {
                let page_mask = self.page_size() - 1;
                let address = match output {
                    Output::Bits48 => raw & 0x0000_ffff_ffff_ffff & !page_mask,
                    Output::Lpa => {
                        (raw & 0x0000_ffff_ffff_ffff & !page_mask) | (raw >> 12 & 0xf) << 48
                    }
                    Output::Lpa2 => {
                        (raw & 0x0003_ffff_ffff_ffff & !page_mask) | (raw >> 8 & 0x3) << 50
                    }
                };
                // Blocks: levels whose entries cover at most 1 GiB (4 KiB
                // pages), 64 GiB (16) or 4 TiB (64).
                match (level, raw & ARM_TABLE_OR_PAGE != 0) {
                    _ if raw & ARM_VALID == 0 => Entry::NotPresent,
                    (1, true) => Entry::Leaf(Gpa::at(address)),
                    (1, false) => Entry::Malformed,
                    (_, true) => Entry::Table(Gpa::at(address)),
                    (2 | 3, false) => Entry::Leaf(Gpa::at(address & !offset_mask)),
                    (_, false) => Entry::Malformed,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let check = |format: Format, levels, root_entries| {
            assert_eq!(format.levels(), levels);
            assert_eq!(format.entries(levels), root_entries);
        };
        check(Format::x86_64(4, 0).unwrap(), 4, 512);
        check(Format::x86_64(5, 0).unwrap(), 5, 512);
        check(Format::arm64(0x1000, 48).unwrap(), 4, 512);
        check(Format::arm64(0x1000, 39).unwrap(), 3, 512);
        check(Format::arm64(0x1000, 52).unwrap(), 5, 16);
        check(Format::arm64(0x4000, 47).unwrap(), 3, 2048);
        check(Format::arm64(0x4000, 48).unwrap(), 4, 2);
        check(Format::arm64(0x4000, 52).unwrap(), 4, 32);
        check(Format::arm64(0x1_0000, 48).unwrap(), 3, 64);
        check(Format::arm64(0x1_0000, 52).unwrap(), 3, 1024);
        assert!(Format::x86_64(3, 0).is_err());
        assert!(Format::arm64(0x2000, 48).is_err());
        assert!(Format::arm64(0x1000, 53).is_err());
    }

    #[test]
    fn halves() {
        let check = |format: Format, va, covered| {
            assert_eq!(format.covers(Kva::new(va)), covered, "{va:#x}");
        };
        let four = Format::x86_64(4, 0).unwrap();
        check(four, 0x0000_7fff_ffff_ffff, true);
        check(four, 0x0000_8000_0000_0000, false);
        check(four, 0xff11_0000_0000_0000, false);
        check(four, 0xffff_8000_0000_0000, true);
        check(Format::x86_64(5, 0).unwrap(), 0xff11_0000_0000_0000, true);
        check(Format::arm64(0x1000, 48).unwrap(), 0, false);
        check(Format::arm64(0x1000, 48).unwrap(), 0xffff << 48, true);
    }

    #[test]
    fn entries() {
        let x86 = Format::x86_64(4, 1 << 47).unwrap();
        let leaf = |gpa| Entry::Leaf(Gpa::at(gpa));
        assert_eq!(x86.decode(0x8000_8000_0012_3063, 1), leaf(0x12_3000));
        assert_eq!(x86.decode(0x8000_0000_4020_10e3, 2), leaf(0x4020_0000));
        assert_eq!(x86.decode(0x83, 4), Entry::Malformed);
        assert_eq!(x86.decode(0x1000, 1), Entry::NotPresent);
        assert_eq!(x86.decode(0x1001, 3), Entry::Table(Gpa::at(0x1000)));
        let lpa = Format::arm64(0x1_0000, 52).unwrap();
        assert_eq!(lpa.decode(0x4000_f003, 1), leaf(0xf_0000_4000_0000));
        let lpa2 = Format::arm64(0x1000, 52).unwrap();
        assert_eq!(lpa2.decode(0x4000_1303, 1), leaf(0xc_0000_4000_1000));
        assert_eq!(lpa2.decode(0x4000_0001, 2), leaf(0x4000_0000));
        assert_eq!(lpa2.decode(0x4000_0001, 1), Entry::Malformed);
    }
}
