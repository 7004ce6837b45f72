//! Types by name.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::{Btf, Kind, TypeId};

/// A hash table of the named types of one BTF: open addressing over type ids.
/// The names stay in the BTF, so an entry costs 16 to 32 bytes.
pub(crate) struct Index {
    slots: Vec<Slot>,
    hasher: Hasher,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    /// The half of the hash that does not choose the slot.
    tag: u32,
    /// `void` where the slot is empty.
    id: TypeId,
}

impl Index {
    pub(crate) fn of(btf: &Btf) -> Self {
        let count = btf.ids().size_hint().0;
        let mut index = Self {
            slots: vec![Slot::default(); (count * 2).next_power_of_two().max(2)],
            hasher: Hasher::new(),
        };
        for id in btf.ids() {
            if let Some((kind, name)) = key(btf, id)
                && !name.is_empty()
                && let Err((at, tag)) = index.probe(btf, kind, name)
                && let Some(slot) = index.slots.get_mut(at)
            {
                *slot = Slot { tag, id };
            }
        }
        index
    }

    pub(crate) fn find(&self, btf: &Btf, kind: Kind, name: &str) -> Option<TypeId> {
        self.probe(btf, kind, name.as_bytes()).ok()
    }

    /// The type, or the empty slot where it would be and its tag.
    fn probe(&self, btf: &Btf, kind: Kind, name: &[u8]) -> Result<TypeId, (usize, u32)> {
        let mask = self.slots.len() - 1;
        let [a, b, c, d, e, f, g, h] = self.hasher.hash(kind, name).to_le_bytes();
        let tag = u32::from_le_bytes([a, b, c, d]);
        let start = u32::from_le_bytes([e, f, g, h]);
        let mut at = usize::try_from(start).unwrap_or(0) & mask;
        // At least half of the slots are empty, so this ends.
        while let Some(slot) = self.slots.get(at) {
            if slot.id == TypeId::VOID {
                break;
            }
            if slot.tag == tag && key(btf, slot.id) == Some((kind, name)) {
                return Ok(slot.id);
            }
            at = (at + 1) & mask;
        }
        Err((at, tag))
    }
}

fn key(btf: &Btf, id: TypeId) -> Option<(Kind, &[u8])> {
    let raw = btf.raw(id).ok()?;
    Some((raw.info.kind()?, btf.string_bytes(raw.name_off).ok()?))
}

/// Multiplies and folds, eight bytes a step: several times faster than the
/// standard library's hash over the 100,000 short names of a kernel. Seeded at
/// random, so that no BTF can aim at one slot.
struct Hasher {
    start: u64,
    factor: u64,
}

impl Hasher {
    fn new() -> Self {
        let random = RandomState::new();
        Self {
            start: random.hash_one(0),
            factor: random.hash_one(1) | 1,
        }
    }

    fn hash(&self, kind: Kind, name: &[u8]) -> u64 {
        let mut state = self.step(self.start, u64::from(kind.number()));
        let (words, rest) = name.as_chunks();
        for word in words {
            state = self.step(state, u64::from_le_bytes(*word));
        }
        let last = rest
            .iter()
            .fold(0, |word, &byte| word << 8 | u64::from(byte));
        self.step(state, last)
    }

    fn step(&self, state: u64, word: u64) -> u64 {
        let product = u128::from(state ^ word) * u128::from(self.factor);
        let [low, high] = [product, product >> 64].map(|half| {
            let [a, b, c, d, e, f, g, h, ..] = half.to_le_bytes();
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        });
        low ^ high
    }
}
