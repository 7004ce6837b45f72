//! Structures made by hand in memory that holds nothing else: what is
//! well-formed reads back, what is corrupt ends in a gap.

mod bloom;
mod damaged;
mod insn_array;
mod lpm_trie;
mod queue;
mod rhash;
mod ring_buffer;
mod stack_trace;
mod struct_ops;

use std::ops::ControlFlow;
use std::rc::Rc;

use arena::Stretch;
use btf_layout::build::Builder;
use btf_layout::{Btf, TypeId};
use guestmem::{Address, Fake, Fault, Gpa, Kva, Memory};
use kernel::PerCpu;

use crate::target::Target;
use crate::walk::Walker;
use crate::{Bytes, Entry, Error, Frame, MapInfo, MapState, SlotAt, Symbol};

/// Where the map is in every test.
const MAP: Kva = Kva::at(0xffff_8880_0000_1000);

/// Where nothing is.
const NOWHERE: u64 = 0xffff_8880_dead_0000;

/// `offset` bytes behind `at`.
fn on(at: Kva, offset: u64) -> Kva {
    at.checked_add(offset).unwrap()
}

/// A kernel whose memory is what a test puts there.
struct Made {
    memory: Fake<Kva>,
    /// What was put where: address and length.
    areas: Vec<(Kva, usize)>,
    btf: Rc<Btf>,
    size: u64,
}

impl Made {
    fn new(types: &Builder) -> Self {
        Self {
            memory: Fake::new(),
            areas: Vec::new(),
            btf: Rc::new(Btf::parse(types.finish(), "a test").unwrap()),
            size: 1 << 20,
        }
    }

    fn bytes(&mut self, at: Kva, bytes: &[u8]) {
        self.memory.write(at, bytes);
        self.areas.push((at, bytes.len()));
    }

    fn u32(&mut self, at: Kva, word: u32) {
        self.bytes(at, &word.to_le_bytes());
    }

    fn u64(&mut self, at: Kva, word: u64) {
        self.bytes(at, &word.to_le_bytes());
    }

    fn zeros(&mut self, at: Kva, len: usize) {
        self.bytes(at, &vec![0; len]);
    }
}

impl Memory<Kva> for Made {
    fn read(&self, addr: Kva, buf: &mut [u8]) -> Result<(), Fault<Kva>> {
        self.memory.read(addr, buf)
    }
}

impl Target for Made {
    fn btf(&self) -> &Rc<Btf> {
        &self.btf
    }

    fn release(&self) -> &'static str {
        "6.66.0-made"
    }

    fn page_size(&self) -> u64 {
        4096
    }

    fn require(&self, name: &'static str) -> Result<Kva, Error> {
        panic!("{name} was asked for")
    }

    /// Names what is in the highest page.
    fn symbol_at(&self, at: Kva) -> Option<Symbol> {
        let offset = at.checked_offset_from(Kva::at(0xffff_ffff_ffff_f000))?;
        Some(Symbol {
            name: "last_page".to_owned(),
            offset,
            module: None,
        })
    }

    fn per_cpu(&self) -> Result<&PerCpu, Error> {
        panic!("per-CPU data were asked for")
    }

    fn mapped(
        &self,
        start: Kva,
        _len: u64,
        _scratch: Option<Gpa>,
        _visit: &mut dyn FnMut(Stretch),
    ) -> Result<(), Error> {
        panic!("what is mapped at {start} was asked for")
    }

    fn vmemmap(&self) -> Option<Kva> {
        None
    }

    fn memory_size(&self) -> u64 {
        self.size
    }
}

/// Adds a struct with members (name, type, offset in bytes).
fn record(types: &mut Builder, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
    let members: Vec<_> = members
        .iter()
        .map(|&(name, ty, offset)| (name, ty, offset * 8))
        .collect();
    types.record(name, size, &members)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn value(bytes: &Bytes<'_>) -> String {
    let cut = if bytes.is_whole() { "" } else { "…" };
    format!("{}{cut}", hex(bytes.present))
}

fn line(entry: &Entry<'_>) -> String {
    match entry {
        Entry::KeyValue { key, value: of } => format!("{} {}", hex(key), value(of)),
        Entry::Element {
            position,
            value: of,
        } => format!("{position} {}", value(of)),
        Entry::Record {
            position,
            state,
            value: of,
        } => format!("{position} {} {}", state.name(), value(of)),
        Entry::Stack { id, frames } => {
            let frames: Vec<String> = frames.iter().map(frame).collect();
            format!("{id} {}", frames.join(" "))
        }
        Entry::Slot {
            at: SlotAt::Index(index),
            refers,
            value: of,
        } => {
            let kva = refers.kva.map_or("-".to_owned(), |kva| kva.to_string());
            format!("{index} {kva} {}", value(&of.unwrap()))
        }
        other => panic!("{other:?}"),
    }
}

fn frame(frame: &Frame) -> String {
    match frame {
        Frame::Address {
            ip,
            symbol: Some(symbol),
        } => format!("{ip:#x}={symbol}"),
        Frame::Address { ip, symbol: None } => format!("{ip:#x}"),
        Frame::BuildId { build_id, offset } => format!("{}@{offset:#x}", hex(&build_id[..2])),
        Frame::NoBuildId { ip } => format!("?{ip:#x}"),
    }
}

/// Every entry of `map` as text, and the gaps.
fn read(made: &Made, map: &MapInfo) -> (Vec<String>, Vec<String>) {
    let mut lines = Vec::new();
    let mut visit = |entry: Entry<'_>| {
        lines.push(line(&entry));
        ControlFlow::Continue(())
    };
    let mut walker = Walker::new(&mut visit);
    super::walk(made, map, MAP, &mut walker).unwrap();
    let walk = walker.finish();
    assert_eq!(walk.visited, lines.len() as u64);
    let gaps = walk.gaps.iter().map(ToString::to_string);
    (lines, gaps.collect())
}

/// Compares what `map` reads back as.
#[track_caller]
fn check(made: &Made, map: &MapInfo, lines: &[&str], gaps: &[&str]) {
    let (found, found_gaps) = read(made, map);
    assert_eq!(found, lines, "{found_gaps:?}");
    assert_eq!(found_gaps, gaps);
}

/// The state of `map`, or the whole error.
fn state(made: &Made, map: &MapInfo) -> Result<MapState, String> {
    let state = super::state(made, map, MAP);
    state.map(Option::unwrap).map_err(|error| {
        let source = std::error::Error::source(&error);
        let source = source.map_or(String::new(), |source| format!(": {source}"));
        format!("{error}{source}")
    })
}
