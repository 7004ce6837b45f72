//! Allocators in arenas and their slots, as JSON.

use bpfmaps::Bytes;
use bpfmaps::arena::{Arena, Run};
use sdt_alloc::{DataLayout, Problem, State};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::entry::{Missing, ValueJson};
use super::object::{known, object_fields};
use super::state::Runs;
use super::value::Text;
use crate::allocators::{
    Claim, Found, Globals, Owner, Purpose, SECTION, SlotRef, Survey, Wanted, Whereabouts,
};
use crate::follow::Follower;
use crate::hex::Hex;
use crate::object::Object;

/// The allocators that are wanted.
pub(super) struct Allocators<'a> {
    pub(super) survey: &'a Survey<'a>,
    pub(super) follower: &'a Follower<'a>,
    pub(super) wanted: &'a Wanted,
}

impl Serialize for Allocators<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wanted = self.survey.wanted(self.wanted);
        serializer.collect_seq(wanted.map(|at| AllocatorJson {
            survey: self.survey,
            follower: self.follower,
            wanted: self.wanted,
            at,
            slots: true,
        }))
    }
}

/// One allocator, with or without its slots.
pub(super) struct AllocatorJson<'a> {
    pub(super) survey: &'a Survey<'a>,
    pub(super) follower: &'a Follower<'a>,
    pub(super) wanted: &'a Wanted,
    pub(super) at: usize,
    pub(super) slots: bool,
}

impl Serialize for AllocatorJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(found) = self.survey.allocators.get(self.at) {
            self.members(&mut map, found)?;
        }
        map.end()
    }
}

impl AllocatorJson<'_> {
    fn members<M: SerializeMap>(&self, map: &mut M, found: &Found) -> Result<(), M::Error> {
        map.serialize_entry("map", &found.map)?;
        map.serialize_entry("symbol", &found.symbol)?;
        map.serialize_entry("arena", &found.arena)?;
        let layout = found.data.map(|data| match data {
            DataLayout::Header { .. } => "header",
            DataLayout::Trailer { .. } => "trailer",
        });
        map.serialize_entry("layout", &layout)?;
        if layout.is_some() {
            map.serialize_entry("layout_from", found.layout_from())?;
        }
        map.serialize_entry("levels", &found.levels)?;
        map.serialize_entry("entries_per_chunk", &found.types.entries_per_chunk())?;
        map.serialize_entry("elem_size", &found.allocator.pool.elem_size)?;
        map.serialize_entry("payload_size", &found.payload_size)?;
        let counts = &found.counts;
        map.serialize_entry("live", &counts.live)?;
        map.serialize_entry("freed", &counts.freed)?;
        map.serialize_entry("torn", &counts.torn)?;
        map.serialize_entry("misplaced", &counts.misplaced)?;
        map.serialize_entry("unproved", &counts.unproved)?;
        map.serialize_entry("deferred", &counts.deferred)?;
        map.serialize_entry("inconsistent_descs", &counts.inconsistent_descs)?;
        let name = found.payload.ty.as_ref().map(|ty| &ty.shape.name);
        known(map, "type", name)?;
        known(map, "type_from", found.payload.from.as_ref())?;
        if !found.payload.candidates.is_empty() {
            map.serialize_entry("candidates", &found.payload.candidates)?;
        }
        if found.is_owned() {
            map.serialize_entry("slots_without_owner", &counts.unowned)?;
            let without: Vec<_> = self.survey.claims_of(&found.without_slot).collect();
            map.serialize_entry("owners_without_slot", &ClaimsJson(&without))?;
        }
        map.serialize_entry("complete", &found.is_complete())?;
        map.serialize_entry("gaps", &Problems(&found.problems))?;
        if counts.unlisted_problems > 0 {
            map.serialize_entry("unlisted_gaps", &counts.unlisted_problems)?;
        }
        match self.slots {
            true => map.serialize_entry("slots", &Slots(self)),
            false => Ok(()),
        }
    }
}

struct Problems<'a>(&'a [Problem]);

impl Serialize for Problems<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct ProblemJson {
            at: Text<guestmem::ArenaPtr>,
            reason: Text<Problem>,
        }
        serializer.collect_seq(self.0.iter().map(|&problem| ProblemJson {
            at: Text(problem.at()),
            reason: Text(problem),
        }))
    }
}

struct Slots<'a>(&'a AllocatorJson<'a>);

impl Serialize for Slots<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let AllocatorJson {
            survey,
            follower,
            wanted,
            at,
            ..
        } = *self.0;
        let slots = survey.slots_wanted(at, wanted);
        serializer.collect_seq(slots.into_iter().map(|of| SlotJson {
            survey,
            follower,
            of,
        }))
    }
}

/// One slot.
pub(super) struct SlotJson<'a> {
    pub(super) survey: &'a Survey<'a>,
    pub(super) follower: &'a Follower<'a>,
    pub(super) of: &'a SlotRef,
}

impl Serialize for SlotJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let SlotRef {
            slot,
            claim,
            deferred,
            ..
        } = *self.of;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("idx", &slot.idx)?;
        known(&mut map, "generation", slot.generation)?;
        map.serialize_entry("addr", &Text(slot.payload))?;
        let state = match slot.state {
            State::Live => "live",
            State::Freed => "freed",
            State::Torn => "torn",
            State::Misplaced { .. } => "misplaced",
            State::Unproved => "unproved",
        };
        map.serialize_entry("state", state)?;
        if let State::Misplaced { found } = slot.state {
            map.serialize_entry("found_idx", &found)?;
        }
        if deferred {
            map.serialize_entry("deferred", &true)?;
        }
        if let Some(claim) = claim.and_then(|claim| self.survey.claims.get(claim)) {
            map.serialize_entry("owner", &OwnerJson(claim))?;
        }
        if let Some(payload) = self.survey.payload(self.of) {
            let found = self.survey.allocators.get(self.of.allocator);
            let ty = found.and_then(|found| found.payload.ty.as_ref());
            let arenas = [found.map_or(0, |found| found.arena)];
            let value = ValueJson {
                shape: ty.map(|ty| &ty.shape),
                bytes: Bytes {
                    present: &payload.bytes,
                    len: slot.payload_size,
                    fault: payload.fault,
                },
                place: None,
                site: ty.map(|ty| self.follower.site(&ty.btf, &arenas)),
            };
            map.serialize_entry("payload", &value)?;
        }
        map.end()
    }
}

struct ClaimsJson<'a>(&'a [&'a Claim]);

impl Serialize for ClaimsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct ClaimJson<'a> {
            owner: OwnerJson<'a>,
            pointers: Vec<Text<guestmem::ArenaPtr>>,
        }
        serializer.collect_seq(self.0.iter().map(|claim| ClaimJson {
            owner: OwnerJson(claim),
            pointers: claim.pointers.iter().copied().map(Text).collect(),
        }))
    }
}

/// What owns a slot, and the map that says so.
pub(super) struct OwnerJson<'a>(pub(super) &'a Claim);

impl Serialize for OwnerJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Key<'a> {
            hex: Text<Hex<'a>>,
        }
        let mut map = serializer.serialize_map(None)?;
        match &self.0.owner {
            Owner::Object(object) => object_fields(&mut map, object)?,
            Owner::Key(key) => {
                map.serialize_entry("kind", "entry")?;
                map.serialize_entry(
                    "key",
                    &Key {
                        hex: Text(Hex(key)),
                    },
                )?;
            }
        }
        map.serialize_entry("map", &self.0.map)?;
        map.end()
    }
}

/// How many pages of an arena serve what.
pub(super) struct AccountJson<'a> {
    pub(super) survey: &'a Survey<'a>,
    pub(super) arena: u32,
}

impl Serialize for AccountJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(surveyed) = self.survey.arenas.get(&self.arena) {
            let account = &surveyed.account;
            for purpose in Purpose::ALL {
                map.serialize_entry(purpose.name(), &account.pages(purpose))?;
            }
            let unknown: Vec<Run> = account.unknown();
            map.serialize_entry("unknown_runs", &Runs(&unknown))?;
        }
        map.end()
    }
}

/// Where an address is.
pub(super) struct PlaceJson(pub(super) Whereabouts);

impl Serialize for PlaceJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("arena", &self.0.arena)?;
        map.serialize_entry("pgoff", &self.0.pgoff)?;
        map.serialize_entry("serves", &self.0.serves.map(Purpose::name))?;
        map.end()
    }
}

/// The variables in an arena.
pub(super) struct GlobalsJson<'a> {
    pub(super) follower: &'a Follower<'a>,
    pub(super) arena: &'a Arena<'a>,
    pub(super) id: u32,
    pub(super) globals: &'a Globals,
}

impl Serialize for GlobalsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let globals = self.globals;
        let read = globals.read(self.arena);
        let arenas = [self.id];
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("section", SECTION)?;
        map.serialize_entry("addr", &Text(globals.at))?;
        map.serialize_entry("size", &globals.size)?;
        self.follower
            .show(self.id, globals.at, &globals.btf, globals.ty);
        let site = self.follower.site(&globals.btf, &arenas);
        let object = Object::new(&globals.shape, read.bytes()).following(&site);
        map.serialize_entry("typed", &object)?;
        if !read.bytes().is_whole() {
            map.serialize_entry("missing", &Missing(read.bytes()))?;
        }
        map.end()
    }
}

/// What could not be searched for allocators, and owners whose allocator is
/// not known.
pub(super) fn unsearched<M: SerializeMap>(
    map: &mut M,
    survey: &Survey<'_>,
) -> Result<(), M::Error> {
    #[derive(Serialize)]
    struct Failed<'a> {
        map: u32,
        why: &'a str,
    }
    let failed = survey.failed.iter();
    let failed: Vec<_> = failed.map(|(map, why)| Failed { map: *map, why }).collect();
    map.serialize_entry("allocator_gaps", &failed)?;
    let stray: Vec<_> = survey.claims_of(&survey.stray).collect();
    match stray.as_slice() {
        [] => Ok(()),
        stray => map.serialize_entry("owners_without_allocator", &ClaimsJson(stray)),
    }
}
