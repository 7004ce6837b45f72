//! Which objects were met, so that each is shown once.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

/// An object: the map of its arena, its user address, its type's number.
pub(super) type Key = (u32, u64, u32);

/// The objects that were met. As many as the budget has.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// And whether they were shown already.
    objects: FxHashMap<Key, bool>,
    /// The objects that are in no other one, by arena and address: where they
    /// end, and their types.
    outermost: BTreeMap<(u32, u64), (u64, u32)>,
}

impl Seen {
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether the object was shown, if it was met.
    pub(super) fn get(&self, key: &Key) -> Option<bool> {
        self.objects.get(key).copied()
    }

    /// Notes an object, or that it was shown.
    pub(super) fn insert(&mut self, key: Key, size: u64, is_shown: bool) {
        if self.objects.insert(key, is_shown).is_some() {
            return;
        }
        let (arena, at, ty) = key;
        let end = at.saturating_add(size);
        if self.around(arena, at, size).is_some() {
            return;
        }
        // None of them contains another, so their ends ascend as well.
        while let Some((&inner, &(inner_end, _))) = self.outermost.range((arena, at)..).next() {
            if inner.0 != arena || inner_end > end {
                break;
            }
            self.outermost.remove(&inner);
        }
        self.outermost.insert((arena, at), (end, ty));
    }

    /// The object that has all these bytes and possibly more: its address and
    /// type.
    pub(super) fn around(&self, arena: u32, at: u64, size: u64) -> Option<(u64, u32)> {
        let (&(_, start), &(end, ty)) =
            self.outermost.range((arena, 0)..=(arena, at)).next_back()?;
        (at.saturating_add(size) <= end).then_some((start, ty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_object_is_found() {
        let mut seen = Seen::default();
        let objects = [
            (1, 0x100, 0x10),
            (1, 0x110, 0x10),
            (1, 0x1f8, 0x10),
            (1, 0x100, 0x100),
            (1, 0x140, 0x8),
            (2, 0x140, 0x8),
        ];
        for (number, (arena, at, size)) in objects.into_iter().enumerate() {
            let key = (arena, at, u32::try_from(number).unwrap());
            assert_eq!(seen.get(&key), None);
            seen.insert(key, size, number == 1);
            assert_eq!(seen.get(&key), Some(number == 1));
        }
        let check = |arena, at, size, want| {
            assert_eq!(seen.around(arena, at, size), want, "{at:#x} of {arena}");
        };
        check(1, 0x100, 0x10, Some((0x100, 3)));
        check(1, 0x140, 0x10, Some((0x100, 3)));
        check(1, 0x1ff, 1, Some((0x1f8, 2)));
        check(1, 0x1f0, 0x10, Some((0x100, 3)));
        check(1, 0x200, 0x10, None);
        check(2, 0x140, 8, Some((0x140, 5)));
        check(2, 0x100, 8, None);
        check(3, 0x140, 8, None);
    }
}
