//! Maps of slots: what they refer to reads back; what is corrupt is a gap.

mod corrupt;
mod sockets;

use bpfmaps::MapType;
use guestmem::{Address, Kva};

use crate::fake::table::{place_of, size_of};
use crate::fake::{ARRAY_VALUES, MAP_SIZE, Maps, Shape, on};
use crate::objects::{at_member, entries};

/// Where maps have their slots: at this offset, or behind the pointer there.
fn slots_of(map_type: MapType) -> (u64, bool) {
    let member = |path| place_of(path).0;
    match map_type {
        MapType::DEVMAP => (member("bpf_dtab.netdev_map"), true),
        MapType::CPUMAP => (member("bpf_cpu_map.cpu_map"), true),
        MapType::SOCKMAP => (member("bpf_stab.sks"), true),
        MapType::XSKMAP => (member("xsk_map.xsk_map"), false),
        MapType::REUSEPORT_SOCKARRAY => (member("reuseport_array.ptrs"), false),
        _ => (ARRAY_VALUES, false),
    }
}

/// A map with the id 1 and these slots, null where there is none. Gives the
/// map and its first slot.
fn by_index(maps: &mut Maps, map_type: MapType, value_size: u32, slots: &[Kva]) -> (Kva, Kva) {
    let shape = Shape {
        map_type,
        key_size: 4,
        value_size,
        max_entries: u32::try_from(slots.len()).unwrap(),
    };
    let bytes: Vec<u8> = slots.iter().flat_map(|at| at.get().to_le_bytes()).collect();
    let (offset, elsewhere) = slots_of(map_type);
    let size = offset + 8 + bytes.len() as u64;
    let map = maps.map(1, "slots", shape, size);
    let mut first = on(map, offset);
    if elsewhere {
        let slots = maps.machine.allocate(&bytes);
        maps.machine.place_u64(first, slots.get());
        first = slots;
    } else {
        maps.machine.place(first, &bytes);
    }
    (map, first)
}

const FREE: Kva = Kva::at(0);

/// Reads a map with a free slot, the object that `make` makes, and another
/// free slot.
fn check(map_type: MapType, value_size: u32, make: impl FnOnce(&mut Maps) -> Kva, expected: &str) {
    let mut maps = Maps::new();
    let object = make(&mut maps);
    by_index(&mut maps, map_type, value_size, &[FREE, object, FREE]);
    let (found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found, [expected], "{map_type}");
    assert!(walk.is_complete(), "{map_type}: {walk:?}");
}

fn perf_event(maps: &mut Maps, fields: [u64; 3], unit: &str, task: Kva) -> Kva {
    let [event_type, config, cpu] = fields;
    let unit = maps.text(unit);
    let unit = maps.object("pmu", &[("name", unit.into())]);
    let fields = [
        ("attr.type", event_type.into()),
        ("attr.config", config.into()),
        ("cpu", cpu.into()),
        ("pmu", unit.into()),
        ("hw.target", task.into()),
    ];
    let event = maps.object("perf_event", &fields);
    maps.object("bpf_event_entry", &[("event", event.into())])
}

#[test]
fn arrays_of_progs_events_cgroups_and_maps_read_back() {
    check(
        MapType::PROG_ARRAY,
        4,
        |maps| maps.prog(0x112, "tail"),
        "1: prog 274 tail xdp = [12, 1, 0, 0]",
    );
    check(
        MapType::ARRAY_OF_MAPS,
        4,
        |maps| {
            let shape = Shape {
                map_type: MapType::LRU_HASH,
                key_size: 4,
                value_size: 4,
                max_entries: 1,
            };
            maps.map(7, "inner", shape, MAP_SIZE)
        },
        "1: map 7 inner lru_hash = [7, 0, 0, 0]",
    );
    check(
        MapType::CGROUP_ARRAY,
        4,
        |maps| {
            let root = maps.kernfs_node(1, "", FREE);
            let slice = maps.kernfs_node(20, "system.slice", root);
            let service = maps.kernfs_node(300, "ssh.service", slice);
            maps.cgroup(service)
        },
        "1: cgroup 300 /system.slice/ssh.service",
    );
    check(
        MapType::CGROUP_ARRAY,
        4,
        |maps| {
            let root = maps.kernfs_node(1, "", FREE);
            maps.cgroup(root)
        },
        "1: cgroup 1 /",
    );
    check(
        MapType::CGROUP_ARRAY,
        4,
        |maps| {
            let root = maps.kernfs_node(1, "", FREE);
            let gone = maps.kernfs_node(9, "gone", root);
            let gone = maps.cgroup(gone);
            maps.set(gone, "cgroup.self.flags", 0b10000);
            gone
        },
        "1: cgroup 9 /gone (deleted)",
    );
    check(
        MapType::PERF_EVENT_ARRAY,
        4,
        |maps| perf_event(maps, [1, 10, 2], "software", FREE),
        "1: perf_event software 10 2 ?",
    );
    check(
        MapType::PERF_EVENT_ARRAY,
        4,
        |maps| {
            let task = maps.task(42, "worker");
            perf_event(maps, [9, 0, u64::MAX], "kprobe", task)
        },
        "1: perf_event 9 0 -1 42",
    );
    // A clock, which was asked for as a software event.
    check(
        MapType::PERF_EVENT_ARRAY,
        4,
        |maps| perf_event(maps, [6, 1, 0], "task_clock", FREE),
        "1: perf_event software 1 0 ?",
    );
}

fn device_entry(maps: &mut Maps, index: u64, prog: Kva) -> Kva {
    let device = maps.device(0x33, "veth0");
    let fields = [
        ("dev", device.into()),
        ("idx", index.into()),
        ("xdp_prog", prog.into()),
        ("val", (&[0x33, 0, 0, 0, 9, 0, 0, 0][..]).into()),
    ];
    maps.object("bpf_dtab_netdev", &fields)
}

#[test]
fn devmaps_and_cpumaps_read_back() {
    let with_prog = |maps: &mut Maps| {
        let prog = maps.prog(9, "egress");
        device_entry(maps, 1, prog)
    };
    check(
        MapType::DEVMAP,
        4,
        |maps| device_entry(maps, 1, FREE),
        "1: device 51 veth0 = [33, 0, 0, 0]",
    );
    check(
        MapType::DEVMAP,
        8,
        with_prog,
        "1: device 51 veth0 prog 9 egress = [33, 0, 0, 0, 9, 0, 0, 0]",
    );
    check(
        MapType::CPUMAP,
        4,
        |maps| {
            let value: &[u8] = &[192, 0, 0, 0, 8, 0, 0, 0];
            let prog = maps.prog(8, "on_cpu");
            let fields = [
                ("cpu", 1.into()),
                ("value", value.into()),
                ("prog", prog.into()),
            ];
            maps.object("bpf_cpu_map_entry", &fields)
        },
        "1: cpu 1 192 prog 8 on_cpu = [c0, 0, 0, 0]",
    );
}

/// A hash of devices with these keys in 4 buckets, and its first bucket.
fn devmap_hash(maps: &mut Maps, keys: &[u64]) -> (Kva, Kva, Vec<Kva>) {
    let shape = Shape {
        map_type: MapType::DEVMAP_HASH,
        key_size: 4,
        value_size: 4,
        max_entries: 4,
    };
    let map = maps.map(1, "devices", shape, size_of("bpf_dtab"));
    let heads = maps.machine.allocate(&[0; 32]);
    maps.set(map, "bpf_dtab.dev_index_head", heads);
    maps.set(map, "bpf_dtab.n_buckets", 4);
    let mut firsts = [FREE; 4];
    let mut made = Vec::new();
    for &key in keys {
        let entry = device_entry(maps, key, FREE);
        let bucket = usize::try_from(key % 4).unwrap();
        maps.set(entry, "bpf_dtab_netdev.index_hlist.next", firsts[bucket]);
        firsts[bucket] = at_member(entry, "bpf_dtab_netdev.index_hlist.next");
        maps.machine
            .place_u64(on(heads, key % 4 * 8), firsts[bucket].get());
        made.push(entry);
    }
    (map, heads, made)
}

#[test]
fn hashes_of_devices_and_maps_read_back() {
    let mut maps = Maps::new();
    devmap_hash(&mut maps, &[0x30, 0x31, 0x35]);
    let (found, walk) = entries(&maps.finish(), 1);
    let device = "device 51 veth0 = [33, 0, 0, 0]";
    let expected = ["0", "5", "1"].map(|key| format!("{key}\0\0\0: {device}"));
    assert_eq!(found, expected);
    assert!(walk.is_complete(), "{walk:?}");

    let mut maps = Maps::new();
    let shape = Shape {
        map_type: MapType::HASH_OF_MAPS,
        key_size: 5,
        value_size: 4,
        max_entries: 4,
    };
    let inner = maps.map(7, "inner", shape, MAP_SIZE).get().to_le_bytes();
    maps.hash(1, shape, 4, &[(6, b"first", &inner)]);
    let (found, walk) = entries(&maps.finish(), 1);
    assert_eq!(found, ["first: map 7 inner hash_of_maps = [7, 0, 0, 0]"]);
    assert!(walk.is_complete(), "{walk:?}");
}
