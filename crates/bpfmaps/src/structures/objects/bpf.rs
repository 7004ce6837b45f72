//! BPF programs and maps, in brief.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::Names;
use crate::structures::fields::Fields;
use crate::walk::Walk;
use crate::{MapType, Object, ObjectKind, ProgRef, ProgType};

/// Where the members that name a program are.
#[derive(Debug)]
pub(crate) struct ProgNames {
    prog_type: Member,
    aux: Member,
    id: Member,
    name: Member,
}

impl ProgNames {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let prog = btf.record("bpf_prog")?;
        let aux = btf.record("bpf_prog_aux")?;
        Ok(Self {
            prog_type: prog.member("type")?,
            aux: prog.member("aux")?,
            id: aux.member("id")?,
            name: aux.member("name")?,
        })
    }

    /// The program at `at`, if its id can be read.
    pub(crate) fn brief(
        &self,
        memory: &dyn Memory<Kva>,
        at: Option<Kva>,
        walk: &mut Walk,
    ) -> Option<ProgRef> {
        match self.object(memory, at, walk).kind {
            ObjectKind::Prog {
                id: Some(id), name, ..
            } => Some(ProgRef { id, name }),
            _ => None,
        }
    }
}

impl Names for ProgNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let prog = Fields::load(memory, at, &[&self.prog_type, &self.aux], walk);
        let aux = prog.address(&self.aux);
        let aux = Fields::load(memory, aux, &[&self.id, &self.name], walk);
        Object {
            kva: at,
            kind: ObjectKind::Prog {
                id: aux.u32(&self.id),
                name: aux.text(&self.name),
                prog_type: prog.u32(&self.prog_type).map(ProgType),
            },
        }
    }
}

/// Where the members that name a map are.
#[derive(Debug)]
pub(crate) struct MapNames {
    id: Member,
    name: Member,
    map_type: Member,
}

impl MapNames {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let map = btf.record("bpf_map")?;
        Ok(Self {
            id: map.member("id")?,
            name: map.member("name")?,
            map_type: map.member("map_type")?,
        })
    }
}

impl Names for MapNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let map = Fields::load(memory, at, &[&self.id, &self.name, &self.map_type], walk);
        Object {
            kva: at,
            kind: ObjectKind::Map {
                id: map.u32(&self.id),
                name: map.text(&self.name),
                map_type: map.u32(&self.map_type).map(MapType),
            },
        }
    }
}
