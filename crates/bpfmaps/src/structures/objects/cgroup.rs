//! Control groups, by the kernfs nodes that stand for them.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::Names;
use super::path::{self, Up, Ways};
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
    flags: Member,
    parents: Ways,
}

/// `CSS_ONLINE`, of an enum without a name in `include/linux/cgroup-defs.h`.
const ONLINE: u64 = 1 << 1;

impl CgroupNames {
    pub(crate) fn new(btf: &Btf, memory_size: u64) -> Result<Self, Error> {
        let cgroup = btf.record("cgroup")?;
        let node = btf.record("kernfs_node")?;
        Ok(Self {
            node: cgroup.member("kn")?,
            flags: cgroup.member("self.flags")?,
            id: node.member("id")?,
            owner: node.member("priv")?,
            // Renamed between 6.12 and 6.18, when RCU came to protect it.
            parent: node.member_any(&["__parent", "parent"])?,
            name: node.member("name")?,
            parents: Ways::new("the parents of a kernfs node", memory_size),
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
        self.parents.path(node, walk, &mut |at, walk| {
            let node = Fields::load(memory, Some(at), &[&self.parent, &self.name], walk);
            let parent = node.address(&self.parent)?;
            if parent == Kva::at(0) {
                return Some(Up::Root);
            }
            let name = node.address(&self.name)?;
            Some(Up::Name(path::name(memory, name, None, walk)?, parent))
        })
    }
}

impl Names for CgroupNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let cgroup = Fields::load(memory, at, &[&self.node, &self.flags], walk);
        let node = cgroup.address(&self.node);
        let id = Fields::load(memory, node, &[&self.id], walk).uint(&self.id);
        let mut path = node.and_then(|node| self.path(memory, node, walk));
        // As the kernel marks it (`proc_cgroup_show`).
        if let (Some(path), Some(flags)) = (&mut path, cgroup.uint(&self.flags))
            && flags & ONLINE == 0
        {
            path.push_str(" (deleted)");
        }
        Object {
            kva: at,
            kind: ObjectKind::Cgroup { id, path },
        }
    }
}
