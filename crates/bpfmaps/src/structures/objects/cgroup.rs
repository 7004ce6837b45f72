//! Control groups, by the kernfs nodes that stand for them.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::Names;
use super::path::{self, Up};
use crate::structures::fields::Fields;
use crate::walk::Walk;
use crate::{Object, ObjectKind};

/// Where the members that name a control group are.
#[derive(Debug)]
pub(crate) struct CgroupNames {
    node: Member,
    id: Member,
    owner: Member,
    parent: Member,
    name: Member,
}

impl CgroupNames {
    pub(crate) fn new(btf: &Btf) -> Result<Self, Error> {
        let node = btf.record("kernfs_node")?;
        Ok(Self {
            node: btf.record("cgroup")?.member("kn")?,
            id: node.member("id")?,
            owner: node.member("priv")?,
            // Renamed when it came under RCU in 6.15 (633488947ef6).
            parent: node.member_any(&["__parent", "parent"])?,
            name: node.member("name")?,
        })
    }

    /// Whether there is a control group at `at` that has the id `id`. Says no
    /// to memory that cannot be read.
    pub(crate) fn is(&self, memory: &dyn Memory<Kva>, at: Kva, id: u64) -> bool {
        let probe = &mut Walk::default();
        let node = Fields::load(memory, Some(at), &[&self.node], probe).address(&self.node);
        let node = Fields::load(memory, node, &[&self.id, &self.owner], probe);
        node.uint(&self.id) == Some(id) && node.address(&self.owner) == Some(at)
    }

    fn path(&self, memory: &dyn Memory<Kva>, node: Kva, walk: &mut Walk) -> Option<String> {
        path::climb(
            "the parents of a kernfs node",
            node,
            walk,
            &mut |at, walk| {
                let node = Fields::load(memory, Some(at), &[&self.parent, &self.name], walk);
                let parent = node.address(&self.parent)?;
                if parent == Kva::at(0) {
                    return Some(Up::Root);
                }
                let name = node.address(&self.name)?;
                Some(Up::Name(path::name(memory, name, None, walk)?, parent))
            },
        )
    }
}

impl Names for CgroupNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let node = Fields::load(memory, at, &[&self.node], walk).address(&self.node);
        let id = Fields::load(memory, node, &[&self.id], walk).uint(&self.id);
        Object {
            kva: at,
            kind: ObjectKind::Cgroup {
                id,
                path: node.and_then(|node| self.path(memory, node, walk)),
            },
        }
    }
}
