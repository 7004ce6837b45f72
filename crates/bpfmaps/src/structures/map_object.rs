//! `struct bpf_map`, which every map begins with.

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, Memory};

use super::btf_object::BtfObjectLayout;
use super::copied::Copied;
use crate::walk::Reason;
use crate::{Error, MapInfo, MapType};

/// Where the members of `struct bpf_map` are.
#[derive(Debug)]
pub(crate) struct MapLayout {
    size: u64,
    id: Member,
    name: Member,
    map_type: Member,
    key_size: Member,
    value_size: Member,
    max_entries: Member,
    flags: Member,
    map_extra: Member,
    btf: Member,
    btf_key_type_id: Member,
    btf_value_type_id: Member,
    btf_vmlinux_value_type_id: Member,
    frozen: Member,
}

impl MapLayout {
    pub(crate) fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let map = btf.record("bpf_map")?;
        Ok(Self {
            size: map.size(),
            id: map.member("id")?,
            name: map.member("name")?,
            map_type: map.member("map_type")?,
            key_size: map.member("key_size")?,
            value_size: map.member("value_size")?,
            max_entries: map.member("max_entries")?,
            flags: map.member("map_flags")?,
            map_extra: map.member("map_extra")?,
            btf: map.member("btf")?,
            btf_key_type_id: map.member("btf_key_type_id")?,
            btf_value_type_id: map.member("btf_value_type_id")?,
            btf_vmlinux_value_type_id: map.member("btf_vmlinux_value_type_id")?,
            frozen: map.member("frozen")?,
        })
    }

    /// Describes the map at `at`, which the idr lists under `id`.
    pub(crate) fn describe(
        &self,
        memory: &dyn Memory<Kva>,
        btf: &BtfObjectLayout,
        id: u32,
        at: Kva,
    ) -> Result<MapInfo, Reason> {
        let map = Copied::load(memory, at, self.size).map_err(|fault| fault.cause)?;
        let own_id = map.u32(&self.id);
        if own_id != id {
            return Err(Reason::Contradiction {
                what: "bpf_map.id",
                expected: id.into(),
                found: own_id.into(),
            });
        }
        let btf_at = map.pointer(&self.btf);
        let btf_id = match btf_at.get() {
            0 => None,
            _ => Some(btf.id(memory, btf_at).map_err(|fault| fault.cause)?),
        };
        Ok(MapInfo {
            id,
            name: map.text(&self.name),
            map_type: MapType(map.u32(&self.map_type)),
            key_size: map.u32(&self.key_size),
            value_size: map.u32(&self.value_size),
            max_entries: map.u32(&self.max_entries),
            flags: map.u32(&self.flags),
            map_extra: map.uint(&self.map_extra),
            btf_id,
            btf_key_type_id: map.u32(&self.btf_key_type_id),
            btf_value_type_id: map.u32(&self.btf_value_type_id),
            btf_vmlinux_value_type_id: map.u32(&self.btf_vmlinux_value_type_id),
            frozen: Some(map.uint(&self.frozen) != 0),
            memory: None,
            kva: Some(at),
        })
    }

    /// The `struct btf` of the map at `at`; 0 for none.
    pub(crate) fn btf_address(&self, memory: &dyn Memory<Kva>, at: Kva) -> Result<Kva, Error> {
        let map = Copied::object(memory, at, self.size, "struct bpf_map")?;
        Ok(map.pointer(&self.btf))
    }
}
