//! Special fields of values, in a kernel made by hand.

mod fields;
mod graphs;
mod hidden;

use std::ops::ControlFlow;

use bpfmaps::special::{Callback, FieldKind, Pointed, Reader, Special, TaskWork, Timer, Work};
use bpfmaps::{BpfMapAccessor, Entry, Guest, MapInfo, MapType, ProgRef};
use btf_layout::build::Builder;
use btf_layout::{Kind, TypeId};
use guestmem::{Address, Kva};

use crate::fake::table::{Put, place_of};
use crate::fake::{ARRAY_VALUES, CPU_OFFSETS, Maps, Shape, on};

/// Where the fields of the value are.
const TIMER: u64 = 8;
const WORK: u64 = 24;
const TASK_WORK: u64 = 40;
const LIST: u64 = 48;
const TREE: u64 = 64;
const OWNED: u64 = 80;
const TASK: u64 = 88;
const PERCPU: u64 = 96;
const UPTR: u64 = 104;
const SIZE: u32 = 112;

/// Where the fields of an object are, and its size.
const ITEM_LIST: u64 = 8;
const ITEM_TREE: u64 = 32;
const ITEM_REFS: u64 = 64;
const ITEM_SIZE: u32 = 72;

/// Something that no page table has.
const WILD: u64 = 0xffff_c900_dead_0000;

/// A program's BTF with objects of `item_size` bytes, and the type of values.
fn program_btf(item_size: u32) -> (Vec<u8>, TypeId) {
    let mut types = Builder::new();
    let b = &mut types;
    let number = b.int("u64", 8);
    let bits = |offset: u64| u32::try_from(offset * 8).unwrap();
    let mut opaque = |name: &str, size: u32| b.record(name, size, &[]);
    let lock = opaque("bpf_spin_lock", 4);
    let timer = opaque("bpf_timer", 16);
    let work = opaque("bpf_wq", 16);
    let task_work = opaque("bpf_task_work", 8);
    let list = opaque("bpf_list_head", 16);
    let list_node = opaque("bpf_list_node", 24);
    let tree = opaque("bpf_rb_root", 16);
    let tree_node = opaque("bpf_rb_node", 32);
    let refs = opaque("bpf_refcount", 4);
    let task = opaque("task_struct", 8);
    let item = [
        ("key", number, 0),
        ("list", list_node, bits(ITEM_LIST)),
        ("tree", tree_node, bits(ITEM_TREE)),
        ("refs", refs, bits(ITEM_REFS)),
    ];
    let item = b.record("item", item_size, &item);
    let mut tagged = |tag: &str, to: TypeId| {
        let tagged = b.wrap(Kind::TypeTag, tag, to);
        b.ptr(tagged)
    };
    let owned = tagged("kptr", item);
    let task = tagged("kptr_untrusted", task);
    let each = tagged("percpu_kptr", item);
    let lent = tagged("uptr", item);
    let value = [
        ("lock", lock, 0),
        ("timer", timer, bits(TIMER)),
        ("work", work, bits(WORK)),
        ("task_work", task_work, bits(TASK_WORK)),
        ("list", list, bits(LIST)),
        ("tree", tree, bits(TREE)),
        ("owned", owned, bits(OWNED)),
        ("task", task, bits(TASK)),
        ("each", each, bits(PERCPU)),
        ("lent", lent, bits(UPTR)),
    ];
    let value = b.record("value", SIZE, &value);
    b.decl_tag("contains:item:list", value, Some(4));
    b.decl_tag("contains:item:tree", value, Some(5));
    (types.finish(), value)
}

/// A kernel with an array of one value, all zeros.
struct World {
    maps: Maps,
    value: Kva,
}

impl World {
    fn new() -> Self {
        Self::on(Maps::new(), ITEM_SIZE)
    }

    fn on(mut maps: Maps, item_size: u32) -> Self {
        let shape = Shape {
            map_type: MapType::ARRAY,
            key_size: 4,
            value_size: SIZE,
            max_entries: 1,
        };
        let table = maps.array(1, shape, &[0; SIZE as usize]);
        let (btf, value) = program_btf(item_size);
        let btf = maps.btf(9, &btf, Kva::at(0));
        maps.machine.place_u64(on(table, 64), btf.get());
        maps.machine.place(on(table, 48), &value.0.to_le_bytes());
        Self {
            maps,
            value: on(table, ARRAY_VALUES),
        }
    }

    /// Puts a word into the value.
    fn put(&mut self, offset: u64, word: u64) {
        self.maps.machine.place_u64(on(self.value, offset), word);
    }

    /// Puts a pointer into the field at `offset`, where `member` has it.
    fn point(&mut self, offset: u64, member: &str, to: Kva) {
        self.put(offset + place_of(member).0, to.get());
    }

    /// The map of the finished kernel.
    fn open(self) -> (Guest, MapInfo) {
        let guest = self.maps.finish();
        let map = guest.maps().unwrap().maps.remove(0);
        (guest, map)
    }
}

/// The value of a map with one.
fn value_of(accessor: &dyn BpfMapAccessor, map: &MapInfo) -> Vec<u8> {
    let mut bytes = Vec::new();
    let walk = accessor.entries(map, &mut |entry| {
        if let Entry::KeyValue { value, .. } = entry {
            bytes = value.present.to_vec();
        }
        ControlFlow::Continue(())
    });
    assert!(walk.unwrap().is_complete());
    bytes
}

/// What the field at `offset` of the value holds.
fn read(world: World, offset: u64) -> Special {
    let (guest, map) = world.open();
    read_from(&guest, &map, offset)
}

fn read_from(accessor: &dyn BpfMapAccessor, map: &MapInfo, offset: u64) -> Special {
    let reader = Reader::of(accessor, map).unwrap().unwrap();
    let field = reader.fields().at(offset).unwrap();
    reader.read(field, &value_of(accessor, map), None)
}

/// What was found at the pointer, or the text of the gap.
fn found<T>(pointed: Pointed<T>) -> Result<T, String> {
    match pointed {
        Pointed::At { found, .. } => found.map_err(|gap| gap.to_string()),
        Pointed::Null => Err("null".to_owned()),
    }
}

const CALLBACK: Kva = Kva::at(0xffff_ffff_8200_1000);

/// What is called back, in a kernel that names it.
fn callback(world: &mut World) -> Option<Callback> {
    let symbol = "bpf_prog_0123456789abcdef_on_time";
    world.maps.machine.symbol(symbol, CALLBACK);
    world.maps.machine.symbol("_end", on(CALLBACK, 0x1000));
    Some(Callback {
        address: CALLBACK,
        name: Some("on_time".to_owned()),
    })
}

fn prog(world: &mut World) -> (Kva, Option<ProgRef>) {
    let (id, name) = (31, Some("owner".to_owned()));
    (world.maps.prog(31, "owner"), Some(ProgRef { id, name }))
}

/// A timer whose members have these names.
fn timer(mut world: World, names: [&str; 3]) -> Result<Timer, String> {
    let base = world
        .maps
        .object("hrtimer_clock_base", &[("clockid", 7.into())]);
    callback(&mut world);
    let (prog, _) = prog(&mut world);
    let [of_prog, of_callback, of_state] = names;
    let fields: [(&str, Put<'_>); 5] = [
        ("timer.base", base.into()),
        ("timer.node.expires", 123_456.into()),
        (of_state, 1.into()),
        (of_prog, prog.into()),
        (of_callback, CALLBACK.into()),
    ];
    let object = world.maps.object("bpf_hrtimer", &fields);
    world.point(TIMER, "bpf_async_kern.timer", object);
    match read(world, TIMER) {
        Special::Timer(timer) => found(timer),
        other => panic!("{other:?}"),
    }
}

#[test]
fn timers_read_back_whatever_their_members_are_called() {
    let expected = Timer {
        armed: true,
        expires_ns: 123_456,
        clock: "boottime".to_owned(),
        callback: callback(&mut World::new()),
        prog: prog(&mut World::new()).1,
    };
    let names = ["cb.prog", "cb.callback_fn", "timer.is_queued"];
    assert_eq!(timer(World::new(), names), Ok(expected.clone()));
    let old = Maps::without(&[
        "bpf_async_kern",
        "bpf_hrtimer.cb",
        "bpf_hrtimer.cb.prog",
        "bpf_hrtimer.cb.callback_fn",
        "bpf_hrtimer.timer.is_queued",
    ]);
    let names = ["prog", "callback_fn", "timer.state"];
    assert_eq!(timer(World::on(old, ITEM_SIZE), names), Ok(expected));
}

#[test]
fn work_reads_back() {
    let mut world = World::new();
    let callback = callback(&mut world);
    let (at, prog) = prog(&mut world);
    let fields = [
        ("cb.prog", at.into()),
        ("cb.callback_fn", CALLBACK.into()),
        ("work.data", 0x1001.into()),
    ];
    let object = world.maps.object("bpf_work", &fields);
    world.point(WORK, "bpf_async_kern.work", object);
    let Special::Workqueue(work) = read(world, WORK) else {
        panic!()
    };
    let pending = true;
    let expected = Work {
        pending,
        callback,
        prog,
    };
    assert_eq!(found(work), Ok(expected));
}

#[test]
fn work_for_a_task_has_the_state_that_btf_names() {
    for (number, state) in [(0, "standby"), (1, "scheduled"), (77, "77")] {
        let mut world = World::new();
        let callback = callback(&mut world);
        let fields = [
            ("state", number.into()),
            ("task", WILD.into()),
            ("callback_fn", CALLBACK.into()),
        ];
        let object = world.maps.object("bpf_task_work_ctx", &fields);
        world.point(TASK_WORK, "bpf_task_work_kern.ctx", object);
        let Special::TaskWork(work) = read(world, TASK_WORK) else {
            panic!()
        };
        let expected = TaskWork {
            state: state.to_owned(),
            callback,
            prog: None,
            task: Some(Kva::at(WILD)),
        };
        assert_eq!(found(work), Ok(expected));
    }
}

#[test]
fn locks_are_held_or_not() {
    for (word, held) in [(0, false), (1, true), (0x101, true)] {
        let mut world = World::new();
        world.put(0, word);
        assert_eq!(read(world, 0), Special::SpinLock { held });
    }
}

#[test]
fn pointers_lead_to_objects_of_the_kernel_or_of_programs() {
    let mut world = World::new();
    let item: Vec<u8> = (0..72).collect();
    let at = world.maps.machine.allocate(&item);
    world.put(OWNED, at.get());
    let task = world.maps.task(1234, "a task");
    world.put(TASK, task.get());
    world.put(UPTR, at.get());
    let pointer = 0xffff_ffff_8700_0000u64;
    let pointer_at = world.maps.machine.allocate(&pointer.to_le_bytes());
    world.put(PERCPU, pointer_at.get());
    let (first, place) = CPU_OFFSETS[0];
    world.maps.machine.place(Kva::new(pointer + place), &item);

    let (guest, map) = world.open();
    let read = |offset| read_from(&guest, &map, offset);
    for offset in [OWNED, UPTR] {
        let (Special::Kptr(pointed) | Special::Uptr(pointed)) = read(offset) else {
            panic!("{offset}")
        };
        let object = found(pointed).unwrap();
        assert_eq!(
            (object.type_name.as_str(), object.of_kernel),
            ("struct item", false)
        );
        assert_eq!(object.bytes, item);
    }
    let Special::Kptr(pointed) = read(TASK) else {
        panic!()
    };
    let object = found(pointed).unwrap();
    assert_eq!(
        (object.type_name.as_str(), object.of_kernel),
        ("struct task_struct", true)
    );
    assert_eq!(object.bytes.len(), 96);
    let Special::PercpuKptr(pointed) = read(PERCPU) else {
        panic!()
    };
    let each = found(pointed).unwrap();
    assert_eq!((each[0].cpu, each.len()), (first, 2));
    assert_eq!(each[0].found.as_ref().unwrap().bytes, item);
    // Nothing is placed for the other CPU.
    let gap = each[1].found.as_ref().unwrap_err().to_string();
    assert!(gap.contains("page not present"), "{gap}");
}

#[test]
fn null_and_wild_pointers_are_told_apart() {
    let gap = format!("{WILD:#x}: page not present at level 4");
    for (word, expected) in [(0, "null"), (WILD, gap.as_str())] {
        for offset in [TIMER, WORK, TASK_WORK, OWNED, TASK, PERCPU, UPTR] {
            let mut world = World::new();
            world.put(offset, word);
            if offset == TIMER || offset == WORK {
                world.put(offset + 8, word);
            }
            let text = match read(world, offset) {
                Special::Timer(it) => found(it).unwrap_err(),
                Special::Workqueue(it) => found(it).unwrap_err(),
                Special::TaskWork(it) => found(it).unwrap_err(),
                Special::Kptr(it) | Special::Uptr(it) => found(it).unwrap_err(),
                Special::PercpuKptr(it) => found(it).unwrap_err(),
                other => panic!("{other:?}"),
            };
            assert_eq!(text, expected, "{offset}");
        }
    }
}

#[test]
fn a_value_that_is_cut_short_lacks_fields() {
    let (guest, map) = World::new().open();
    let reader = Reader::of(&guest, &map).unwrap().unwrap();
    let value = value_of(&guest, &map);
    for field in reader.fields() {
        let end = usize::try_from(field.offset + field.size).unwrap();
        assert_ne!(reader.read(field, &value[..end], None), Special::Missing);
        assert_eq!(
            reader.read(field, &value[..end - 1], None),
            Special::Missing
        );
    }
}

#[test]
fn what_bpf_shows_is_zeros_and_one_reference() {
    let (guest, map) = World::new().open();
    let reader = Reader::of(&guest, &map).unwrap().unwrap();
    let mut value = vec![0xff; SIZE as usize];
    reader.fields().zero(&mut value);
    let left: Vec<usize> = (0..)
        .zip(&value)
        .filter(|at| *at.1 != 0)
        .map(|at| at.0)
        .collect();
    assert_eq!(left, [4, 5, 6, 7]);

    let list = reader.fields().at(LIST).unwrap();
    let of_item = reader.fields_of(list.target.unwrap().ty);
    let kinds: Vec<FieldKind> = of_item.iter().map(|field| field.kind).collect();
    let nodes = [FieldKind::ListNode, FieldKind::RbNode, FieldKind::Refcount];
    assert_eq!(kinds, nodes);
    let mut item = vec![0xff; ITEM_SIZE as usize];
    of_item.zero(&mut item);
    assert_eq!(item[64..], [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // Less than the whole is no harm.
    of_item.zero(&mut item[..10]);
}
