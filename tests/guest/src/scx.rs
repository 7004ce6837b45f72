//! Published schedulers in guests under load: what bpfreeze finds in their allocators, against
//! the tasks that the guest's own /proc lists.
//!
//! Two dumps were made inside, one after the other, and one is made here of the frozen guest.
//! Lists of tasks were taken before and after the first, and last of all.

mod dump;
mod tasks;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

use serde_json::Value;

use crate::checks::{about, agree};
use crate::guest::{Guest, parse};
use crate::typed::short;
use crate::witnesses::{Backend, LEFT_BEHIND};
use crate::{queries, tests};

use dump::{Account, Allocator, Dump};
use tasks::{Task, under_scheduler};

/// What is known of a scheduler.
#[derive(Clone, Copy)]
struct Scheduler {
    guest: &'static str,
    /// Its allocator of what it keeps for each task.
    tasks: &'static str,
    /// What that keeps, with a member `pid`.
    payload: &'static str,
    /// Its own statistics of all its allocators.
    stats: &'static str,
    /// How its elements are laid out.
    layout: &'static str,
    /// At most so many pages of its arena are nobody's.
    unknown_pages: u64,
}

const RUSTY: Scheduler = Scheduler {
    guest: "scx_rusty",
    tasks: "sdt_task_allocator",
    payload: "struct task_ctx",
    stats: "sdt_stats",
    layout: "header",
    // Its second allocator forgets the stack of the first, and four pages that were kept there.
    unknown_pages: 5,
};

const P2DQ: Scheduler = Scheduler {
    guest: "scx_p2dq",
    tasks: "scx_task_allocator",
    payload: "struct task_p2dq",
    stats: "alloc_stats",
    layout: "trailer",
    unknown_pages: 0,
};

/// The tasks that were started to make load, by the beginnings of their names.
const LOAD: [(&str, usize); 4] = [("sleeper-", 40), ("busy-", 2), ("ping-", 2), ("pong-", 2)];

/// How many captures were made while it ran.
const CAPTURES: usize = 3;

/// What is missing in a dump.
fn missing(dump: &Dump) -> Vec<String> {
    assert!(dump.complete, "maps are missing");
    let mut lines = Vec::new();
    for map in &dump.maps {
        let wrong = !map.complete || !map.gaps.is_empty() || map.error.is_some();
        let what = || format!("{:?} {}", map.error, short(&Value::from(map.gaps.clone())));
        lines.extend(about(&map.about, wrong.then(what)));
    }
    lines.extend(dump.allocators.iter().flat_map(Allocator::problems));
    lines
}

/// One scheduler by one backend.
struct Cell {
    scheduler: Scheduler,
    backend: Backend,
}

impl Cell {
    fn guest(&self) -> Guest {
        Guest::open(self.scheduler.guest)
    }

    /// The whole dump; gaps are a failure.
    fn dump(&self) -> Dump {
        let guest = self.guest();
        let output = match self.backend {
            Backend::Guest => guest.bpfreeze(&["dump", "RAM", "--format", "json"]),
            Backend::Live | Backend::Kcore => guest.witness(&self.backend.witness("dump")),
        };
        parse(&output, "bpfreeze dump")
    }

    /// The allocator of tasks.
    fn tasks<'a>(&self, dump: &'a Dump) -> &'a Allocator {
        let tasks = self.scheduler.tasks;
        let mut found = dump.allocators.iter();
        let found = found.find(|allocator| allocator.symbol == tasks);
        found.unwrap_or_else(|| panic!("no {tasks} in the dump"))
    }

    /// The tasks of a list that are under the scheduler. Those that make load must be among them.
    fn listed(&self, list: &str) -> BTreeSet<Task> {
        let under = under_scheduler(&self.guest().text(list));
        for (name, count) in LOAD {
            let named = |task: &&Task| task.comm.starts_with(name);
            let found = under.iter().filter(named).count();
            assert_eq!(found, count, "tasks {name} in {list}");
        }
        under
    }

    /// The tasks that were there all the time that the backend looked.
    fn steady(&self) -> BTreeSet<Task> {
        match self.backend {
            Backend::Guest => self.listed("tasks.txt"),
            Backend::Live | Backend::Kcore => {
                &self.listed("tasks-before.txt") & &self.listed("tasks-after.txt")
            }
        }
    }

    /// Every map and every allocator was read to its end.
    fn nothing_is_missing(&self) {
        agree(missing(&self.dump()));
    }

    /// What was captured while it ran under load is of one instant, as what stands still: every
    /// map and allocator is there to its end, with the tasks that were there.
    fn captures_are_whole(&self) {
        let guest = self.guest();
        let listed = self.steady();
        for at in 1..=CAPTURES {
            let said = fs::read_to_string(guest.door(&format!("running-{at}.txt")));
            let said = said.expect("what bpfreeze said");
            assert!(said.contains("paused"), "{said}");
            println!("capture {at}: {said}");
            let core = guest.door(&format!("running-{at}.core.zst"));
            let core = core.to_str().expect("a path of ours");
            let dump: Dump = parse(&guest.bpfreeze(&["dump", core, "--format", "json"]), core);
            agree(missing(&dump));
            let allocator = self.tasks(&dump);
            let owners = allocator.of_tasks();
            let without = listed.iter().filter(|task| !owners.contains_key(task));
            let mut lines: Vec<String> =
                without.map(|task| format!("no slot of {task:?}")).collect();
            lines.extend(allocator.strangers());
            agree(lines);
        }
    }

    /// Every task that the scheduler has owns a live slot.
    fn tasks_have_slots(&self) {
        let dump = self.dump();
        let allocator = self.tasks(&dump);
        assert_eq!(allocator.layout.as_deref(), Some(self.scheduler.layout));
        assert!(allocator.freed > 0, "tasks have ended");
        assert!(allocator.owners_without_slot.is_some(), "it has owners");
        assert_eq!(allocator.misplaced, 0, "slots of tasks");
        let owners = allocator.of_tasks();
        let listed = self.steady();
        let missing = listed.iter().filter(|task| !owners.contains_key(task));
        let mut lines: Vec<String> = missing.map(|task| format!("no slot of {task:?}")).collect();
        let without = allocator.owners_without_slot.iter().flatten();
        lines.extend(without.map(|owner| format!("without a slot: {}", short(owner))));
        agree(lines);
        let account = Account::of(dump.arena(allocator.arena));
        let summary = format!(
            "{} tasks under it, {} slots of tasks, {account}",
            listed.len(),
            owners.len(),
        );
        println!("{summary}");
        if let Some(folder) = env::var_os("BPFREEZE_RESULTS") {
            let file = format!("{}-{}.txt", self.scheduler.guest, self.backend.name());
            fs::write(PathBuf::from(folder).join(file), summary).expect("a place for results");
        }
    }

    /// What is kept for a task has the type that it has, and says whose it is.
    fn payloads_know_their_tasks(&self) {
        let dump = self.dump();
        let allocator = self.tasks(&dump);
        assert_eq!(allocator.payload.as_deref(), Some(self.scheduler.payload));
        agree(allocator.strangers());
    }

    /// The scheduler itself counts as many elements.
    fn scheduler_counts_as_many(&self) {
        let dump = self.dump();
        let variables = self.tasks(&dump).map;
        let mut maps = dump.maps.iter();
        let map = maps
            .find(|map| map.about.id == variables)
            .expect("its variables");
        let entry = map.entries.first().expect("a section");
        let stats = &entry["value"]["typed"][self.scheduler.stats];
        let used: usize = dump.allocators.iter().map(Allocator::used).sum();
        assert_eq!(stats["active_allocs"], used, "{stats}");
    }

    /// Hardly a page is nobody's.
    fn pages_are_accounted_for(&self) {
        let dump = self.dump();
        let arena = dump.arena(self.tasks(&dump).arena);
        let account = Account::of(arena);
        let sum: u64 = account.0.values().sum();
        assert_eq!(Some(sum), arena["mapped_pages"].as_u64(), "{account}");
        let unknown = account.0.get("unknown").expect("what is unknown");
        assert!(*unknown <= self.scheduler.unknown_pages, "{account}");
    }

    /// The promises of the trait are kept on its maps.
    fn contract_is_kept(&self) {
        tests::contract_is_kept(&self.guest());
    }

    /// What is written of it is what the schema says.
    fn queries_are_answered(&self) {
        queries::are_answered(&self.guest());
    }

    fn documents_are_valid(&self) {
        tests::documents_are_valid(&self.guest());
    }

    /// The frozen dump and the one from inside say the same, but for tasks that came or went.
    fn frozen_and_live_agree(&self) {
        let cell = |backend| Self { backend, ..*self };
        let (still, inside) = (cell(Backend::Guest), cell(Backend::Live));
        let (frozen, live) = (still.dump(), inside.dump());
        let steady = &still.steady() & &inside.steady();
        let shapes = |dump: &Dump| -> BTreeSet<String> {
            dump.allocators.iter().map(Allocator::shape).collect()
        };
        assert_eq!(shapes(&frozen), shapes(&live));
        let mut lines = Vec::new();
        for (one, other) in frozen.pairs(&live) {
            let (tasks, others) = (one.of_tasks(), other.of_tasks());
            let all: BTreeSet<&Task> = tasks.keys().chain(others.keys()).collect();
            for task in all {
                let (frozen, live) = (tasks.get(task), others.get(task));
                let line = || format!("{task:?} has {frozen:?} frozen, {live:?} live");
                match frozen == live {
                    true => {}
                    false if steady.contains(task) => lines.push(line()),
                    false => println!("came or went: {}", line()),
                }
            }
            lines.extend(self.differences(one, other));
        }
        agree(lines);
    }

    /// What differs of the slots that no task owns. Those that tasks left behind are freed later.
    fn differences(&self, one: &Allocator, other: &Allocator) -> Option<String> {
        let (a, b) = (one.of_others(), other.of_others());
        let line = format!("{}: {a:?} and {b:?}", one.symbol);
        (a != b && one.symbol != self.scheduler.tasks).then_some(line)
    }

    /// The first dump inside added no page to the arena, and changed nothing that no task owns.
    fn reading_leaves_no_trace(&self) {
        let first = self.dump();
        let again: Dump = parse(&self.guest().witness("live-again"), "live-again");
        let arena = self.tasks(&first).arena;
        assert_eq!(first.arena(arena), again.arena(arena));
        let pairs = first.pairs(&again);
        agree(
            pairs
                .filter_map(|(one, other)| self.differences(one, other))
                .collect(),
        );
        let maps = |dump: &Dump| -> BTreeSet<(u32, String)> {
            let maps = dump.maps.iter();
            let maps = maps.filter(|map| map.about.name != LEFT_BEHIND);
            maps.map(|map| (map.about.id, map.about.name.clone()))
                .collect()
        };
        assert_eq!(maps(&first), maps(&again), "maps");
    }
}

macro_rules! for_schedulers {
    ($($module:ident $scheduler:ident)*) => {
        $(mod $module {
            for_schedulers!(@backend $scheduler, guest, Guest: [
                nothing_is_missing
                captures_are_whole
                tasks_have_slots
                payloads_know_their_tasks
                scheduler_counts_as_many
                pages_are_accounted_for
                queries_are_answered
                contract_is_kept
                documents_are_valid
            ]);
            for_schedulers!(@backend $scheduler, live, Live: [
                nothing_is_missing
                tasks_have_slots
                payloads_know_their_tasks
                pages_are_accounted_for
                frozen_and_live_agree
                reading_leaves_no_trace
            ]);
        })*
    };
    (@backend $scheduler:ident, $module:ident, $backend:ident: [$($test:ident)*]) => {
        mod $module {
            $(#[test]
            fn $test() {
                let backend = crate::witnesses::Backend::$backend;
                crate::scx::Cell { scheduler: crate::scx::$scheduler, backend }.$test();
            })*
        }
    };
}

/// The guests that `cargo xtask scx` and `cargo xtask test-matrix` boot.
mod matrix {
    for_schedulers! { scx_rusty RUSTY scx_p2dq P2DQ }
}
