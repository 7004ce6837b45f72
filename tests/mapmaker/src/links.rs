//! `linked.bpf.c`: objects in an arena that point at each other, and arenas without much in them.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapInfo};
use libbpf_sys::{BPF_F_MMAPABLE, BPF_MAP_TYPE_ARENA};
use serde_json::{Value, json};

use crate::arena::{PAGE, Purpose, state};
use crate::make::Maker;
use crate::memory::Mapping;
use crate::objects::{find, variables};
use crate::programs::Input;
use crate::sys::MapSpec;
use crate::truth::Told;

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    linked(maker)?;
    edges(maker)
}

fn linked(maker: &mut Maker) -> Result<()> {
    /// Where the program looks for something and finds nothing. Only the kernel's own code leaves
    /// a trace where it does so.
    const NOWHERE: u64 = 40;
    let object = maker.load(maker.open("linked")?)?;
    let arena = find(&object, "arena")?;
    let start = MapInfo::new(arena.as_fd())?.info.map_extra;
    let rows = [("build", start), ("touch", start + NOWHERE * PAGE)];
    for (program, address) in rows {
        let result =
            maker
                .programs
                .run(&object, program, Input::Context(&address.to_le_bytes()))?;
        ensure!(result == 0, "{program} returned {result}");
    }
    let id = MapInfo::new(arena.as_fd())?.info.id;
    let runs = [(1, 2), (4, 6)];
    let state = state(arena.max_entries(), &runs, &[(Purpose::Pointed, 8)]);
    maker.tell(arena, Told::nothing().state(state))?;
    maker.objects.extend(objects(id, start));
    let roots = json!({"value": {"typed": roots(start, start + NOWHERE * PAGE)}});
    maker.tell(variables(&object)?, Told::ordered(vec![roots]))?;
    maker.hold(object);
    Ok(())
}

/// Where the program puts each kind of object, from the start of the arena.
const RING: u64 = PAGE;
const SHARED: u64 = RING + 5 * NODE;
const PAIRS: u64 = PAGE + 2048;
const ITEMS: u64 = 2 * PAGE;
const LIST: u64 = 4 * PAGE;
const HALL: u64 = 8 * PAGE - 64;

/// How long a node is, and how many the list has.
const NODE: u64 = 32;
const NODES: u64 = 300;

/// A pointer that leads to an object.
fn to(address: u64) -> Value {
    json!({"ptr": format!("{address:#x}")})
}

/// What the variables point at.
fn roots(start: u64, nowhere: u64) -> Value {
    let low = (start + SHARED) & u64::from(u32::MAX);
    let wall = start + HALL + 4 + 4 * 700;
    json!({
        "list": to(start + LIST),
        "ring": to(start + RING + 2 * NODE),
        "pairs": [to(start + PAIRS), to(start + PAIRS + 24)],
        "hall": to(start + HALL),
        "wall": to(wall),
        "items": to(start + ITEMS),
        "middle": to(start + ITEMS + 2 * 8),
        "nowhere": {"ptr": format!("{nowhere:#x}"), "why": null},
        "half": format!("{low:#x}"),
        "untyped": format!("{:#x}", start + ITEMS),
        "checksum": 0,
    })
}

/// Every object that the variables lead to, each to be shown once.
fn objects(arena: u32, start: u64) -> Vec<Value> {
    let object = |at: u64, kind: &str, typed: Value| json!({"arena": arena, "addr": format!("{:#x}", start + at), "type": kind, "typed": typed});
    let node = |at: u64, number: u64, next: Option<u64>, text: &str| {
        let next = next.map_or(json!("0x0"), |next| to(start + next));
        object(
            at,
            "struct node",
            json!({"number": number, "next": next, "text": text}),
        )
    };
    let mut objects = Vec::new();
    for n in 0..NODES {
        let letter = char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
        let next = (n + 1 < NODES).then_some(LIST + (n + 1) * NODE);
        objects.push(node(LIST + n * NODE, n * n, next, &format!("n{letter}")));
    }
    for n in 0..5 {
        let next = RING + (n + 1) % 5 * NODE;
        objects.push(node(RING + n * NODE, 1000 + n, Some(next), ""));
    }
    objects.push(node(SHARED, 77, None, ""));
    let shared = to(start + SHARED);
    let (tenth, last) = (LIST + 10 * NODE, LIST + (NODES - 1) * NODE);
    let pair = json!({"id": 1, "left": shared, "right": to(start + tenth)});
    objects.push(object(PAIRS, "struct pair", pair));
    let pair = json!({"id": 2, "left": shared, "right": "0x0"});
    objects.push(object(PAIRS + 24, "struct pair", pair));
    for (at, id, weight) in [(ITEMS, 500, 0), (ITEMS + 16, 502, 6)] {
        let item = json!({"id": id, "weight": weight});
        objects.push(object(at, "struct item", item));
    }
    let walls: Vec<u32> = (0..1500).map(|n| n * 7).collect();
    let hall = json!({"number": 4, "walls": walls, "door": to(start + last), "last": 0x1a57});
    objects.push(object(HALL, "struct hall", hall));
    objects
}

/// Arenas at the edges of what there can be.
fn edges(maker: &mut Maker) -> Result<()> {
    const PAGES: u32 = 16;
    const TOP: u64 = (1 << 46) + (1 << 32);
    let spec = |name, extra| MapSpec {
        kind: BPF_MAP_TYPE_ARENA,
        name,
        max_entries: PAGES,
        flags: BPF_F_MMAPABLE,
        extra,
        ..MapSpec::default()
    };
    // Nobody has mapped it, so that it has no addresses yet.
    let map = maker.create(&spec("arena_nowhere", 0))?;
    maker.tell(map, Told::nothing().state(state(PAGES, &[], &[])))?;

    // The last page ends where the lower half of an address does. None can go beyond.
    let len = u64::from(PAGES) * PAGE;
    let start = TOP - len;
    ensure!(
        maker.create(&spec("arena_beyond", start + PAGE)).is_err(),
        "an arena crosses 4 GiB"
    );
    let map = maker.create(&spec("arena_top", start))?;
    let mut memory = Mapping::arena(map.as_fd(), start, usize::try_from(len)?)?;
    memory.write(0, b"bottom")?;
    let last = usize::try_from(len - 3)?;
    memory.write(last, b"top").context("the last page")?;
    maker.hold(memory);
    let last = u64::from(PAGES) - 1;
    let state = state(PAGES, &[(0, 1), (last, 1)], &[(Purpose::Unknown, 2)]);
    maker.tell(map, Told::nothing().state(state))
}
