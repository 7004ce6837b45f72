//! Where the parts of a RAM file lie in the machine's physical memory.

use std::str::FromStr;

use thiserror::Error;

use crate::{Address, Gpa};

/// One run of a RAM file and the physical address of its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where the run starts in the file.
    pub file_offset: u64,
    /// The physical address of its first byte.
    pub gpa: Gpa,
    /// How many bytes; never 0.
    pub len: u64,
}

/// A text that is no `FILE_OFFSET:GPA:LEN`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{text}` is not FILE_OFFSET:GPA:LEN in bytes, decimal or 0x…, such as 0x80000000:0x100000000:0x40000000"
)]
pub struct ParseRegionError {
    text: String,
}

impl FromStr for Region {
    type Err = ParseRegionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn number(text: &str) -> Option<u64> {
            match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
                Some(hex) => u64::from_str_radix(hex, 16).ok(),
                None => text.parse().ok(),
            }
        }
        let parse = || {
            let mut parts = text.split(':').map(number);
            let region = Region {
                file_offset: parts.next()??,
                gpa: Gpa::new(parts.next()??),
                len: parts.next()??,
            };
            (parts.next().is_none() && region.len > 0).then_some(region)
        };
        parse().ok_or_else(|| ParseRegionError {
            text: text.to_owned(),
        })
    }
}

/// Regions that cannot all be true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RegionError {
    /// A region reaches past the end of the file.
    #[error(
        "region at file offset {file_offset:#x} needs {len:#x} bytes, but the image has {file_len:#x}"
    )]
    PastEnd {
        /// The region's file offset.
        file_offset: u64,
        /// The region's length.
        len: u64,
        /// The file's length.
        file_len: u64,
    },
    /// Two regions claim the same physical address.
    #[error("two regions hold physical {gpa}")]
    Overlap {
        /// The first address that both hold.
        gpa: Gpa,
    },
    /// A region reaches past the end of the physical address space.
    #[error("region at physical {gpa} passes the end of the address space")]
    EndOfSpace {
        /// The region's first address.
        gpa: Gpa,
    },
    /// There is no region at all.
    #[error("no region given")]
    Empty,
}

/// The regions of one RAM file: sorted by physical address, disjoint, inside
/// the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions(Vec<Region>);

/// Where machine models put the start of the hole below 4 GiB: q35 at 2 GiB,
/// Firecracker at 3 GiB (older ones at 3.25 GiB), i440fx at 3 or 3.5 GiB.
const GAP_STARTS: [u64; 4] = [0x8000_0000, 0xc000_0000, 0xd000_0000, 0xe000_0000];

/// Where machine models for arm64 put the start of RAM: QEMU's `virt` at
/// 1 GiB, Firecracker at 2 GiB.
const RAM_STARTS: [u64; 2] = [0x4000_0000, 0x8000_0000];

const FOUR_GIB: u64 = 1 << 32;

impl Regions {
    /// Checks `regions` against a file of `file_len` bytes, and sorts them.
    ///
    /// # Errors
    ///
    /// The first contradiction found.
    pub fn new(mut regions: Vec<Region>, file_len: u64) -> Result<Self, RegionError> {
        regions.sort_by_key(|region| region.gpa);
        let mut free_from = 0;
        for region in &regions {
            let Region {
                file_offset,
                gpa,
                len,
            } = *region;
            if file_offset
                .checked_add(len)
                .is_none_or(|end| end > file_len)
            {
                return Err(RegionError::PastEnd {
                    file_offset,
                    len,
                    file_len,
                });
            }
            if gpa.get() < free_from {
                return Err(RegionError::Overlap { gpa });
            }
            free_from = gpa
                .get()
                .checked_add(len)
                .ok_or(RegionError::EndOfSpace { gpa })?;
        }
        if regions.is_empty() {
            return Err(RegionError::Empty);
        }
        Ok(Self(regions))
    }

    /// File and physical memory are the same.
    #[must_use]
    pub fn flat(file_len: u64) -> Self {
        Self(vec![Region {
            file_offset: 0,
            gpa: Gpa::at(0),
            len: file_len,
        }])
    }

    /// The layouts that an image of this length may have, likeliest first.
    ///
    /// A RAM file packs its regions, so it does not say where RAM starts or
    /// where the hole below 4 GiB begins; whoever finds a kernel in it can
    /// prove one of these.
    #[must_use]
    pub fn candidates(file_len: u64) -> Vec<Self> {
        let region = |file_offset, gpa, len| Region {
            file_offset,
            gpa: Gpa::new(gpa),
            len,
        };
        let split = GAP_STARTS
            .into_iter()
            .filter(|&gap| file_len > gap)
            .map(|gap| vec![region(0, 0, gap), region(gap, FOUR_GIB, file_len - gap)]);
        let moved = RAM_STARTS
            .into_iter()
            .map(|start| vec![region(0, start, file_len)]);
        std::iter::once(vec![region(0, 0, file_len)])
            .chain(split)
            .chain(moved)
            .map(Self)
            .collect()
    }

    /// The regions, by ascending physical address.
    #[must_use]
    pub fn as_slice(&self) -> &[Region] {
        &self.0
    }

    /// Where the byte at `gpa` is in the file, if any region holds it.
    #[must_use]
    pub fn offset_of(&self, gpa: Gpa) -> Option<u64> {
        let (region, inside) = self.find(gpa)?;
        region.file_offset.checked_add(inside)
    }

    /// The region that holds `gpa`, and how far inside it is.
    pub(crate) fn find(&self, gpa: Gpa) -> Option<(&Region, u64)> {
        let region = self.from(gpa).first()?;
        let inside = gpa.checked_offset_from(region.gpa)?;
        Some((region, inside))
    }

    /// The regions that end behind `gpa`.
    pub(crate) fn from(&self, gpa: Gpa) -> &[Region] {
        let index = self.0.partition_point(|region| {
            let inside = gpa.checked_offset_from(region.gpa);
            inside.is_some_and(|inside| inside >= region.len)
        });
        self.0.get(index..).unwrap_or_default()
    }

    /// The physical address of the byte at `offset` of the file, if any
    /// region holds it.
    #[must_use]
    pub fn gpa_of(&self, offset: u64) -> Option<Gpa> {
        self.0.iter().find_map(|region| {
            let inside = offset.checked_sub(region.file_offset)?;
            (inside < region.len).then(|| region.gpa.checked_add(inside))?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_parse() {
        let region: Region = "0x80000000:0x100000000:4096".parse().unwrap();
        assert_eq!(
            region,
            Region {
                file_offset: 1 << 31,
                gpa: Gpa::at(FOUR_GIB),
                len: 4096
            }
        );
        for bad in ["", "1:2", "1:2:0", "1:2:3:4", "a:1:2", "-1:0:1"] {
            let error = bad.parse::<Region>().unwrap_err();
            assert!(error.to_string().starts_with(&format!("`{bad}` is not")));
        }
    }

    #[test]
    fn contradictions_are_named() {
        let region = |text: &str| text.parse::<Region>().unwrap();
        let check = |list: &[&str]| {
            Regions::new(list.iter().map(|text| region(text)).collect(), 0x3000)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(check(&[]), "no region given");
        assert_eq!(
            check(&["0:0:0x2000", "0x2000:0x1000:0x1000"]),
            "two regions hold physical 0x1000"
        );
        assert_eq!(
            check(&["0x2000:0:0x2000"]),
            "region at file offset 0x2000 needs 0x2000 bytes, but the image has 0x3000"
        );
        assert_eq!(
            check(&["0:0xfffffffffffff000:0x2000"]),
            "region at physical 0xfffffffffffff000 passes the end of the address space"
        );
    }

    #[test]
    fn only_large_images_have_a_gap() {
        let small = Regions::candidates(1 << 30);
        assert!(small.iter().all(|layout| layout.as_slice().len() == 1));
        assert_eq!(small[0].gpa_of(0), Some(Gpa::at(0)));
        let large = Regions::candidates(3 << 30);
        let split = large.iter().filter(|layout| layout.as_slice().len() == 2);
        assert_eq!(split.count(), 1);
        assert_eq!(large[1].gpa_of(0x8000_0000), Some(Gpa::at(FOUR_GIB)));
        assert_eq!(large[1].gpa_of(0x7fff_ffff), Some(Gpa::at(0x7fff_ffff)));
        assert_eq!(large[1].gpa_of(3 << 30), None);
        assert_eq!(large[1].offset_of(Gpa::at(FOUR_GIB + 5)), Some(0x8000_0005));
        assert_eq!(large[1].offset_of(Gpa::at(0x8000_0000)), None);
    }
}
