//! A dump, as far as it is about allocators and their arena.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::documents::DumpMap;
use crate::scx::tasks::Task;
use crate::typed::short;

/// What `bpfreeze dump --format json` writes.
#[derive(Debug, Deserialize)]
pub(super) struct Dump {
    pub(super) maps: Vec<DumpMap>,
    pub(super) allocators: Vec<Allocator>,
    pub(super) complete: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Allocator {
    pub(super) map: u32,
    pub(super) symbol: String,
    pub(super) arena: u32,
    pub(super) layout: Option<String>,
    levels: u64,
    entries_per_chunk: u64,
    elem_size: u64,
    payload_size: Option<u64>,
    live: usize,
    pub(super) freed: usize,
    torn: usize,
    pub(super) misplaced: usize,
    inconsistent_descs: usize,
    complete: bool,
    gaps: Vec<Value>,
    #[serde(rename = "type")]
    pub(super) payload: Option<String>,
    slots: Vec<Slot>,
    pub(super) owners_without_slot: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct Slot {
    idx: u64,
    generation: Option<u64>,
    addr: String,
    state: String,
    owner: Option<Value>,
    payload: Option<Value>,
}

/// Where a slot is. One that was freed and given to another has another generation.
pub(super) type Place<'a> = (u64, Option<u64>, &'a str);

impl Slot {
    fn place(&self) -> Place<'_> {
        (self.idx, self.generation, &self.addr)
    }

    /// The task that owns it.
    fn task(&self) -> Option<Task> {
        let owner = self.owner.as_ref()?;
        let is_task = owner["kind"] == "task";
        is_task.then(|| Task::deserialize(owner).expect("a task"))
    }
}

impl Allocator {
    /// What does not change while it is used.
    pub(super) fn shape(&self) -> String {
        let Self {
            map,
            symbol,
            arena,
            layout,
            levels,
            entries_per_chunk: entries,
            elem_size: elem,
            payload_size,
            payload,
            ..
        } = self;
        format!(
            "{symbol} of map {map} in arena {arena}: {layout:?}, {levels} levels of {entries}, \
             {elem} bytes with {payload_size:?} of {payload:?}"
        )
    }

    /// What is wrong with it. A scheduler may overwrite the mark by which an element of its own
    /// is known to be in its place; nothing else may be wrong while nobody writes.
    pub(super) fn problems(&self) -> Vec<String> {
        let Self {
            symbol,
            live,
            freed,
            torn,
            misplaced,
            inconsistent_descs,
            ..
        } = self;
        let mut lines = Vec::new();
        if !self.complete || !self.gaps.is_empty() {
            let gaps = short(&Value::from(self.gaps.clone()));
            lines.push(format!("{symbol} is not complete: {gaps}"));
        }
        if (*torn, *inconsistent_descs) != (0, 0) {
            lines.push(format!(
                "{symbol}: {torn} torn, {inconsistent_descs} descriptors are inconsistent"
            ));
        }
        let counts = [("live", live), ("freed", freed), ("misplaced", misplaced)];
        for (state, count) in counts {
            let told = self.slots.iter().filter(|slot| slot.state == state);
            let told = told.count();
            if told != *count {
                lines.push(format!("{symbol}: {count} {state}, {told} told"));
            }
        }
        lines
    }

    /// How many elements are in use.
    pub(super) fn used(&self) -> usize {
        self.live + self.misplaced
    }

    fn live(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().filter(|slot| slot.state == "live")
    }

    /// The live slots of tasks. A task with two of them is a contradiction.
    pub(super) fn of_tasks(&self) -> BTreeMap<Task, Place<'_>> {
        let mut tasks = BTreeMap::new();
        for slot in self.live() {
            if let Some(task) = slot.task() {
                let before = tasks.insert(task, slot.place());
                assert!(before.is_none(), "{slot:?} and {before:?} are of one task");
            }
        }
        tasks
    }

    /// The slots of tasks whose payload is not by its own word that of the task.
    pub(super) fn strangers(&self) -> Vec<String> {
        let strangers = self.live().filter_map(|slot| {
            let task = slot.task()?;
            let payload = slot.payload.as_ref().map(|payload| &payload["typed"]);
            let is_own = payload.is_some_and(|payload| payload["pid"] == task.pid);
            (!is_own).then(|| format!("{task:?} has {payload:?}"))
        });
        strangers.collect()
    }

    /// The live slots that no task owns.
    pub(super) fn of_others(&self) -> BTreeSet<Place<'_>> {
        let others = self.live().filter(|slot| slot.task().is_none());
        others.map(Slot::place).collect()
    }
}

impl Dump {
    /// What it says of an arena beside its contents.
    pub(super) fn arena(&self, id: u32) -> &Value {
        let mut maps = self.maps.iter();
        let map = maps.find(|map| map.about.id == id).expect("the arena");
        map.more.get("arena").expect("the state of an arena")
    }

    /// Its allocators with those of another dump.
    pub(super) fn pairs<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a Allocator, &'a Allocator)> {
        self.allocators.iter().map(|allocator| {
            let mut others = other.allocators.iter();
            let other = others.find(|other| other.symbol == allocator.symbol);
            (allocator, other.expect("the same allocator"))
        })
    }
}

/// What the pages of an arena are.
pub(super) struct Account(pub(super) BTreeMap<String, u64>);

impl Account {
    pub(super) fn of(arena: &Value) -> Self {
        let account = arena["account"].as_object();
        let parts = account.expect("an account of the arena").iter();
        let parts = parts.filter_map(|(part, pages)| Some((part.clone(), pages.as_u64()?)));
        Self(parts.collect())
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pages of the arena:")?;
        let mut parts = self.0.iter();
        parts.try_for_each(|(part, pages)| write!(f, " {pages} {part}"))
    }
}
