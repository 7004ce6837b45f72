//! Storages of control groups by attached programs.

use bpfmaps::{MapType, Walk};
use guestmem::{Address, Kva};

use super::NONE;
use crate::fake::table::size_of;
use crate::fake::{CPU_OFFSETS, Maps, Shape, on};
use crate::gaps;
use crate::objects::{at_member, entries};

const MAP_NEXT: &str = "bpf_cgroup_storage.list_map.next";
const CGROUP_NEXT: &str = "bpf_cgroup_storage.list_cg.next";

/// A map with the id 1, an element for the cgroup 9 and two for the cgroup
/// 27, of which the second is attached otherwise.
struct Made {
    maps: Maps,
    map: Kva,
    elements: Vec<Kva>,
}

fn make(map_type: MapType, key_size: u32, buffers: [Kva; 3], mut maps: Maps) -> Made {
    let shape = Shape {
        map_type,
        key_size,
        value_size: 5,
        max_entries: 0,
    };
    let map = maps.map(1, "storage", shape, size_of("bpf_cgroup_storage_map"));
    let root = maps.kernfs_node(1, "", NONE);
    let (a, b) = (
        maps.kernfs_node(9, "a", root),
        maps.kernfs_node(27, "b", root),
    );
    let (a, b) = (maps.cgroup(a), maps.cgroup(b));
    let mut elements = Vec::new();
    for ((cgroup, id, kind), buffer) in [(a, 9, 1), (b, 27, 1), (b, 27, 2)].into_iter().zip(buffers)
    {
        let key: Vec<u8> = [id, 0, 0, 0, 0, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0].to_vec();
        let head = at_member(cgroup, "cgroup.bpf.storages");
        let fields = [
            ("buf", buffer.into()),
            ("map", map.into()),
            ("key", key.as_slice().into()),
            ("list_cg.next", head.into()),
        ];
        elements.push(maps.object("bpf_cgroup_storage", &fields));
    }
    // The second's list leads through the third, and both to their cgroup.
    maps.set(
        elements[1],
        CGROUP_NEXT,
        at_member(elements[2], CGROUP_NEXT),
    );
    let head = at_member(map, "bpf_cgroup_storage_map.list.next");
    let mut link = head;
    for &element in &elements {
        let node = at_member(element, MAP_NEXT);
        maps.machine.place_u64(link, node.get());
        link = node;
    }
    maps.machine.place_u64(link, head.get());
    Made {
        maps,
        map,
        elements,
    }
}

fn shared(key_size: u32) -> Made {
    let mut maps = Maps::new();
    let buffers = ["first", "other", "third"]
        .map(|value| maps.object_and("bpf_storage_buffer", &[], value.as_bytes()));
    make(MapType::CGROUP_STORAGE, key_size, buffers, maps)
}

const KEYS: [&str; 3] = [
    "9, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0",
    "1b, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0",
    "1b, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0",
];

#[test]
fn values_of_cgroups_read_back() {
    let (found, walk) = entries(&shared(16).maps.finish(), 1);
    let expected = [
        format!("cgroup 9 /a [{}] = first", KEYS[0]),
        format!("cgroup 27 /b [{}] = other", KEYS[1]),
        format!("cgroup 27 /b [{}] = third", KEYS[2]),
    ];
    assert_eq!(found, expected);
    assert!(walk.is_complete(), "{walk:?}");
    // Keys that are the id alone.
    let (found, _) = entries(&shared(8).maps.finish(), 1);
    assert_eq!(found[0], "cgroup 9 /a [9, 0, 0, 0, 0, 0, 0, 0] = first");
}

#[test]
fn values_for_each_cpu_read_back() {
    let mut maps = Maps::new();
    let pointer = 0xffff_ffff_8700_0000u64;
    for (cpu, offset) in CPU_OFFSETS {
        let value = format!("cpu {cpu}");
        maps.machine
            .place(Kva::new(pointer + offset), value.as_bytes());
    }
    let buffers = [Kva::new(pointer); 3];
    let made = make(MapType::PERCPU_CGROUP_STORAGE, 16, buffers, maps);
    let (found, walk) = entries(&made.maps.finish(), 1);
    let expected = format!("cgroup 9 /a [{}] = 0 cpu 0, 3 cpu 3", KEYS[0]);
    assert_eq!((found.len(), &found[0]), (3, &expected));
    assert!(walk.is_complete(), "{walk:?}");
}

/// Corrupts such a map and reads it.
fn corrupt(how: impl FnOnce(&mut Made)) -> (Vec<String>, Walk) {
    let mut made = shared(16);
    how(&mut made);
    entries(&made.maps.finish(), 1)
}

const WILD: u64 = 0xffff_c900_dead_0000;

#[test]
fn a_cgroup_that_is_not_found_has_its_id() {
    // A list that does not lead to the cgroup, and one that leads nowhere.
    let element = format!("cgroup 9 ? [{}] = first", KEYS[0]);
    let (found, walk) = corrupt(|made| {
        let own = at_member(made.elements[0], CGROUP_NEXT);
        made.maps.set(made.elements[0], CGROUP_NEXT, own);
    });
    assert_eq!((found.len(), &found[0]), (3, &element));
    assert!(gaps(&walk)[0].ends_with("the list of a cgroup's storages is a cycle"));
    let (found, walk) = corrupt(|made| made.maps.set(made.elements[0], CGROUP_NEXT, WILD));
    assert_eq!((found.len(), &found[0]), (3, &element));
    assert!(gaps(&walk)[0].contains("page not present"), "{walk:?}");
}

#[test]
fn a_broken_list_ends_in_a_gap() {
    let (found, walk) = corrupt(|made| {
        let first = at_member(made.elements[0], MAP_NEXT);
        made.maps.set(made.elements[2], MAP_NEXT, first);
    });
    assert!(found.len() >= 3 && found.len() < 10);
    let cycle = "map: the list of a bpf_cgroup_storage_map is a cycle";
    assert_eq!(gaps(&walk), [cycle]);
    let (found, walk) = corrupt(|made| made.maps.set(made.elements[1], MAP_NEXT, WILD));
    assert_eq!((found.len(), walk.gaps.len()), (2, 1));
    assert!(gaps(&walk)[0].contains("page not present"), "{walk:?}");
    let (found, walk) = corrupt(|made| {
        made.maps
            .set(made.elements[1], "bpf_cgroup_storage.map", WILD);
    });
    assert_eq!(found.len(), 1);
    assert!(
        gaps(&walk)[0].contains("bpf_cgroup_storage.map: expected"),
        "{walk:?}"
    );
}

#[test]
fn buffers_that_are_nowhere_and_sizes_that_cannot_be_are_gaps() {
    let (found, walk) = corrupt(|made| {
        made.maps
            .set(made.elements[0], "bpf_cgroup_storage.buf", WILD);
    });
    let element = format!("cgroup 9 /a [{}] = …", KEYS[0]);
    assert_eq!((found.len(), &found[0], walk.gaps.len()), (3, &element, 1));
    let (found, walk) = corrupt(|made| {
        let at = on(made.map, crate::fake::MAP_KEY_SIZE);
        made.maps.machine.place(at, &17u32.to_le_bytes());
    });
    assert!(found.is_empty());
    assert_eq!(
        gaps(&walk),
        ["map: bpf_map.key_size: expected 0x10, found 0x11"]
    );
    let (found, walk) = corrupt(|made| {
        let at = on(made.map, crate::fake::MAP_VALUE_SIZE);
        made.maps.machine.place(at, &u32::MAX.to_le_bytes());
    });
    assert!(found.is_empty());
    assert!(
        gaps(&walk)[0].ends_with("is more than memory holds"),
        "{walk:?}"
    );
}
