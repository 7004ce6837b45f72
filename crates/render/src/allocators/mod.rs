//! The allocators that programs keep in arenas: found in the data sections of
//! every program, proved by their slots, and joined to the owners of these.

mod account;
mod deferred;
mod globals;
mod owners;
mod payload;
mod sections;
mod slots;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::{Error, MapInfo, MapType};
use btf_layout::Btf;
use sdt_alloc::{Allocator, DataLayout, Evidence, Problem, Types};

pub(crate) use account::{Account, Purpose};
pub(crate) use globals::{Globals, SECTION};
pub(crate) use owners::{Claim, Owner};
pub(crate) use payload::Payload;
pub(crate) use slots::{Counts, SlotRef, is_in_use};
pub use wanted::Wanted;
pub(crate) use wanted::{PayloadBytes, Whereabouts};

use crate::context::Context;
use crate::{Options, walk::Causes};
use sections::Section;

/// The flag of arenas whose addresses programs do not convert to users' own
/// (`include/uapi/linux/bpf.h`).
const BPF_F_NO_USER_CONV: u32 = 1 << 18;

/// Everything that is known of the arenas of a kernel and of what programs
/// allocate in them.
pub(crate) struct Survey<'a> {
    pub(crate) arenas: BTreeMap<u32, Surveyed<'a>>,
    pub(crate) allocators: Vec<Found>,
    /// Entries of maps that say which slot is theirs.
    pub(crate) claims: Vec<Claim>,
    /// Claims without a slot whose allocator cannot be told.
    pub(crate) stray: Vec<usize>,
    /// What could not be searched: a map, and why.
    pub(crate) failed: Vec<(u32, String)>,
    /// Whether the budget kept pointers from being looked at, which tell types
    /// and what pages serve.
    pub(crate) is_cut: bool,
}

/// One arena.
pub(crate) struct Surveyed<'a> {
    pub(crate) arena: Arena<'a>,
    /// Whether programs keep just the low halves of addresses.
    pub(crate) keeps_halves: bool,
    /// Slots by address, those of all allocators.
    pub(crate) slots: Vec<SlotRef>,
    pub(crate) account: Account,
    /// Variables of programs in the arena itself.
    pub(crate) globals: Option<Globals>,
}

/// One allocator.
pub(crate) struct Found {
    /// The map of the data section that it is in.
    pub(crate) map: u32,
    pub(crate) symbol: String,
    /// The map of the arena.
    pub(crate) arena: u32,
    pub(crate) btf: Rc<Btf>,
    pub(crate) types: Rc<Types>,
    pub(crate) allocator: Allocator,
    /// Bytes from the section's start.
    pub(crate) offset: u64,
    /// `None` before it is set up.
    pub(crate) levels: Option<u32>,
    pub(crate) data: Option<DataLayout>,
    pub(crate) layout_from_btf: bool,
    pub(crate) payload_size: u64,
    pub(crate) counts: Counts,
    pub(crate) problems: Vec<Problem>,
    pub(crate) payload: Payload,
    /// Members of map values that lead to its slots: the map, and bytes from
    /// a value's start.
    stored: BTreeSet<(u32, u64)>,
    /// Claims that lead to no live slot of it.
    pub(crate) without_slot: Vec<usize>,
}

impl<'a> Survey<'a> {
    /// Looks at all of `maps`, whatever of them is dumped. `None` where there
    /// are no arenas.
    pub(crate) fn new(context: &Context<'a>, maps: &[MapInfo], options: &Options) -> Option<Self> {
        let mut survey = Self {
            arenas: BTreeMap::new(),
            allocators: Vec::new(),
            claims: Vec::new(),
            stray: Vec::new(),
            failed: Vec::new(),
            is_cut: false,
        };
        for map in maps.iter().filter(|map| map.map_type == MapType::ARENA) {
            match context.accessor.arena(map) {
                Ok(Some(arena)) => {
                    let surveyed = Surveyed {
                        account: Account::new(&arena),
                        arena,
                        keeps_halves: map.flags & BPF_F_NO_USER_CONV != 0,
                        slots: Vec::new(),
                        globals: None,
                    };
                    survey.arenas.insert(map.id, surveyed);
                }
                Ok(None) => {}
                Err(error) => survey.fail(map.id, &error),
            }
        }
        if survey.arenas.is_empty() {
            return (!survey.failed.is_empty()).then_some(survey);
        }
        let sections = survey.sections(context, maps);
        survey.find(&sections);
        survey.prove();
        survey.index();
        survey.join(context.accessor, maps);
        survey.mark_deferred(&sections);
        survey.count_unowned();
        survey.attribute(&sections);
        survey.type_payloads(context, maps, options);
        Some(survey)
    }

    fn fail(&mut self, map: u32, error: &Error) {
        self.failed.push((map, Causes(error).to_string()));
    }

    /// The data sections of programs that have an arena.
    fn sections(&mut self, context: &Context<'a>, maps: &[MapInfo]) -> Vec<Section> {
        let mut sections = Vec::new();
        for map in maps {
            // Without programs, the arena of a section is not known; that
            // these are missing is said where they are asked for.
            let users = context.used_by(map.id).unwrap_or_default();
            let ids = users.iter().flat_map(|prog| prog.map_ids.iter().copied());
            let mut arenas: Vec<u32> = ids.filter(|id| self.arenas.contains_key(id)).collect();
            arenas.sort_unstable();
            arenas.dedup();
            if arenas.is_empty() || map.map_type != MapType::ARRAY {
                continue;
            }
            match Section::read(context.accessor, map, arenas) {
                Ok(section) => sections.extend(section),
                Err(why) => self.failed.push((map.id, why)),
            }
        }
        sections
    }

    /// The allocators in the sections.
    fn find(&mut self, sections: &[Section]) {
        // The types of a program are the same in all of its sections.
        let mut types: BTreeMap<u32, Option<Rc<Types>>> = BTreeMap::new();
        for section in sections {
            for (instance, bytes) in section.allocators() {
                let known = types.entry(section.btf_id).or_insert_with(|| {
                    let types = Types::new(&section.btf).map(Rc::new);
                    types
                        .map_err(|error| self.failed.push((section.map, error.to_string())))
                        .ok()
                });
                let Some(types) = known.as_ref().map(Rc::clone) else {
                    continue;
                };
                let record = section.btf.record_by_id(instance.ty);
                let read = record.map_err(sdt_alloc::Error::from);
                let read = read.and_then(|record| Types::allocator(&record, bytes));
                let allocator = match read {
                    Ok(allocator) => allocator,
                    Err(error) => {
                        let text = format!("{}: {error}", instance.symbol);
                        self.failed.push((section.map, text));
                        continue;
                    }
                };
                let Some(arena) = self.arena_of(section, &allocator) else {
                    let text = format!("{}: which arena it is in is not known", instance.symbol);
                    self.failed.push((section.map, text));
                    continue;
                };
                self.allocators.push(Found {
                    map: section.map,
                    symbol: instance.symbol.clone(),
                    arena,
                    btf: Rc::clone(&section.btf),
                    types,
                    allocator,
                    offset: instance.offset,
                    levels: None,
                    data: None,
                    layout_from_btf: false,
                    payload_size: 0,
                    counts: Counts::default(),
                    problems: Vec::new(),
                    payload: Payload::default(),
                    stored: BTreeSet::new(),
                    without_slot: Vec::new(),
                });
            }
        }
    }

    /// The arena of the programs that use the section; if these have several,
    /// the one that has the root.
    fn arena_of(&self, section: &Section, allocator: &Allocator) -> Option<u32> {
        match *section.arenas.as_slice() {
            [only] => Some(only),
            ref several => {
                let has_root = |id: &&u32| {
                    let arena = self.arenas.get(id).map(|surveyed| &surveyed.arena);
                    arena.is_some_and(|arena| arena.window().locate(allocator.root).is_some())
                };
                let mut having = several.iter().filter(has_root);
                let first = having.next().copied();
                first.filter(|_| having.next().is_none())
            }
        }
    }

    /// Settles the layout of each allocator, by the evidence of all that are
    /// of the same program.
    fn prove(&mut self) {
        let mut together: BTreeMap<*const Types, Evidence> = BTreeMap::new();
        for found in &mut self.allocators {
            let Some(surveyed) = self.arenas.get(&found.arena) else {
                continue;
            };
            let arena = &surveyed.arena;
            let evidence = Evidence::of(arena, &found.types, found.allocator, size(arena));
            if let Some((levels, evidence)) = evidence {
                found.levels = Some(levels);
                *together.entry(Rc::as_ptr(&found.types)).or_default() += evidence;
            }
        }
        for found in &mut self.allocators {
            let stated = found.types.data_layout();
            let evidence = together.get(&Rc::as_ptr(&found.types));
            found.layout_from_btf = stated.is_some();
            found.data =
                stated.or_else(|| evidence.and_then(|evidence| evidence.layout(&found.types)));
        }
    }
}

impl Survey<'_> {
    /// Some of the claims.
    pub(crate) fn claims_of<'s>(&'s self, at: &'s [usize]) -> impl Iterator<Item = &'s Claim> {
        at.iter().filter_map(|&at| self.claims.get(at))
    }

    /// How many things could not be read.
    pub(crate) fn gaps(&self) -> u64 {
        let problems = self.allocators.iter().map(|found| {
            let listed = found.problems.len() as u64;
            listed.saturating_add(found.counts.unlisted_problems)
        });
        let problems: u64 = problems.sum();
        problems.saturating_add(self.failed.len() as u64)
    }
}

impl Found {
    pub(crate) fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }

    /// What the layout of the slots is known by.
    pub(crate) fn layout_from(&self) -> &'static str {
        match self.layout_from_btf {
            true => "btf",
            false => "evidence",
        }
    }
}

/// Bytes that exist in an arena.
fn size(arena: &Arena<'_>) -> u64 {
    let pages = arena.pages().mapped();
    pages.saturating_mul(arena.window().page_size())
}
