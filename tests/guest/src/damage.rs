//! Damaged copies of a real guest's memory: whatever is broken, reading ends, in time, with an
//! error or an account of gaps.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, Guest as Frozen};
use guestmem::{Address, Fault, Gpa, Memory, Physical, PhysicalMemory, RawImage, Span};
use kernel::Finder;
use render::{Format, Options, Source};

use crate::guest::Guest;

/// How many damaged copies are read.
const COPIES: u64 = 150;

/// Reads up to this length are of structures; longer ones are of tables and values.
const SMALL: usize = 8 << 10;

/// No map of the guest has so many entries, and no damage may make more of them.
const MOST_ENTRIES: u64 = 3_000_000;

/// An image that notes what is read of it, or flips bits of what is read.
struct Damaged {
    image: RawImage,
    /// Where small reads began, and their lengths.
    reads: RefCell<BTreeMap<u64, usize>>,
    /// Which bits of which byte are flipped.
    flips: BTreeMap<u64, u8>,
}

impl Memory<Gpa> for Damaged {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let read = self.image.read(addr, buf);
        let start = addr.get();
        let end = start.saturating_add(buf.len() as u64);
        if self.flips.is_empty() && buf.len() <= SMALL {
            self.reads.borrow_mut().insert(start, buf.len());
        }
        for (&at, &bits) in self.flips.range(start..end) {
            let index = usize::try_from(at - start).unwrap();
            buf[index] ^= bits;
        }
        read
    }
}

impl PhysicalMemory for Damaged {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.image.next_data(from)
    }

    fn size(&self) -> u64 {
        self.image.size()
    }
}

/// Reads everything there is, and gives the number of entries.
fn read_all(physical: Rc<Damaged>, note: Gpa) -> Result<u64, String> {
    let kernel = Finder::new()
        .vmcoreinfo(note)
        .find(&[physical as Physical])
        .map_err(|error| error.to_string())?;
    let frozen = Frozen::new(kernel).map_err(|error| error.to_string())?;
    let maps = frozen.maps().map_err(|error| error.to_string())?;
    let mut entries = 0;
    for format in [Format::Json, Format::Text] {
        let options = Options {
            format,
            limit: Some(MOST_ENTRIES),
            ..Options::new(Source::new("raw"))
        };
        let outcome = render::dump(&frozen, &maps, &options, &mut io::sink());
        let outcome = outcome.map_err(|error| error.to_string())?;
        assert!(
            outcome.limited.is_empty(),
            "maps without end: {:?}",
            outcome.limited
        );
        entries = outcome.entries;
    }
    Ok(entries)
}

#[test]
fn flipped_bits_end_in_gaps_or_errors() {
    let image = RawImage::open(&Guest::open("la48").ram()).unwrap();
    let found = Finder::new().find_in_image(&image).unwrap();
    let note = found.candidates()[0].gpa.unwrap();
    let damaged = |flips| {
        Rc::new(Damaged {
            image: image.clone(),
            reads: RefCell::default(),
            flips,
        })
    };
    let clean = damaged(BTreeMap::new());
    let entries = read_all(Rc::clone(&clean), note).unwrap();
    assert!(entries > 10_000);
    let reads: Vec<(u64, usize)> = clean.reads.take().into_iter().collect();
    assert!(reads.len() > 1_000);

    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut broken = 0;
    for _ in 0..COPIES {
        let mut flips = BTreeMap::new();
        for _ in 0..=next(40) {
            let (start, len) = reads[usize::try_from(next(reads.len() as u64)).unwrap()];
            let byte = start + next(len.max(1) as u64);
            flips.insert(byte, 1 << next(8));
        }
        if read_all(damaged(flips), note).is_err() {
            broken += 1;
        }
    }
    // Most damage is local: the rest of the dump must survive it.
    assert!(
        broken < COPIES / 2,
        "{broken} of {COPIES} copies gave nothing"
    );
}
