//! Which fields are special.

use bpfmaps::special::{FieldKind, Fields};
use btf_layout::build::Builder;
use btf_layout::{Btf, Kind, TypeId};

/// A kernel that knows these kinds, by their enumerators.
fn kernel(known: &[&str], lock_size: u32) -> Btf {
    let mut types = Builder::new();
    let values: Vec<(&str, i64)> = known.iter().copied().zip(0..).collect();
    types.enumeration("btf_field_type", 4, &values);
    types.record("bpf_spin_lock", lock_size, &[]);
    Btf::parse(types.finish(), "a kernel").unwrap()
}

const NEW: &[&str] = &[
    "BPF_SPIN_LOCK",
    "BPF_TIMER",
    "BPF_KPTR_UNREF",
    "BPF_KPTR_REF",
    "BPF_LIST_HEAD",
    "BPF_LIST_NODE",
    "BPF_REFCOUNT",
];

/// A kernel from before there were flags.
const EARLY: &[&str] = &["BTF_FIELD_SPIN_LOCK", "BTF_FIELD_TIMER", "BTF_FIELD_KPTR"];

/// Types that tests choose from.
struct Types {
    b: Builder,
    number: TypeId,
    lock: TypeId,
    timer: TypeId,
    head: TypeId,
    node: TypeId,
    kptr: TypeId,
}

impl Types {
    fn new() -> Self {
        let mut b = Builder::new();
        let number = b.int("u32", 4);
        let lock = b.record("bpf_spin_lock", 4, &[]);
        let timer = b.record("bpf_timer", 16, &[]);
        let head = b.record("bpf_list_head", 16, &[]);
        let node = b.record("bpf_list_node", 24, &[]);
        let item = b.record("item", 32, &[("number", number, 0), ("node", node, 64)]);
        let tagged = b.wrap(Kind::TypeTag, "kptr", item);
        let kptr = b.ptr(tagged);
        Self {
            b,
            number,
            lock,
            timer,
            head,
            node,
            kptr,
        }
    }

    fn value(&mut self, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        self.b.record("value", size, members)
    }

    fn tagged(&mut self, tag: &str) -> TypeId {
        let item = self.b.record("other", 8, &[]);
        let tagged = self.b.wrap(Kind::TypeTag, tag, item);
        self.b.ptr(tagged)
    }
}

type Found = Vec<(u64, FieldKind)>;

fn found(fields: &Fields) -> Found {
    fields
        .iter()
        .map(|field| (field.offset, field.kind))
        .collect()
}

/// The special fields of the type that `make` makes.
fn find(known: &[&str], make: impl FnOnce(&mut Types) -> TypeId) -> Found {
    let mut types = Types::new();
    let ty = make(&mut types);
    let btf = Btf::parse(types.b.finish(), "a program").unwrap();
    found(&Fields::of(&kernel(known, 4), &btf, ty))
}

const LOCK: (u64, FieldKind) = (0, FieldKind::SpinLock);

#[test]
fn members_are_found_in_structs_and_arrays_in_structs() {
    let fields = find(NEW, |types| {
        let pair = types.b.array(types.kptr, 2);
        let inner = [("number", types.number, 0), ("pair", pair, 64)];
        let inner = types.b.record("inner", 24, &inner);
        let twice = types.b.array(inner, 2);
        let named = types.b.typedef("not_looked_through", types.timer);
        let (lock, timer) = (types.lock, types.timer);
        types.value(
            96,
            &[
                ("lock", lock, 0),
                ("timer", timer, 64),
                ("twice", twice, 192),
                ("named", named, 576),
            ],
        )
    });
    let kptrs = [32, 40, 56, 64].map(|offset| (offset, FieldKind::Kptr));
    let expected: Found = [LOCK, (8, FieldKind::Timer)]
        .into_iter()
        .chain(kptrs)
        .collect();
    assert_eq!(fields, expected);
}

#[test]
fn variables_of_sections_are_found() {
    let fields = find(NEW, |types| {
        let head = types.b.variable("head", types.head);
        let lock = types.b.variable("lock", types.lock);
        let short = types.b.variable("short", types.timer);
        types.b.decl_tag("contains:item:node", head, None);
        types.b.section(
            ".data.A",
            64,
            &[(lock, 0, 4), (head, 8, 16), (short, 24, 8)],
        )
    });
    assert_eq!(fields, [LOCK, (8, FieldKind::ListHead)]);
}

#[test]
fn lists_know_their_objects() {
    let mut types = Types::new();
    let (lock, head) = (types.lock, types.head);
    let value = types.value(24, &[("lock", lock, 0), ("head", head, 64)]);
    types.b.decl_tag("contains:item:node", value, Some(1));
    types.b.decl_tag("of no matter", value, Some(1));
    let btf = Btf::parse(types.b.finish(), "a program").unwrap();
    let fields = Fields::of(&kernel(NEW, 4), &btf, value);
    let target = fields.at(8).unwrap().target.unwrap();
    assert_eq!(btf.type_name(target.ty), "struct item");
    assert_eq!(target.node, 8);
    assert!(fields.at(4).is_none());
}

#[test]
fn one_fault_spoils_all() {
    let list = |tags: &'static [&'static str]| {
        find(NEW, |types| {
            let (lock, head) = (types.lock, types.head);
            let value = types.value(24, &[("lock", lock, 0), ("head", head, 64)]);
            for tag in tags {
                types.b.decl_tag(tag, value, Some(1));
            }
            value
        })
    };
    assert_eq!(list(&["contains:item:node"]).len(), 2);
    for tags in [
        &[][..],
        &["contains:item"],
        &["contains:item:number"],
        &["contains:item:nothing"],
        &["contains:nobody:node"],
        &["contains:item:node", "contains:item:node"],
    ] {
        assert_eq!(list(tags), []);
    }
    let without = |make: &dyn Fn(&mut Types) -> TypeId| assert_eq!(find(NEW, make), []);
    // Two of what there may be one of, also in an array.
    without(&|types| {
        let lock = types.lock;
        types.value(8, &[("one", lock, 0), ("two", lock, 32)])
    });
    without(&|types| {
        let timers = types.b.array(types.timer, 2);
        types.value(32, &[("timers", timers, 0)])
    });
    // A list without a lock.
    without(&|types| {
        let head = types.head;
        let value = types.value(16, &[("head", head, 0)]);
        types.b.decl_tag("contains:item:node", value, Some(0));
        value
    });
    // More than any kernel takes.
    without(&|types| {
        let many = types.b.array(types.kptr, u32::MAX);
        types.value(8, &[("many", many, 0)])
    });
    // A bit-field, of which the kernel thinks nothing good.
    without(&|types| {
        let (number, lock) = (types.number, types.lock);
        types.value(8, &[("lock", lock, 0), ("bits", number, 35)])
    });
    // Fields that overlap.
    without(&|types| {
        let (lock, timer) = (types.lock, types.timer);
        types.value(24, &[("lock", lock, 64), ("timer", timer, 0)])
    });
    // A pointer to no struct.
    without(&|types| {
        let tagged = types.b.wrap(Kind::TypeTag, "kptr", types.number);
        let pointer = types.b.ptr(tagged);
        types.value(8, &[("pointer", pointer, 0)])
    });
}

#[test]
fn what_the_kernel_does_not_know_is_plain() {
    let nodes = |known| {
        find(known, |types| {
            let (lock, node) = (types.lock, types.node);
            types.value(32, &[("lock", lock, 0), ("node", node, 64)])
        })
    };
    // Nodes are special in objects alone.
    assert_eq!(nodes(NEW), [LOCK]);
    assert_eq!(nodes(&["BPF_TIMER"]), [LOCK]);
    let misaligned = find(NEW, |types| {
        let (lock, timer) = (types.lock, types.timer);
        types.value(20, &[("lock", lock, 0), ("timer", timer, 32)])
    });
    assert_eq!(misaligned, [LOCK]);
    let mut types = Types::new();
    let (lock, timer) = (types.lock, types.timer);
    let value = types.value(24, &[("lock", lock, 0), ("timer", timer, 64)]);
    let btf = Btf::parse(types.b.finish(), "a program").unwrap();
    let fields = Fields::of(&kernel(NEW, 8), &btf, value);
    assert_eq!(found(&fields), [(8, FieldKind::Timer)]);
    assert!(Fields::of(&kernel(NEW, 4), &btf, TypeId(9999)).is_empty());
}

#[test]
fn tags_meant_something_else_once() {
    let (kptr, untrusted) = (Some(FieldKind::Kptr), Some(FieldKind::UntrustedKptr));
    for (tag, new, early) in [
        ("kptr", kptr, untrusted),
        ("kptr_untrusted", untrusted, None),
        ("kptr_ref", None, kptr),
        ("percpu_kptr", None, None),
        ("user", None, None),
    ] {
        for (known, expected) in [(NEW, new), (EARLY, early)] {
            let fields = find(known, |types| {
                let pointer = types.tagged(tag);
                let pointer = types.b.wrap(Kind::Volatile, "", pointer);
                types.value(8, &[("pointer", pointer, 0)])
            });
            let expected: Found = expected.map(|kind| (0, kind)).into_iter().collect();
            assert_eq!(fields, expected, "{tag}");
        }
    }
}

#[test]
fn structs_nested_without_end_are_left() {
    // Each has two of the next: 2^40 members.
    let fields = find(NEW, |types| {
        let mut inner = types.number;
        for _ in 0..40 {
            inner = types
                .b
                .record("nested", 4, &[("a", inner, 0), ("b", inner, 0)]);
        }
        inner
    });
    assert_eq!(fields, []);
}
