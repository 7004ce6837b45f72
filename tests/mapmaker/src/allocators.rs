//! Allocators in arenas, one object for each generation of their layout.
//!
//! The trees are built here, through the arena's memory in this process, and told to the objects'
//! programs, which find slots by them and write into them.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapHandle, MapInfo, Object};
use serde_json::{Value, json};

use crate::arena::Arena;
use crate::datum::{Datum, shown};
use crate::make::Maker;
use crate::objects::{find, variables};
use crate::programs::Input;
use crate::threads::Task;
use crate::tree::{self, Index, Kind, Layout, Place, Slot, Tree};
use crate::truth::{bytes, hex};

mod first;
mod second;
mod third;

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let tasks = third::make(maker).context("third generation")?;
    first::make(maker, &tasks).context("first generation")?;
    second::make(maker, &tasks).context("second generation")
}

/// A pointer into an arena. What is shown of it depends on whether it is followed.
fn pointer(address: u64) -> Datum {
    shown(address, Value::Null)
}

/// A slot in use.
fn live(idx: u32, generation: u32, payload: Datum) -> Slot {
    Slot {
        idx,
        generation,
        kind: Kind::Live,
        payload: Some(payload),
    }
}

/// A slot of another kind, whose payload is zero.
fn empty(idx: u32, generation: u32, kind: Kind) -> Slot {
    Slot {
        idx,
        generation,
        kind,
        payload: None,
    }
}

/// An object with an arena and allocators in it.
#[derive(Debug)]
struct World {
    object: Object,
    arena: Arena,
    index: Index,
    /// The id of the map of its variables.
    variables: u32,
    layout: Layout,
}

impl World {
    /// Loads an object.
    ///
    /// # Errors
    /// Fails if the kernel does not like it.
    fn load(maker: &mut Maker, object: &str, layout: Layout) -> Result<Self> {
        let object = maker.load(maker.open(object)?)?;
        let arena = Arena::of(&object)?;
        let variables = variables(&object)?;
        Ok(Self {
            arena,
            variables: MapInfo::new(variables.as_fd())?.info.id,
            layout,
            index: Index::new()?,
            object,
        })
    }

    /// Takes note of an allocator.
    fn tell(&self, maker: &mut Maker, about: &Described<'_>, made: (&Tree, &[Slot])) -> Result<()> {
        let pattern = about.pattern(self, made.0, made.1)?;
        maker.allocators.push(pattern);
        Ok(())
    }

    /// Keeps the object, and takes note of what its arena looks like.
    fn keep(self, maker: &mut Maker) -> Result<()> {
        maker.tell(find(&self.object, "arena")?, self.arena.told())?;
        maker.hold(self);
        Ok(())
    }

    /// Makes the tree of an allocator and tells it to the object, which calls it by a number.
    ///
    /// # Errors
    /// Fails if the arena is full or if the program does.
    fn tree(&mut self, maker: &mut Maker, which: u64, size: u64, slots: &[Slot]) -> Result<Tree> {
        let (index, arena) = (&mut self.index, &mut self.arena);
        let tree = Tree::make(index, arena, self.layout, size, slots)?;
        let pool = &tree.pool;
        let (slab, elem_size) = (pool.slab, pool.elem_size);
        let setup = [
            slab,
            elem_size,
            pool.max_elems,
            pool.idx,
            tree.root(),
            which,
        ];
        self.ask(maker, "set", &setup)?;
        Ok(tree)
    }

    /// Runs a program with numbers of 64 bits, and fails unless it returns 0.
    ///
    /// # Errors
    /// Fails if the kernel does not run it.
    fn ask(&self, maker: &mut Maker, program: &str, words: &[u64]) -> Result<()> {
        let context: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let input = Input::Context(&context);
        let result = maker.programs.run(&self.object, program, input)?;
        ensure!(result == 0, "{program} returned {result} for {words:x?}");
        Ok(())
    }
}

/// Who has the slots of an allocator.
#[derive(Debug, Default)]
struct Owners {
    /// By index.
    of: BTreeMap<u32, Value>,
    /// Those that point at a slot that is none of theirs.
    lost: Vec<Value>,
}

impl Owners {
    /// Gives slots to tasks: each value of the storage map is an id, the task's address, of which
    /// nothing is known here, and a pointer. Returns the patterns of the map's entries.
    ///
    /// # Errors
    /// Fails if the kernel refuses, or if a slot has no element.
    fn store<'t>(
        &mut self,
        map: &MapHandle,
        tree: &Tree,
        having: impl Iterator<Item = (&'t Task, &'t Slot)>,
    ) -> Result<Vec<Value>> {
        let mut expect = Vec::new();
        for (task, slot) in having {
            let place = tree.places.get(&slot.idx).context("a slot with memory")?;
            let value = [slot.tid(), 0, place.data].map(u64::to_le_bytes).concat();
            task.store(map, &value)?;
            self.add(map, task, slot, *place)?;
            expect.push(json!({"owner": task.object(), "value": bytes(&value)}));
        }
        Ok(expect)
    }

    /// Takes note of a task that a value of the storage map gives a slot.
    fn add(&mut self, map: &MapHandle, task: &Task, slot: &Slot, place: Place) -> Result<()> {
        let mut owner = task.object();
        let id = MapInfo::new(map.as_fd())?.info.id;
        if let Some(owner) = owner.as_object_mut() {
            owner.insert("map".to_owned(), json!(id));
        }
        if slot.kind == Kind::Freed {
            let pointer = format!("{:#x}", place.data);
            let lost = json!({"owner": owner, "pointers": [pointer]});
            self.lost.push(lost);
        } else {
            self.of.insert(slot.idx, owner);
        }
        Ok(())
    }
}

/// The pattern of an allocator: its name, what its slots hold, how many descriptions contradict
/// themselves.
struct Described<'a> {
    symbol: &'a str,
    kind: &'a str,
    inconsistent: u32,
    owners: Option<&'a Owners>,
}

impl Described<'_> {
    /// The pattern.
    ///
    /// # Errors
    /// Fails if a slot is longer than the tree's.
    fn pattern(&self, world: &World, tree: &Tree, slots: &[Slot]) -> Result<Value> {
        let count = |kind: fn(Kind) -> bool| slots.iter().filter(|slot| kind(slot.kind)).count();
        let live = count(|kind| kind == Kind::Live);
        let mut told = Vec::new();
        for slot in slots {
            told.push(self.slot(tree, slot)?);
        }
        let mut pattern = json!({
            "map": world.variables,
            "symbol": self.symbol,
            "arena": world.arena.id,
            "levels": tree::LEVELS,
            "entries_per_chunk": tree::PLACES,
            "elem_size": tree.pool.elem_size,
            "live": live,
            "freed": count(|kind| kind == Kind::Freed),
            "torn": count(|kind| kind == Kind::Torn),
            "misplaced": count(|kind| matches!(kind, Kind::Misplaced(_))),
            "inconsistent_descs": self.inconsistent,
            "complete": true,
            "gaps": [],
            "slots": told,
        });
        let Some(members) = pattern.as_object_mut() else {
            return Ok(pattern);
        };
        if live > 0 {
            members.insert("layout".to_owned(), json!(tree.layout.name()));
            members.insert("payload_size".to_owned(), json!(tree.payload_size()));
            let kind = format!("struct {}", self.kind);
            members.insert("type".to_owned(), json!(kind));
        }
        if let Some(owners) = self.owners {
            let used = slots.iter().filter(|slot| slot.kind != Kind::Freed);
            let unowned = used.filter(|slot| !owners.of.contains_key(&slot.idx));
            members.insert("owners_without_slot".to_owned(), json!(owners.lost));
            members.insert("slots_without_owner".to_owned(), json!(unowned.count()));
        }
        Ok(pattern)
    }

    fn slot(&self, tree: &Tree, slot: &Slot) -> Result<Value> {
        let state = match slot.kind {
            Kind::Live => "live",
            Kind::Freed => "freed",
            Kind::Torn => "torn",
            Kind::Misplaced(_) => "misplaced",
        };
        let mut told = json!({"idx": slot.idx, "state": state});
        let (Some(members), Some(place)) = (told.as_object_mut(), tree.places.get(&slot.idx))
        else {
            return Ok(told);
        };
        members.insert("generation".to_owned(), json!(slot.generation));
        members.insert("addr".to_owned(), json!(format!("{:#x}", place.payload)));
        if let Some(owner) = self.owners.and_then(|owners| owners.of.get(&slot.idx)) {
            members.insert("owner".to_owned(), owner.clone());
        }
        if let Some(payload) = &slot.payload {
            let mut bytes = payload.bytes.clone();
            bytes.resize(usize::try_from(tree.payload_size())?, 0);
            let pattern = json!({"hex": hex(&bytes), "typed": payload.json});
            members.insert("payload".to_owned(), pattern);
        }
        Ok(told)
    }
}
