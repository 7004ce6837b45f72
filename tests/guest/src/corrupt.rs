//! Each structure of a real guest, one word of it at a time replaced by what would mislead a
//! reader most: null, all ones, and pointers that are right elsewhere, so that lists become
//! cycles and trees share branches. Reading ends every time, without a panic, and without
//! entries that no map could have.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, Guest as Frozen, MapInfo, Maps, Walk};
use guestmem::{Address, Fault, Gpa, Memory, Physical, PhysicalMemory, RawImage, Span};
use kernel::Finder;

use crate::guest::Guest;

/// How many words of each map's structures are replaced, one after the other.
const WORDS: usize = 60;

/// Longer reads are of tables and values, of which the first part is enough.
const HEAD: usize = 4 << 10;

/// Corruption may join the structures of other maps to a map's own. No guest has more entries in
/// all its maps.
const MOST_ENTRIES: u64 = 1_000_000;

/// An image with one word replaced, that notes the words that are read of it.
struct Patched {
    image: RawImage,
    noting: Cell<bool>,
    /// The words that were read, by their places.
    words: RefCell<BTreeMap<u64, u64>>,
    patch: Cell<Option<(u64, u64)>>,
}

impl Memory<Gpa> for Patched {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let read = self.image.read(addr, buf);
        let start = addr.get();
        if self.noting.get() {
            let head = &buf[..buf.len().min(HEAD)];
            let places = (start..).step_by(8);
            let words = places.zip(head.chunks_exact(8));
            let words = words.map(|(at, word)| (at, u64::from_le_bytes(word.try_into().unwrap())));
            self.words.borrow_mut().extend(words);
        }
        if let Some((at, word)) = self.patch.get() {
            for (at, byte) in (at..).zip(word.to_le_bytes()) {
                let index = at.checked_sub(start).map(usize::try_from);
                if let Some(slot) = index.and_then(|index| buf.get_mut(index.ok()?)) {
                    *slot = byte;
                }
            }
        }
        read
    }
}

impl PhysicalMemory for Patched {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.image.next_data(from)
    }

    fn size(&self) -> u64 {
        self.image.size()
    }
}

/// Reads a map, and says how it went if it went at all.
fn read(frozen: &Frozen, map: &MapInfo) -> Option<Walk> {
    let mut count = 0u64;
    // An error in place of a state is an answer too.
    let _ = frozen.state(map);
    let walk = frozen.entries(map, &mut |_| {
        count += 1;
        assert!(
            count <= MOST_ENTRIES,
            "{} {}: entries without end",
            map.map_type,
            map.name
        );
        ControlFlow::Continue(())
    });
    let walk = walk.ok()?;
    assert_eq!(walk.visited, count);
    Some(walk)
}

fn is_pointer(word: u64) -> bool {
    word >> 48 == 0xffff || word >> 56 == 0xff
}

/// `WORDS` of these, or as many as there are, spread evenly.
fn spread<T: Copy>(all: &[T]) -> impl Iterator<Item = T> + '_ {
    let step = all.len().div_ceil(WORDS).max(1);
    all.iter().copied().step_by(step)
}

fn open() -> (Rc<Patched>, Frozen) {
    let image = RawImage::open(&Guest::open("la57").ram()).unwrap();
    let patched = Rc::new(Patched {
        image,
        noting: Cell::new(false),
        words: RefCell::default(),
        patch: Cell::new(None),
    });
    let physical: Physical = Rc::clone(&patched) as Physical;
    let frozen = Frozen::new(Finder::new().find(&[physical]).unwrap()).unwrap();
    (patched, frozen)
}

#[test]
fn each_structure_with_a_wrong_word_ends_in_gaps_or_errors() {
    let (patched, frozen) = open();
    let maps = frozen.maps().unwrap().maps;
    assert!(maps.len() > 50, "only {} maps", maps.len());
    let mut noticed: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for map in &maps {
        // What is remembered of the page tables is not read again, so that only the map's own
        // structures are noted the second time.
        read(&frozen, map);
        patched.noting.set(true);
        let healthy = read(&frozen, map);
        patched.noting.set(false);
        let words: Vec<(u64, u64)> = patched.words.take().into_iter().collect();
        let pointers: Vec<_> = words.iter().filter(|(_, word)| is_pointer(*word)).collect();
        let elsewhere = pointers.first().map_or(0, |(_, word)| *word);
        let others: Vec<_> = words
            .iter()
            .filter(|(_, word)| !is_pointer(*word))
            .collect();
        for &(at, word) in spread(&pointers).chain(spread(&others)) {
            for wrong in [
                0,
                u64::MAX,
                elsewhere,
                word ^ 0x40,
                word.wrapping_add(1 << 40),
            ] {
                patched.patch.set(Some((at, wrong)));
                let walk = read(&frozen, map);
                let (tried, told) = noticed.entry(map.map_type.to_string()).or_default();
                *tried += 1;
                *told += u32::from(walk != healthy);
            }
        }
        patched.patch.set(None);
        // The word may have been of a page table, too, of which much is remembered.
        frozen.machine().space().forget();
        assert_eq!(read(&frozen, map), healthy, "{} {}", map.map_type, map.name);
    }
    // A type of which no damage shows was not read at all.
    for (map_type, (tried, told)) in noticed {
        assert!(
            told > 0 || map_type == "arena",
            "{map_type}: {told} of {tried} noticed"
        );
    }
}

/// How many words of allocators' trees are replaced, one after the other.
const TREE_WORDS: usize = 24;

/// All allocators, as one document.
fn allocators(frozen: &Frozen) -> String {
    let mut options = render::Options::new(render::Source::new("raw"));
    options.format = render::Format::Json;
    let mut out = Vec::new();
    let _complete_or_not = render::dump(frozen, &Maps::default(), &options, &mut out).unwrap();
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    document.get("allocators").unwrap().to_string()
}

/// Descriptors, chunks, slots and the maps that own these: whatever pointer into an arena is
/// wrong, the document is whole and no larger than memory allows.
#[test]
fn allocators_with_a_wrong_word_end() {
    let (patched, frozen) = open();
    allocators(&frozen);
    patched.noting.set(true);
    let healthy = allocators(&frozen);
    patched.noting.set(false);
    let windows = [1 << 44, 1 << 45];
    let leads_into_an_arena = |word: u64| windows.iter().any(|start| word >> 32 == start >> 32);
    let words: Vec<(u64, u64)> = patched.words.take().into_iter().collect();
    let pointers: Vec<_> = words
        .into_iter()
        .filter(|(_, word)| leads_into_an_arena(*word))
        .collect();
    let first = pointers.first().unwrap().1;
    let step = pointers.len().div_ceil(TREE_WORDS);
    let mut noticed = 0;
    for &(at, word) in pointers.iter().step_by(step) {
        for wrong in [0, first, word ^ 0x40] {
            patched.patch.set(Some((at, wrong)));
            let spoiled = allocators(&frozen);
            assert!(spoiled.len() < healthy.len() * 2, "{at:#x}: {wrong:#x}");
            noticed += usize::from(spoiled != healthy);
        }
    }
    assert!(noticed > TREE_WORDS / 2, "{noticed} of {}", TREE_WORDS * 3);
    patched.patch.set(None);
    frozen.machine().space().forget();
    assert_eq!(allocators(&frozen), healthy);
}
