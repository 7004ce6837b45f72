//! Arrays of instructions (`kernel/bpf/bpf_insn_array.c`, since 6.19): where
//! each instruction of a program's jump tables went, as offsets and, once the
//! program is compiled, as addresses.

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, MemoryExt};

use super::btf_object::{BtfObjectLayout, Parsed};
use super::copied::Copied;
use super::place::{self, POINTER};
use super::{bytes, progs};
use crate::entry::{Entry, SlotAt};
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo, Object, ObjectKind, ProgRef};

/// Where the members of `struct bpf_insn_array` are.
struct Layout {
    size: u64,
    ips: Member,
    values: Member,
    value_size: u64,
}

impl Layout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let array = btf.record("bpf_insn_array")?;
        let ips = array.member("ips")?;
        let values = array.member("values")?;
        Ok(Self {
            size: array.size(),
            value_size: btf.record("bpf_insn_array_value")?.size(),
            ips,
            values,
        })
    }
}

/// Visits the instructions of `map` at `at`.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let layout = Layout::new(target.btf())?;
    let object = Copied::object(target, at, layout.size, "struct bpf_insn_array")?;
    let size = u64::from(map.value_size);
    if size != layout.value_size {
        let reason = Reason::Contradiction {
            what: "bpf_map.value_size of an insn_array",
            expected: layout.value_size,
            found: size,
        };
        walker.walk.gap(at, reason);
        return Ok(());
    }
    let most = target.memory_size() / (layout.value_size + POINTER);
    if u64::from(map.max_entries) > most {
        let (what, value) = ("bpf_map.max_entries", map.max_entries.into());
        walker.walk.gap(at, Reason::Absurd { what, value });
    }
    let values = at.checked_add(layout.values.offset).unwrap_or(at);
    let ips = object.pointer(&layout.ips);
    let prog = user(target, map);
    let mut buf = Vec::new();
    for index in 0..map.max_entries {
        let position = u64::from(index);
        if position >= most {
            break;
        }
        let ip = match target.load_u64(place::element(ips, position, POINTER)) {
            Ok(ip) => Some(Kva::new(ip)).filter(|ip| ip.get() != 0),
            Err(fault) => {
                let at = GapAt::Indices(position, position);
                walker.walk.gap(at, fault.cause);
                None
            }
        };
        let value_at = place::element(values, position, size);
        let value = bytes::value(target, value_at, size, &mut buf, &mut walker.walk);
        if value.present.is_empty() && ip.is_none() {
            continue;
        }
        let refers = Object {
            kva: ip,
            kind: ObjectKind::Instruction {
                symbol: ip.and_then(|ip| target.symbol_at(ip)),
                prog: prog.clone(),
            },
        };
        let entry = Entry::Slot {
            at: SlotAt::Index(index),
            refers: &refers,
            value: Some(value),
        };
        if walker.visit(entry).is_break() {
            break;
        }
    }
    Ok(())
}

/// The program that uses `map`: a map of this type has at most one.
fn user(target: &dyn Target, map: &MapInfo) -> Option<ProgRef> {
    let layout = BtfObjectLayout::new(target.btf()).ok()?;
    let progs = progs::list(target, &layout, &Parsed::default()).ok()?.progs;
    let user = progs
        .into_iter()
        .find(|prog| prog.map_ids.contains(&map.id))?;
    Some(ProgRef {
        id: user.id,
        name: Some(user.name),
    })
}
