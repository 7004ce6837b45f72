//! Structs of functions that BPF programs implement
//! (`kernel/bpf/bpf_struct_ops.c`).
//!
//! The kernel has such a struct twice: `kvalue` is what its subsystem calls,
//! `uvalue` has the programs' ids in place of functions. bpf(2) shows the
//! latter, with the former's state.

use btf_layout::{Btf, Kind, Member, TypeId};
use guestmem::{Address, Kva, MemoryExt};

use super::btf_object::{BtfObjectLayout, Parsed};
use super::copied::Copied;
use crate::entry::{Bytes, Entry};
use crate::target::Target;
use crate::walk::{Reason, Walker};
use crate::{Error, MapInfo, MapState};

/// `enum bpf_struct_ops_state`; the last since 6.4 (68b04864ca42).
const STATES: &[&str] = &["init", "in use", "to be freed", "ready"];

/// The first of them: nothing was put in so far.
const INIT: u64 = 0;

/// What the names of values begin with, before the struct's own.
const PREFIX: &str = "bpf_struct_ops_";

/// Where the members of `struct bpf_struct_ops_map` are.
struct Layout {
    size: u64,
    refcount: Member,
    usercount: Member,
    uvalue: Member,
    state: Member,
    /// Since 6.9 (fcc2c1fb0651), where structs may be a module's.
    btf: Option<Member>,
    /// In the value itself.
    value_state: Member,
    value_refcount: Member,
}

impl Layout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let map = btf.record("bpf_struct_ops_map")?;
        let value = btf.record("bpf_struct_ops_value")?;
        Ok(Self {
            size: map.size(),
            refcount: map.member("map.refcnt.counter")?,
            usercount: map.member("map.usercnt.counter")?,
            uvalue: map.member("uvalue")?,
            // Both in a struct of their own since 6.9 (612d087d4ba5).
            state: map.member_any(&["kvalue.common.state", "kvalue.state"])?,
            btf: map.find("btf"),
            value_state: value.member_any(&["common.state", "state"])?,
            value_refcount: value.member_any(&["common.refcnt", "refcnt"])?,
        })
    }
}

/// How far a map is, as a look-up tells it.
struct Progress {
    state: u64,
    refcount: u32,
}

impl Layout {
    fn progress(&self, object: &Copied) -> Progress {
        let state = object.uint(&self.state);
        let users = object.uint(&self.refcount).cast_signed();
        let users = users.wrapping_sub(object.uint(&self.usercount).cast_signed());
        let refcount = match state {
            INIT => 0,
            _ => u32::try_from(users.max(0)).unwrap_or(u32::MAX),
        };
        Progress { state, refcount }
    }
}

/// How far the map at `at` is registered.
pub(crate) fn state(target: &dyn Target, map: &MapInfo, at: Kva) -> Result<MapState, Error> {
    let layout = Layout::new(target.btf())?;
    let object = Copied::object(target, at, layout.size, "struct bpf_struct_ops_map")?;
    let Progress { state, refcount } = layout.progress(&object);
    let name = usize::try_from(state)
        .ok()
        .and_then(|state| STATES.get(state));
    Ok(MapState::StructOps {
        state: name.map_or_else(|| state.to_string(), |name| (*name).to_owned()),
        refcount: refcount.into(),
        name: name_of(target, map, &layout, &object)?,
    })
}

/// The name of the struct that the map implements.
fn name_of(
    target: &dyn Target,
    map: &MapInfo,
    layout: &Layout,
    object: &Copied,
) -> Result<Option<String>, Error> {
    let own = layout.btf.as_ref().map(|btf| object.pointer(btf));
    let btf = match own {
        Some(at) if at.get() != 0 => {
            BtfObjectLayout::new(target.btf())?.load(target, at, &Parsed::default())?
        }
        _ => target.btf().clone(),
    };
    let value = btf.get(TypeId(map.btf_vmlinux_value_type_id))?;
    if value.kind() != Kind::Struct {
        return Ok(None);
    }
    let record = btf.record_by_id(TypeId(map.btf_vmlinux_value_type_id))?;
    Ok(record.name().strip_prefix(PREFIX).map(str::to_owned))
}

/// Visits the one entry of `map` at `at`, as a look-up by bpf(2) gives it.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let layout = Layout::new(target.btf())?;
    let object = Copied::object(target, at, layout.size, "struct bpf_struct_ops_map")?;
    let progress = layout.progress(&object);
    let len = u64::from(map.value_size);
    if len > target.memory_size() {
        let (what, value) = ("bpf_map.value_size", len);
        walker.walk.gap(at, Reason::Absurd { what, value });
        return Ok(());
    }
    let mut buf = Vec::new();
    let mut fault = None;
    if progress.state == INIT {
        buf.resize(usize::try_from(len).unwrap_or(0), 0);
    } else {
        let value = object.pointer(&layout.uvalue);
        fault = target.read_more(value, len, &mut buf).err();
        if let Some(fault) = fault {
            walker.walk.fault(fault);
        }
        let state = u32::try_from(progress.state).unwrap_or(u32::MAX);
        put(&mut buf, &layout.value_state, state);
        put(&mut buf, &layout.value_refcount, progress.refcount);
    }
    if buf.is_empty() && fault.is_some() {
        return Ok(());
    }
    let value = Bytes {
        present: &buf,
        len,
        fault,
    };
    let key = &0u32.to_le_bytes();
    // Whether the visitor ended the walk is noted in the walk.
    let _ = walker.visit(Entry::KeyValue { key, value });
    Ok(())
}

/// Writes a member of 4 bytes, as far as it is there.
fn put(value: &mut [u8], member: &Member, word: u32) {
    let start = usize::try_from(member.offset).unwrap_or(usize::MAX);
    let place = value.iter_mut().skip(start);
    for (to, from) in place.zip(word.to_le_bytes()) {
        *to = from;
    }
}
