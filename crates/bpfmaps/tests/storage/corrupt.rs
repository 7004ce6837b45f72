//! Damaged local storages, and owners that cannot be named.

use bpfmaps::{MapType, Walk};
use guestmem::{Address, Kva};

use super::{NEXT, NONE, Storage, dentry, head, inode, storage, tmpfs};
use crate::fake::table::size_of;
use crate::fake::{MAP_VALUE_SIZE, Maps, on};
use crate::gaps;
use crate::objects::{at_member, entries};

const WILD: Kva = Kva::at(0xffff_c900_dead_0000);

/// Corrupts a storage of three tasks, two of them in bucket 3, and reads it.
fn corrupt(how: impl FnOnce(&mut Maps, &Storage)) -> (Vec<String>, Walk) {
    let mut maps = Maps::new();
    let tasks: Vec<Kva> = (1..=3).map(|pid| maps.task(pid, "t")).collect();
    let made = [
        (3, tasks[0], "first"),
        (1, tasks[1], "other"),
        (3, tasks[2], "third"),
    ];
    let storage = storage(&mut maps, MapType::TASK_STORAGE, &made);
    how(&mut maps, &storage);
    entries(&maps.finish(), 1)
}

#[test]
fn a_cycle_in_a_chain_is_a_gap() {
    let (found, walk) = corrupt(|maps, made| {
        maps.set(made.elements[0], NEXT, at_member(made.elements[2], NEXT));
    });
    assert!(found.len() >= 3 && found.len() < 10);
    assert_eq!(gaps(&walk), ["index 3: the chain of a bucket is a cycle"]);
}

#[test]
fn a_wild_link_costs_one_chain() {
    let (found, walk) = corrupt(|maps, made| maps.set(made.elements[2], NEXT, WILD));
    assert_eq!((found.len(), walk.gaps.len()), (2, 1));
    assert!(gaps(&walk)[0].contains("page not present"), "{walk:?}");
    let (found, walk) = corrupt(|maps, made| {
        maps.machine.place_u64(head(made.buckets, 3), WILD.get());
    });
    assert_eq!((found.len(), walk.gaps.len()), (1, 1));
}

#[test]
fn an_element_of_another_map_is_a_gap() {
    let (found, walk) = corrupt(|maps, made| {
        maps.set(made.elements[2], "bpf_local_storage_elem.sdata.smap", WILD);
    });
    assert_eq!(found, ["task 2 1000 t = other"]);
    let gap = gaps(&walk).remove(0);
    assert!(
        gap.contains("bpf_local_storage_data.smap: expected"),
        "{gap}"
    );
}

#[test]
fn absurd_numbers_are_gaps() {
    for (bits, expected) in [
        (
            28,
            "map: number of buckets 0x10000000 is more than memory holds",
        ),
        (
            60,
            "map: bpf_local_storage_map.bucket_log 0x3c is more than memory holds",
        ),
    ] {
        let (found, walk) = corrupt(|maps, made| {
            maps.set(made.map, "bpf_local_storage_map.bucket_log", bits);
        });
        assert!(found.len() < 100, "{found:?}");
        assert_eq!(gaps(&walk)[0], expected);
    }
    let (found, walk) = corrupt(|maps, made| {
        let at = on(made.map, MAP_VALUE_SIZE);
        maps.machine.place(at, &u32::MAX.to_le_bytes());
    });
    assert!(found.is_empty());
    let expected = "map: elements of a bpf_local_storage_map 0x0 is more than memory holds";
    assert_eq!(gaps(&walk), [expected]);
    let (found, walk) = corrupt(|maps, made| {
        maps.set(made.map, "bpf_local_storage_map.buckets", WILD);
    });
    assert!(found.is_empty());
    assert_eq!(gaps(&walk), ["indices 0 to 3: page not present at level 4"]);
}

/// The value is there, though whose it is cannot be told.
#[test]
fn an_owner_that_is_nowhere_has_no_name() {
    for owner in [WILD, NONE] {
        let mut maps = Maps::new();
        storage(&mut maps, MapType::TASK_STORAGE, &[(0, owner, "value")]);
        let (found, walk) = entries(&maps.finish(), 1);
        assert_eq!(found, ["task ? ? ? = value"]);
        assert_eq!(walk.gaps.len(), 1, "{walk:?}");
    }
    for storage in [WILD, NONE] {
        let (found, walk) = corrupt(|maps, made| {
            let member = "bpf_local_storage_elem.local_storage";
            maps.set(made.elements[1], member, storage);
        });
        assert_eq!(found[0], "task ? ? ? = other");
        assert_eq!((found.len(), walk.gaps.len()), (3, 1), "{walk:?}");
    }
}

/// Reads the storage of an inode that has been damaged.
fn damaged_inode(damage: impl FnOnce(&mut Maps, Kva, Kva, Kva)) -> (String, Vec<String>) {
    let mut maps = Maps::new();
    let (block, root) = tmpfs(&mut maps);
    let folder = dentry(&mut maps, "run", root);
    let name = dentry(&mut maps, "file", folder);
    let owner = inode(&mut maps, block, Some(name));
    damage(&mut maps, owner, block, folder);
    storage(&mut maps, MapType::INODE_STORAGE, &[(0, owner, "value")]);
    let (mut found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found.len(), 1);
    (found.remove(0), gaps(&walk))
}

#[test]
fn a_damaged_inode_lacks_the_damaged_part_only() {
    let (found, gaps) = damaged_inode(|maps, inode, _, _| maps.set(inode, "inode.i_sb", WILD));
    assert_eq!((found.as_str(), gaps.len()), ("inode 77 ? ? ? = value", 1));
    let (found, gaps) = damaged_inode(|maps, _, block, _| {
        maps.set(block, "super_block.s_type", NONE);
    });
    assert_eq!(found, "inode 77 vda1 ? /run/file = value");
    assert_eq!(gaps, ["0x10: page not present at level 4"]);
    let (found, gaps) = damaged_inode(|maps, inode, _, _| {
        maps.set(inode, "inode.i_dentry.first", WILD);
    });
    assert_eq!(
        (found.as_str(), gaps.len()),
        ("inode 77 vda1 tmpfs ? = value", 1)
    );
}

#[test]
fn a_path_without_an_end_is_a_gap() {
    let nameless = "inode 77 vda1 tmpfs ? = value";
    let (found, gaps) = damaged_inode(|maps, _, _, folder| {
        let below = dentry(maps, "loop", folder);
        maps.set(folder, "dentry.d_parent", below);
    });
    assert_eq!(found, nameless);
    assert!(
        gaps[0].ends_with("the parents of a dentry is a cycle"),
        "{gaps:?}"
    );
    let (found, gaps) = damaged_inode(|maps, _, _, folder| {
        maps.set(folder, "dentry.d_name.len", 0xffff_ffff);
    });
    assert_eq!(found, nameless);
    assert!(gaps[0].ends_with("length of a file's name 0xffffffff is more than memory holds"));
    let (found, gaps) = damaged_inode(|maps, _, _, folder| {
        maps.set(folder, "dentry.d_name.name", WILD);
    });
    assert_eq!(found, nameless);
    assert_eq!(gaps, ["0xffffc900dead0000: page not present at level 4"]);
    // More folders inside of each other than a path can name.
    let (found, gaps) = damaged_inode(|maps, _, _, folder| {
        let name = "x".repeat(255);
        let mut below = folder;
        for _ in 0..300 {
            below = dentry(maps, &name, below);
        }
        maps.set(folder, "dentry.d_parent", below);
    });
    assert_eq!(found, nameless);
    assert!(gaps[0].contains("length of a path"), "{gaps:?}");
}

/// Many inodes that all have the same deep path cost no more steps than
/// memory has pointers, as no sound kernel needs.
#[test]
fn paths_cost_no_more_than_memory_has() {
    const DEPTH: u64 = 8000;
    let mut maps = Maps::new();
    let (block, root) = tmpfs(&mut maps);
    let name = maps.text("x");
    let size = size_of("dentry");
    let bytes = vec![1; usize::try_from(DEPTH * size).unwrap()];
    let dentries = maps.machine.allocate(&bytes);
    for depth in 0..DEPTH {
        let at = on(dentries, depth * size);
        let parent = depth.checked_sub(1).map(|above| on(dentries, above * size));
        maps.set(at, "dentry.d_parent", parent.unwrap_or(root));
        maps.set(at, "dentry.d_name.name", name);
        maps.set(at, "dentry.d_name.len", 1);
    }
    let deepest = on(dentries, (DEPTH - 1) * size);
    let owner = inode(&mut maps, block, Some(deepest));
    storage(
        &mut maps,
        MapType::INODE_STORAGE,
        &[(0, owner, "value"); 200],
    );
    let guest = maps.finish();
    let memory = guest.machine().space().physical().size();
    assert!(200 * DEPTH > memory / 8, "the test is too small");
    let (found, walk) = entries(&guest, 1);
    let named = found.iter().filter(|words| words.contains("/x/x")).count() as u64;
    assert!(found.len() == 200 && named > 0 && named * DEPTH <= memory / 8);
    let gap = gaps(&walk).remove(0);
    assert!(gap.contains("number of names in all paths"), "{gap}");
}
