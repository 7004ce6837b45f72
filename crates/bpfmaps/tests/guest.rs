//! The guest backend on kernels made by hand: what is well-formed reads back,
//! what is corrupt ends in a gap that names it.
#![cfg(test)]

mod code;
mod fake;
mod objects;
mod progs;
mod slots;
mod special;
mod storage;

use std::ops::ControlFlow;

use bpfmaps::{BpfMapAccessor, Entry, Guest, MapType, Walk};
use btf_layout::build::Builder;
use btf_layout::{Kind, TypeId};
use fake::{
    BUCKET_FIRST, BUCKET_SIZE, CPU_OFFSETS, ELEM_HASH, ELEM_NEXT, HTAB_BUCKETS, HTAB_COUNT, Maps,
    Shape, on,
};
use guestmem::{Address, Kva};

const HASH: Shape = Shape {
    map_type: MapType::HASH,
    key_size: 5,
    value_size: 13,
    max_entries: 8,
};

const ARRAY: Shape = Shape {
    map_type: MapType::ARRAY,
    key_size: 4,
    value_size: 13,
    max_entries: 3,
};

type Pairs = Vec<(Vec<u8>, Vec<Vec<u8>>)>;

/// Every entry of the map `id`, sorted by key: its key and its values.
fn read(guest: &Guest, id: u32) -> (Pairs, Walk) {
    let maps = guest.maps().unwrap();
    let map = maps.maps.iter().find(|map| map.id == id).unwrap();
    let mut pairs = Vec::new();
    let walk = guest
        .entries(map, &mut |entry| {
            pairs.push(match entry {
                Entry::KeyValue { key, value } => (key.to_vec(), vec![value.present.to_vec()]),
                Entry::PerCpu { key, values } => {
                    let values = values.iter().map(|value| value.value.present.to_vec());
                    (key.to_vec(), values.collect())
                }
                other => panic!("{other:?}"),
            });
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(walk.visited, pairs.len() as u64);
    pairs.sort();
    (pairs, walk)
}

fn gaps(walk: &Walk) -> Vec<String> {
    walk.gaps.iter().map(ToString::to_string).collect()
}

const ENTRIES: [(u32, &[u8], &[u8]); 3] = [
    (0x11, b"first", b"value number1"),
    (0x21, b"other", b"value number2"),
    (0x32, b"third", b"value number3"),
];

fn pairs(entries: &[(u32, &[u8], &[u8])]) -> Pairs {
    let mut pairs: Pairs = entries
        .iter()
        .map(|(_, key, value)| (key.to_vec(), vec![value.to_vec()]))
        .collect();
    pairs.sort();
    pairs
}

#[test]
fn maps_are_listed_by_their_tree() {
    let mut maps = Maps::new();
    for id in [1, 63, 64, 4095, 65_537, 300_000] {
        maps.map(id, "a map", HASH, 192);
    }
    let listed = maps.finish().maps().unwrap();
    let ids: Vec<u32> = listed.maps.iter().map(|map| map.id).collect();
    assert_eq!(ids, [1, 63, 64, 4095, 65_537, 300_000]);
    assert!(listed.walk.is_complete());
    let first = &listed.maps[0];
    assert_eq!(
        (first.name.as_str(), first.map_type),
        ("a map", MapType::HASH)
    );
    assert_eq!((first.key_size, first.value_size), (5, 13));
    assert_eq!((first.btf_id, first.frozen), (None, Some(false)));
}

#[test]
fn one_map_and_none() {
    let mut maps = Maps::new();
    maps.map(1, "only", HASH, 192);
    assert_eq!(maps.finish().maps().unwrap().maps.len(), 1);

    let mut none = Maps::new();
    let idr = none.machine.allocate(&[0; 24]);
    none.machine.symbol("map_idr", idr);
    let listed = none.open().maps().unwrap();
    assert!(listed.maps.is_empty() && listed.walk.is_complete());
}

#[test]
fn hashes_arrays_and_per_cpu_values_read_back() {
    let mut maps = Maps::new();
    maps.hash(1, HASH, 16, &ENTRIES);
    let values: Vec<u8> = (0..48).collect();
    maps.array(2, ARRAY, &values);
    let shape = Shape {
        map_type: MapType::PERCPU_HASH,
        ..HASH
    };
    let pointer = 0xffff_ffff_8700_0000u64;
    for (cpu, offset) in CPU_OFFSETS {
        let value = format!("on CPU {cpu}.....");
        maps.machine
            .place(Kva::new(pointer + offset), &value.as_bytes()[..13]);
    }
    maps.hash(3, shape, 1, &[(7, b"fifth", &pointer.to_le_bytes())]);
    let shape = Shape {
        map_type: MapType::PERCPU_ARRAY,
        max_entries: 1,
        ..ARRAY
    };
    maps.array(4, shape, &pointer.to_le_bytes());
    let guest = maps.finish();

    let (found, walk) = read(&guest, 1);
    assert_eq!(found, pairs(&ENTRIES));
    assert!(walk.is_complete());
    let (found, walk) = read(&guest, 2);
    let expected: Pairs = (0..3u8)
        .map(|index| {
            let start = index * 16;
            (vec![index, 0, 0, 0], vec![(start..start + 13).collect()])
        })
        .collect();
    assert_eq!(found, expected);
    assert!(walk.is_complete());
    let on_cpus = vec![b"on CPU 0.....".to_vec(), b"on CPU 3.....".to_vec()];
    assert_eq!(read(&guest, 3).0, [(b"fifth".to_vec(), on_cpus.clone())]);
    assert_eq!(read(&guest, 4).0, [(vec![0; 4], on_cpus)]);
}

#[test]
fn the_visitor_ends_the_walk() {
    let mut maps = Maps::new();
    maps.hash(1, HASH, 4, &ENTRIES);
    let guest = maps.finish();
    let map = &guest.maps().unwrap().maps[0];
    let walk = guest.entries(map, &mut |_| ControlFlow::Break(())).unwrap();
    assert!(walk.stopped && !walk.is_complete());
    assert_eq!(walk.visited, 1);
}

#[test]
fn btf_is_parsed_on_its_base() {
    let mut base = Builder::new();
    let int = base.int("int", 4);
    let base = base.finish();
    let parsed = btf_layout::Btf::parse(base.clone(), "base").unwrap();
    let mut split = Builder::split(&parsed);
    split.record("counter", 4, &[("hits", int, 0)]);
    let split = split.finish();

    let mut maps = Maps::new();
    let base = maps.btf(40, &base, Kva::at(0));
    let btf = maps.btf(41, &split, base);
    let map = maps.array(1, ARRAY, &[0; 48]);
    maps.machine.place_u64(on(map, 64), btf.get());
    let guest = maps.finish();
    let info = &guest.maps().unwrap().maps[0];
    assert_eq!(info.btf_id, Some(41));
    let btf = guest.btf(info).unwrap().unwrap();
    let counter = btf.find(Kind::Struct, "counter").unwrap();
    assert_eq!(btf.type_name(counter), "struct counter");
    assert_eq!(btf.type_name(TypeId(1)), "int");
    assert!(
        btf.origin().starts_with("BTF 41 of Linux 6.66.0"),
        "{}",
        btf.origin()
    );
}

/// Corrupts a hash of three entries and reads it.
fn corrupt_hash(corrupt: impl FnOnce(&mut Maps, Kva, Kva, &[Kva])) -> (Pairs, Walk) {
    let mut maps = Maps::new();
    let (table, heads, elements) = maps.hash(1, HASH, 16, &ENTRIES);
    corrupt(&mut maps, table, heads, &elements);
    read(&maps.finish(), 1)
}

fn head(heads: Kva, bucket: u64) -> Kva {
    on(heads, bucket * BUCKET_SIZE + BUCKET_FIRST)
}

#[test]
fn a_cycle_in_a_chain_is_a_gap() {
    // Bucket 1: the second entry, then the first, then the second again.
    let (found, walk) = corrupt_hash(|maps, _, _, elements| {
        maps.machine
            .place_u64(on(elements[0], ELEM_NEXT), elements[1].get());
    });
    assert!(found.len() >= 3 && walk.visited < 10);
    assert_eq!(gaps(&walk), ["index 1: the chain of a bucket is a cycle"]);
}

#[test]
fn a_wild_pointer_is_a_gap_and_costs_one_chain() {
    let (found, walk) = corrupt_hash(|maps, _, _, elements| {
        maps.machine
            .place_u64(on(elements[1], ELEM_NEXT), 0xffff_c900_dead_0000);
    });
    assert_eq!(found, pairs(&ENTRIES[1..]));
    assert_eq!(
        gaps(&walk),
        ["0xffffc900dead0000: page not present at level 4"]
    );
    let (found, walk) = corrupt_hash(|maps, _, heads, _| {
        maps.machine
            .place_u64(head(heads, 2), 0x1234_5678_9abc_def0);
    });
    assert_eq!(found, pairs(&ENTRIES[..2]));
    assert_eq!(gaps(&walk), ["0x123456789abcdef0: address not canonical"]);
    let (found, walk) = corrupt_hash(|maps, _, heads, _| {
        maps.machine.place_u64(head(heads, 1), 0);
    });
    assert_eq!(found, pairs(&ENTRIES[2..]));
    assert_eq!(gaps(&walk), ["0x0: page not present at level 4"]);
}

#[test]
fn an_element_of_another_bucket_is_a_gap() {
    let (found, walk) = corrupt_hash(|maps, _, _, elements| {
        maps.machine
            .place(on(elements[2], ELEM_HASH), &0x33u32.to_le_bytes());
    });
    assert_eq!(found, pairs(&ENTRIES[..2]));
    let gap = gaps(&walk).remove(0);
    assert!(
        gap.ends_with("htab_elem.hash of another bucket: expected 0x2, found 0x3"),
        "{gap}"
    );
    // A chain that ends in another bucket's end.
    let (found, walk) = corrupt_hash(|maps, _, heads, _| {
        maps.machine.place_u64(head(heads, 9), 0x11);
    });
    assert_eq!(found, pairs(&ENTRIES));
    assert_eq!(
        gaps(&walk),
        ["index 9: the end of a bucket's chain: expected 0x13, found 0x11"]
    );
}

#[test]
fn an_absurd_number_of_buckets_is_a_gap() {
    let (found, walk) = corrupt_hash(|maps, table, _, _| {
        maps.machine
            .place(on(table, HTAB_COUNT), &0x8000_0000u32.to_le_bytes());
    });
    assert!(found.is_empty());
    let gaps = gaps(&walk);
    assert_eq!(
        gaps[0],
        "map: bpf_htab.n_buckets 0x80000000 is more than memory holds"
    );
    assert!(walk.unlisted_gaps == 0 || gaps.len() == 1000);
    let (_, walk) = corrupt_hash(|maps, table, _, _| {
        maps.machine
            .place(on(table, HTAB_COUNT), &17u32.to_le_bytes());
    });
    assert!(!walk.is_complete());
    let (found, walk) = corrupt_hash(|maps, table, _, _| {
        maps.machine.place_u64(on(table, HTAB_BUCKETS), 0);
    });
    assert!(found.is_empty());
    assert_eq!(gaps_of_level(&walk), 1);
}

#[test]
fn sizes_that_contradict_each_other_are_a_gap() {
    for at in [fake::MAP_KEY_SIZE, fake::MAP_VALUE_SIZE] {
        let (_, walk) = corrupt_hash(|maps, table, _, _| {
            maps.machine.place(on(table, at), &21u32.to_le_bytes());
        });
        let gap = gaps(&walk).remove(0);
        assert!(
            gap.starts_with("map: bpf_htab.elem_size: expected "),
            "{gap}"
        );
    }
}

/// Values that claim more than memory has are read once, not for each entry.
#[test]
fn absurd_values_cost_no_more_than_memory_has() {
    const SIZE: u32 = 0x10_0000;
    for map_type in [MapType::HASH, MapType::PERCPU_HASH, MapType::PERCPU_ARRAY] {
        let mut maps = Maps::new();
        let shape = Shape {
            map_type,
            key_size: 4,
            value_size: SIZE,
            max_entries: 1000,
        };
        // All values are in one place, of a size that is there.
        let value = maps.machine.allocate(&vec![1; 0x20_0000]);
        if map_type == MapType::PERCPU_ARRAY {
            let pointer = value.get() - CPU_OFFSETS[0].1;
            maps.array(1, shape, &pointer.to_le_bytes().repeat(1000));
        } else {
            let keys: Vec<[u8; 4]> = (0..200u32).map(u32::to_le_bytes).collect();
            let pointer = (value.get() - CPU_OFFSETS[0].1).to_le_bytes();
            let entries: Vec<(u32, &[u8], &[u8])> =
                keys.iter().map(|key| (0, &key[..], &pointer[..])).collect();
            maps.hash(1, shape, 1, &entries);
        }
        let guest = maps.finish();
        let (_, walk) = read(&guest, 1);
        let memory = guest.machine().space().physical().size();
        assert!(
            walk.visited <= memory / u64::from(SIZE),
            "{map_type}: {}",
            walk.visited
        );
        let absurd = gaps(&walk)
            .iter()
            .any(|gap| gap.ends_with("is more than memory holds"));
        assert!(absurd, "{map_type}: {walk:?}");
    }
}

fn gaps_of_level(walk: &Walk) -> usize {
    gaps(walk)
        .iter()
        .filter(|gap| gap.contains("page not present"))
        .count()
}

#[test]
fn a_value_that_is_not_all_there_shows_what_is() {
    let shape = Shape {
        value_size: 0x3000,
        max_entries: 2,
        ..ARRAY
    };
    let mut maps = Maps::new();
    // Only the first page and a half of the first value is placed.
    let table = maps.array(1, shape, &[7; 0x1800]);
    let guest = maps.finish();
    let map = &guest.maps().unwrap().maps[0];
    let mut seen = Vec::new();
    let walk = guest
        .entries(map, &mut |entry| {
            let Entry::KeyValue { value, .. } = entry else {
                panic!("{entry:?}");
            };
            seen.push((value.present.len(), value.len, value.fault.is_some()));
            ControlFlow::Continue(())
        })
        .unwrap();
    let there = 0x2000 - usize::try_from(on(table, fake::ARRAY_VALUES).get() % 0x1000).unwrap();
    assert_eq!(seen[0], (there, 0x3000, true));
    assert_eq!(walk.gaps.len(), 2);
}

#[test]
fn an_absurd_array_is_cut_to_what_memory_holds() {
    let shape = Shape {
        max_entries: u32::MAX,
        value_size: u32::MAX - 100,
        ..ARRAY
    };
    let mut maps = Maps::new();
    maps.array(1, shape, &[0; 64]);
    let (_, walk) = read(&maps.finish(), 1);
    assert!(walk.visited < 10);
    assert!(gaps(&walk)[0].contains("size of an array"), "{walk:?}");

    // Values without bytes, which no array has.
    let shape = Shape {
        value_size: 0,
        ..ARRAY
    };
    let mut maps = Maps::new();
    maps.array(1, shape, &[0; 64]);
    let (found, walk) = read(&maps.finish(), 1);
    assert!(found.is_empty());
    let gap = gaps(&walk).remove(0);
    assert!(
        gap.ends_with("value_size of an array: expected 0x1, found 0x0"),
        "{gap}"
    );

    // Small values, most of which are nowhere: one gap says so.
    let shape = Shape {
        max_entries: 13_000,
        value_size: 8,
        ..ARRAY
    };
    let mut maps = Maps::new();
    maps.array(1, shape, &[0; 64]);
    let (found, walk) = read(&maps.finish(), 1);
    assert!(found.len() >= 8 && found.len() < 5_000);
    let gaps = gaps(&walk);
    let last = gaps.last().unwrap();
    assert!(
        last.ends_with(" to 12999: page not present at level 1"),
        "{gaps:?}"
    );
    assert!(gaps.len() < 10);
}

#[test]
fn a_corrupt_tree_of_ids_ends() {
    // A node that is its own child everywhere.
    let mut maps = Maps::new();
    let map = maps.map(5, "lost", HASH, 192);
    let node = maps.node(&[(5, map)], 6, 0, None);
    for slot in 0..64 {
        maps.machine
            .place_u64(on(node, 24 + slot * 8), node.get() | 2);
    }
    let idr = maps.machine.allocate(&[0; 24]);
    maps.machine.place_u64(on(idr, 8), node.get() | 2);
    maps.machine.symbol("map_idr", idr);
    let listed = maps.open().maps().unwrap();
    assert!(listed.maps.is_empty());
    assert_eq!(listed.walk.gaps.len(), 64);
    assert!(listed.walk.gaps[0].to_string().contains("xa_node.parent"));

    // A node whose level is as wrong as it can be.
    let mut maps = Maps::new();
    let node = maps.node(&[], 6, 0, None);
    let child = maps.node(&[], 0, 0, Some((node, 0)));
    maps.machine.place_u64(child, u64::MAX);
    maps.machine.place_u64(on(node, 24), child.get() | 2);
    let idr = maps.machine.allocate(&[0; 24]);
    maps.machine.place_u64(on(idr, 8), node.get() | 2);
    maps.machine.symbol("map_idr", idr);
    let listed = maps.open().maps().unwrap();
    let gap = listed.walk.gaps[0].to_string();
    assert!(
        gap.ends_with("xa_node.shift: expected 0x0, found 0xffffffffffffffff"),
        "{gap}"
    );

    // An id that is not the map's own, and a pointer to nothing.
    let mut maps = Maps::new();
    let other = maps.map(5, "other", HASH, 192);
    maps.list(6, other);
    maps.list(7, Kva::at(0xffff_c900_0000_0000));
    let listed = maps.finish().maps().unwrap();
    assert_eq!(listed.maps.len(), 1);
    let gaps = gaps(&listed.walk);
    assert!(
        gaps[0].ends_with("bpf_map.id: expected 0x6, found 0x5"),
        "{gaps:?}"
    );
    assert!(gaps[1].ends_with("page not present at level 4"), "{gaps:?}");
}

#[test]
fn a_type_that_is_not_read_says_so() {
    let mut maps = Maps::new();
    let shape = Shape {
        map_type: MapType(99),
        ..HASH
    };
    maps.map(1, "new", shape, 192);
    let (_, walk) = read(&maps.finish(), 1);
    assert_eq!(
        gaps(&walk),
        ["map: contents of type 99 maps are not read by this version"]
    );
}
