//! Data sections: the variables of programs.

use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, Entry, MapInfo};
use btf_layout::{Btf, Kind, TypeId};
use sdt_alloc::{ALLOCATORS, DEFERRED, Instance, OTHERS, instances};

use super::globals;
use crate::walk::Causes;

/// The variables of a section that concern arenas.
pub(super) struct Section {
    pub(super) map: u32,
    pub(super) btf_id: u32,
    pub(super) btf: Rc<Btf>,
    /// The arenas of the programs that use it.
    pub(super) arenas: Vec<u32>,
    bytes: Vec<u8>,
    instances: Vec<Instance>,
}

impl Section {
    /// Reads the map's only value, if it is a section that has any.
    pub(super) fn read(
        accessor: &dyn BpfMapAccessor,
        map: &MapInfo,
        arenas: Vec<u32>,
    ) -> Result<Option<Self>, String> {
        let Some(btf_id) = map.btf_id.filter(|_| map.btf_value_type_id != 0) else {
            return Ok(None);
        };
        let btf = accessor
            .btf(map)
            .map_err(|error| Causes(&error).to_string())?;
        let Some(btf) = btf else {
            return Ok(None);
        };
        let ty = TypeId(map.btf_value_type_id);
        let kind = btf.get(ty).map_err(|error| error.to_string())?.kind();
        if kind != Kind::Datasec {
            return Ok(None);
        }
        let names: Vec<&'static str> = ALLOCATORS
            .into_iter()
            .chain(OTHERS)
            .chain([DEFERRED])
            .collect();
        let instances = instances(&btf, ty, &names).map_err(|error| error.to_string())?;
        if instances.is_empty() && globals::section(&btf).is_none() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let walk = accessor.entries(map, &mut |entry| {
            if let Entry::KeyValue { value, .. } = entry {
                bytes = value.present.to_vec();
            }
            ControlFlow::Break(())
        });
        let walk = walk.map_err(|error| Causes(&error).to_string())?;
        if let Some(gap) = walk.gaps.first() {
            return Err(gap.to_string());
        }
        Ok(Some(Self {
            map: map.id,
            btf_id,
            btf,
            arenas,
            bytes,
            instances,
        }))
    }

    fn bytes_of(&self, instance: &Instance) -> &[u8] {
        let at = usize::try_from(instance.offset).unwrap_or(usize::MAX);
        self.bytes.get(at..).unwrap_or_default()
    }

    /// The allocators, and the bytes from each on.
    pub(super) fn allocators(&self) -> impl Iterator<Item = (&Instance, &[u8])> {
        let found = self.instances.iter();
        let found = found.filter(|found| !found.is_pointer && ALLOCATORS.contains(&found.name));
        found.map(|found| (found, self.bytes_of(found)))
    }

    /// The lists of slots that wait for being freed.
    pub(super) fn deferred(&self) -> impl Iterator<Item = (&Instance, &[u8])> {
        let found = self.instances.iter();
        let found = found.filter(|found| found.name == DEFERRED && !found.is_pointer);
        found.map(|found| (found, self.bytes_of(found)))
    }

    /// What else tells of an arena's memory.
    pub(super) fn others(&self) -> impl Iterator<Item = (&Instance, &[u8])> {
        let found = self.instances.iter();
        let found = found.filter(|found| OTHERS.contains(&found.name));
        found.map(|found| (found, self.bytes_of(found)))
    }
}
