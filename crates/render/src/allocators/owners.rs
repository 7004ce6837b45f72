//! Whose a slot is: entries of maps hold its id and a pointer to it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bpfmaps::{BpfMapAccessor, Entry, MapInfo, Object};
use btf_layout::{Btf, Kind, Type, TypeId};
use guestmem::{Address, ArenaPtr};
use sdt_alloc::instances;

use super::Survey;
use super::slots::is_in_use;
use crate::walk::Causes;

/// How deep structs are searched for pointers.
const MAX_DEPTH: u32 = 8;

/// What owns a slot.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// An object of the kernel, by a storage map.
    Object(Object),
    /// The key of a map's entry.
    Key(Vec<u8>),
}

/// An entry of a map that says which slot is its own.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) owner: Owner,
    pub(crate) map: u32,
    /// The pointers beside the id.
    pub(crate) pointers: Vec<ArenaPtr>,
}

/// A slot that a claim leads to.
struct Given {
    allocator: usize,
    /// Which of the claim's pointers it was.
    pointer: usize,
}

/// Where a map's values have an id and pointers.
struct Layout {
    pointers: Vec<u64>,
}

impl Layout {
    /// `None` for values without an id, or with many.
    fn of(accessor: &dyn BpfMapAccessor, map: &MapInfo) -> Result<Option<Self>, String> {
        if map.btf_id.is_none() || map.btf_value_type_id == 0 {
            return Ok(None);
        }
        let btf = accessor
            .btf(map)
            .map_err(|error| Causes(&error).to_string())?;
        let Some(btf) = btf.filter(|btf| btf.find(Kind::Union, "sdt_id").is_some()) else {
            return Ok(None);
        };
        let ty = TypeId(map.btf_value_type_id);
        let ids = instances(&btf, ty, &["sdt_id"]).map_err(|error| error.to_string())?;
        if ids.iter().filter(|id| !id.is_pointer).count() != 1 {
            return Ok(None);
        }
        let mut pointers = Vec::new();
        collect(&btf, ty, 0, 0, &mut pointers).map_err(|error| error.to_string())?;
        Ok((!pointers.is_empty()).then_some(Self { pointers }))
    }

    fn pointers(&self, value: &[u8]) -> Vec<ArenaPtr> {
        let word = |&offset: &u64| {
            let at = usize::try_from(offset).ok()?;
            value
                .get(at..)?
                .first_chunk()
                .copied()
                .map(u64::from_le_bytes)
        };
        let words = self.pointers.iter().filter_map(word);
        words.map(ArenaPtr::new).collect()
    }
}

/// The offsets of all pointers in a type.
fn collect(
    btf: &Btf,
    ty: TypeId,
    at: u64,
    depth: u32,
    to: &mut Vec<u64>,
) -> Result<(), btf_layout::Error> {
    if depth > MAX_DEPTH {
        return Ok(());
    }
    match btf.resolve(ty)? {
        (_, Type::Ptr { .. }) => to.push(at),
        (id, Type::Record { .. }) => {
            for member in btf.record_by_id(id)?.members() {
                let (_, member) = member?;
                collect(
                    btf,
                    member.ty,
                    at.saturating_add(member.offset),
                    depth + 1,
                    to,
                )?;
            }
        }
        _ => {}
    }
    Ok(())
}

impl Survey<'_> {
    /// Finds the owners in all maps, and the slot of each.
    pub(super) fn join(&mut self, accessor: &dyn BpfMapAccessor, maps: &[MapInfo]) {
        if self.allocators.is_empty() {
            return;
        }
        for map in maps {
            let layout = match Layout::of(accessor, map) {
                Ok(Some(layout)) => layout,
                Ok(None) => continue,
                Err(why) => {
                    self.failed.push((map.id, why));
                    continue;
                }
            };
            let mut claims = Vec::new();
            let walk = accessor.entries(map, &mut |entry| {
                let (owner, value) = match entry {
                    Entry::Owned { owner, value, .. } => (Owner::Object(owner.clone()), value),
                    Entry::KeyValue { key, value } => (Owner::Key(key.to_vec()), value),
                    _ => return ControlFlow::Break(()),
                };
                claims.push(Claim {
                    owner,
                    map: map.id,
                    pointers: layout.pointers(value.present),
                });
                ControlFlow::Continue(())
            });
            if let Err(error) = walk {
                self.fail(map.id, &error);
            }
            self.claim(claims, &layout);
        }
    }

    /// Joins the claims of one map.
    fn claim(&mut self, claims: Vec<Claim>, layout: &Layout) {
        let mut homeless = Vec::new();
        let mut by_allocator: BTreeMap<usize, u64> = BTreeMap::new();
        for claim in claims {
            let at = self.claims.len();
            let is_null = claim.pointers.iter().all(|pointer| pointer.get() == 0);
            match self.give(&claim, at) {
                Some(Given { allocator, pointer }) => {
                    *by_allocator.entry(allocator).or_default() += 1;
                    let found = self.allocators.get_mut(allocator);
                    if let (Some(found), Some(&offset)) = (found, layout.pointers.get(pointer)) {
                        found.stored.insert((claim.map, offset));
                    }
                }
                // An entry stays when its slot is given back.
                None if is_null => {}
                None => homeless.push(at),
            }
            self.claims.push(claim);
        }
        // All entries of a map are of one allocator.
        let most = by_allocator.into_iter().max_by_key(|&(_, count)| count);
        match most.and_then(|(allocator, _)| self.allocators.get_mut(allocator)) {
            Some(found) => found.without_slot.extend(homeless),
            None => self.stray.extend(homeless),
        }
    }

    /// The allocator whose slot a claim leads to. The slot remembers it.
    fn give(&mut self, claim: &Claim, at: usize) -> Option<Given> {
        let pointers = claim.pointers.iter().enumerate();
        for (number, &pointer) in pointers.filter(|(_, pointer)| pointer.get() != 0) {
            for surveyed in self.arenas.values_mut() {
                let slots = &mut surveyed.slots;
                let after = slots.partition_point(|of| of.slot.data <= pointer);
                let Some(found) = after.checked_sub(1).and_then(|last| slots.get_mut(last)) else {
                    continue;
                };
                let slot = &found.slot;
                let is_start = [slot.data, slot.payload].contains(&pointer);
                if is_start && is_in_use(slot) && found.claim.is_none() {
                    found.claim = Some(at);
                    return Some(Given {
                        allocator: found.allocator,
                        pointer: number,
                    });
                }
            }
        }
        None
    }

    /// Counts the slots that something owns, and those in use that nothing
    /// does.
    pub(super) fn count_unowned(&mut self) {
        for surveyed in self.arenas.values() {
            for of in &surveyed.slots {
                // What waits for being freed has been let go of.
                let is_held = is_in_use(&of.slot) && !of.deferred;
                if let Some(found) = self.allocators.get_mut(of.allocator) {
                    match of.claim {
                        Some(_) => found.counts.owned += 1,
                        None => found.counts.unowned += u64::from(is_held),
                    }
                }
            }
        }
    }
}

impl super::Found {
    /// Whether anything owns slots of it.
    pub(crate) fn is_owned(&self) -> bool {
        self.counts.owned > 0 || !self.without_slot.is_empty()
    }
}
