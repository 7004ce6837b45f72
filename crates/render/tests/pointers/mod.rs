//! A map whose value points into an arena.

use std::rc::Rc;

use bpfmaps::arena::Window;
use bpfmaps::{BpfMapAccessor, MapType, ProgInfo, Progs};
use btf_layout::build::Builder;
use btf_layout::{Btf, IntEncoding, Kind, TypeId};
use guestmem::Kva;
use render::fake::{Fake, FakeMap};
use render::{Budget, Format, Options, Outcome, Source};
use serde_json::Value;

/// Where the arena begins.
pub(crate) const START: u64 = 0x7000_0000_0000;
/// Where another one begins, which the program does not use.
pub(crate) const OTHER: u64 = 0x7100_0000_0000;
/// Where the kernel has the byte of the arena whose low half is 0.
pub(crate) const BASE: u64 = 0xffff_c900_0000_8000;
/// A task.
pub(crate) const TASK: u64 = 0xffff_8880_0000_1000;

/// Pages that an arena may have.
const PAGES: u64 = 64;

/// The types of the program.
pub(crate) struct Types {
    pub(crate) btf: Rc<Btf>,
    pub(crate) by_name: Vec<(&'static str, TypeId)>,
}

impl Types {
    pub(crate) fn get(&self, name: &str) -> TypeId {
        let mut all = self.by_name.iter();
        all.find(|(known, _)| *known == name).unwrap().1
    }
}

pub(crate) fn types() -> Types {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let char_ = types.int_as("char", 1, IntEncoding::Char);
    // A pointer to the struct that comes next.
    let to_node = types.ptr(TypeId(char_.0 + 2));
    let node = types.record("node", 16, &[("number", u32_, 0), ("next", to_node, 64)]);
    let pair = types.record("pair", 16, &[("left", to_node, 0), ("right", to_node, 64)]);
    let array = types.array(to_node, 4);
    let many = types.record("many", 32, &[("nodes", array, 0)]);
    let words = types.array(u32_, 2048);
    let members = [("words", words, 0), ("node", node, 65536)];
    let large = types.record("large", 8208, &members);
    let to_large = types.ptr(large);
    let members = [("large", to_large, 0), ("node", to_node, 64)];
    let both = types.record("both", 16, &members);
    let to_pair = types.ptr(pair);
    let either = types.union("either", 8, &[("node", to_node, 0), ("pair", to_pair, 0)]);
    let to_nothing = types.ptr(TypeId::VOID);
    let to_u32 = types.ptr(u32_);
    let declared = types.add(Kind::Fwd, "node", 0, 0, &[]);
    let to_declared = types.ptr(declared);
    let unknown = types.add(Kind::Fwd, "nowhere", 0, 0, &[]);
    let to_unknown = types.ptr(unknown);
    let task = types.add(Kind::Fwd, "task_struct", 0, 0, &[]);
    let to_task = types.ptr(task);
    let to_to_node = types.ptr(to_node);
    // A pointer to its own type.
    let to_itself = types.ptr(TypeId(to_to_node.0 + 1));
    let endless = types.array(node, u32::MAX);
    let to_endless = types.ptr(endless);
    let btf = Btf::parse(types.finish(), "a program").unwrap();
    Types {
        btf: Rc::new(btf),
        by_name: vec![
            ("u32", u32_),
            ("node *", to_node),
            ("pair", pair),
            ("many", many),
            ("large *", to_large),
            ("both", both),
            ("either", either),
            ("void *", to_nothing),
            ("u32 *", to_u32),
            ("declared *", to_declared),
            ("unknown *", to_unknown),
            ("task *", to_task),
            ("node **", to_to_node),
            ("itself *", to_itself),
            ("endless *", to_endless),
        ],
    }
}

fn vmlinux() -> Rc<Btf> {
    let mut types = Builder::new();
    let u32_ = types.int("u32", 4);
    let char_ = types.int_as("char", 1, IntEncoding::Char);
    let comm = types.array(char_, 16);
    let members = [("pid", u32_, 0), ("tgid", u32_, 32), ("comm", comm, 64)];
    types.record("task_struct", 24, &members);
    Rc::new(Btf::parse(types.finish(), "vmlinux").unwrap())
}

pub(crate) fn arena(id: u32, start: u64) -> FakeMap {
    let window = Window::new(start, PAGES, Kva::at(BASE + (u64::from(id) << 33)), 4096).unwrap();
    FakeMap::new(id, "arena", MapType::ARENA, 0, 0).arena(window)
}

/// The arena that the program uses.
pub(crate) fn own() -> FakeMap {
    arena(2, START)
}

pub(crate) fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn node(number: u64, next: u64) -> Vec<u8> {
    words(&[number, next])
}

/// What is dumped, and how.
pub(crate) struct Case {
    pub(crate) arenas: Vec<FakeMap>,
    /// Those that the program uses.
    pub(crate) used: Vec<u32>,
    pub(crate) budget: Budget,
}

impl Case {
    pub(crate) fn new(arena: FakeMap) -> Self {
        Self {
            used: vec![arena.info.id],
            arenas: vec![arena, self::arena(3, OTHER)],
            budget: Budget::default(),
        }
    }

    fn kernel(&self, ty: &str, value: &[u8]) -> Fake {
        let types = types();
        let size = u32::try_from(value.len()).unwrap();
        let values = FakeMap::new(1, "values", MapType::HASH, 4, size)
            .typed(&types.btf, types.get("u32"), types.get(ty))
            .entry(&[7, 0, 0, 0], value);
        let mut comm = [0; 16];
        comm[..6].copy_from_slice(b"stress");
        let task = [words(&[812 | 812 << 32]), comm.to_vec()].concat();
        let prog = ProgInfo {
            id: 1,
            map_ids: self.used.iter().copied().chain([1]).collect(),
            ..ProgInfo::default()
        };
        let progs = Progs {
            progs: vec![prog],
            ..Progs::default()
        };
        let maps = [values].into_iter().chain(self.arenas.iter().cloned());
        Fake::new(maps.collect())
            .with_vmlinux(&vmlinux())
            .with_memory(guestmem::Fake::new().with(Kva::at(TASK), &task))
            .with_progs(progs)
    }

    /// The dump of a map with this value.
    pub(crate) fn dump(&self, format: Format, ty: &str, value: &[u8]) -> (String, Outcome) {
        let kernel = self.kernel(ty, value);
        let mut options = Options::new(Source::new("raw"));
        options.format = format;
        options.follow = self.budget;
        let mut maps = kernel.maps().unwrap();
        maps.maps.truncate(1);
        let mut out = Vec::new();
        let outcome = render::dump(&kernel, &maps, &options, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), outcome)
    }

    /// The same as JSON, which is what the schema says.
    pub(crate) fn json(&self, ty: &str, value: &[u8]) -> (Value, Outcome) {
        let (text, outcome) = self.dump(Format::Json, ty, value);
        crate::schema::check(&super::schema::schema(None), &text);
        let document: Value = serde_json::from_str(&text).unwrap();
        let pointer = crate::schema::schema(Some("pointer"));
        each_pointer(&document, &mut |found| {
            crate::schema::check(&pointer, &found.to_string());
        });
        let line = crate::schema::schema(Some("line"));
        for text in self.dump(Format::Jsonl, ty, value).0.lines() {
            crate::schema::check(&line, text);
        }
        (document, outcome)
    }

    /// Checks what the value becomes.
    #[track_caller]
    pub(crate) fn check(&self, ty: &str, value: &[u8], want: Value) {
        let (document, outcome) = self.json(ty, value);
        assert_eq!(document["maps"][0]["entries"][0]["value"]["typed"], want);
        assert!(outcome.is_complete(), "{outcome:?}");
    }
}

/// Hands over every pointer that was asked for.
pub(crate) fn each_pointer(value: &Value, visit: &mut dyn FnMut(&Value)) {
    match value {
        Value::Object(members) => {
            if members.contains_key("ptr") {
                visit(value);
            }
            members
                .values()
                .for_each(|value| each_pointer(value, visit));
        }
        Value::Array(elements) => elements.iter().for_each(|value| each_pointer(value, visit)),
        _ => {}
    }
}
