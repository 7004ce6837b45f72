#![cfg(test)]
//! How rendering ends: at the end, at the limit, or when nobody reads on.

mod zoo;

use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;
use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::{
    BpfMapAccessor, Bytes, Entry, Error, KernelInfo, MapInfo, MapState, MapType, Maps, Progs,
    Symbol, Visitor, Walk,
};
use btf_layout::Btf;
use btf_layout::build::Builder;
use guestmem::{Kva, Memory};
use render::fake::{Fake, FakeMap};
use render::{Format, Options, Source};

const FORMATS: [Format; 4] = [Format::Text, Format::Json, Format::Jsonl, Format::Bpftool];

/// A hash with more entries than anyone would wait for.
struct Endless {
    fake: Fake,
    visited: std::cell::Cell<u64>,
}

impl Endless {
    fn new() -> Self {
        let map = FakeMap::new(1, "endless", MapType::HASH, 8, 8);
        Self {
            fake: Fake::new(vec![map]),
            visited: std::cell::Cell::new(0),
        }
    }
}

impl BpfMapAccessor for Endless {
    fn kernel(&self) -> &KernelInfo {
        self.fake.kernel()
    }

    fn maps(&self) -> Result<Maps, Error> {
        self.fake.maps()
    }

    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error> {
        self.fake.btf(map)
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        self.fake.vmlinux_btf()
    }

    fn entries(&self, _map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        let mut walk = Walk::default();
        loop {
            walk.visited += 1;
            self.visited.set(walk.visited);
            let bytes = walk.visited.to_le_bytes();
            let entry = Entry::KeyValue {
                key: &bytes,
                value: Bytes::whole(&bytes),
            };
            if visit(entry) == ControlFlow::Break(()) {
                walk.stopped = true;
                return Ok(walk);
            }
        }
    }

    fn state(&self, _map: &MapInfo) -> Result<Option<MapState>, Error> {
        Ok(None)
    }

    fn arena(&self, _map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        Ok(None)
    }

    fn progs(&self) -> Result<Progs, Error> {
        Ok(Progs::default())
    }

    fn symbol(&self, _at: Kva) -> Option<Symbol> {
        None
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        None
    }
}

/// A pipe whose reader goes away after so many bytes.
struct Closing(usize);

impl Write for Closing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self
            .0
            .checked_sub(bytes.len())
            .ok_or(ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn options(format: Format, limit: Option<u64>) -> Options {
    let mut options = Options::new(Source::new("raw").with("file", "guest.ram"));
    options.format = format;
    options.limit = limit;
    options
}

#[test]
fn a_closed_pipe_ends_the_walk_at_once() {
    for format in FORMATS {
        let endless = Endless::new();
        let maps = endless.maps().unwrap();
        let mut out = Closing(1 << 20);
        let error = render::dump(&endless, &maps, &options(format, None), &mut out).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(endless.visited.get() < 1 << 17, "{format:?}");
    }
}

#[test]
fn the_limit_ends_the_walk_and_is_told() {
    for format in FORMATS {
        let endless = Endless::new();
        let maps = endless.maps().unwrap();
        let mut out = Vec::new();
        let outcome = render::dump(&endless, &maps, &options(format, Some(5)), &mut out).unwrap();
        assert_eq!((outcome.entries, outcome.limited), (5, vec![1]));
        assert_eq!(endless.visited.get(), 6);
        let text = String::from_utf8(out).unwrap();
        let told = match format {
            Format::Text => "stopped at the limit of 5",
            Format::Json | Format::Jsonl => r#""visited":5,"complete":false,"stopped":"limit""#,
            // bpftool knows no limit, so its form has no place for it.
            Format::Bpftool => "",
        };
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn a_limit_that_is_not_exceeded_cuts_nothing() {
    let kernel = zoo::kernel();
    let maps = zoo::choose(&kernel, &[3]);
    for format in FORMATS {
        let mut out = Vec::new();
        let outcome = render::dump(&kernel, &maps, &options(format, Some(10)), &mut out).unwrap();
        assert!(outcome.is_complete() && outcome.limited.is_empty());
        assert_eq!(outcome.entries, 10);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            zoo::dump(format, &[3], None)
        );
    }
}

#[test]
fn types_of_a_struct_ops_map_come_from_the_kernel() {
    let types = zoo::types();
    let mut map =
        FakeMap::new(1, "ops", MapType::STRUCT_OPS, 4, 24).entry(&[0; 4], [0; 24].as_slice());
    map.info.btf_vmlinux_value_type_id = types.flow.0;
    let text = |kernel: &Fake| {
        let mut out = Vec::new();
        let maps = kernel.maps().unwrap();
        let outcome = render::dump(kernel, &maps, &options(Format::Jsonl, None), &mut out);
        (
            outcome.unwrap().is_complete(),
            String::from_utf8(out).unwrap(),
        )
    };
    let (complete, json) = text(&Fake::new(vec![map.clone()]));
    assert!(!complete && json.contains(r#""btf_error":"BTF 1 is gone""#));
    let (complete, json) = text(&Fake::new(vec![map]).with_vmlinux(&types.btf));
    assert!(complete && json.contains(r#""value_type":"struct flow""#));
}

#[test]
fn names_do_not_command_the_terminal() {
    let mut types = Builder::new();
    let u32_ = types.int("u32\x1b]0;", 4);
    let value = types.record("\x1b[2J", 4, &[("\x1b[31m", u32_, 0)]);
    let btf = Rc::new(Btf::parse(types.finish(), "a test").unwrap());
    let map = FakeMap::new(1, "\x1b[H\u{9b}A", MapType::HASH, 4, 4)
        .typed(&btf, u32_, value)
        .entry(&[1; 4], [2; 4].as_slice());
    let kernel = Fake::new(vec![map]);
    let maps = kernel.maps().unwrap();
    for format in FORMATS {
        let (mut list, mut out) = (Vec::new(), Vec::new());
        let outcome = render::dump(&kernel, &maps, &options(format, None), &mut out).unwrap();
        assert!(outcome.is_complete());
        let outcome = render::maps(&kernel, &maps, &options(format, None), &mut list).unwrap();
        assert!(outcome.is_complete());
        for bytes in [out, list] {
            assert!(!bytes.contains(&0x1b), "{format:?}");
            let text = String::from_utf8(bytes).unwrap();
            assert!(format != Format::Text || !text.contains('\u{9b}'));
        }
    }
}
