//! Slots by bpf(2), which gives ids and little more: for where the kernel's
//! memory cannot be read.

use std::ops::ControlFlow;

use super::keys;
use super::shape::Shape;
use super::sys::{OpenMap, OpenProg};
use super::{Fetch, array, list};
use crate::entry::{Bytes, Entry, SlotAt};
use crate::prog::ProgType;
use crate::walk::Walker;
use crate::{MapInfo, MapType, Object, ObjectKind, ProgRef};

/// Visits the slots of `map` that are in use.
pub(super) fn walk(map: &MapInfo, opened: &OpenMap, walker: &mut Walker<'_, '_>) {
    let map_type = map.map_type;
    let value_size = match map_type {
        // A look-up gives the id, whatever the size of the descriptor was.
        MapType::PROG_ARRAY | MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS => 4,
        _ => map.value_size,
    };
    let shape = Shape::new(map.key_size, value_size, None);
    let is_hash = matches!(map_type, MapType::HASH_OF_MAPS | MapType::DEVMAP_HASH);
    let mut visit = |entry: Entry<'_>| {
        let Entry::KeyValue { key, value } = entry else {
            return ControlFlow::Continue(());
        };
        let index = key.first_chunk().map_or(0, |key| u32::from_ne_bytes(*key));
        walker.visit(Entry::Slot {
            at: if is_hash {
                SlotAt::Key(key)
            } else {
                SlotAt::Index(index)
            },
            refers: &refers(map_type, index, value),
            value: Some(value),
        })
    };
    let mut inner = Walker::new(&mut visit);
    if is_hash {
        keys::walk(opened, &shape, &mut inner);
    } else {
        array::walk(opened, &shape, Fetch::OneByOne, &mut inner);
    }
    let walk = inner.finish();
    walker.walk.append(walk);
}

/// What the slot `index` with this value refers to, as far as that tells it.
fn refers(map_type: MapType, index: u32, value: Bytes<'_>) -> Object {
    let word = |at: usize| {
        let word = value.present.get(at..).and_then(<[u8]>::first_chunk);
        word.map(|word| u32::from_ne_bytes(*word))
    };
    // Of a value that has a program, it is the second word; 0 for none.
    let prog = || word(4).filter(|&id| id != 0).map(prog_ref);
    let kind = match map_type {
        MapType::DEVMAP | MapType::DEVMAP_HASH => ObjectKind::Device {
            ifindex: word(0),
            // Devices have names in their own network namespace.
            name: None,
            prog: prog(),
        },
        MapType::CPUMAP => ObjectKind::Cpu {
            cpu: Some(index),
            queue_size: word(0),
            prog: prog(),
        },
        MapType::INSN_ARRAY => ObjectKind::Instruction {
            symbol: None,
            prog: None,
        },
        MapType::PROG_ARRAY => {
            let prog = word(0).and_then(|id| OpenProg::open(id).ok());
            ObjectKind::Prog {
                id: word(0),
                name: prog.as_ref().map(OpenProg::name),
                prog_type: prog.map(|prog| ProgType(prog.info.type_)),
            }
        }
        _ => {
            let map = word(0).and_then(|id| list::describe(id).ok()?);
            ObjectKind::Map {
                id: word(0),
                name: map.as_ref().map(|map| map.name.clone()),
                map_type: map.map(|map| map.map_type),
            }
        }
    };
    Object { kva: None, kind }
}

fn prog_ref(id: u32) -> ProgRef {
    let name = OpenProg::open(id).ok().map(|prog| prog.name());
    ProgRef { id, name }
}
