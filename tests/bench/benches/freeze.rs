//! How long a guest under load stands still for a capture, beside the dumps
//! that its QEMU writes itself.
//!
//! `cargo xtask bench` boots the guest, and says where its monitor is.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark recovers nothing"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, criterion_group, criterion_main};
use freeze::Machine;
use freeze::capture::{Found, Given, Scope};
use qemu::Qemu;
use serde_json::{Value, json};

/// The formats that every QEMU has.
const FORMATS: [&str; 2] = ["elf", "kdump-zlib"];

fn socket() -> PathBuf {
    std::env::var_os("BPFREEZE_BENCH_QMP")
        .expect("BPFREEZE_BENCH_QMP is not set: run `cargo xtask bench`")
        .into()
}

/// QEMU's monitor. It serves one at a time.
struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect() -> Self {
        let mut monitor = Self(BufReader::new(UnixStream::connect(socket()).unwrap()));
        monitor.message();
        monitor.send(&json!({"execute": "qmp_capabilities"}));
        monitor.message();
        monitor
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.0.get_mut(), "{message}").unwrap();
    }

    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// When QEMU told of an event.
    fn event(&mut self, name: &str) -> Duration {
        loop {
            let message = self.message();
            assert!(message.get("error").is_none(), "{message}");
            if message["event"] == name {
                let time = |unit: &str| message["timestamp"][unit].as_u64().unwrap();
                return Duration::from_secs(time("seconds"))
                    + Duration::from_micros(time("microseconds"));
            }
        }
    }

    /// Lets QEMU dump its guest, and returns how long that stood.
    fn dump(&mut self, format: &str, file: &Path) -> Duration {
        let protocol = format!("file:{}", file.display());
        self.send(&json!({
            "execute": "dump-guest-memory",
            "arguments": {"paging": false, "protocol": protocol, "format": format},
        }));
        let stopped = self.event("STOP");
        self.event("RESUME") - stopped
    }
}

/// A capture of everything that a dump shows, after what can be done before the
/// guest stands was done.
fn capture(group: &mut BenchmarkGroup<'_, WallTime>) {
    let qemu = Qemu::connect(&socket(), &qemu::Options::default()).unwrap();
    let image = Machine::image(&qemu).unwrap();
    let found = Found::new(&image, Given::default()).unwrap();
    let prepared = found.prepare(Scope::default()).unwrap();
    let once = || {
        let capture = prepared.capture(&qemu, None).unwrap();
        capture.report().total().unwrap()
    };
    group.bench_function("capture", |b| {
        b.iter_custom(|count| (0..count).map(|_| once()).sum());
    });
}

fn pause(c: &mut Criterion) {
    let mut group = c.benchmark_group("a guest stands still");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    capture(&mut group);
    let folder = tempfile::tempdir().unwrap();
    for format in FORMATS {
        let file = folder.path().join(format);
        let mut monitor = Monitor::connect();
        group.bench_function(format!("QEMU's dump, {format}"), |b| {
            b.iter_custom(|count| (0..count).map(|_| monitor.dump(format, &file)).sum());
        });
    }
    group.finish();
}

criterion_group!(benches, pause);
criterion_main!(benches);
