//! Which allocators and slots are asked for.

use bpfmaps::ObjectKind;
use guestmem::{ArenaPtr, Fault, Kva, MemoryExt};
use sdt_alloc::State;

use super::{Found, Owner, Purpose, SlotRef, Survey};

/// What is asked for; everything if nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The names of allocators.
    pub allocators: Vec<String>,
    /// The thread whose slots are asked for.
    pub pid: Option<i32>,
    /// An address in an arena.
    pub addr: Option<u64>,
    /// The maps whose allocators are asked for: those of data sections and of
    /// arenas. `None` for all.
    pub maps: Option<Vec<u32>>,
}

impl Wanted {
    /// Whether only some slots are asked for.
    #[must_use]
    pub fn is_narrow(&self) -> bool {
        !self.allocators.is_empty() || self.pid.is_some() || self.addr.is_some()
    }

    /// Whether single slots are asked for.
    #[must_use]
    pub fn is_slot(&self) -> bool {
        self.pid.is_some() || self.addr.is_some()
    }

    fn has_allocator(&self, found: &Found) -> bool {
        let is_named = self.allocators.is_empty() || self.allocators.contains(&found.symbol);
        let of_map = |maps: &Vec<u32>| maps.contains(&found.map) || maps.contains(&found.arena);
        is_named && self.maps.as_ref().is_none_or(of_map)
    }
}

/// Where an address is that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whereabouts {
    /// The map of the arena.
    pub(crate) arena: u32,
    pub(crate) pgoff: u64,
    /// What the page serves; `None` if it does not exist.
    pub(crate) serves: Option<Purpose>,
}

/// The bytes of a slot's payload.
pub(crate) struct PayloadBytes {
    pub(crate) bytes: Vec<u8>,
    pub(crate) fault: Option<Fault<Kva>>,
}

impl Survey<'_> {
    /// The allocators that are asked for. Where slots are, those without one
    /// are left out.
    pub(crate) fn wanted<'s>(&'s self, wanted: &'s Wanted) -> impl Iterator<Item = usize> + 's {
        let found = self.allocators.iter().enumerate();
        let found = found.filter(|(_, found)| wanted.has_allocator(found));
        found
            .map(|(at, _)| at)
            .filter(|&at| !wanted.is_slot() || !self.slots_wanted(at, wanted).is_empty())
    }

    /// The slots of an allocator that are asked for, by index.
    pub(crate) fn slots_wanted(&self, at: usize, wanted: &Wanted) -> Vec<&SlotRef> {
        let mut slots = self.slots_of(at);
        if let Some(pid) = wanted.pid {
            slots.retain(|of| self.pid_of(of) == Some(pid));
        }
        if let Some(addr) = wanted.addr {
            let found = self.allocators.get(at);
            let arena = found.map_or(0, |found| found.arena);
            let held = self.slot_at(arena, ArenaPtr::at(addr));
            slots.retain(|of| held.is_some_and(|held| held.slot == of.slot));
        }
        slots
    }

    /// Where the address is that is asked for.
    pub(crate) fn whereabouts(&self, wanted: &Wanted) -> Option<Whereabouts> {
        let at = ArenaPtr::at(wanted.addr?);
        self.arenas.iter().find_map(|(&arena, surveyed)| {
            let (pgoff, _) = surveyed.arena.window().locate(at)?;
            Some(Whereabouts {
                arena,
                pgoff,
                serves: surveyed.account.purpose(pgoff),
            })
        })
    }

    /// Whether anything is there of what was asked for.
    pub(crate) fn has_wanted(&self, wanted: &Wanted) -> bool {
        self.whereabouts(wanted).is_some() || self.wanted(wanted).next().is_some()
    }

    fn pid_of(&self, of: &SlotRef) -> Option<i32> {
        match &self.claims.get(of.claim?)?.owner {
            Owner::Object(object) => match object.kind {
                ObjectKind::Task { pid, .. } => pid,
                _ => None,
            },
            Owner::Key(_) => None,
        }
    }

    /// What is in a slot; `None` for one without memory, and for one that was
    /// given back and is zero.
    pub(crate) fn payload(&self, of: &SlotRef) -> Option<PayloadBytes> {
        let found = self.allocators.get(of.allocator)?;
        let arena = &self.arenas.get(&found.arena)?.arena;
        if guestmem::Address::get(of.slot.data) == 0 {
            return None;
        }
        let read = arena.read_up_to(of.slot.payload, of.slot.payload_size);
        let is_zero = read.bytes.iter().all(|&byte| byte == 0);
        if of.slot.state == State::Freed && is_zero && read.fault.is_none() {
            return None;
        }
        let fault = read.fault.and_then(|fault| {
            let at = arena.window().kva(fault.addr)?;
            Some(Fault::new(at, fault.cause))
        });
        Some(PayloadBytes {
            bytes: read.bytes,
            fault,
        })
    }
}
