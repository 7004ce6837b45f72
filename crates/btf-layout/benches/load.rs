//! From a kernel's BTF bytes to the first answer, beside btf-rs.

use std::hint::black_box;

use btf_layout::{Btf, Kind};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

fn load(criterion: &mut Criterion) {
    let Ok(data) = std::fs::read(VMLINUX) else {
        return;
    };
    let mut group = criterion.benchmark_group("vmlinux");
    group.sample_size(20);
    group.bench_function("parse", |bencher| {
        bencher.iter_batched(
            || data.clone(),
            |data| Btf::parse(data, "bench"),
            BatchSize::LargeInput,
        );
    });
    group.bench_function("parse, index, and find a struct", |bencher| {
        bencher.iter_batched(
            || data.clone(),
            |data| {
                let btf = Btf::parse(data, "bench").ok()?;
                black_box(btf.find(Kind::Struct, "task_struct"));
                Some(btf)
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("btf-rs: parse, and find a struct", |bencher| {
        bencher.iter_batched(
            || data.clone(),
            |data| {
                let btf = btf_rs::Btf::from_bytes(&data).ok()?;
                black_box(btf.resolve_ids_by_name("task_struct")).ok()?;
                Some(btf)
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();

    let Ok(btf) = Btf::parse(data, "bench") else {
        return;
    };
    let mut group = criterion.benchmark_group("answers");
    group.bench_function("find a struct", |bencher| {
        bencher.iter(|| btf.find(Kind::Struct, black_box("task_struct")));
    });
    group.bench_function("a late member of task_struct", |bencher| {
        bencher.iter(|| {
            btf.record("task_struct")
                .ok()?
                .find(black_box("bpf_storage"))
        });
    });
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
