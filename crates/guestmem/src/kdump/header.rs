//! The headers of a kdump file: `disk_dump_header` and `kdump_sub_header` of
//! makedumpfile's `diskdump_mod.h`, as 64-bit programs lay them out.

use std::ops::Range;

use super::bitmap::Bitmaps;
use super::stream::Stream;
use super::{KdumpError, field};

/// Bytes of the first header.
const HEADER: usize = 464;

/// Of which so many are the same in all files of a split dump: signature,
/// version, system, time.
const STAMP: usize = 424;

/// Bytes of the second header, by the version that the first one states.
const SUB_HEADERS: [usize; 7] = [0, 16, 32, 48, 64, 80, 104];

/// The most pages that a dump may span: 64 TiB of 4 KiB.
const MOST_PAGES: u64 = 1 << 34;

/// The headers, as far as they are of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    stamp: [u8; STAMP],
    /// A page is `1 << page_shift` bytes, and so is a block.
    pub(super) page_shift: u32,
    /// How many pages the bitmaps are of.
    pub(super) pages: u64,
    /// Where the bitmaps are.
    pub(super) bitmaps: Bitmaps,
    /// Where the table of page descriptors starts.
    pub(super) descriptors: u64,
    /// Of a dump in several files: which pages are in this one.
    pub(super) split: Option<Range<u64>>,
    /// Where the text of VMCOREINFO is.
    pub(super) vmcoreinfo: Option<Range<u64>>,
    /// Where the ELF notes are.
    pub(super) notes: Option<Range<u64>>,
}

impl Header {
    pub(super) fn read(stream: &Stream) -> Result<Self, KdumpError> {
        let cut = |what| move |_lost| KdumpError::Cut { what };
        let header: [u8; HEADER] = stream.load(0).map_err(cut("header"))?;
        let number = |at| field(&header, at).map_or(0, u32::from_le_bytes);
        let page_shift = page_shift(&header)?;
        let page = 1 << page_shift;

        let version = usize::try_from(number(8)).unwrap_or(usize::MAX);
        let known = SUB_HEADERS.get(version).copied();
        let sub_len = known.ok_or(KdumpError::Version { version: number(8) })?;
        let mut sub = [0; 104];
        if let Some(sub) = sub.get_mut(..sub_len) {
            stream.read(page, sub).map_err(cut("second header"))?;
        }
        let word = |at| field(&sub, at).map_or(0, u64::from_le_bytes);
        let split = field(&sub, 12).map_or(0, u32::from_le_bytes) != 0;
        // Until version 6 numbers of pages had 32 bits.
        let (split_pages, pages) = match version {
            6.. => (word(80)..word(88), word(96)),
            _ => (word(16)..word(24), number(440).into()),
        };
        if pages > MOST_PAGES {
            return Err(KdumpError::nonsense("number of pages", pages));
        }

        let (sub_blocks, bitmap_blocks) = (u64::from(number(432)), u64::from(number(436)));
        let bitmap_len = bitmap_blocks * page;
        let bitmaps = Bitmaps::new((1 + sub_blocks) * page, bitmap_len, pages, page);
        Ok(Self {
            stamp: field(&header, 0).unwrap_or([0; STAMP]),
            page_shift,
            pages,
            bitmaps: bitmaps.ok_or(KdumpError::nonsense("size of the bitmaps", bitmap_len))?,
            descriptors: (1 + sub_blocks + bitmap_blocks) * page,
            split: split.then_some(split_pages),
            vmcoreinfo: part(word(32), word(40)),
            notes: part(word(48), word(56)),
        })
    }

    /// Whether both are of the same dump.
    pub(super) fn is_of_same_dump(&self, other: &Self) -> bool {
        let whole = |header: &Self| (header.stamp, header.page_shift, header.pages);
        whole(self) == whole(other)
    }
}

/// A part of the file, if there is one.
fn part(start: u64, len: u64) -> Option<Range<u64>> {
    let end = start.checked_add(len)?;
    (start != 0 && len != 0).then_some(start..end)
}

/// The binary logarithm of the page size, if header and number have the form
/// that is read here.
fn page_shift(header: &[u8; HEADER]) -> Result<u32, KdumpError> {
    let at = |at| field(header, at).map_or(0, u32::from_le_bytes);
    let is_size = |size: u32| size.is_power_of_two() && (12..=16).contains(&size.ilog2());
    let size = at(428);
    if is_size(size) {
        return Ok(size.ilog2());
    }
    // A 32-bit program's time is 8 bytes, and not aligned to 8.
    Err(match (size.swap_bytes(), at(416), at(416).swap_bytes()) {
        (size, _, _) if is_size(size) => KdumpError::BigEndian,
        (_, narrow, swapped) if is_size(narrow) || is_size(swapped) => KdumpError::Not64Bit,
        _ => KdumpError::nonsense("page size", size.into()),
    })
}
