//! The live backend on the kernel that runs the tests: contents known by
//! construction, read in batches and one by one. Needs root.
#![cfg(test)]
#![expect(unsafe_code, reason = "loads BTF and drops capabilities, which is C")]

mod arena_users;
mod arenas;
mod code;
mod maker;
mod memory;
mod moving;
mod types;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

use bpfmaps::contract::{self, World};
use bpfmaps::{BpfMapAccessor, Entry, Error, Fetch, Live};
use btf_layout::build::Builder;
use libbpf_rs::libbpf_sys as bpf;
use libbpf_rs::{MapCore, MapFlags, MapType};
use nix::libc;

use maker::{Contents, ROOT, Spec, Types, check, read};

const HASHES: [MapType; 4] = [
    MapType::Hash,
    MapType::LruHash,
    MapType::PercpuHash,
    MapType::LruPercpuHash,
];
const ARRAYS: [MapType; 2] = [MapType::Array, MapType::PercpuArray];

#[test]
fn hashes_empty_partly_filled_and_full() {
    for map_type in HASHES {
        for (key_size, value_size) in [(4, 8), (5, 13), (1, 1), (40, 1200)] {
            for count in [0, 1, 100] {
                let count = if key_size == 1 { count.min(1) } else { count };
                let spec = Spec::new(map_type, key_size.max(4), value_size, 128);
                let (made, contents) = spec.filled(count);
                check(&made, &contents);
            }
        }
    }
    let (made, contents) = Spec::new(MapType::Hash, 5, 13, 512).filled(512);
    check(&made, &contents);
}

#[test]
fn arrays_have_every_element() {
    for map_type in ARRAYS {
        for (value_size, max_entries) in [(8, 1), (13, 100), (1200, 100), (4, 6000)] {
            let spec = Spec::new(map_type, 4, value_size, max_entries);
            let (made, contents) = spec.filled(max_entries);
            check(&made, &contents);
        }
    }
    // Nothing was put in: zeros are entries, too.
    let made = Spec::new(MapType::Array, 4, 3, 2).make();
    let zeros = (0..2u32).map(|index| (index.to_le_bytes().to_vec(), vec![vec![0; 3]]));
    check(&made, &zeros.collect());
}

#[test]
fn a_hundred_thousand_entries() {
    for flags in [0, bpf::BPF_F_NO_PREALLOC] {
        let spec = Spec::new(MapType::Hash, 8, 16, 100_000).flags(flags);
        let (made, contents) = spec.filled(100_000);
        check(&made, &contents);
    }
}

#[test]
fn values_larger_than_a_batch() {
    // One element is more than a batch may take.
    let (made, contents) = Spec::new(MapType::Array, 4, (17 << 20) + 3, 3).filled(3);
    check(&made, &contents);
    // Two of them share a bucket almost surely, so that one batch must take
    // more than a batch may.
    let (made, contents) = Spec::new(MapType::Hash, 4, 700_001, 16).filled(16);
    check(&made, &contents);
    let (made, contents) = Spec::new(MapType::PercpuHash, 4, 30_001, 64).filled(64);
    check(&made, &contents);
}

#[test]
fn flags_that_change_how_a_map_is_kept() {
    use MapType::{Array, Hash, LruHash, LruPercpuHash, PercpuHash};
    for (map_type, flags) in [
        (Hash, bpf::BPF_F_NO_PREALLOC),
        (PercpuHash, bpf::BPF_F_NO_PREALLOC),
        (Hash, bpf::BPF_F_ZERO_SEED),
        (Hash, bpf::BPF_F_RDONLY_PROG),
        // This binds its creator's descriptor, not ours.
        (Hash, bpf::BPF_F_WRONLY),
        (LruHash, bpf::BPF_F_NO_COMMON_LRU),
        (LruPercpuHash, bpf::BPF_F_NO_COMMON_LRU),
        (Array, bpf::BPF_F_MMAPABLE),
        (Array, bpf::BPF_F_INNER_MAP),
    ] {
        let spec = Spec::new(map_type, 4, 24, 256).flags(flags);
        let (made, contents) = spec.filled(if map_type == Array { 256 } else { 50 });
        check(&made, &contents);
    }
}

#[test]
fn descriptions_are_what_was_asked_for() {
    let live = Live::open().unwrap();
    let mut spec = Spec::new(MapType::LruHash, 7, 9, 64);
    spec.name = "a_name_of_15chr";
    let twins = [spec.make(), spec.make()];
    let infos = twins.each_ref().map(|made| made.info(&live));
    assert_ne!(infos[0].id, infos[1].id);
    for info in infos {
        assert_eq!(info.name, "a_name_of_15chr");
        assert_eq!(info.map_type, bpfmaps::MapType::LRU_HASH);
        assert_eq!(
            (info.key_size, info.value_size, info.max_entries),
            (7, 9, 64)
        );
        assert_eq!((info.flags, info.map_extra, info.btf_id), (0, 0, None));
        assert_eq!((info.frozen, info.kva), (Some(false), None));
        assert!(info.memory.is_some_and(|bytes| bytes > 64 * 16), "{info:?}");
        assert!(live.btf(&info).unwrap().is_none());
    }
    let (made, contents) = Spec::new(MapType::Array, 4, 8, 4).filled(4);
    made.handle.freeze().unwrap();
    assert_eq!(made.info(&live).frozen, Some(true));
    check(&made, &contents);
}

#[test]
fn btf_describes_keys_and_values() {
    let mut builder = Builder::new();
    let word = builder.int("unsigned int", 4);
    let pair = builder.record("pair", 8, &[("left", word, 0), ("right", word, 32)]);
    let mut spec = Spec::new(MapType::Hash, 4, 8, 16);
    spec.types = Some(Types::load(&builder.finish(), word, pair));
    let (made, contents) = spec.filled(10);
    check(&made, &contents);

    let live = Live::open().unwrap();
    let info = made.info(&live);
    let btf = live.btf(&info).unwrap().unwrap();
    assert_eq!(
        btf.record("pair").unwrap().member("right").unwrap().offset,
        4
    );
    let id = info.btf_id.unwrap();
    let release = &live.kernel().release;
    assert_eq!(btf.origin(), format!("BTF {id} of Linux {release}"));
    // It is loaded once.
    assert!(std::rc::Rc::ptr_eq(
        &btf,
        &live.btf(&info).unwrap().unwrap()
    ));

    let mut gone = info;
    gone.btf_id = Some(u32::MAX - 1);
    let error = live.btf(&gone).unwrap_err();
    assert!(
        matches!(error, Error::Gone { what: "BTF", .. }),
        "{error:?}"
    );
}

#[test]
fn the_kernel_is_known_without_rights() {
    let live = Live::open().unwrap();
    let cpus = libbpf_rs::num_possible_cpus().unwrap();
    assert_eq!(live.kernel().possible_cpus.0.len(), cpus);
    let vmlinux = live.vmlinux_btf().unwrap();
    assert_eq!(vmlinux.origin(), format!("Linux {}", live.kernel().release));
    vmlinux.record("bpf_map").unwrap();
}

#[test]
fn a_map_deleted_since_it_was_listed_is_gone() {
    let live = Live::open().unwrap();
    let (made, _) = Spec::new(MapType::Hash, 4, 4, 4).filled(4);
    let info = made.info(&live);
    // The visit itself leaves nothing open that would keep the map.
    let (walk, _) = read(&live, &info);
    assert!(walk.is_complete());
    drop(made);
    let error = live
        .entries(&info, &mut |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert_eq!(error.to_string(), format!("map {} is gone", info.id));
    let maps = live.maps().unwrap().maps;
    assert!(maps.iter().all(|map| map.id != info.id));
}

/// Walks while another thread deletes and inserts every even key, as fast as
/// it can. The odd ones must each come once.
fn walk_in_a_storm(map_type: MapType, flags: u32, fetch: Fetch) {
    const KEYS: u32 = 10_000;
    let spec = Spec::new(map_type, 4, 8, 2 * KEYS).flags(flags);
    let (made, contents) = spec.filled(KEYS);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1u32;
            while !stop.load(Ordering::Relaxed) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (key, values) = spec.entry(((state >> 8) % KEYS) & !1);
                // Either may fail: the key is there or not.
                drop(made.handle.delete(&key));
                if state >> 31 == 0 {
                    let put = &Contents::from([(key, values)]);
                    made.put(put);
                }
            }
        });
        let live = Live::open().unwrap().fetching(fetch);
        let info = made.info(&live);
        for _ in 0..5 {
            let (walk, found) = read(&live, &info);
            assert!(walk.is_complete(), "{map_type:?} {fetch:?}: {walk:?}");
            let odd = |contents: &Contents| -> Contents {
                let odd = |key: &Vec<u8>| key[0] % 2 == 1;
                contents
                    .clone()
                    .into_iter()
                    .filter(|(key, _)| odd(key))
                    .collect()
            };
            assert!(odd(&found) == odd(&contents), "{map_type:?} {fetch:?}");
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn keys_left_alone_come_once_whatever_happens_to_others() {
    for fetch in [Fetch::Batches, Fetch::OneByOne, Fetch::Memory] {
        walk_in_a_storm(MapType::Hash, 0, fetch);
        walk_in_a_storm(MapType::Hash, bpf::BPF_F_NO_PREALLOC, fetch);
        walk_in_a_storm(MapType::PercpuHash, 0, fetch);
    }
}

#[test]
fn deletion_of_what_was_visited_neither_repeats_nor_loses() {
    for fetch in [Fetch::Batches, Fetch::OneByOne, Fetch::Memory] {
        let live = Live::open().unwrap().fetching(fetch);
        let (made, contents) = Spec::new(MapType::Hash, 4, 8, 10_000).filled(10_000);
        let mut seen = BTreeMap::new();
        let walk = live.entries(&made.info(&live), &mut |entry| {
            *seen.entry(entry.key().unwrap().to_vec()).or_insert(0) += 1;
            // All but each tenth is deleted as soon as it is seen.
            if entry.key().unwrap()[0] % 10 != 0 {
                made.handle.delete(entry.key().unwrap()).unwrap();
            }
            ControlFlow::Continue(())
        });
        assert!(walk.unwrap().is_complete());
        assert!(seen.keys().eq(contents.keys()) && seen.values().all(|&times| times == 1));
    }
}

#[test]
fn reading_does_not_count_as_use() {
    // An LRU hash that was read evicts what one that was not read evicts.
    let spec = Spec::new(MapType::LruHash, 4, 8, 1024);
    let fill = |made: &maker::Made, range: std::ops::Range<u32>| {
        let entries: Vec<_> = range.map(|index| spec.entry(index)).collect();
        for (key, values) in entries {
            made.handle.update(&key, &values[0], MapFlags::ANY).unwrap();
        }
    };
    // The lists that an LRU hash keeps are each CPU's own.
    let cpu = nix::unistd::Pid::from_raw(0);
    let mut set = nix::sched::CpuSet::new();
    set.set(Live::open().unwrap().kernel().possible_cpus.0[0] as usize)
        .unwrap();
    nix::sched::sched_setaffinity(cpu, &set).unwrap();
    let survivors = [None, Some(Fetch::Batches), Some(Fetch::OneByOne)].map(|fetch| {
        let live = Live::open().unwrap().fetching(fetch.unwrap_or_default());
        let made = spec.make();
        fill(&made, 0..900);
        if fetch.is_some() {
            let (walk, contents) = read(&live, &made.info(&live));
            assert!(walk.is_complete() && contents.len() > 800, "{walk:?}");
        }
        fill(&made, 900..1600);
        read(&live, &made.info(&live)).1
    });
    assert!(survivors[0].len() > 100);
    assert!(survivors[0] == survivors[1] && survivors[0] == survivors[2]);
}

#[test]
fn per_cpu_values_name_their_cpus() {
    let live = Live::open().unwrap();
    let (made, contents) = Spec::new(MapType::PercpuArray, 4, 5, 3).filled(3);
    let mut cpus = Vec::new();
    let walk = live.entries(&made.info(&live), &mut |entry| {
        let Entry::PerCpu { key, values } = entry else {
            panic!("{entry:?}");
        };
        cpus.extend(values.iter().map(|value| value.cpu));
        assert!(values.iter().map(|v| v.value.present).eq(&contents[key]));
        ControlFlow::Break(())
    });
    assert!(walk.unwrap().stopped);
    assert_eq!(cpus, live.kernel().possible_cpus.0);
}

#[test]
fn this_machine_keeps_the_contract() {
    let live = Live::open().unwrap();
    let error = |error| panic!("{error}; {ROOT}");
    live.maps().unwrap_or_else(error);
    contract::check(&live, World::Moving);
}

#[test]
fn without_rights_the_operation_and_the_capability_are_named() {
    let (made, _) = Spec::new(MapType::Hash, 4, 4, 4).filled(1);
    let info = made.info(&Live::open().unwrap());
    // Capabilities are a thread's own.
    std::thread::spawn(move || {
        keep_capabilities(0);
        let live = Live::open().unwrap();
        assert!(live.vmlinux_btf().is_ok());
        let check = |error: Error, operation: &str| {
            assert!(matches!(error, Error::NotPermitted { .. }), "{error:?}");
            let expected = format!(
                "bpf(2) is not permitted here: {operation} needs \
                 CAP_SYS_ADMIN in the initial user namespace"
            );
            assert_eq!(error.to_string(), expected);
        };
        check(live.maps().unwrap_err(), "BPF_MAP_GET_NEXT_ID");
        let walk = live.entries(&info, &mut |_| ControlFlow::Continue(()));
        check(walk.unwrap_err(), "BPF_MAP_GET_FD_BY_ID");
        let mut with_btf = info;
        with_btf.btf_id = Some(1);
        check(live.btf(&with_btf).unwrap_err(), "BPF_BTF_GET_FD_BY_ID");
    })
    .join()
    .unwrap();
}

/// Takes all capabilities but those of `kept` from this thread.
fn keep_capabilities(kept: u32) {
    // `_LINUX_CAPABILITY_VERSION_3`, this thread; effective, permitted and
    // inheritable sets in two halves.
    let header = [0x2008_0522_u32, 0];
    let sets = [kept, kept, 0, 0, 0, 0];
    // SAFETY: it reads both, which are as long as this version of it says.
    let ret = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(ret, 0);
}
