//! What slots refer to, and what a look-up by bpf(2) gives for it.

use std::ops::ControlFlow;

use guestmem::{Kva, Memory};

use super::entries::{CpuEntry, DeviceEntry};
use crate::entry::{Bytes, Entry, SlotAt};
use crate::structures::objects::{
    CgroupNames, MapNames, Names, PerfEventNames, ProgNames, SocketNames,
};
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo, MapType, Object, ObjectKind};

/// How the pointers in the slots of a map are followed.
pub(super) enum Refers {
    /// To the object itself.
    Object(Box<dyn Names>),
    /// To an entry that names a network device.
    Device(DeviceEntry),
    /// To an entry that names a CPU.
    Cpu(CpuEntry),
}

impl Refers {
    /// How those of `map` are.
    pub(super) fn new(target: &dyn Target, map: &MapInfo) -> Result<Self, Error> {
        let (btf, memory_size) = (target.btf(), target.memory_size());
        let names: Box<dyn Names> = match map.map_type {
            MapType::DEVMAP | MapType::DEVMAP_HASH => {
                return Ok(Self::Device(DeviceEntry::new(btf)?));
            }
            MapType::CPUMAP => return Ok(Self::Cpu(CpuEntry::new(btf)?)),
            MapType::PROG_ARRAY => Box::new(ProgNames::new(btf)?),
            MapType::PERF_EVENT_ARRAY => Box::new(PerfEventNames::new(btf)?),
            MapType::CGROUP_ARRAY => Box::new(CgroupNames::new(btf, memory_size)?),
            MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => Box::new(MapNames::new(btf)?),
            _ => Box::new(SocketNames::new(btf)?),
        };
        Ok(Self::Object(names))
    }

    /// Visits the slot of `map` that has this pointer.
    pub(super) fn visit(
        &self,
        memory: &dyn Memory<Kva>,
        map: &MapInfo,
        slot: SlotAt<'_>,
        pointer: Kva,
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        let index = match slot {
            SlotAt::Index(index) => Some(index),
            SlotAt::Key(key) => key.first_chunk().map(|key| u32::from_le_bytes(*key)),
        };
        let walk = &mut walker.walk;
        let (object, value) = match self {
            Self::Object(names) => {
                let object = names.object(memory, Some(pointer), walk);
                let value = looked_up(&object, map);
                (object, value)
            }
            Self::Device(entry) => entry.object(memory, pointer, index, walk),
            Self::Cpu(entry) => entry.object(memory, pointer, index, walk),
        };
        let size = usize::try_from(map.value_size).unwrap_or(usize::MAX);
        let value = value.and_then(|value| {
            let whole = value.get(..size).map(<[u8]>::to_vec);
            if whole.is_none() {
                let (expected, found) = (value.len() as u64, map.value_size.into());
                let reason = Reason::Contradiction {
                    what: "bpf_map.value_size",
                    expected,
                    found,
                };
                walk.gap(GapAt::Map, reason);
            }
            whole
        });
        walker.visit(Entry::Slot {
            at: slot,
            refers: &object,
            value: value.as_deref().map(Bytes::whole),
        })
    }
}

/// What a look-up gives for an object: an id, or a socket's cookie, which the
/// kernel makes up at the first question and only for values of 8 bytes.
fn looked_up(object: &Object, map: &MapInfo) -> Option<Vec<u8>> {
    match &object.kind {
        ObjectKind::Prog { id, .. } | ObjectKind::Map { id, .. } => {
            id.map(|id| id.to_le_bytes().to_vec())
        }
        ObjectKind::Socket(socket) if map.value_size == 8 => {
            socket.cookie.map(|cookie| cookie.to_le_bytes().to_vec())
        }
        _ => None,
    }
}
