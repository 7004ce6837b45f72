//! One map of a [`Fake`](super::Fake): its description and what it holds.

use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::arena::Window;
use bpfmaps::{
    Bytes, CpuValue, Entry, Frame, Gap, MapInfo, MapState, MapType, Object, RecordState, SlotAt,
    Visitor, Walk,
};
use btf_layout::{Btf, TypeId};
use guestmem::{ArenaPtr, Fault, Kva};

use super::arena::FakeArena;

/// One map and its entries.
#[derive(Clone, Debug)]
pub struct FakeMap {
    /// Its description.
    pub info: MapInfo,
    pub(super) btf: Option<Rc<Btf>>,
    pub(super) state: Option<MapState>,
    pub(super) arena: Option<FakeArena>,
    pub(super) is_gone: bool,
    entries: Vec<FakeEntry>,
    gaps: Vec<Gap>,
}

/// An [`Entry`] that owns what it holds.
#[derive(Clone, Debug)]
enum FakeEntry {
    KeyValue(Vec<u8>, FakeBytes),
    PerCpu(Vec<u8>, CpuValues),
    Owned(Object, Option<Vec<u8>>, FakeBytes),
    OwnedPerCpu(Object, Vec<u8>, CpuValues),
    Slot(u32, Object, Option<FakeBytes>),
    KeyedSlot(Vec<u8>, Object, Option<FakeBytes>),
    Record(u64, RecordState, FakeBytes),
    Element(u64, FakeBytes),
    Stack(u32, Vec<Frame>),
}

type CpuValues = Vec<(u32, FakeBytes)>;

/// A value, or as much of it as could be read.
#[derive(Clone, Debug)]
pub struct FakeBytes {
    present: Vec<u8>,
    len: u64,
    fault: Option<Fault<Kva>>,
}

impl FakeBytes {
    /// A whole value.
    #[must_use]
    pub fn whole(bytes: &[u8]) -> Self {
        Self::cut(bytes, bytes.len() as u64, None)
    }

    /// The start of a value of `len` bytes, and why the rest is missing.
    #[must_use]
    pub fn cut(bytes: &[u8], len: u64, fault: Option<Fault<Kva>>) -> Self {
        Self {
            present: bytes.to_vec(),
            len,
            fault,
        }
    }

    fn bytes(&self) -> Bytes<'_> {
        Bytes {
            present: &self.present,
            len: self.len,
            fault: self.fault,
        }
    }
}

impl From<&[u8]> for FakeBytes {
    fn from(bytes: &[u8]) -> Self {
        Self::whole(bytes)
    }
}

impl FakeMap {
    /// An empty map without BTF, for 64 entries.
    #[must_use]
    pub fn new(id: u32, name: &str, map_type: MapType, key_size: u32, value_size: u32) -> Self {
        Self {
            info: MapInfo {
                id,
                name: name.to_owned(),
                map_type,
                key_size,
                value_size,
                max_entries: 64,
                frozen: Some(false),
                ..MapInfo::default()
            },
            btf: None,
            state: None,
            arena: None,
            is_gone: false,
            entries: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// Describes keys and values by types of `btf`; a key of `void` has no
    /// type.
    #[must_use]
    pub fn typed(mut self, btf: &Rc<Btf>, key: TypeId, value: TypeId) -> Self {
        self.info.btf_id = Some(1);
        self.info.btf_key_type_id = key.0;
        self.info.btf_value_type_id = value.0;
        self.btf = Some(Rc::clone(btf));
        self
    }

    fn with(mut self, entry: FakeEntry) -> Self {
        self.entries.push(entry);
        self
    }

    /// Adds an entry with one value.
    #[must_use]
    pub fn entry(self, key: &[u8], value: impl Into<FakeBytes>) -> Self {
        self.with(FakeEntry::KeyValue(key.to_vec(), value.into()))
    }

    /// Adds an entry with a value for each of these CPUs.
    #[must_use]
    pub fn percpu(self, key: &[u8], values: Vec<(u32, FakeBytes)>) -> Self {
        self.with(FakeEntry::PerCpu(key.to_vec(), values))
    }

    /// Adds a value that belongs to `owner`, and has a key in some types of
    /// map.
    #[must_use]
    pub fn owned(self, owner: Object, key: Option<&[u8]>, value: impl Into<FakeBytes>) -> Self {
        let key = key.map(<[u8]>::to_vec);
        self.with(FakeEntry::Owned(owner, key, value.into()))
    }

    /// Adds a value for each of these CPUs that belongs to `owner`.
    #[must_use]
    pub fn owned_percpu(self, owner: Object, key: &[u8], values: Vec<(u32, FakeBytes)>) -> Self {
        self.with(FakeEntry::OwnedPerCpu(owner, key.to_vec(), values))
    }

    /// Lets the slot at `index` refer to an object.
    #[must_use]
    pub fn slot(self, index: u32, refers: Object, value: Option<FakeBytes>) -> Self {
        self.with(FakeEntry::Slot(index, refers, value))
    }

    /// Lets the slot with this key refer to an object.
    #[must_use]
    pub fn keyed_slot(self, key: &[u8], refers: Object, value: Option<FakeBytes>) -> Self {
        self.with(FakeEntry::KeyedSlot(key.to_vec(), refers, value))
    }

    /// Adds a record of a ring buffer.
    #[must_use]
    pub fn record(self, position: u64, state: RecordState, value: impl Into<FakeBytes>) -> Self {
        self.with(FakeEntry::Record(position, state, value.into()))
    }

    /// Adds the next element of a queue or stack.
    #[must_use]
    pub fn element(self, value: impl Into<FakeBytes>) -> Self {
        let position = self.entries.len() as u64;
        self.with(FakeEntry::Element(position, value.into()))
    }

    /// Adds a stack trace.
    #[must_use]
    pub fn stack(self, id: u32, frames: Vec<Frame>) -> Self {
        self.with(FakeEntry::Stack(id, frames))
    }

    /// Sets the state of the map as a whole.
    #[must_use]
    pub fn state(mut self, state: MapState) -> Self {
        self.state = Some(state);
        self
    }

    /// Makes it an arena in which no page exists.
    #[must_use]
    pub fn arena(mut self, window: Window) -> Self {
        self.arena = Some(FakeArena::new(window));
        self
    }

    /// Puts bytes into the arena at a user address. Their pages exist from then
    /// on.
    #[must_use]
    pub fn holds(mut self, at: u64, bytes: &[u8]) -> Self {
        if let Some(arena) = &mut self.arena {
            arena.write(ArenaPtr::at(at), bytes);
        }
        self
    }

    /// Lets a page of the arena exist that cannot be read.
    #[must_use]
    pub fn unreadable_page(mut self, pgoff: u64) -> Self {
        if let Some(arena) = &mut self.arena {
            arena.add_page(pgoff);
        }
        self
    }

    /// Adds a gap to what a walk of the map accounts for.
    #[must_use]
    pub fn gap(mut self, gap: Gap) -> Self {
        self.gaps.push(gap);
        self
    }

    /// Lets every attempt to read the map fail.
    #[must_use]
    pub fn gone(mut self) -> Self {
        self.is_gone = true;
        self
    }

    pub(super) fn walk(&self, visit: &mut Visitor<'_>) -> Walk {
        let mut walk = Walk {
            gaps: self.gaps.clone(),
            ..Walk::default()
        };
        for entry in &self.entries {
            walk.visited += 1;
            if entry.visit(visit) == ControlFlow::Break(()) {
                walk.stopped = true;
                break;
            }
        }
        walk
    }
}

impl FakeEntry {
    fn visit(&self, visit: &mut Visitor<'_>) -> ControlFlow<()> {
        let values: Vec<CpuValue<'_>> = match self {
            Self::PerCpu(_, values) | Self::OwnedPerCpu(_, _, values) => values
                .iter()
                .map(|(cpu, value)| CpuValue {
                    cpu: *cpu,
                    value: value.bytes(),
                })
                .collect(),
            _ => Vec::new(),
        };
        visit(match self {
            Self::KeyValue(key, value) => Entry::KeyValue {
                key,
                value: value.bytes(),
            },
            Self::PerCpu(key, _) => Entry::PerCpu {
                key,
                values: &values,
            },
            Self::Owned(owner, key, value) => Entry::Owned {
                owner,
                key: key.as_deref(),
                value: value.bytes(),
            },
            Self::OwnedPerCpu(owner, key, _) => Entry::OwnedPerCpu {
                owner,
                key,
                values: &values,
            },
            Self::Slot(index, refers, value) => Entry::Slot {
                at: SlotAt::Index(*index),
                refers,
                value: value.as_ref().map(FakeBytes::bytes),
            },
            Self::KeyedSlot(key, refers, value) => Entry::Slot {
                at: SlotAt::Key(key),
                refers,
                value: value.as_ref().map(FakeBytes::bytes),
            },
            Self::Record(position, state, value) => Entry::Record {
                position: *position,
                state: *state,
                value: value.bytes(),
            },
            Self::Element(position, value) => Entry::Element {
                position: *position,
                value: value.bytes(),
            },
            Self::Stack(id, frames) => Entry::Stack { id: *id, frames },
        })
    }
}
