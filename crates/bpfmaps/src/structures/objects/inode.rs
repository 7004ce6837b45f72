//! Inodes, by number, file system and path.

use btf_layout::{Btf, Error, Member};
use guestmem::{Kva, Memory};

use super::Names;
use super::path::{self, Up, Ways};
use crate::structures::fields::Fields;
use crate::structures::place;
use crate::walk::Walk;
use crate::{Object, ObjectKind};

/// Where the members that name an inode are.
#[derive(Debug)]
pub(crate) struct InodeNames {
    ino: Member,
    super_block: Member,
    first_alias: Member,
    device: Member,
    fs: Member,
    root: Member,
    fs_name: Member,
    alias: Member,
    hashed: Member,
    parent: Member,
    name: Member,
    name_len: Member,
    parents: Ways,
}

impl InodeNames {
    pub(crate) fn new(btf: &Btf, memory_size: u64) -> Result<Self, Error> {
        let inode = btf.record("inode")?;
        let super_block = btf.record("super_block")?;
        let dentry = btf.record("dentry")?;
        Ok(Self {
            ino: inode.member("i_ino")?,
            super_block: inode.member("i_sb")?,
            first_alias: inode.member("i_dentry.first")?,
            device: super_block.member("s_id")?,
            fs: super_block.member("s_type")?,
            root: super_block.member("s_root")?,
            fs_name: btf.record("file_system_type")?.member("name")?,
            // The union around it has a name in 6.18, and none in 7.2.
            alias: dentry.member_any(&["d_alias", "d_u.d_alias"])?,
            hashed: dentry.member("d_hash.pprev")?,
            parent: dentry.member("d_parent")?,
            name: dentry.member("d_name.name")?,
            name_len: dentry.member("d_name.len")?,
            parents: Ways::new("the parents of a dentry", memory_size),
        })
    }

    /// The path of the dentry at `start` below the one at `root`. Dentries of
    /// what has no path, such as a `memfd`, lead to no root or another one.
    fn path(
        &self,
        memory: &dyn Memory<Kva>,
        start: Kva,
        root: Kva,
        walk: &mut Walk,
    ) -> Option<String> {
        let mut unlinked = None;
        let path = self.parents.path(start, walk, &mut |at, walk| {
            let members = [&self.hashed, &self.parent, &self.name, &self.name_len];
            let dentry = Fields::load(memory, Some(at), &members, walk);
            unlinked.get_or_insert(dentry.uint(&self.hashed)? == 0);
            if at == root {
                return Some(Up::Root);
            }
            let parent = dentry
                .address(&self.parent)
                .filter(|&parent| parent != at)?;
            let name = dentry.address(&self.name)?;
            let len = dentry.uint(&self.name_len);
            Some(Up::Name(path::name(memory, name, len, walk)?, parent))
        })?;
        // As the kernel marks it (`d_path`).
        match unlinked {
            Some(true) if start != root => Some(path + " (deleted)"),
            _ => Some(path),
        }
    }
}

impl Names for InodeNames {
    fn object(&self, memory: &dyn Memory<Kva>, at: Option<Kva>, walk: &mut Walk) -> Object {
        let members = [&self.ino, &self.super_block, &self.first_alias];
        let inode = Fields::load(memory, at, &members, walk);
        let members = [&self.device, &self.fs, &self.root];
        let block = Fields::load(memory, inode.address(&self.super_block), &members, walk);
        let fs = Fields::load(memory, block.address(&self.fs), &[&self.fs_name], walk);
        let fs = fs.address(&self.fs_name);
        let alias = inode.pointer(&self.first_alias);
        let dentry = alias.map(|node| place::container(node, self.alias.offset));
        let root = block.address(&self.root);
        let path = dentry
            .zip(root)
            .and_then(|(dentry, root)| self.path(memory, dentry, root, walk));
        Object {
            kva: at,
            kind: ObjectKind::Inode {
                ino: inode.uint(&self.ino),
                device: block.text(&self.device),
                fs: fs.and_then(|name| path::name(memory, name, None, walk)),
                path,
            },
        }
    }
}
