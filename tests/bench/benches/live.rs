//! A hash of 100,000 entries of the running kernel, by bpfreeze and by
//! `bpftool`, both as whole programs that print JSON.
//!
//! Needs root, `bpftool`, and the program's path in `BPFREEZE_BIN`;
//! `cargo xtask bench` sees to them.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark recovers nothing"
)]

use std::ffi::OsString;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use bpfmaps::{BpfMapAccessor, Live};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};

const ENTRIES: u32 = 100_000;

fn filled() -> MapHandle {
    let options = libbpf_sys::bpf_map_create_opts {
        sz: size_of::<libbpf_sys::bpf_map_create_opts>() as libbpf_sys::size_t,
        ..Default::default()
    };
    let map = MapHandle::create(MapType::Hash, Some("bench"), 4, 40, ENTRIES, &options)
        .expect("creating a map needs root");
    for key in 0..ENTRIES {
        let value = [key.to_le_bytes()[0]; 40];
        map.update(&key.to_le_bytes(), &value, MapFlags::ANY)
            .unwrap();
    }
    map
}

fn program(program: OsString, arguments: &[&str]) {
    let status = Command::new(&program)
        .args(arguments)
        .stdout(Stdio::null())
        .status()
        .unwrap_or_else(|error| panic_with(&program, &error));
    assert!(status.success(), "{}", program.display());
}

#[expect(clippy::panic, reason = "a benchmark that cannot run says so")]
fn panic_with(program: &OsString, error: &std::io::Error) -> ! {
    panic!("{}: {error}", program.display())
}

fn live(c: &mut Criterion) {
    let map = filled();
    let id = map.info().unwrap().info.id.to_string();
    let mut group = c.benchmark_group("live hash of 100000");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ENTRIES.into()));
    let bpfreeze =
        std::env::var_os("BPFREEZE_BIN").expect("BPFREEZE_BIN is not set: run `cargo xtask bench`");
    group.bench_function("bpftool -j map dump", |b| {
        b.iter(|| program("bpftool".into(), &["-j", "map", "dump", "id", &id]));
    });
    for format in ["json", "bpftool"] {
        let arguments = ["dump", "live", "--map", &id, "--format", format];
        group.bench_function(format!("bpfreeze dump live --format {format}"), |b| {
            b.iter(|| program(bpfreeze.clone(), &arguments));
        });
    }
    let live = Live::open().unwrap();
    let maps = live.maps().unwrap().maps;
    let info = maps.iter().find(|map| map.id.to_string() == id).unwrap();
    group.bench_function("walk alone", |b| {
        b.iter(|| {
            let walk = live.entries(info, &mut |entry| {
                black_box(entry);
                ControlFlow::Continue(())
            });
            assert_eq!(walk.unwrap().visited, u64::from(ENTRIES));
        });
    });
    group.finish();
}

criterion_group!(benches, live);
criterion_main!(benches);
