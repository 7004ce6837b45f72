//! The pages of an arena, enumerated and read, beside the ways that one would
//! take without a walk of whole tables: each page translated from the root,
//! and a plain copy of as many bytes.
//!
//! The image is made by hand, in a file that is opened as a guest's RAM is:
//! 5-level page tables over the whole of a 4 GiB window, all intermediate
//! tables there, as Linux 7.2 fills them, and the bytes of some pages.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a benchmark recovers nothing, and knows its own image"
)]

use std::hint::black_box;
use std::io::Write;

use arena::{Arena, Stretch, Window};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use guestmem::{Address, ArenaPtr, Gpa, Kva, Memory, RawImage};
use pagewalk::{AddressSpace, Format, Presence};

const PAGE: u64 = 4096;
const ENTRIES: u64 = 512;
const LEVELS: u8 = 5;

/// Pages of a window of 4 GiB.
const PAGES: u64 = 1 << 20;

/// Where the kernel has the window: behind half a guard, so that it begins in
/// the midst of a table.
const BASE: Kva = Kva::at(0xffa0_0000_0200_8000);

const USER: u64 = 0x7000_0000_0000;

/// The page frame that bytes of pages begin at.
const DATA: u64 = 4096;

/// How much is read at a time.
const PIECE: usize = 64 << 10;

/// The page frame of each page of the window that is there.
type Frames<'f> = &'f dyn Fn(u64) -> Option<u64>;

/// Fills a buffer from a page on.
type Fill<'f> = &'f dyn Fn(u64, &mut [u8]);

/// A machine's RAM, of which the tables grow from 0 on.
struct Ram {
    bytes: Vec<u8>,
    tables: u64,
}

impl Ram {
    /// RAM in which each page of the window that `frame` has a page frame for
    /// is mapped, and the tables for all of them are there; `backed` frames
    /// from `DATA` on have bytes.
    fn new(backed: u64, frame: impl Fn(u64) -> Option<u64>) -> Self {
        let mut ram = Self {
            bytes: vec![0; (DATA * PAGE) as usize],
            tables: 1,
        };
        for pgoff in 0..PAGES {
            ram.map(BASE.get() + pgoff * PAGE, frame(pgoff));
        }
        let bytes = (0..backed * PAGE).map(|at| ((at / PAGE) ^ at) as u8);
        ram.bytes.extend(bytes);
        ram
    }

    fn slot(&mut self, table: u64, index: u64) -> &mut [u8; 8] {
        let at = (table * PAGE + index * 8) as usize;
        self.bytes[at..].first_chunk_mut().unwrap()
    }

    fn map(&mut self, va: u64, frame: Option<u64>) {
        let mut table = 0;
        for level in (1..LEVELS).rev() {
            let index = va >> (12 + 9 * level) & (ENTRIES - 1);
            let old = u64::from_le_bytes(*self.slot(table, index));
            table = if old == 0 {
                let new = self.tables;
                self.tables += 1;
                *self.slot(table, index) = ((new * PAGE) | 1).to_le_bytes();
                new
            } else {
                old / PAGE
            };
        }
        if let Some(frame) = frame {
            let index = va >> 12 & (ENTRIES - 1);
            *self.slot(table, index) = ((frame * PAGE) | 1).to_le_bytes();
        }
    }

    fn open(&self) -> AddressSpace<RawImage> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&self.bytes).unwrap();
        let image = RawImage::open(file.path()).unwrap();
        AddressSpace::new(image, Gpa::at(0), Format::x86_64(LEVELS, 0).unwrap())
    }
}

/// A number below `below`, a power of two, that no other has, far from those
/// of its neighbours.
fn scatter(number: u64, below: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b1) & (below - 1)
}

fn open(space: &AddressSpace<RawImage>) -> Arena<'_> {
    let window = Window::new(USER, PAGES, BASE, PAGE).unwrap();
    Arena::new(space, window, &mut |start, len, visit| {
        for (presence, len) in space.presence(start, len, None) {
            visit(match presence {
                Presence::Mapped => Stretch::Mapped { len },
                Presence::Frame => Stretch::Touched { len },
                Presence::Absent(_) => Stretch::Absent { len },
            });
        }
    })
}

/// How many pages of the window are there, by a walk from the root for each.
fn translate_each(space: &AddressSpace<RawImage>) -> u64 {
    let pages = (0..PAGES).map(|pgoff| BASE.checked_add(pgoff * PAGE).unwrap());
    pages.filter(|&at| space.translate(at).is_ok()).count() as u64
}

fn enumerate(c: &mut Criterion) {
    let mut group = c.benchmark_group("arena of 1048576 pages");
    group.throughput(Throughput::Elements(PAGES));
    group.sample_size(20);
    let few = |pgoff: u64| pgoff.is_multiple_of(PAGES / 256).then_some(DATA + pgoff);
    let half = |pgoff: u64| {
        pgoff
            .is_multiple_of(2)
            .then_some(DATA + scatter(pgoff, PAGES))
    };
    let full = |pgoff: u64| Some(DATA + scatter(pgoff, PAGES));
    let apiece = |pgoff: u64| Some(DATA + pgoff);
    let kinds: [(&str, u64, Frames<'_>); 4] = [
        ("256 there", 256, &few),
        ("every second there", PAGES / 2, &half),
        ("all there, scattered", PAGES, &full),
        ("all there, consecutive", PAGES, &apiece),
    ];
    for (name, mapped, frame) in kinds {
        let space = Ram::new(0, frame).open();
        group.bench_function(BenchmarkId::new("walk", name), |b| {
            b.iter(|| assert_eq!(black_box(open(&space)).pages().mapped(), mapped));
        });
        group.bench_function(BenchmarkId::new("translate each page", name), |b| {
            b.iter(|| assert_eq!(black_box(translate_each(&space)), mapped));
        });
    }
    group.finish();
}

/// Arenas that lie in as much of an image as stays mapped, and in more.
fn read(c: &mut Criterion) {
    for pages in [32 << 8, 128 << 8] {
        let mut group = c.benchmark_group(format!("{} MiB of an arena", pages >> 8));
        group.throughput(Throughput::Bytes(pages * PAGE));
        group.sample_size(20);
        let backed = |pgoff| (pgoff < pages).then_some(pgoff);
        let scattered = |pgoff| backed(pgoff).map(|pgoff| DATA + scatter(pgoff, pages));
        let consecutive = |pgoff| backed(pgoff).map(|pgoff| DATA + pgoff);
        let kinds: [(&str, Frames<'_>); 2] =
            [("scattered", &scattered), ("consecutive", &consecutive)];
        for (name, frame) in kinds {
            let ram = Ram::new(pages, frame);
            let space = ram.open();
            let arena = open(&space);
            let copy = |first: u64, into: &mut [u8]| {
                for (pgoff, into) in (first..).zip(into.chunks_exact_mut(PAGE as usize)) {
                    let at = (frame(pgoff).unwrap_or(0) * PAGE) as usize;
                    into.copy_from_slice(&ram.bytes[at..][..PAGE as usize]);
                }
            };
            let read = |first: u64, into: &mut [u8]| {
                let at = ArenaPtr::new(USER + first * PAGE);
                arena.read(at, into).unwrap();
            };
            let (mut buf, mut same) = (vec![0; PIECE], vec![0; PIECE]);
            let firsts = || (0..pages).step_by(PIECE / PAGE as usize);
            for first in firsts() {
                read(first, &mut buf);
                copy(first, &mut same);
                assert!(buf == same);
            }
            let ways: [(&str, Fill<'_>); 2] = [("memcpy", &copy), ("read", &read)];
            for (way, fill) in ways {
                group.bench_function(BenchmarkId::new(way, name), |b| {
                    b.iter(|| firsts().for_each(|first| fill(first, black_box(&mut buf))));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, enumerate, read);
criterion_main!(benches);
