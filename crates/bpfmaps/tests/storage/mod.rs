//! Maps of storages: what belongs to whom reads back; what is corrupt is a
//! gap.

mod cgroups;
mod corrupt;

use bpfmaps::MapType;
use guestmem::{Address, Kva};

use crate::fake::table::size_of;
use crate::fake::{Maps, Shape, on};
use crate::objects::{at_member, entries};

const NONE: Kva = Kva::at(0);

/// Bytes of a value.
const VALUE: usize = 5;

const NEXT: &str = "bpf_local_storage_elem.map_node.next";

/// A local storage with the id 1 and 4 buckets.
struct Storage {
    map: Kva,
    buckets: Kva,
    elements: Vec<Kva>,
}

/// A storage of values for these (bucket, owner, value).
fn storage(maps: &mut Maps, map_type: MapType, entries: &[(u64, Kva, &str)]) -> Storage {
    let shape = Shape {
        map_type,
        key_size: 4,
        value_size: u32::try_from(VALUE).unwrap(),
        max_entries: 0,
    };
    let map = maps.map(1, "storage", shape, size_of("bpf_local_storage_map"));
    let buckets = maps.machine.allocate(&[0; 4 * 24]);
    maps.set(map, "bpf_local_storage_map.buckets", buckets);
    maps.set(map, "bpf_local_storage_map.bucket_log", 2);
    let mut firsts = [NONE; 4];
    let mut elements = Vec::new();
    for &(bucket, owner, value) in entries {
        let owner = maps.object("bpf_local_storage", &[("owner", owner.into())]);
        let first = &mut firsts[usize::try_from(bucket).unwrap()];
        let fields = [
            ("map_node.next", (*first).into()),
            ("local_storage", owner.into()),
            ("sdata.smap", map.into()),
        ];
        let element = maps.object_and("bpf_local_storage_elem", &fields, value.as_bytes());
        *first = at_member(element, NEXT);
        maps.machine.place_u64(head(buckets, bucket), first.get());
        elements.push(element);
    }
    Storage {
        map,
        buckets,
        elements,
    }
}

/// Where a bucket has the pointer to its first node.
fn head(buckets: Kva, index: u64) -> Kva {
    let bucket = on(buckets, index * size_of("bpf_local_storage_map_bucket"));
    at_member(bucket, "bpf_local_storage_map_bucket.list.first")
}

/// Reads a storage with one entry, whose owner `make` makes.
fn check(map_type: MapType, make: impl FnOnce(&mut Maps) -> Kva, expected: &str) {
    check_without(&[], map_type, make, expected);
}

/// The same in a kernel whose BTF lacks something.
fn check_without(
    missing: &[&str],
    map_type: MapType,
    make: impl FnOnce(&mut Maps) -> Kva,
    expected: &str,
) {
    let mut maps = Maps::without(missing);
    let owner = make(&mut maps);
    storage(&mut maps, map_type, &[(2, owner, "value")]);
    let (found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found, [format!("{expected} = value")], "{map_type}");
    assert!(walk.is_complete(), "{map_type}: {walk:?}");
}

#[test]
fn values_of_tasks_sockets_and_cgroups_read_back() {
    check(
        MapType::TASK_STORAGE,
        |maps| maps.task(1001, "kworker/0:1"),
        "task 1001 1000 kworker/0:1",
    );
    check(
        MapType::SK_STORAGE,
        |maps| maps.udp(53, 7),
        "inet dgram udp at 0.0.0.0:53 cookie 7",
    );
    let cgroup = |maps: &mut Maps| {
        let root = maps.kernfs_node(1, "", NONE);
        let inside = maps.kernfs_node(0x1_0000_0002, "in\nside", root);
        maps.cgroup(inside)
    };
    let named = "cgroup 4294967298 /in\u{fffd}side";
    check(MapType::CGRP_STORAGE, cgroup, named);
}

#[test]
fn several_in_several_buckets_read_back() {
    let mut maps = Maps::new();
    let tasks: Vec<Kva> = (1..=3).map(|pid| maps.task(pid, "t")).collect();
    let made = [
        (3, tasks[0], "first"),
        (1, tasks[1], "other"),
        (3, tasks[2], "third"),
    ];
    storage(&mut maps, MapType::TASK_STORAGE, &made);
    let (found, walk) = entries(&maps.finish(), 1);
    let expected = ["2 1000 t = other", "3 1000 t = third", "1 1000 t = first"];
    assert_eq!(found, expected.map(|words| format!("task {words}")));
    assert!(walk.is_complete(), "{walk:?}");
}

/// A file system: its super block and its root.
pub(super) fn tmpfs(maps: &mut Maps) -> (Kva, Kva) {
    let name = maps.text("tmpfs");
    let fs = maps.object("file_system_type", &[("name", name.into())]);
    let fields = [("s_type", fs.into()), ("s_id", "vda1".into())];
    let block = maps.object("super_block", &fields);
    let root = dentry(maps, "/", NONE);
    maps.set(root, "dentry.d_parent", root);
    maps.set(root, "dentry.d_hash.pprev", 0);
    maps.set(block, "super_block.s_root", root);
    (block, root)
}

/// A name that is in the tree.
pub(super) fn dentry(maps: &mut Maps, name: &str, parent: Kva) -> Kva {
    let at = maps.text(name);
    let fields = [
        ("d_hash.pprev", 0x1000.into()),
        ("d_parent", parent.into()),
        ("d_name.name", at.into()),
        ("d_name.len", (name.len() as u64).into()),
    ];
    maps.object("dentry", &fields)
}

/// The inode 77 under the name `dentry`, if it has one.
pub(super) fn inode(maps: &mut Maps, block: Kva, dentry: Option<Kva>) -> Kva {
    let alias = dentry.map_or(NONE, |dentry| at_member(dentry, "dentry.d_u.d_alias"));
    let fields = [
        ("i_ino", 77.into()),
        ("i_sb", block.into()),
        ("i_dentry.first", alias.into()),
    ];
    maps.object("inode", &fields)
}

#[test]
fn inodes_have_the_path_of_their_first_name() {
    let file = |maps: &mut Maps| {
        let (block, root) = tmpfs(maps);
        let folder = dentry(maps, "run", root);
        let name = dentry(maps, "a file", folder);
        inode(maps, block, Some(name))
    };
    let named = "inode 77 vda1 tmpfs /run/a file";
    check(MapType::INODE_STORAGE, file, named);
    let root = |maps: &mut Maps| {
        let (block, root) = tmpfs(maps);
        inode(maps, block, Some(root))
    };
    check(MapType::INODE_STORAGE, root, "inode 77 vda1 tmpfs /");
    let nameless = |maps: &mut Maps| {
        let (block, _) = tmpfs(maps);
        inode(maps, block, None)
    };
    check(MapType::INODE_STORAGE, nameless, "inode 77 vda1 tmpfs ?");
    let deleted = |maps: &mut Maps| {
        let (block, root) = tmpfs(maps);
        let name = dentry(maps, "gone", root);
        maps.set(name, "dentry.d_hash.pprev", 0);
        inode(maps, block, Some(name))
    };
    let named = "inode 77 vda1 tmpfs /gone (deleted)";
    check(MapType::INODE_STORAGE, deleted, named);
    // A name that is in no tree, as those of a memfd are.
    let alone = |maps: &mut Maps| {
        let (block, _) = tmpfs(maps);
        let name = dentry(maps, "memfd:x", NONE);
        maps.set(name, "dentry.d_parent", name);
        inode(maps, block, Some(name))
    };
    check(MapType::INODE_STORAGE, alone, "inode 77 vda1 tmpfs ?");
}

/// Members that have other names in other kernels.
#[test]
fn members_are_found_under_their_other_names() {
    let cgroup = |maps: &mut Maps| {
        let root = maps.kernfs_node(1, "", NONE);
        let inside = maps.kernfs_node(2, "inside", NONE);
        maps.set(inside, "kernfs_node.__parent", root);
        maps.cgroup(inside)
    };
    let missing = &["kernfs_node.parent"];
    check_without(missing, MapType::CGRP_STORAGE, cgroup, "cgroup 2 /inside");
    let file = |maps: &mut Maps| {
        let (block, root) = tmpfs(maps);
        let name = dentry(maps, "file", root);
        let inode = inode(maps, block, None);
        let alias = at_member(name, "dentry.d_alias");
        maps.set(inode, "inode.i_dentry.first", alias);
        inode
    };
    let missing = &["dentry.d_u.d_alias"];
    let named = "inode 77 vda1 tmpfs /file";
    check_without(missing, MapType::INODE_STORAGE, file, named);
}
