//! The running kernel's memory: what is read, and what is left behind.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::Path;

use bpfmaps::{BpfMapAccessor, Fetch, Live, Via};
use guestmem::{Address, Cause, Fault, Kva, MemoryExt};
use libbpf_rs::MapType;
use libbpf_rs::libbpf_sys as bpf;
use libbpf_rs::query::{MapInfoIter, ProgInfoIter};

use crate::maker::{Contents, Made, Spec, read};

/// The address of a symbol by `/proc/kallsyms`.
fn symbol(name: &str) -> Kva {
    let kallsyms = fs::read_to_string("/proc/kallsyms").unwrap();
    let mut lines = kallsyms.lines().map(|line| line.split_whitespace());
    let address = lines.find_map(|mut words| {
        let address = words.next()?;
        (words.nth(1)? == name).then_some(address)
    });
    Kva::new(u64::from_str_radix(address.unwrap(), 16).unwrap())
}

#[test]
fn memory_is_what_the_kernel_shows_elsewhere() {
    let live = Live::open().unwrap();
    let btf = fs::read("/sys/kernel/btf/vmlinux").unwrap();
    let at = symbol("__start_BTF");
    let memory = live.memory().unwrap();
    // In pieces of all kinds, and in one.
    for (start, len) in [
        (0, 1),
        (3, 8),
        (4095, 2),
        (100_001, 700_000),
        (0, btf.len()),
    ] {
        let mut found = vec![0; len];
        let from = at.checked_add(start as u64).unwrap();
        memory.read(from, &mut found).unwrap();
        assert!(found == btf[start..start + len], "{len} bytes at {start}");
    }
    memory.read(at, &mut []).unwrap();
    assert_eq!(
        live.symbol(symbol("_etext")).unwrap().to_string(),
        "_etext+0x0"
    );
}

#[test]
fn the_first_unreadable_byte_is_named() {
    let live = Live::open().unwrap();
    let memory = live.memory().unwrap();
    // Behind the kernel's image nothing is mapped.
    let image = memory.read_up_to(symbol("__start_BTF"), 1 << 30);
    let end = image.fault.unwrap().addr;
    assert_eq!(end.get() % live.kernel().page_size, 0);
    for (before, len) in [(1, 2), (8, 16), (4096, 8192), (300_000, 900_000), (0, 1)] {
        let mut found = vec![0xa5; len];
        let from = Kva::new(end.get() - before as u64);
        let fault = memory.read(from, &mut found).unwrap_err();
        assert_eq!(fault, Fault::new(end, Cause::Refused), "{before} of {len}");
        let (good, rest) = found.split_at(before);
        // The kernel writes to some of it; what it fills is not this pattern.
        let mut again = vec![0; before];
        memory.read(from, &mut again).unwrap();
        let changed = good.iter().zip(&again).filter(|(a, b)| a != b).count();
        assert!(changed <= before / 16, "{changed} of {before}");
        assert!(rest.iter().all(|&byte| byte == 0xa5), "{before} of {len}");
    }
}

#[test]
fn user_memory_is_not_the_kernels() {
    let live = Live::open().unwrap();
    let memory = live.memory().unwrap();
    let mine = 7u64;
    let mine = Kva::new((&raw const mine).addr() as u64);
    for (at, cause) in [
        (mine, Cause::Refused),
        (Kva::at(0), Cause::Refused),
        (Kva::at(0x7fff_ffff_f000), Cause::Refused),
        (Kva::at(1 << 62), Cause::NotCanonical),
        (Kva::at(u64::MAX), Cause::EndOfSpace),
    ] {
        let mut found = [9; 8];
        let fault = memory.read(at, &mut found).unwrap_err();
        assert_eq!((fault, found), (Fault::new(at, cause), [9; 8]));
    }
}

/// Through `/proc/kcore`, where there is one, the same is seen.
#[test]
fn memory_is_read_through_kcore_as_well() {
    let live = Live::open()
        .unwrap()
        .fetching(Fetch::Memory)
        .via(Via::Kcore);
    let (made, contents) = Spec::new(MapType::PercpuHash, 4, 24, 100).filled(100);
    if !Path::new("/proc/kcore").exists() {
        let (walk, _) = read(&live, &made.info(&live));
        assert_eq!(
            walk.gaps[0].to_string(),
            "map: percpu_hash maps are read from the kernel's memory: opening /proc/kcore: ENOENT: \
             No such file or directory"
        );
        return;
    }
    check_through(&live, &made, &contents);
    // What was known of page tables is not taken for what is true now.
    for size in [1 << 20, 3 << 20, 100, 2 << 20] {
        let spec = Spec::new(MapType::Array, 4, size, 3).flags(bpf::BPF_F_MMAPABLE);
        let (made, contents) = spec.filled(3);
        check_through(&live, &made, &contents);
    }
}

#[track_caller]
fn check_through(live: &Live, made: &Made, contents: &Contents) {
    let (walk, found) = read(live, &made.info(live));
    assert!(walk.is_complete(), "{walk:?}");
    assert!(found == *contents);
}

/// The maps and programs that have the name of what the reading puts there.
fn of_our_name() -> [BTreeSet<u32>; 2] {
    let is_ours = |name: &OsString| name == "bpfreeze";
    let maps = MapInfoIter::default().filter(|map| is_ours(&map.name));
    let progs = ProgInfoIter::default().filter(|prog| is_ours(&prog.name));
    [
        maps.map(|map| map.id).collect(),
        progs.map(|prog| prog.id).collect(),
    ]
}

/// Those of them that `live` does not list: its own. Others, which other
/// tests have at the same time, it does.
fn hidden_by(live: &Live) -> [BTreeSet<u32>; 2] {
    let [mut maps, mut progs] = of_our_name();
    for map in live.maps().unwrap().maps {
        maps.remove(&map.id);
    }
    for prog in live.progs().unwrap().progs {
        progs.remove(&prog.id);
    }
    let now = of_our_name();
    [&maps & &now[0], &progs & &now[1]]
}

#[test]
fn nothing_of_the_reading_is_shown_or_stays() {
    let live = Live::open().unwrap().fetching(Fetch::Memory);
    let (made, _) = Spec::new(MapType::PercpuArray, 4, 800, 4).filled(4);
    // Per-CPU values and large reads take all that there is.
    let (walk, _) = read(&live, &made.info(&live));
    assert!(walk.is_complete(), "{walk:?}");
    let [maps, progs] = hidden_by(&live);
    // The map may be gone as soon as the program that used it.
    assert!(maps.len() <= 1 && progs.len() == 2, "{maps:?} {progs:?}");
    drop(live);
    let now = of_our_name();
    assert!(maps.is_disjoint(&now[0]) && progs.is_disjoint(&now[1]));
}
