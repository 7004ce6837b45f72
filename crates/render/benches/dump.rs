//! 100,000 typed entries of a hash, in each format.

use std::io::{self, Write};
use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, MapType};
use btf_layout::Btf;
use btf_layout::build::Builder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use render::fake::{Fake, FakeMap};
use render::{Format, Options, Source};

const ENTRIES: u32 = 100_000;

/// A hash from a `u32` to a struct of six fields.
fn hash() -> Option<Fake> {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let u64_ = types.int("u64", 8);
    let state = types.enumeration("state", 4, &[("IDLE", 0), ("RUNNING", 1), ("BLOCKED", 2)]);
    let ptr = types.ptr(u64_);
    let members = [
        ("packets", u64_, 0),
        ("bytes", u64_, 64),
        ("last_seen", u64_, 128),
        ("cpu", u32_, 192),
        ("state", state, 224),
        ("owner", ptr, 256),
    ];
    let value = types.record("flow", 40, &members);
    let btf = Rc::new(Btf::parse(types.finish(), "a bench").ok()?);
    let mut map = FakeMap::new(1, "flows", MapType::HASH, 4, 40).typed(&btf, u32_, value);
    for index in 0..ENTRIES {
        let number = u64::from(index);
        let mut value = Vec::new();
        value.extend(number.wrapping_mul(7919).to_le_bytes());
        value.extend(number.wrapping_mul(1_500_000).to_le_bytes());
        value.extend((1_700_000_000_000_000_000 + number).to_le_bytes());
        value.extend((index % 64).to_le_bytes());
        value.extend((index % 3).to_le_bytes());
        value.extend((0xffff_8880_0000_0000 + number * 64).to_le_bytes());
        map = map.entry(&index.to_le_bytes(), value.as_slice());
    }
    Some(Fake::new(vec![map]))
}

/// Takes everything and keeps nothing.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dump(criterion: &mut Criterion) {
    let Some(fake) = hash() else {
        return;
    };
    let Ok(maps) = fake.maps() else {
        return;
    };
    let mut group = criterion.benchmark_group("dump");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(ENTRIES)));
    for (name, format) in [
        ("json", Format::Json),
        ("jsonl", Format::Jsonl),
        ("bpftool", Format::Bpftool),
        ("text", Format::Text),
    ] {
        let mut options = Options::new(Source::new("bench"));
        options.format = format;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut out = Counter(0);
                let outcome = render::dump(&fake, &maps, &options, &mut out);
                outcome.is_ok_and(|outcome| outcome.entries == u64::from(ENTRIES) && out.0 > 0)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, dump);
criterion_main!(benches);
