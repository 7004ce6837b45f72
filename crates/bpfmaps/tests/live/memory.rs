//! The running kernel's memory: what is read, and what is left behind.

use std::fs;
use std::time::{Duration, Instant};

use bpfmaps::{BpfMapAccessor, Error, Fetch, Live, Reason, Via};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};
use libbpf_rs::MapType;
use libbpf_rs::query::{MapInfoIter, ProgInfoIter};

use crate::maker::{Spec, check, read};

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
    for (offset, len) in [
        (0, 1),
        (3, 8),
        (4095, 2),
        (100_001, 700_000),
        (0, btf.len()),
    ] {
        let mut found = vec![0; len];
        let from = at.checked_add(offset).unwrap();
        memory.read(from, &mut found).unwrap();
        let start = offset as usize;
        assert!(found == btf[start..start + len], "{len} bytes at {offset}");
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
        let from = Kva::new(end.get() - before);
        let fault = memory.read(from, &mut found).unwrap_err();
        assert_eq!(fault, Fault::new(end, Cause::Refused), "{before} of {len}");
        let (good, rest) = found.split_at(before as usize);
        assert!(good == &image.bytes[image.bytes.len() - good.len()..]);
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

/// Names of what is in the kernel by the name of what the reading puts there.
fn ours() -> usize {
    let name = |name: &std::ffi::OsString| name == "bpfreeze";
    let maps = MapInfoIter::default().filter(|map| name(&map.name)).count();
    maps + ProgInfoIter::default()
        .filter(|prog| name(&prog.name))
        .count()
}
#[test]
fn measure() {
    let live = Live::open().unwrap().fetching(Fetch::Memory);
    let (made, contents) = Spec::new(MapType::PercpuArray, 4, 8, 4).filled(4);
    read(&live, &made.info(&live));
    println!("{}", ours());
    let t = Instant::now();
    drop(live);
    println!("drop {:?}", t.elapsed());
    while ours() > 0 && t.elapsed() < Duration::from_secs(5) {
        println!("{} {:?}", ours(), t.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    println!("{:?}", t.elapsed());
    let live = Live::open().unwrap();
    let m = live.memory().unwrap();
    let at = symbol("__start_BTF");
    let t = Instant::now();
    for _ in 0..100_000 {
        m.load_u64(at).unwrap();
    }
    println!("100k reads {:?}", t.elapsed());
    let t = Instant::now();
    m.read_up_to(at, 4 << 20);
    println!("4M {:?}", t.elapsed());
    let t = Instant::now();
    live.symbol(at);
    println!("kallsyms {:?}", t.elapsed());
}
