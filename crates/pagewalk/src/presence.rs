//! Which pages of a range are there, whatever their frames.

use guestmem::{Address, Cause, Gpa, Kva, Memory};

use crate::format::Entry;
use crate::mappings::{Mapping, Mappings};
use crate::{AddressSpace, Format};

/// What tables say of pages that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Mapped, to whatever frames.
    Mapped,
    /// Mapped to the frame that was asked for.
    Frame,
    /// Not mapped, for this reason.
    Absent(Cause),
}

/// A range of pages as stretches of the same [`Presence`], with their bytes,
/// in ascending order.
///
/// # Contract
///
/// As that of [`Mappings`], except that pages join whatever their frames: a
/// range of a million pages at a million frames is one stretch.
#[derive(Debug)]
pub struct Stretches<'s, M> {
    walk: Mappings<'s, M>,
    frame: Option<Gpa>,
    pending: Option<(Presence, u64)>,
}

/// How many entries are looked at together.
const GROUP: usize = 16;

impl<'s, M: Memory<Gpa>> Stretches<'s, M> {
    pub(crate) fn new(
        space: &'s AddressSpace<M>,
        start: Kva,
        len: u64,
        frame: Option<Gpa>,
    ) -> Self {
        Self {
            walk: Mappings::new(space, start, len),
            frame,
            pending: None,
        }
    }

    /// The stretch at `va` that one table answers for.
    fn step(&mut self, va: u64) -> (Presence, u64) {
        let format = self.walk.format();
        let page = format.page_size();
        if let Some(entries) = self.walk.leaves(va)
            && let Some((presence, count)) = alike(format, entries, self.frame)
        {
            let left = page.saturating_mul(count as u64) - (va & (page - 1));
            return (presence, self.walk.clip(va, left));
        }
        match self.walk.step(va) {
            Mapping::Gap { len, cause, .. } => (Presence::Absent(cause), len),
            Mapping::Run { gpa, len, .. } => {
                let start = gpa.get() & !(page - 1);
                let before = self
                    .frame
                    .and_then(|frame| frame.checked_offset_from(Gpa::new(start)));
                match before {
                    Some(0) => (Presence::Frame, len.min(page - (gpa.get() - start))),
                    Some(before) => (Presence::Mapped, len.min(before - (gpa.get() - start))),
                    None => (Presence::Mapped, len),
                }
            }
        }
    }
}

/// What the first of these PTEs says, and how many say the same; `None` if
/// it is malformed.
fn alike(format: Format, entries: &[[u8; 8]], frame: Option<Gpa>) -> Option<(Presence, usize)> {
    let decode = |raw: &[u8; 8]| format.decode(u64::from_le_bytes(*raw), 1);
    match decode(entries.first()?) {
        Entry::Leaf(first) if Some(first) == frame => {
            let same = entries
                .iter()
                .take_while(|raw| decode(raw) == Entry::Leaf(first));
            Some((Presence::Frame, same.count()))
        }
        Entry::Leaf(_) => {
            let mapped = |entry| matches!(entry, Entry::Leaf(gpa) if Some(gpa) != frame);
            // What a window costs is here: full and empty tables are passed by
            // the group.
            let groups = entries.as_chunks::<GROUP>().0.iter();
            let full = |group: &&[[u8; 8]; GROUP]| {
                let all = |all, raw: &[u8; 8]| all & u64::from_le_bytes(*raw);
                let may = |raw: &[u8; 8], frame| format.may_map(u64::from_le_bytes(*raw), frame);
                let any = |frame| group.iter().fold(false, |any, raw| any | may(raw, frame));
                format.is_leaf(group.iter().fold(u64::MAX, all)) && !frame.is_some_and(any)
            };
            let passed = groups.take_while(full).count() * GROUP;
            let rest = entries.get(passed..).unwrap_or_default().iter();
            let rest = rest.take_while(|raw| mapped(decode(raw)));
            Some((Presence::Mapped, passed + rest.count()))
        }
        Entry::NotPresent => {
            let groups = entries.as_chunks::<GROUP>().0.iter();
            let empty = |group: &&[[u8; 8]; GROUP]| {
                let any = |any, raw: &[u8; 8]| any | u64::from_le_bytes(*raw);
                format.is_absent(group.iter().fold(0, any))
            };
            let passed = groups.take_while(empty).count() * GROUP;
            let rest = entries.get(passed..).unwrap_or_default().iter();
            let rest = rest.take_while(|raw| decode(raw) == Entry::NotPresent);
            let absent = Presence::Absent(Cause::NotPresent { level: 1 });
            Some((absent, passed + rest.count()))
        }
        Entry::Table(_) | Entry::Malformed => None,
    }
}

impl<M: Memory<Gpa>> Iterator for Stretches<'_, M> {
    type Item = (Presence, u64);

    fn next(&mut self) -> Option<(Presence, u64)> {
        while let Some(va) = self.walk.position() {
            let (presence, len) = self.step(va);
            self.walk.advance(va, len);
            match &mut self.pending {
                Some((before, sum)) if *before == presence => *sum = sum.saturating_add(len),
                pending => {
                    let ended = pending.replace((presence, len));
                    if ended.is_some() {
                        return ended;
                    }
                }
            }
        }
        self.pending.take()
    }
}
