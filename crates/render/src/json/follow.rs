//! Pointers that were followed, and the objects that wait behind the maps.

use bpfmaps::Bytes;
use guestmem::ArenaPtr;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::allocators::OwnerJson;
use super::object::{ObjectJson, known};
use super::value::{Address, Text};
use crate::follow::{Follower, InSlot, Met, ObjectType, Pointer, Queued, Read, Site};
use crate::object::Object;

/// A pointer, and what it leads to.
pub(super) struct PointerJson<'a>(pub(super) Pointer, pub(super) &'a Site<'a>);

impl Serialize for PointerJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(pointer, from) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("ptr", &Text(Address(pointer.value)))?;
        map.serialize_entry("type", &pointer.type_name)?;
        match &pointer.met {
            Met::Here(reached) => {
                let site = reached.site(from);
                object(&mut map, "to", &reached.ty, &reached.read, &site)?;
            }
            Met::Elsewhere { .. } => map.serialize_entry("ref", &true)?,
            Met::Within {
                at,
                type_name,
                offset,
                ..
            } => {
                map.serialize_entry("ref", &true)?;
                let within = Within {
                    addr: Text(*at),
                    ty: type_name,
                    offset: *offset,
                };
                map.serialize_entry("within", &within)?;
            }
            Met::Slot(slot) => map.serialize_entry("slot", &SlotJson(slot, from))?,
            Met::Named(named) => map.serialize_entry("object", &ObjectJson(named))?,
            Met::Not(why) => map.serialize_entry("why", why)?,
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Within<'a> {
    addr: Text<ArenaPtr>,
    #[serde(rename = "type")]
    ty: &'a str,
    offset: u64,
}

/// An object under this name, and what is missing of it.
fn object<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    ty: &ObjectType,
    read: &Read,
    site: &Site<'_>,
) -> Result<(), M::Error> {
    let why = read.cut.as_ref().map(|cut| cut.why.as_str());
    if let Some(why) = why.filter(|_| read.bytes.is_empty()) {
        return map.serialize_entry("why", why);
    }
    let bytes = Bytes {
        present: &read.bytes,
        len: ty.size,
        fault: None,
    };
    let object = Object::new(&ty.shape, bytes).following(site);
    map.serialize_entry(name, &object)?;
    let Some(why) = why else {
        return Ok(());
    };
    let present = read.bytes.len() as u64;
    let missing = Missing {
        offset: present,
        len: ty.size.saturating_sub(present),
        why,
    };
    map.serialize_entry("missing", &missing)
}

/// The part of an object that is not there.
#[derive(Serialize)]
struct Missing<'a> {
    offset: u64,
    len: u64,
    why: &'a str,
}

/// A place in a slot of an allocator.
struct SlotJson<'a>(&'a InSlot, &'a Site<'a>);

impl Serialize for SlotJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(InSlot { of, offset }, site) = self;
        let survey = site.survey();
        let found = survey.and_then(|survey| survey.allocators.get(of.allocator));
        let claims = survey.map(|survey| &survey.claims);
        let mut map = serializer.serialize_map(None)?;
        known(&mut map, "allocator", found.map(|found| &found.symbol))?;
        map.serialize_entry("idx", &of.slot.idx)?;
        if *offset != 0 {
            map.serialize_entry("offset", offset)?;
        }
        let claim = of.claim.and_then(|at| claims?.get(at));
        known(&mut map, "owner", claim.map(OwnerJson))?;
        map.end()
    }
}

/// The objects that are shown nowhere else, each met while it is serialized.
pub(super) struct Objects<'a>(pub(super) &'a Follower<'a>);

impl Serialize for Objects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let objects = std::iter::from_fn(|| self.0.next());
        serializer.collect_seq(objects.map(|queued| QueuedJson(self.0, queued)))
    }
}

/// An object out of the queue.
pub(super) struct QueuedJson<'a>(pub(super) &'a Follower<'a>, pub(super) Queued);

impl Serialize for QueuedJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(follower, queued) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("arena", &queued.arena)?;
        map.serialize_entry("addr", &Text(queued.at))?;
        map.serialize_entry("type", &queued.ty.shape.name)?;
        let arenas = [queued.arena];
        let site = follower.flat_site(&queued.ty.btf, &arenas);
        object(&mut map, "typed", &queued.ty, &queued.read, &site)?;
        map.end()
    }
}

/// How much was followed and what came of it.
pub(super) struct Followed<'a>(pub(super) &'a Follower<'a>);

impl Serialize for Followed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (spent, counts) = (self.0.spent(), self.0.counts());
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("objects", &spent.objects)?;
        map.serialize_entry("bytes", &spent.bytes)?;
        map.serialize_entry("dangling", &counts.dangling)?;
        map.serialize_entry("foreign", &counts.foreign)?;
        if counts.left_out > 0 {
            map.serialize_entry("left_out", &counts.left_out)?;
        }
        if self.0.is_cut() {
            map.serialize_entry("stopped", "budget")?;
        }
        map.serialize_entry("complete", &(counts.gaps == 0))?;
        map.end()
    }
}
