//! Damaged maps of slots.

use bpfmaps::{MapType, Walk};
use guestmem::{Address, Kva};

use super::sockets::sockhash;
use super::{FREE, by_index, device_entry, devmap_hash, slots_of};
use crate::fake::{MAP_KEY_SIZE, MAP_VALUE_SIZE, Maps, Shape, on};
use crate::gaps;
use crate::objects::{at_member, entries};

const WILD: Kva = Kva::at(0xffff_c900_dead_0000);
const NOT_PRESENT: &str = "0xffffc900dead0000: page not present at level 4";

/// Where `max_entries` is in the made-up `struct bpf_map`.
const MAX_ENTRIES: u64 = 36;

const BY_INDEX: [MapType; 9] = [
    MapType::PROG_ARRAY,
    MapType::PERF_EVENT_ARRAY,
    MapType::CGROUP_ARRAY,
    MapType::ARRAY_OF_MAPS,
    MapType::DEVMAP,
    MapType::CPUMAP,
    MapType::XSKMAP,
    MapType::SOCKMAP,
    MapType::REUSEPORT_SOCKARRAY,
];

#[test]
fn a_wild_pointer_is_an_object_without_a_name_and_a_gap() {
    for map_type in BY_INDEX {
        let mut maps = Maps::new();
        by_index(&mut maps, map_type, 4, &[FREE, WILD, FREE]);
        let (found, walk) = entries(&maps.finish(), 1);
        assert_eq!(found.len(), 1, "{map_type}");
        assert!(found[0].starts_with("1: "), "{found:?}");
        assert!(
            found[0].contains('?') && !found[0].contains('='),
            "{found:?}"
        );
        let gap = gaps(&walk).remove(0);
        assert!(gap.starts_with("0xffffc900dead00"), "{map_type}: {gap}");
        assert_eq!(walk.gaps.len(), 1, "{map_type}: {walk:?}");
    }
}

/// What is unreadable behind a readable object leaves out its part only.
#[test]
fn a_wild_pointer_inside_of_an_object_leaves_its_part_out() {
    let check = |map_type, record: &str, fields: &[(&str, Kva)], expected: &str| {
        let mut maps = Maps::new();
        let object = maps.object(record, &[]);
        for &(member, at) in fields {
            maps.set(object, &format!("{record}.{member}"), at);
        }
        by_index(&mut maps, map_type, 4, &[object]);
        let (found, walk) = entries(&maps.finish(), 1);
        assert_eq!(found, [expected]);
        assert!(gaps(&walk)[0].starts_with("0xffffc900dead00"), "{walk:?}");
    };
    check(
        MapType::PROG_ARRAY,
        "bpf_prog",
        &[("aux", WILD)],
        "0: prog ? ? unspec",
    );
    check(
        MapType::CGROUP_ARRAY,
        "cgroup",
        &[("kn", WILD)],
        "0: cgroup ? ?",
    );
    check(
        MapType::PERF_EVENT_ARRAY,
        "bpf_event_entry",
        &[("event", WILD)],
        "0: perf_event ? ? ? ?",
    );
    let zeroes = "= [0, 0, 0, 0]";
    let device = format!("0: device ? ? {zeroes}");
    check(
        MapType::DEVMAP,
        "bpf_dtab_netdev",
        &[("dev", WILD)],
        &device,
    );
    let cpu = format!("0: cpu 0 0 {zeroes}");
    check(
        MapType::CPUMAP,
        "bpf_cpu_map_entry",
        &[("prog", WILD)],
        &cpu,
    );
}

#[test]
fn slots_that_are_nowhere_are_gaps() {
    for map_type in BY_INDEX {
        let mut maps = Maps::new();
        let (map, _) = by_index(&mut maps, map_type, 4, &[FREE; 3]);
        let (offset, elsewhere) = slots_of(map_type);
        if elsewhere {
            maps.machine.place_u64(on(map, offset), WILD.get());
            let (found, walk) = entries(&maps.finish(), 1);
            assert!(found.is_empty());
            let expected = ["indices 0 to 2: page not present at level 4"];
            assert_eq!(gaps(&walk), expected, "{map_type}");
        }
    }
}

#[test]
fn an_absurd_number_of_slots_is_cut_to_what_memory_holds() {
    for map_type in BY_INDEX {
        let mut maps = Maps::new();
        let (map, _) = by_index(&mut maps, map_type, 4, &[FREE; 3]);
        let many = 0xffff_ff00u32.to_le_bytes();
        maps.machine.place(on(map, MAX_ENTRIES), &many);
        // What lies behind the slots is taken for slots, as far as there is
        // any, and what is not there is one gap.
        let (found, walk) = entries(&maps.finish(), 1);
        let gaps = gaps(&walk);
        let absurd = "map: number of slots 0xffffff00 is more than memory holds";
        assert_eq!(gaps[0], absurd, "{map_type}");
        let last = gaps.last().unwrap();
        assert!(last.contains(": page not present"), "{last}");
        assert!(found.len() < 10 && gaps.len() < 100, "{gaps:?}");
    }
}

#[test]
fn an_entry_of_another_slot_is_a_gap() {
    let mut maps = Maps::new();
    let entry = device_entry(&mut maps, 3, FREE);
    by_index(&mut maps, MapType::DEVMAP, 4, &[entry]);
    let (found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found.len(), 1);
    let gap = gaps(&walk).remove(0);
    assert!(
        gap.ends_with("bpf_dtab_netdev.idx: expected 0x0, found 0x3"),
        "{gap}"
    );
}

#[test]
fn a_value_size_that_no_such_map_has_is_a_gap() {
    let mut maps = Maps::new();
    let prog = maps.prog(9, "tail");
    by_index(&mut maps, MapType::PROG_ARRAY, 5, &[prog]);
    let (found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found, ["0: prog 9 tail xdp"]);
    assert_eq!(
        gaps(&walk),
        ["map: bpf_map.value_size: expected 0x4, found 0x5"]
    );
}

/// Corrupts a hash of three devices, two of them in bucket 1, and reads it.
fn devices(corrupt: impl FnOnce(&mut Maps, Kva, Kva, &[Kva])) -> (Vec<String>, Walk) {
    let mut maps = Maps::new();
    let (map, heads, made) = devmap_hash(&mut maps, &[0x30, 0x31, 0x35]);
    corrupt(&mut maps, map, heads, &made);
    entries(&maps.finish(), 1)
}

/// The same with sockets.
fn sockets(corrupt: impl FnOnce(&mut Maps, Kva, Kva, &[Kva])) -> (Vec<String>, Walk) {
    let mut maps = Maps::new();
    let keys = [(0x30, "one"), (0x31, "two"), (0x35, "six")];
    let (map, buckets, made) = sockhash(&mut maps, &keys);
    corrupt(&mut maps, map, buckets, &made);
    entries(&maps.finish(), 1)
}

const DEVICE_NEXT: &str = "bpf_dtab_netdev.index_hlist.next";
const SOCKET_NEXT: &str = "bpf_shtab_elem.node.next";

#[test]
fn a_cycle_in_a_chain_is_a_gap() {
    let expected = ["index 1: the chain of a bucket is a cycle"];
    let (found, walk) = devices(|maps, _, _, made| {
        maps.set(made[1], DEVICE_NEXT, at_member(made[2], DEVICE_NEXT));
    });
    assert!(found.len() >= 3 && found.len() < 10);
    assert_eq!(gaps(&walk), expected);
    let (found, walk) = sockets(|maps, _, _, made| {
        maps.set(made[1], SOCKET_NEXT, at_member(made[1], SOCKET_NEXT));
    });
    assert!(found.len() >= 3 && found.len() < 10);
    assert_eq!(gaps(&walk), expected);
}

#[test]
fn a_wild_link_costs_one_chain() {
    // Nodes are inside of elements, which are before them.
    let (found, walk) = devices(|maps, _, heads, _| {
        maps.machine.place_u64(on(heads, 8), WILD.get() + 16);
    });
    assert_eq!(
        (found.len(), gaps(&walk)),
        (1, vec![NOT_PRESENT.to_owned()])
    );
    let (found, walk) = sockets(|maps, _, _, made| {
        maps.set(made[2], SOCKET_NEXT, WILD.get() + 24);
    });
    assert_eq!(
        (found.len(), gaps(&walk)),
        (2, vec![NOT_PRESENT.to_owned()])
    );
    // A link that is before where any element could start.
    let (found, walk) = devices(|maps, _, heads, _| {
        maps.machine.place_u64(on(heads, 8), 3);
    });
    assert_eq!((found.len(), walk.gaps.len()), (1, 1));
}

#[test]
fn an_element_of_another_bucket_is_a_gap() {
    let (found, walk) = devices(|maps, _, _, made| maps.set(made[0], "bpf_dtab_netdev.idx", 0x32));
    let expected = "the hash of an element of another bucket: expected 0x0, found 0x2";
    assert_eq!(found.len(), 2);
    assert!(gaps(&walk)[0].ends_with(expected), "{walk:?}");
    let (found, walk) = sockets(|maps, _, _, made| maps.set(made[2], "bpf_shtab_elem.hash", 0x32));
    let expected = "the hash of an element of another bucket: expected 0x1, found 0x0";
    assert_eq!(found.len(), 1);
    assert!(gaps(&walk)[0].ends_with(expected), "{walk:?}");
}

#[test]
fn absurd_numbers_of_a_hash_are_gaps() {
    let absurd = "map: number of buckets 0xf0000000 is more than memory holds";
    let count = 0xf000_0000;
    let (_, walk) = devices(|maps, map, _, _| maps.set(map, "bpf_dtab.n_buckets", count));
    assert_eq!(gaps(&walk)[0], absurd);
    let (_, walk) = sockets(|maps, map, _, _| maps.set(map, "bpf_shtab.buckets_num", count));
    assert_eq!(gaps(&walk)[0], absurd);
    // A key of more bytes than memory has.
    let (found, walk) = sockets(|maps, map, _, _| {
        maps.machine
            .place(on(map, MAP_KEY_SIZE), &u32::MAX.to_le_bytes());
    });
    assert!(found.is_empty());
    assert!(
        gaps(&walk)[0].starts_with("map: elements of a bpf_shtab"),
        "{walk:?}"
    );
}

#[test]
fn a_hash_of_maps_keeps_the_checks_of_a_hash() {
    let shape = Shape {
        map_type: MapType::HASH_OF_MAPS,
        key_size: 5,
        value_size: 4,
        max_entries: 4,
    };
    let mut maps = Maps::new();
    let wild = WILD.get().to_le_bytes();
    let (map, _, _) = maps.hash(1, shape, 4, &[(6, b"first", &wild)]);
    maps.machine
        .place(on(map, MAP_VALUE_SIZE), &20u32.to_le_bytes());
    let (found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found, ["first: map ? ? ?"]);
    let gaps = gaps(&walk);
    assert!(gaps[0].starts_with("map: bpf_htab.elem_size"), "{gaps:?}");
    assert_eq!(gaps[1], "0xffffc900dead0000: page not present at level 4");
}
