//! The physical memory that a kdump file holds.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use super::bitmap::Bitmap;
use super::cache::Cache;
use super::header::Header;
use super::stream::Stream;
use super::unpack::Unpacker;
use super::{KdumpError, field};
use crate::{Address, Cause, Fault, Gpa, Memory, PhysicalMemory, Span};

/// Bytes of a page's descriptor (`page_desc`): offset, size, flags, and the
/// flags of the kernel's `struct page`.
const DESCRIPTOR: usize = 24;

/// One file of a dump.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) stream: Stream,
    pub(super) header: Header,
}

/// The memory of a dump.
pub(super) struct KdumpMemory {
    parts: Vec<Placed>,
    page_shift: u32,
    /// Which pages exist. The bits are read in the first part.
    existing: Bitmap,
    /// Which pages were dumped. So are these.
    dumped: Bitmap,
    unpacked: RefCell<Unpacked>,
}

/// A part, and what it holds.
#[derive(Debug)]
struct Placed {
    stream: Stream,
    descriptors: u64,
    pages: Range<u64>,
    /// How many dumped pages are in the parts before it.
    skipped: u64,
}

/// What is kept of unpacking.
struct Unpacked {
    unpacker: Unpacker,
    cache: Cache,
    packed: Vec<u8>,
    zeros: Rc<[u8]>,
    /// The place of the packed page that all pages of zeros share.
    zeros_at: Option<(usize, u64)>,
}

impl fmt::Debug for KdumpMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KdumpMemory")
            .field("parts", &self.parts)
            .field("page_shift", &self.page_shift)
            .finish_non_exhaustive()
    }
}

impl KdumpMemory {
    /// The memory in `parts`, which are all those of a dump.
    pub(super) fn new(parts: Vec<Part>) -> Result<Self, KdumpError> {
        let no_part = KdumpError::Cut { what: "header" };
        let Part { stream, header } = parts.first().ok_or(no_part)?;
        let (pages, page_shift) = (header.pages, header.page_shift);
        let existing = Bitmap::read(stream, header.bitmaps.existing, pages)?;
        let dumped = Bitmap::read(stream, header.bitmaps.dumped, pages)?;
        let mut ranges = Vec::new();
        for part in &parts {
            let pages = part.header.split.clone().unwrap_or(0..pages);
            let skipped = dumped.count_before(stream, pages.start);
            let skipped = skipped.map_err(|_lost| KdumpError::Cut { what: "bitmap" })?;
            ranges.push((pages, skipped));
        }
        let placed = parts.into_iter().zip(ranges);
        let zeros = Rc::from(vec![0; 1 << page_shift]);
        Ok(Self {
            parts: placed
                .map(|(part, (pages, skipped))| Placed {
                    stream: part.stream,
                    descriptors: part.header.descriptors,
                    pages,
                    skipped,
                })
                .collect(),
            page_shift,
            existing,
            dumped,
            unpacked: RefCell::new(Unpacked {
                unpacker: Unpacker::new(),
                cache: Cache::new(1 << page_shift),
                packed: Vec::new(),
                zeros,
                zeros_at: None,
            }),
        })
    }

    /// How many bytes of memory are in the dump.
    pub(super) fn dumped(&self) -> u64 {
        self.dumped.count() << self.page_shift
    }

    /// The first range with dumped pages that no part holds.
    pub(super) fn missing(&self) -> Option<Range<u64>> {
        let stream = &self.parts.first()?.stream;
        // Bits that were lost since they were counted are missed by a read.
        let before = |page| self.dumped.count_before(stream, page).unwrap_or(0);
        let mut held: Vec<_> = self.parts.iter().map(|part| part.pages.clone()).collect();
        let end = self.dumped.pages();
        held.push(end..end);
        held.sort_by_key(|pages| pages.start);
        let mut from = 0;
        for pages in held {
            if pages.start > from && before(pages.start) > before(from) {
                return Some(from..pages.start.min(end));
            }
            from = from.max(pages.end);
        }
        None
    }

    /// The page `number`, in which `gpa` is.
    fn page(&self, number: u64, gpa: Gpa) -> Result<Rc<[u8]>, Cause> {
        let mut unpacked = self.unpacked.borrow_mut();
        let unpacked = &mut *unpacked;
        if let Some(page) = unpacked.cache.get(number) {
            return Ok(page);
        }
        let vanished = Cause::Vanished { gpa };
        let damaged = Cause::Damaged { gpa };
        let excluded = Cause::Excluded { gpa };
        let bits = self.parts.first().map(|part| &part.stream);
        let bits = bits.ok_or(vanished)?;
        let Some(rank) = self.dumped.rank(bits, number).map_err(|_lost| vanished)? else {
            return Err(match self.existing.rank(bits, number) {
                Ok(Some(_)) => excluded,
                Ok(None) => Cause::Unbacked { gpa },
                Err(_lost) => vanished,
            });
        };
        let mut parts = self.parts.iter().enumerate();
        let (index, part) = parts
            .find(|(_, part)| part.pages.contains(&number))
            .ok_or(excluded)?;
        let at = (rank.checked_sub(part.skipped))
            .and_then(|rank| rank.checked_mul(DESCRIPTOR as u64))
            .and_then(|inside| part.descriptors.checked_add(inside))
            .ok_or(damaged)?;
        let descriptor: [u8; DESCRIPTOR] = part.stream.load(at).map_err(|_lost| vanished)?;
        let offset = field(&descriptor, 0).map_or(0, u64::from_le_bytes);
        let number_at = |at| field(&descriptor, at).map_or(0, u32::from_le_bytes);
        let (size, flags) = (number_at(8), number_at(12));
        // A dump that ran out of disk has descriptors of nothing.
        if offset == 0 {
            return Err(excluded);
        }
        if unpacked.zeros_at == Some((index, offset)) {
            return Ok(Rc::clone(&unpacked.zeros));
        }
        let len = usize::try_from(size).unwrap_or(usize::MAX);
        // What packing does not make smaller is stored as it is.
        if len > unpacked.zeros.len() {
            return Err(damaged);
        }
        unpacked.packed.resize(len, 0);
        let read = part.stream.read(offset, &mut unpacked.packed);
        read.map_err(|_lost| vanished)?;
        let mut page = vec![0; unpacked.zeros.len()];
        let done = unpacked.unpacker.unpack(flags, &unpacked.packed, &mut page);
        done.ok_or(damaged)?;
        if page == *unpacked.zeros {
            unpacked.zeros_at = Some((index, offset));
            return Ok(Rc::clone(&unpacked.zeros));
        }
        let page = Rc::from(page);
        unpacked.cache.put(number, Rc::clone(&page));
        Ok(page)
    }

    /// The address of the page `number`.
    fn address(&self, number: u64) -> Gpa {
        Gpa::new(number << self.page_shift)
    }
}

impl Memory<Gpa> for KdumpMemory {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let page = self.page(at.get() >> self.page_shift, at);
            let page = page.map_err(|cause| Fault::new(at, cause))?;
            let inside = at.get() & ((1 << self.page_shift) - 1);
            let inside = usize::try_from(inside).unwrap_or(usize::MAX);
            let from = page.get(inside..).unwrap_or_default();
            let step = from.len().min(rest.len());
            let (now, later) = rest.split_at_mut(step);
            now.copy_from_slice(from.get(..step).unwrap_or_default());
            rest = later;
            if !rest.is_empty() {
                let next = at.checked_add(step as u64);
                at = next.ok_or(Fault::new(at, Cause::EndOfSpace))?;
            }
        }
        Ok(())
    }
}

impl PhysicalMemory for KdumpMemory {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        let stream = &self.parts.first()?.stream;
        let run = self
            .dumped
            .next_run(stream, from.get() >> self.page_shift)?;
        let start = self.address(run.start).max(from);
        Some(Span {
            start,
            len: self.address(run.end).checked_offset_from(start)?,
        })
    }

    fn size(&self) -> u64 {
        self.existing.count() << self.page_shift
    }
}
