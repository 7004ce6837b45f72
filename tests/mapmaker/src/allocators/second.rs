//! `sdt_second.bpf.c`: tasks with slots that are not what they should be, a leaf without room, a
//! tree without slots, and one whose slots are far apart.

use anyhow::{Context, Result};

use super::{Described, Owners, World, empty, live, pointer};
use crate::datum::{Datum, num, record, text};
use crate::make::Maker;
use crate::objects::find;
use crate::threads::Task;
use crate::tree::{Kind, Layout, PLACES, Slot, Tree};
use crate::truth::Told;

/// How many slots the tasks have.
const TASKS: u32 = 60;
const TORN: u32 = 7;
const MISPLACED: u32 = 9;
const FREED: u32 = 11;

/// How many places the leaf of the tasks says are free.
const CLAIMED: u64 = 500;

/// What the one run of a task adds.
const AMOUNT: u64 = 20_000_000;

/// Slots at both ends of leaves, of descriptions in the middle, and of the whole tree.
const FAR: [u32; 7] = [0, 511, 512, 262_143, 262_144, 134_217_216, 134_217_727];

fn task(n: u32, runs: u32, node: u64) -> Datum {
    record([
        ("note", text(16, &format!("second {n}"))),
        (
            "vtime",
            num((u64::from(n) << 33) + u64::from(runs) * AMOUNT),
        ),
        ("slices", num(runs)),
        ("greedy", num(n.is_multiple_of(3))),
        ("node", pointer(node)),
    ])
}

fn node(n: u32, next: u64) -> Datum {
    let value = num(u64::from(n) * 0x0101_0101_0101);
    record([("value", value), ("next", pointer(next))])
}

fn far(idx: u32, mark: u32) -> Datum {
    record([("idx", num(idx)), ("mark", num(mark))])
}

/// Makes the object's world. The first slot goes to this task, the others to `tasks`.
///
/// # Errors
/// Fails if the kernel does.
pub(super) fn make(maker: &mut Maker, tasks: &[Task]) -> Result<()> {
    let mut world = World::load(maker, "sdt_second", Layout::Header)?;
    let (nodes, node_slots) = nodes(maker, &mut world)?;
    let idle = world.tree(maker, 2, 104, &[])?;
    let about = |symbol, kind| Described {
        symbol,
        kind,
        inconsistent: 0,
        owners: None,
    };
    world.tell(maker, &about("scx_idle_allocator", ""), (&idle, &[]))?;
    let mut far_slots = FAR.map(|idx| live(idx, 0, far(idx, 40))).to_vec();
    // No page is between one allocator's slots and the next one's but these.
    world.arena.skip(3);
    let tree = world.tree(maker, 3, 8, &far_slots)?;
    let last = far_slots.last_mut().context("a slot")?;
    world.ask(maker, "link", &[u64::from(last.idx) << 32])?;
    last.payload = Some(far(last.idx, 41));
    world.tell(maker, &about("registry.slots", "far"), (&tree, &far_slots))?;
    world.tell(
        maker,
        &about("scx_node_allocator", "node"),
        (&nodes, &node_slots),
    )?;
    let first = nodes.places.get(&0).context("a node")?.payload;
    self::tasks(maker, &mut world, tasks, first)?;
    world.keep(maker)
}

/// A leaf whose every slot is live. Each points at the next.
fn nodes(maker: &mut Maker, world: &mut World) -> Result<(Tree, Vec<Slot>)> {
    let bare = |n| live(n, 0, node(n, 0));
    let mut slots: Vec<Slot> = (0..PLACES).map(bare).collect();
    let tree = world.tree(maker, 1, 16, &slots)?;
    for slot in &mut slots {
        let next = tree.places.get(&(slot.idx + 1));
        let datum = node(slot.idx, next.map_or(0, |place| place.payload));
        let place = tree.places.get(&slot.idx).context("a node")?;
        world.arena.write(place.payload, &datum.bytes)?;
        slot.payload = Some(datum);
    }
    Ok((tree, slots))
}

fn tasks(maker: &mut Maker, world: &mut World, tasks: &[Task], node: u64) -> Result<()> {
    let mut slots: Vec<Slot> = (0..TASKS)
        .map(|n| match n {
            TORN => empty(n, 0, Kind::Torn),
            MISPLACED => Slot {
                kind: Kind::Misplaced(90),
                ..live(n, 1, task(n, 0, 0))
            },
            FREED => empty(n, 6, Kind::Freed),
            _ => live(n, 0, task(n, 0, 0)),
        })
        .collect();
    let tree = world.tree(maker, 0, 40, &slots)?;
    tree.claim_free(&mut world.arena, 0, CLAIMED)?;
    let map = find(&world.object, "scx_task_map")?;
    let mut owners = Owners::by(&map)?;
    let own = Task::own();
    let tasks = std::iter::once(&own).chain(tasks);
    let having = slots.iter().filter(|slot| slot.kind != Kind::Torn);
    let expect = owners.store(&map, &tree, tasks.zip(having))?;
    maker.tell(map, Told::unordered(expect))?;
    world.ask(maker, "run", &[AMOUNT])?;
    let first = slots.first_mut().context("a slot")?;
    first.payload = Some(task(0, 1, node));
    let about = Described {
        symbol: "scx_task_allocator",
        kind: "task_ctx",
        inconsistent: 1,
        owners: Some(&owners),
    };
    world.tell(maker, &about, (&tree, &slots))
}
