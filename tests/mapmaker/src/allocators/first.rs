//! `sdt_first.bpf.c`: tasks, and domains whose slots are longer than two pages.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Described, Owners, World, empty, live, pointer};
use crate::datum::{Datum, list, num, record, text};
use crate::make::Maker;
use crate::objects::find;
use crate::threads::Task;
use crate::tree::{Kind, Layout, Slot};
use crate::truth::Told;

/// How many slots the tasks have, those that were freed among them.
const TASKS: u32 = 42;

/// A slot that was freed, and that a task still points at.
const FREED: u32 = 6;

/// A slot that was freed without being cleared.
const DIRTY: u32 = 5;

/// What the one run of a task adds.
const AMOUNT: u64 = 0x1_0000_0001;

/// The domains by slot, and how many tasks the program gives them.
const DOMAINS: [(u32, u32); 5] = [(0, 11), (1, 12), (2, 13), (4, 15), (5, 16)];

fn task(n: u32, home: u64, runs: u64) -> Datum {
    record([
        ("runs", num(runs)),
        ("sum", num(runs * AMOUNT)),
        ("weight", num(100 + n)),
        ("dom", num((n % 6).cast_signed() - 1)),
        ("note", text(24, &format!("first generation {n}"))),
        ("home", pointer(home)),
    ])
}

fn domain(id: u32, tasks: u32) -> Datum {
    let load = (0..1524_u64).map(|n| num(n * (u64::from(id) + 1)));
    record([
        ("id", num(id)),
        ("nr_tasks", num(tasks)),
        ("load", list(load)),
        ("min_vruntime", num(u64::from(id) << 40)),
        ("last", num(u64::MAX - u64::from(id))),
        ("name", text(24, &format!("domain {id}"))),
    ])
}

/// Makes the object's world. The first slot goes to this task, the others to `tasks`.
///
/// # Errors
/// Fails if the kernel does.
pub(super) fn make(maker: &mut Maker, tasks: &[Task]) -> Result<()> {
    let mut world = World::load(maker, "sdt_first", Layout::Header)?;
    let homes = domains(maker, &mut world)?;
    let home = |n: u32| homes.get(usize::try_from(n % 5).ok()?).copied();
    let mut slots = Vec::new();
    for n in 0..TASKS {
        let home = home(n).context("a domain")?;
        slots.push(match n {
            FREED => empty(n, 3, Kind::Freed),
            DIRTY => Slot {
                kind: Kind::Freed,
                ..live(n, 2, task(n, home, 9))
            },
            _ => live(n, n % 4, task(n, home, 0)),
        });
    }
    let tree = world.tree(maker, 0, 56, &slots)?;
    let map = find(&world.object, "sdt_task_map")?;
    let mut owners = Owners::by(&map)?;
    let own = Task::own();
    let tasks = std::iter::once(&own).chain(tasks);
    let having = slots.iter().filter(|slot| slot.idx != DIRTY);
    let expect = owners.store(&map, &tree, tasks.zip(having))?;
    maker.tell(map, Told::unordered(expect))?;
    world.ask(maker, "run", &[AMOUNT])?;
    let first = slots.first_mut().context("a slot")?;
    first.payload = Some(task(0, home(0).context("a domain")?, 1));
    let about = Described {
        symbol: "sdt_task_allocator",
        kind: "task_ctx",
        inconsistent: 0,
        owners: Some(&owners),
    };
    world.tell(maker, &about, (&tree, &slots))?;
    maker.allocators.push(json!({
        "map": world.variables,
        "symbol": "sdt_spare_allocator",
        "arena": world.arena.id,
        "live": 0, "freed": 0, "torn": 0, "misplaced": 0,
        "slots": [],
    }));
    world.keep(maker)
}

/// The allocator of domains. Returns the addresses of its payloads.
fn domains(maker: &mut Maker, world: &mut World) -> Result<Vec<u64>> {
    let mut slots: Vec<Slot> = DOMAINS.map(|(id, _)| live(id, id, domain(id, 0))).to_vec();
    slots.insert(3, empty(3, 4, Kind::Freed));
    let tree = world.tree(maker, 1, 12_240, &slots)?;
    let mut homes = Vec::new();
    for (id, tasks) in DOMAINS {
        world.ask(maker, "enter", &[u64::from(id) | u64::from(tasks) << 32])?;
        let slot = slots.iter_mut().find(|slot| slot.idx == id);
        slot.context("a domain")?.payload = Some(domain(id, tasks));
        homes.push(tree.places.get(&id).context("a domain")?.payload);
    }
    let about = Described {
        symbol: "lb_domain_allocator",
        kind: "dom_ctx",
        inconsistent: 0,
        owners: None,
    };
    world.tell(maker, &about, (&tree, &slots))?;
    Ok(homes)
}
