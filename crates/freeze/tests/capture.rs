//! Captures of a machine made by hand that changes whenever it is looked at,
//! unless it stands still.
#![cfg(test)]

#[path = "../../bpfmaps/tests/fake/mod.rs"]
#[expect(dead_code, reason = "what makes kernels by hand makes more than these")]
mod fake;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bpfmaps::{BpfMapAccessor, Entry, Guest, MapType};
use bpfreeze_freeze::capture::{Found, Given, Scope};
use bpfreeze_freeze::{Capture, Error, Machine, Standing};
use btf_layout::build::Builder;
use fake::{ARRAY_VALUES, BUCKET_FIRST, ELEM_KEY, ELEM_NEXT, Maps, Shape, on};
use guestmem::{Address, Fake, Fault, Format, Gpa, Image, Kva, Memory, PhysicalMemory, Span};
use kernel::{Encoding, Finder};

const COUNTER: Shape = Shape {
    map_type: MapType::ARRAY,
    key_size: 4,
    value_size: 8,
    max_entries: 1,
};

const HASH: Shape = Shape {
    map_type: MapType::HASH,
    key_size: 8,
    value_size: 8,
    max_entries: 8,
};

/// Where `btf` and the type of values are in the made-up `struct bpf_map`.
const MAP_BTF: u64 = 64;
const MAP_VALUE_TYPE: u64 = 48;

/// The end of a bucket.
const END: u64 = 1;

/// What the machine does when it is about to stand still: a word and its new
/// value.
type Step = (Gpa, u64);

/// What happens at a read while the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// The reader panics.
    Panic,
    /// The read of this page takes until then.
    SlowAt(Gpa, Instant),
}

/// The machine. While it runs, each read of its memory finds the number one
/// further that stands in two places.
struct World {
    ram: RefCell<Fake<Gpa>>,
    number: Cell<u64>,
    counters: [Gpa; 2],
    /// By the number of the pause.
    steps: BTreeMap<u32, Vec<Step>>,
    runs: Cell<bool>,
    pauses: Cell<u32>,
    trouble: Cell<Trouble>,
}

impl World {
    /// Puts the number into what was read at `addr`.
    fn count(&self, addr: Gpa, buf: &mut [u8]) {
        for counter in self.counters {
            for (byte, at) in self
                .number
                .get()
                .to_le_bytes()
                .into_iter()
                .zip(counter.get()..)
            {
                let offset = at
                    .checked_sub(addr.get())
                    .and_then(|offset| usize::try_from(offset).ok());
                if let Some(place) = offset.and_then(|offset| buf.get_mut(offset)) {
                    *place = byte;
                }
            }
        }
    }
}

#[derive(Clone)]
struct Moving(Rc<World>);

impl Memory<Gpa> for Moving {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        if self.0.runs.get() {
            self.0.number.set(self.0.number.get() + 1);
        } else {
            let end = addr.get() + buf.len() as u64;
            match self.0.trouble.get() {
                Trouble::Panic => panic!("a reader panics"),
                Trouble::SlowAt(gpa, until) if (addr.get()..end).contains(&gpa.get()) => {
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                }
                _ => {}
            }
        }
        self.0.ram.borrow().read(addr, buf)?;
        self.0.count(addr, buf);
        Ok(())
    }
}

impl PhysicalMemory for Moving {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.0.ram.borrow().next_data(from)
    }

    fn size(&self) -> u64 {
        self.0.ram.borrow().size()
    }
}

struct Stopped<'w> {
    world: &'w World,
    ran: bool,
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.world.runs.set(self.ran);
    }
}

impl Standing for Stopped<'_> {
    fn ran(&self) -> bool {
        self.ran
    }

    fn resume(self: Box<Self>) -> Result<Option<Duration>, Error> {
        Ok(self.ran.then_some(Duration::from_millis(1)))
    }
}

impl Machine for Moving {
    fn image(&self) -> Result<Image, Error> {
        Ok(Image::new(Format::Qemu, Rc::new(self.clone())))
    }

    fn pause(&self) -> Result<Box<dyn Standing + '_>, Error> {
        let world = &*self.0;
        world.pauses.set(world.pauses.get() + 1);
        for &(gpa, value) in world.steps.get(&world.pauses.get()).into_iter().flatten() {
            world.ram.borrow_mut().write_u64(gpa, value);
        }
        let ran = world.runs.replace(false);
        Ok(Box::new(Stopped { world, ran }))
    }
}

/// A machine of two counters, which are array maps, and a hash of two
/// elements; and the physical places of what `steps` are made of.
fn machine(steps: impl FnOnce(&Places) -> Vec<(u32, Step)>) -> Moving {
    let mut maps = Maps::new();
    let counters = [1, 2].map(|id| maps.array(id, COUNTER, &[0; 8]));
    let (table, heads, _) = maps.hash(3, HASH, 1, &[]);
    maps.machine
        .place(on(table, MAP_VALUE_TYPE), &1u32.to_le_bytes());
    maps.idr("map_idr", &[(1, counters[0]), (2, counters[1]), (3, table)]);
    let mut element = |key: &[u8; 8], next: u64| {
        // Apart from what was before.
        maps.machine.allocate(&[0; 8]);
        let mut bytes = vec![0; usize::try_from(ELEM_KEY).unwrap()];
        bytes[16..24].copy_from_slice(&next.to_le_bytes());
        bytes.extend([*key, *key].concat());
        maps.machine.allocate(&bytes)
    };
    let early = element(b"element0", END);
    let late = element(b"element1", END);
    // Nothing leads to this one yet, nor to the types.
    let new = element(b"element2", END);
    maps.machine.place_u64(on(early, ELEM_NEXT), late.get());
    maps.machine.place_u64(on(heads, BUCKET_FIRST), early.get());
    let mut types = Builder::new();
    types.int("long_name_of_a_type", 8);
    let types = types.finish();
    let btfs = [60, 61, 62].map(|id| maps.btf(id, &types, Kva::at(0)));
    let ram = maps.machine.finish(Encoding::AbsolutePercpu);
    let kernel = Finder::new().find(&[Rc::new(ram.clone())]).unwrap();
    let place = |at: Kva| kernel.space().translate(at).unwrap().gpa;
    let places = Places {
        head: place(on(heads, BUCKET_FIRST)),
        map_btf: place(on(table, MAP_BTF)),
        early: place(early),
        new,
        btfs,
    };
    let mut by_pause: BTreeMap<u32, Vec<Step>> = BTreeMap::new();
    for (pause, step) in steps(&places) {
        by_pause.entry(pause).or_default().push(step);
    }
    Moving(Rc::new(World {
        counters: counters.map(|array| place(on(array, ARRAY_VALUES))),
        ram: RefCell::new(ram),
        number: Cell::new(0),
        steps: by_pause,
        runs: Cell::new(true),
        pauses: Cell::new(0),
        trouble: Cell::new(Trouble::None),
    }))
}

struct Places {
    /// The hash's only bucket.
    head: Gpa,
    /// The hash's pointer to its types.
    map_btf: Gpa,
    /// Its first element.
    early: Gpa,
    new: Kva,
    btfs: [Kva; 3],
}

fn capture(machine: &Moving, deadline: Option<Instant>) -> Result<Capture, Error> {
    let found = Found::new(&machine.image()?, Given::default())?;
    found.prepare(Scope::default())?.capture(machine, deadline)
}

fn open(capture: &Capture) -> Guest {
    Guest::new(Finder::new().find_in(&capture.image()).unwrap()).unwrap()
}

const OLD: [&[u8]; 2] = [b"element0", b"element1"];
const NEW: [&[u8]; 1] = [b"element2"];

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The keys and values of a map, and its gaps.
fn read(guest: &Guest, id: u32) -> (Pairs, Vec<String>) {
    let maps = guest.maps().unwrap().maps;
    let map = maps.iter().find(|map| map.id == id).unwrap();
    let mut entries = Vec::new();
    let walk = guest.entries(map, &mut |entry| {
        if let Entry::KeyValue { key, value } = entry {
            entries.push((key.to_vec(), value.present.to_vec()));
        }
        ControlFlow::Continue(())
    });
    let gaps = walk.unwrap().gaps.iter().map(ToString::to_string).collect();
    (entries, gaps)
}

fn counter(guest: &Guest, id: u32) -> u64 {
    let (entries, gaps) = read(guest, id);
    assert_eq!(gaps, [""; 0]);
    u64::from_le_bytes(entries[0].1.as_slice().try_into().unwrap())
}

/// Whether the capture is one instant, of so many pauses; and whether its hash
/// has these keys, and types.
fn check(machine: &Moving, rounds: usize, keys: &[&[u8]], has_types: bool) {
    let capture = capture(machine, None).unwrap();
    let world = &machine.0;
    assert!(world.runs.get(), "it was left standing");
    let guest = open(&capture);
    let [first, second] = [1, 2].map(|id| counter(&guest, id));
    // Nothing has read it since the last pause.
    assert_eq!([first, second], [world.number.get(); 2]);
    let (entries, gaps) = read(&guest, 3);
    let found: Vec<_> = entries.iter().map(|(key, _)| key.as_slice()).collect();
    assert_eq!((found.as_slice(), gaps), (keys, vec![]));
    let maps = guest.maps().unwrap().maps;
    let btf = guest.btf(&maps[2]).unwrap();
    assert_eq!(btf.is_some(), has_types);
    assert_eq!(
        capture.report().paused,
        vec![Duration::from_millis(1); rounds]
    );
    assert_eq!(world.pauses.get() as usize, rounds);
    assert_eq!(capture.report().longest(), Some(Duration::from_millis(1)));
    assert!(!capture.report().is_late);
}

#[test]
fn a_running_machine_is_captured_at_one_instant() {
    check(&machine(|_| vec![]), 1, &OLD, false);
}

#[test]
fn what_appears_before_the_pause_is_walked_into() {
    let machine = machine(|places| vec![(1, (places.head, places.new.get()))]);
    check(&machine, 1, &NEW, false);
}

#[test]
fn what_the_pause_did_not_find_is_in_the_next() {
    let machine = machine(|places| vec![(1, (places.map_btf, places.btfs[0].get()))]);
    check(&machine, 2, &OLD, true);
}

#[test]
fn the_last_round_reads_everything() {
    let machine = machine(|places| {
        let types = |pause: u32| {
            (
                pause,
                (places.map_btf, places.btfs[pause as usize - 1].get()),
            )
        };
        let element = (3, (places.head, places.new.get()));
        vec![types(1), types(2), types(3), element]
    });
    check(&machine, 3, &NEW, true);
}

#[test]
fn a_machine_that_stands_is_not_resumed() {
    let machine = machine(|places| vec![(1, (places.map_btf, places.btfs[0].get()))]);
    machine.0.runs.set(false);
    let capture = capture(&machine, None).unwrap();
    assert!(!machine.0.runs.get());
    assert_eq!(capture.report().paused, []);
    let guest = open(&capture);
    let maps = guest.maps().unwrap().maps;
    assert!(
        guest.btf(&maps[2]).unwrap().is_some(),
        "read while it stood"
    );
}

#[test]
fn it_runs_again_whatever_happens() {
    let machine = machine(|_| vec![]);
    machine.0.trouble.set(Trouble::Panic);
    let captured = catch_unwind(AssertUnwindSafe(|| capture(&machine, None).is_ok()));
    captured.unwrap_err();
    assert_eq!((machine.0.runs.get(), machine.0.pauses.get()), (true, 1));
}

#[test]
fn what_is_not_copied_in_time_says_so() {
    let mut early = Gpa::at(0);
    let machine = machine(|places| {
        early = places.early;
        vec![]
    });
    let found = Found::new(&machine.image().unwrap(), Given::default()).unwrap();
    let prepared = found.prepare(Scope::default()).unwrap();
    machine.0.runs.set(false);
    let deadline = Instant::now() + Duration::from_secs(1);
    machine.0.trouble.set(Trouble::SlowAt(early, deadline));
    let capture = prepared.capture(&machine, Some(deadline)).unwrap();
    assert!(capture.report().is_late);
    let guest = open(&capture);
    assert_eq!(counter(&guest, 1), machine.0.number.get());
    let (entries, gaps) = read(&guest, 3);
    assert_eq!(entries, [(b"element0".to_vec(), b"element0".to_vec())]);
    assert_eq!(gaps.len(), 1);
    assert!(gaps[0].contains("time ran out before physical"), "{gaps:?}");
}
