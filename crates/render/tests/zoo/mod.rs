//! A kernel with a map for each thing that can be rendered.

use std::rc::Rc;

use bpfmaps::{BpfMapAccessor, GapAt, MapType, Maps, Reason};
use btf_layout::build::Builder;
use btf_layout::{Btf, IntEncoding, Kind, TypeId};
use guestmem::{Cause, Fault, Kva};
use render::fake::{Fake, FakeBytes, FakeMap};
use render::{Format, Options, Source};

/// What cut a value off.
pub(crate) fn fault() -> Fault<Kva> {
    Fault::new(
        Kva::at(0xffff_8880_0000_2000),
        Cause::NotPresent { level: 1 },
    )
}

/// Puts numbers of any width behind each other.
#[derive(Default)]
pub(crate) struct Value(Vec<u8>);

impl Value {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// The types of all maps.
pub(crate) struct Types {
    pub(crate) btf: Rc<Btf>,
    pub(crate) u32_: TypeId,
    pub(crate) flow: TypeId,
    pub(crate) zoo: TypeId,
    pub(crate) bss: TypeId,
    pub(crate) table: TypeId,
    pub(crate) flow_key: TypeId,
}

pub(crate) fn types() -> Types {
    let mut types = Builder::new();
    let u8_ = types.int("unsigned char", 1);
    let u32_ = types.int("u32", 4);
    let u64_ = types.int("u64", 8);
    let s32 = types.int_as("int", 4, IntEncoding::Signed);
    let char_ = types.int_as("char", 1, IntEncoding::Signed);
    let letter = types.int_as("letter", 1, IntEncoding::Char);
    let bool_ = types.int_as("_Bool", 1, IntEncoding::Bool);
    let i128_ = types.int_as("__int128", 16, IntEncoding::Signed);
    let double = types.float("double", 8);
    let single = types.float("float", 4);
    let state = types.enumeration("state", 4, &[("IDLE", 0), ("RUNNING", 1), ("LOST", -1)]);
    let flags = types.enumeration("flags", 4, &[("F_A", 1), ("F_B", 2), ("F_D", 8)]);
    let wide = types.enumeration64("wide", &[("SMALL", 1), ("LARGE", 1 << 40)]);
    let ptr = types.ptr(u64_);
    let comm = types.array(char_, 8);
    let alias = types.typedef("mychar", char_);
    let name = types.array(alias, 4);
    let row = types.array(s32, 3);
    let matrix = types.array(row, 2);
    let many = types.array(u32_, 40);
    let inner = types.record("inner", 8, &[("x", u32_, 0), ("y", s32, 32)]);
    let inners = types.array(inner, 5);
    let choice = types.union("", 4, &[("number", u32_, 0), ("low_byte", u8_, 0)]);
    let nameless = types.record("", 8, &[("deep", u32_, 0), ("", choice, 32)]);
    let named = types.union("un", 8, &[("small", u32_, 0), ("large", u64_, 0)]);
    let hidden = types.forward("hidden");
    let tagged = types.wrap(Kind::TypeTag, "rcu", hidden);
    let tagged = types.ptr(tagged);
    let constant = types.wrap(Kind::Const, "", u32_);
    let bits = types.bitfields(
        "bits",
        8,
        &[
            ("low", u32_, 0, 3),
            ("high", s32, 3, 5),
            ("kind", state, 8, 2),
            ("on", bool_, 10, 1),
            ("far", u64_, 12, 40),
        ],
    );
    let rest = types.array(u32_, 0);
    let zoo = types.record(
        "zoo",
        344,
        &[
            ("byte", u8_, 0),
            ("yes", bool_, 8),
            ("letter", letter, 16),
            ("c", char_, 24),
            ("signed", s32, 32),
            ("huge", i128_, 128),
            ("pi", double, 256),
            ("half", single, 320),
            ("state", state, 352),
            ("flags", flags, 384),
            ("other", flags, 416),
            ("wide", wide, 448),
            ("next", ptr, 512),
            ("hidden", tagged, 576),
            ("comm", comm, 640),
            ("name", name, 704),
            ("fixed", constant, 736),
            ("matrix", matrix, 768),
            ("many", many, 960),
            ("inners", inners, 2240),
            ("", nameless, 2560),
            ("un", named, 2624),
            ("bits", bits, 2688),
            ("rest", rest, 2752),
        ],
    );
    let flow = types.record(
        "flow",
        24,
        &[
            ("packets", u64_, 0),
            ("state", state, 64),
            ("comm", comm, 96),
            ("cpu", s32, 160),
        ],
    );
    let flow_key = types.record("flow_key", 8, &[("saddr", u32_, 0), ("daddr", u32_, 32)]);
    let section = [
        ("counter", u64_, 0, 8),
        ("title", comm, 8, 8),
        ("state", state, 16, 4),
        ("unused", u32_, 20, 4),
        ("inners", inners, 24, 40),
        ("idle", u64_, 64, 8),
    ]
    .map(|(name, ty, offset, size)| (types.variable(name, ty), offset, size));
    let bss = types.section(".bss", 72, &section);
    let table = types.array(inner, 2);
    Types {
        btf: Rc::new(Btf::parse(types.finish(), "a test").unwrap()),
        u32_,
        flow,
        zoo,
        bss,
        table,
        flow_key,
    }
}

/// A value of `struct zoo`.
pub(crate) fn zoo_value() -> Vec<u8> {
    let mut value = Value::new()
        .bytes(&[200, 1, b'"', 0x61])
        .u32(0xffff_fff9)
        .u64(0)
        .bytes(&(-170_141_183_460_469_231_731_687_303_715_884_105_728_i128).to_le_bytes())
        .bytes(&std::f64::consts::PI.to_le_bytes())
        .bytes(&0.5_f32.to_le_bytes())
        .u32(0xffff_ffff)
        .u32(0x19)
        .u32(0x20)
        .u64(1 << 40)
        .u64(0xffff_8880_1234_5678)
        .u64(0)
        .bytes(b"sh \"x\"\0\xff")
        .bytes(b"abcd")
        .u32(9);
    for number in [1_i32, -2, 3, 0, 0, 0] {
        value = value.bytes(&number.to_le_bytes());
    }
    for number in 0..40 {
        value = value.u32(if number < 3 { number } else { 7 });
    }
    for number in [0, 5, 5, 5, 0] {
        value = value.u32(number).u32(number);
    }
    let value = value.u32(11).u32(0x0102).u64(0x5_0000_0003);
    // low 5, high -3, kind LOST, on, far 1 << 39
    let value = value.u64(5 | 29 << 3 | 3 << 8 | 1 << 10 | 1 << (12 + 39));
    let mut value = value.done();
    for number in [1_u32, 2, 3] {
        value.extend(number.to_le_bytes());
    }
    assert_eq!(value.len(), 356);
    value.resize(360, 0);
    value
}

fn flow(packets: u64, state: u32, comm: &[u8; 8], cpu: u32) -> Vec<u8> {
    Value::new()
        .u64(packets)
        .u32(state)
        .bytes(comm)
        .u32(cpu)
        .done()
}

/// One map of each kind that matters.
pub(crate) fn kernel() -> Fake {
    let types = types();
    let Types {
        ref btf,
        u32_,
        flow: flow_type,
        zoo,
        bss,
        table,
        flow_key,
    } = types;
    let u32_bytes = |value: u32| value.to_le_bytes();
    let zoo_map = FakeMap::new(1, "zoo", MapType::HASH, 4, 360)
        .typed(btf, u32_, zoo)
        .entry(&u32_bytes(7), zoo_value().as_slice())
        .entry(&u32_bytes(8), [0; 360].as_slice())
        .entry(
            &u32_bytes(9),
            FakeBytes::cut(&zoo_value()[..130], 360, Some(fault())),
        )
        .gap(bpfmaps::Gap {
            at: GapAt::Kva(fault().addr),
            reason: Reason::Unreadable(fault().cause),
        });
    let flows = FakeMap::new(2, "flows", MapType::LRU_HASH, 8, 24)
        .typed(btf, flow_key, flow_type)
        .entry(
            &Value::new().u32(1).u32(20).done(),
            flow(1_000_000, 1, b"stress\0\0", 3).as_slice(),
        )
        .entry(
            &Value::new().u32(300).u32(4).done(),
            flow(5, 0, b"\0\0\0\0\0\0\0\0", u32::MAX).as_slice(),
        )
        .entry(
            &Value::new().u32(5).u32(6).done(),
            FakeBytes::cut(&flow(6, 1, b"cut\0\0\0\0\0", 0)[..12], 24, Some(fault())),
        )
        .gap(bpfmaps::Gap {
            at: GapAt::Kva(fault().addr),
            reason: Reason::Unreadable(fault().cause),
        });
    let mut array = FakeMap::new(3, "array", MapType::ARRAY, 4, 24).typed(btf, u32_, flow_type);
    for index in 0..10 {
        let value = match index {
            0 => flow(1, 1, b"init\0\0\0\0", 0),
            4 => flow(9, 0, b"\0\0\0\0\0\0\0\0", 1),
            _ => flow(0, 0, b"\0\0\0\0\0\0\0\0", 0),
        };
        array = array.entry(&u32_bytes(index), value.as_slice());
    }
    let percpu = FakeMap::new(4, "percpu", MapType::PERCPU_HASH, 4, 4)
        .typed(btf, u32_, u32_)
        .percpu(
            &u32_bytes(1),
            vec![
                (0, FakeBytes::whole(&u32_bytes(5))),
                (1, FakeBytes::whole(&u32_bytes(5))),
                (2, FakeBytes::whole(&u32_bytes(6))),
            ],
        )
        .percpu(
            &u32_bytes(2),
            vec![
                (0, FakeBytes::whole(&u32_bytes(7))),
                (1, FakeBytes::cut(&[], 4, Some(fault()))),
                (2, FakeBytes::cut(&[1], 4, None)),
            ],
        )
        .gap(bpfmaps::Gap {
            at: GapAt::Key(Box::new(u32_bytes(2))),
            reason: Reason::Unreadable(fault().cause),
        })
        .gap(bpfmaps::Gap {
            at: GapAt::Index(3),
            reason: Reason::Cycle { what: "a bucket" },
        });
    let section = Value::new()
        .u64(42)
        .bytes(b"hello\0\0\0")
        .u32(1)
        .u32(0)
        .bytes(&zoo_value()[280..320])
        .u64(0)
        .done();
    let mut bss_map = FakeMap::new(5, "prog.bss", MapType::ARRAY, 4, 72)
        .typed(btf, TypeId::VOID, bss)
        .entry(&u32_bytes(0), section.as_slice());
    bss_map.info.max_entries = 1;
    bss_map.info.frozen = Some(true);
    let untyped = FakeMap::new(6, "untyped", MapType::HASH, 3, 40)
        .entry(
            b"abc",
            [b"0123456789abcdef".as_slice(), &[0; 24]]
                .concat()
                .as_slice(),
        )
        .entry(&[0, 1, 0xff], [0; 40].as_slice());
    let small = FakeMap::new(7, "", MapType(77), 2, 4).entry(&[1, 2], [3, 4, 5, 6].as_slice());
    let percpu_table = FakeMap::new(8, "tables", MapType::PERCPU_ARRAY, 4, 16)
        .typed(btf, u32_, table)
        .percpu(
            &u32_bytes(0),
            vec![
                (0, FakeBytes::whole(&Value::new().u64(1).u64(2).done())),
                (1, FakeBytes::whole(&[0; 16])),
            ],
        );
    let gone = FakeMap::new(9, "gone", MapType::HASH, 4, 4)
        .typed(btf, u32_, u32_)
        .gone();
    Fake::new(vec![
        zoo_map,
        flows,
        array,
        percpu,
        bss_map,
        untyped,
        small,
        percpu_table,
        gone,
    ])
}

/// The dump of some maps by id, or of all.
pub(crate) fn dump(format: Format, ids: &[u32], limit: Option<u64>) -> String {
    let kernel = kernel();
    let mut out = Vec::new();
    let mut options = Options::new(Source::new("raw").with("file", "guest.ram"));
    options.format = format;
    options.limit = limit;
    let outcome = render::dump(&kernel, &choose(&kernel, ids), &options, &mut out).unwrap();
    let whole = |id: &u32| [3, 5, 6, 7, 8].contains(id);
    assert_eq!(
        outcome.is_complete(),
        !ids.is_empty() && ids.iter().all(whole)
    );
    String::from_utf8(out).unwrap()
}

/// The maps with these ids, or all.
pub(crate) fn choose(kernel: &Fake, ids: &[u32]) -> Maps {
    let mut maps = kernel.maps().unwrap();
    maps.maps
        .retain(|map| ids.is_empty() || ids.contains(&map.id));
    maps
}
