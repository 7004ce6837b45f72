//! What slots refer to, and what a look-up by bpf(2) gives for it.

use std::ops::ControlFlow;

use guestmem::{Address, Kva, Memory, MemoryExt};

use super::entries::{CpuEntry, DeviceEntry, Referred};
use crate::entry::{Bytes, Entry, SlotAt};
use crate::structures::objects::{
    CgroupNames, MapNames, Names, PerfEventNames, ProgNames, SocketNames,
};
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walk, Walker};
use crate::{Error, MapInfo, MapType, Object, ObjectKind};

/// How often a slot is looked at that changes all the time.
const ATTEMPTS: u32 = 16;

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

    /// Visits the slot of `map` whose pointer is at an address. In a kernel
    /// that runs it is looked at again after the object has been: if it has
    /// changed, the object may have gone in between.
    pub(super) fn visit_at(
        &self,
        target: &dyn Target,
        map: &MapInfo,
        slot: SlotAt<'_>,
        (link, mut pointer): (Kva, Kva),
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        if !target.is_running() {
            return self.visit(target, map, slot, pointer, walker);
        }
        for _ in 0..ATTEMPTS {
            let mut walk = Walk::default();
            let referred = self.referred(target, map, slot, pointer, &mut walk);
            let now = match target.load_u64(link) {
                Ok(now) => Kva::new(now),
                Err(fault) => {
                    walker.walk.fault(fault);
                    return ControlFlow::Continue(());
                }
            };
            if now == pointer {
                walker.walk.append(walk);
                return visit(map, slot, referred, walker);
            }
            if now.get() == 0 {
                return ControlFlow::Continue(());
            }
            pointer = now;
        }
        walker.walk.gap(link, Reason::Outrun);
        ControlFlow::Continue(())
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
        let referred = self.referred(memory, map, slot, pointer, &mut walker.walk);
        visit(map, slot, referred, walker)
    }

    /// What the pointer of a slot of `map` refers to, and what a look-up
    /// gives for it.
    fn referred(
        &self,
        memory: &dyn Memory<Kva>,
        map: &MapInfo,
        slot: SlotAt<'_>,
        pointer: Kva,
        walk: &mut Walk,
    ) -> Referred {
        let index = match slot {
            SlotAt::Index(index) => Some(index),
            SlotAt::Key(key) => key.first_chunk().map(|key| u32::from_le_bytes(*key)),
        };
        match self {
            Self::Object(names) => {
                let object = names.object(memory, Some(pointer), walk);
                let value = looked_up(&object, map);
                (object, value)
            }
            Self::Device(entry) => entry.object(memory, pointer, index, walk),
            Self::Cpu(entry) => entry.object(memory, pointer, index, walk),
        }
    }
}

/// Visits a slot of `map`; as much of the value as the map's have.
fn visit(
    map: &MapInfo,
    slot: SlotAt<'_>,
    (object, value): Referred,
    walker: &mut Walker<'_, '_>,
) -> ControlFlow<()> {
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
            walker.walk.gap(GapAt::Map, reason);
        }
        whole
    });
    walker.visit(Entry::Slot {
        at: slot,
        refers: &object,
        value: value.as_deref().map(Bytes::whole),
    })
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
