//! From a RAM image to maps and their entries, beside the time that reading
//! the image's data takes.
//!
//! The image is a guest's of `cargo xtask bench`, which also says where it is.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark recovers nothing"
)]

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use bpfmaps::{BpfMapAccessor, Guest, MapInfo, Maps};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use guestmem::{Gpa, RawImage};
use kernel::Finder;
use nix::unistd::{Whence, lseek};
use render::{Format, Options, Source};

fn image_path() -> PathBuf {
    std::env::var_os("BPFREEZE_BENCH_RAM")
        .expect("BPFREEZE_BENCH_RAM is not set: run `cargo xtask bench`")
        .into()
}

/// What `cat` does to the data of the image: 128 KiB at a time.
fn read_data(file: &mut File) -> u64 {
    let mut buf = vec![0; 128 << 10];
    let (mut total, mut at) = (0, 0);
    while let Ok(start) = lseek(&mut *file, at, Whence::SeekData) {
        let end = lseek(&mut *file, start, Whence::SeekHole).unwrap();
        file.seek(SeekFrom::Start(start.cast_unsigned())).unwrap();
        let mut data = (&mut *file).take((end - start).cast_unsigned());
        loop {
            let read = data.read(&mut buf).unwrap();
            if read == 0 {
                break;
            }
            total += read as u64;
        }
        at = end;
    }
    total
}

fn open(note: Option<Gpa>) -> Guest {
    let image = RawImage::open(&image_path()).unwrap();
    let finder = match note {
        Some(gpa) => Finder::new().vmcoreinfo(gpa),
        None => Finder::new(),
    };
    Guest::new(finder.find_in_image(&image).unwrap()).unwrap()
}

fn find(c: &mut Criterion) {
    let mut group = c.benchmark_group("find");
    group.sample_size(20);
    let mut file = File::open(image_path()).unwrap();
    group.throughput(Throughput::Bytes(read_data(&mut file)));
    group.bench_function("read the image's data once", |b| {
        b.iter(|| black_box(read_data(&mut file)));
    });
    group.bench_function("image to maps listed", |b| {
        b.iter(|| black_box(open(None).maps().unwrap()));
    });
    let note = open(None)
        .machine()
        .candidates()
        .first()
        .unwrap()
        .gpa
        .unwrap();
    group.bench_function("image to maps listed, note known", |b| {
        b.iter(|| black_box(open(Some(note)).maps().unwrap()));
    });
    let guest = open(Some(note));
    group.bench_function("list maps", |b| {
        b.iter(|| black_box(guest.maps().unwrap()));
    });
    group.finish();
}

/// The map of this name in the image.
fn map(guest: &Guest, name: &str) -> MapInfo {
    let maps = guest.maps().unwrap().maps;
    maps.into_iter().find(|map| map.name == name).unwrap()
}

fn render_all(guest: &Guest, map: &MapInfo, format: Format) {
    let options = Options {
        format,
        ..Options::new(Source::new("raw"))
    };
    let out = &mut io::sink();
    let maps = Maps {
        maps: vec![map.clone()],
        ..Maps::default()
    };
    let outcome = render::dump(guest, &maps, &options, out).unwrap();
    assert!(outcome.is_complete());
}

fn entries(c: &mut Criterion) {
    let guest = open(None);
    for name in ["sessions", "session_slots"] {
        let map = map(&guest, name);
        let mut group = c.benchmark_group(format!("{} of {}", map.map_type, map.max_entries));
        group.measurement_time(Duration::from_secs(8));
        group.sample_size(20);
        group.throughput(Throughput::Elements(map.max_entries.into()));
        group.bench_function("walk", |b| {
            b.iter(|| {
                let walk = guest.entries(&map, &mut |entry| {
                    black_box(entry);
                    ControlFlow::Continue(())
                });
                assert!(walk.unwrap().is_complete());
            });
        });
        for (format, name) in [
            (Format::Json, "typed JSON"),
            (Format::Bpftool, "bpftool's JSON"),
            (Format::Text, "text"),
        ] {
            group.bench_function(name, |b| b.iter(|| render_all(&guest, &map, format)));
        }
        group.finish();
    }
}

criterion_group!(benches, find, entries);
criterion_main!(benches);
