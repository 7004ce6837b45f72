//! `sdt_third.bpf.c`: 2,000 tasks, memory that is handed out for good, and a stack of free pages.

use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Result, ensure};
use libbpf_rs::MapHandle;
use serde_json::json;

use super::{Described, Owners, World, empty, live, pointer};
use crate::arena::{PAGE, Purpose};
use crate::datum::{Datum, list, num, record, text};
use crate::make::Maker;
use crate::objects::find;
use crate::programs::Input;
use crate::slots::program;
use crate::sys;
use crate::threads::Task;
use crate::tree::{Kind, Layout, Slot, Tree};
use crate::truth::Told;

/// How many tasks have slots of their own.
const TASKS: usize = 2000;

/// Slots that are not what they should be; their leaves have room or none as it comes.
const TORN: u32 = 700;
const MISPLACED: u32 = 1300;

/// A slot in use that no task points at.
const UNOWNED: u32 = 1500;

/// A freed slot that a task points at.
const LOST: u32 = 13;

/// Whether a slot is one of those that were freed. None is in the second leaf, which is full.
fn is_freed(idx: u32) -> bool {
    idx % 100 == LOST && idx / 512 != 1
}

/// What one task's slot holds, after so many runs.
fn ctx(idx: u32, task: &Task, runs: u64, waker: u64) -> Datum {
    record([
        ("runs", num(runs)),
        ("vtime", num(u64::from(idx) * 1_000_003)),
        ("pid", num(task.tid.cast_unsigned())),
        ("weight", num(idx.cast_signed() - 1000)),
        ("comm", text(16, &task.comm)),
        ("waker", pointer(waker)),
        ("history", list((0..8).map(|n| num(u64::from(idx) << n)))),
    ])
}

/// A task that is still to come.
fn future(idx: u32) -> Task {
    Task {
        tid: 0,
        comm: format!("task {idx}"),
    }
}

/// Makes the object's world and returns the tasks.
///
/// # Errors
/// Fails if the kernel does.
pub(super) fn make(maker: &mut Maker) -> Result<Vec<Task>> {
    let mut world = World::load(maker, "sdt_third", Layout::Trailer)?;
    let mut slots = slots();
    let tree = world.tree(maker, 0, 112, &slots)?;
    let map = find(&world.object, "scx_task_map")?;
    let mut owners = Owners::default();
    let tasks = adopt(maker, &world, &map, (&tree, &mut slots), &mut owners)?;
    // Which they are is another test's; that they are there is this one's.
    let few = tasks.iter().take(10);
    let few = few.map(|task| json!({"owner": task.object()})).collect();
    maker.tell(map, Told::unordered(few).at_least())?;
    let about = Described {
        symbol: "scx_task_allocator",
        kind: "task_ctx",
        inconsistent: 0,
        owners: Some(&owners),
    };
    world.tell(maker, &about, (&tree, &slots))?;
    others(maker, &mut world)?;
    world.keep(maker)?;
    Ok(tasks)
}

/// The slots before any task has one.
fn slots() -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut owned = 0;
    for idx in 0.. {
        if owned == TASKS {
            break;
        }
        let used = live(idx, idx % 3, ctx(idx, &future(idx), 0, 0));
        slots.push(match idx {
            TORN => empty(idx, 0, Kind::Torn),
            UNOWNED => used,
            _ if is_freed(idx) => empty(idx, 1 + idx % 7, Kind::Freed),
            _ => {
                owned += 1;
                match idx {
                    MISPLACED => Slot {
                        kind: Kind::Misplaced(idx + 1),
                        ..used
                    },
                    _ => used,
                }
            }
        });
    }
    slots
}

/// Starts a task for each slot that is to have one; it takes the slot through the program. Each
/// remembers the one before it.
fn adopt(
    maker: &mut Maker,
    world: &World,
    map: &MapHandle,
    (tree, slots): (&Tree, &mut [Slot]),
    owners: &mut Owners,
) -> Result<Vec<Task>> {
    let program = program(&world.object, "adopt")?;
    let fd = Arc::new(program.as_fd().try_clone_to_owned()?);
    let mut tasks = Vec::new();
    let mut waker = 0;
    for slot in slots {
        let Some(place) = tree.places.get(&slot.idx).copied() else {
            continue;
        };
        if slot.idx == UNOWNED || (slot.kind == Kind::Freed && slot.idx != LOST) {
            continue;
        }
        let words = [place.data, slot.tid(), waker];
        let (fd, words) = (Arc::clone(&fd), words.map(u64::to_le_bytes).concat());
        let task = Task::start(future(slot.idx).comm, move || {
            let result = sys::run_program(fd.as_fd(), Input::Context(&words))?;
            ensure!(result == 0, "adopt returned {result}");
            Ok(())
        })?;
        owners.add(map, &task, slot, place)?;
        // The program wrote into the freed slot, too.
        let datum = match slot.kind {
            Kind::Freed => touched(&task, waker),
            _ => ctx(slot.idx, &task, 1, waker),
        };
        slot.payload = Some(datum);
        waker = place.payload;
        tasks.push(task);
    }
    maker
        .programs
        .ran(program.as_fd(), u64::try_from(tasks.len())?)?;
    Ok(tasks)
}

/// A slot that was all zero before its task ran.
fn touched(task: &Task, waker: u64) -> Datum {
    record([
        ("runs", num(1_u64)),
        ("vtime", num(0_u64)),
        ("pid", num(task.tid.cast_unsigned())),
        ("weight", num(0_i32)),
        ("comm", text(16, "")),
        ("waker", pointer(waker)),
        ("history", list((0..8).map(|_| num(0_u64)))),
    ])
}

/// Static memory and a stack of free pages, with a hole between them and the slots.
fn others(maker: &mut Maker, world: &mut World) -> Result<()> {
    const STATIC: u64 = 4;
    const FREE: u64 = 3;
    world.arena.skip(5);
    let memory = world.arena.pages(STATIC, Purpose::Static)?;
    world.arena.write(memory + 8, b"static memory")?;
    world.arena.write(memory + STATIC * PAGE - 5, b"end")?;
    world.ask(
        maker,
        "set_static",
        &[memory, STATIC * PAGE, 3 * PAGE + 100],
    )?;

    let lock = world.arena.pages(1, Purpose::Pointed)?;
    let first = world.arena.pages(2, Purpose::Stack)?;
    let second = first + PAGE;
    let free = world.arena.pages(FREE, Purpose::Stack)?;
    let pages: Vec<u64> = (0..FREE).map(|page| free + page * PAGE).collect();
    world.arena.write_words(first, &pages)?;
    // The previous and the next come after 510 places.
    world.arena.write_words(first + 510 * 8, &[0, second])?;
    world.arena.write_words(second + 510 * 8, &[first, 0])?;
    let blocks = [lock, first, second, first, FREE, 2 * 510 - FREE, FREE];
    world.ask(maker, "set_stack", &blocks)?;
    // What nothing points at.
    world.arena.skip(1);
    let unknown = world.arena.pages(2, Purpose::Unknown)?;
    world.arena.write(unknown + PAGE, b"nobody knows")
}
