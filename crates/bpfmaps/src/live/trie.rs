//! Tries of prefixes, key by key.
//!
//! A look-up finds the longest prefix of its key. So a key that is deleted
//! between the step to it and the look-up gives the value of a shorter one,
//! and has to be found out.

use nix::errno::Errno;

use super::keys::Table;
use super::sys::OpenMap;

/// A trie whose keys are found by themselves alone.
pub(super) struct Trie<'m, T = OpenMap>(pub(super) &'m T);

impl<T: Table> Table for Trie<'_, T> {
    fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.0.next_key(after, next)
    }

    fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
        self.0.lookup(key, value)?;
        // What follows a key that is not there is the first one, which
        // follows none that is.
        let mut next = key.to_vec();
        match self.0.next_key(Some(key), &mut next) {
            Ok(()) => {}
            // The last one, or one that was in a trie which is empty now.
            Err(Errno::ENOENT) => next.clear(),
            Err(errno) => return Err(errno),
        }
        let mut first = key.to_vec();
        self.0.next_key(None, &mut first)?;
        if next == first {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    /// Prefixes of one byte, most specific first, from which each look-up
    /// takes away what `take` says before it looks.
    struct Prefixes {
        values: RefCell<BTreeMap<[u8; 2], u8>>,
        take: Option<[u8; 2]>,
    }

    impl Table for Prefixes {
        fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
            let values = self.values.borrow();
            let place = |key: &[u8]| values.keys().rev().position(|known| known == key);
            let index = after.and_then(place).map_or(0, |index| index + 1);
            let key = values.keys().rev().nth(index).ok_or(Errno::ENOENT)?;
            next.copy_from_slice(key);
            Ok(())
        }

        fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<(), Errno> {
            if let Some(take) = &self.take {
                self.values.borrow_mut().remove(take);
            }
            let values = self.values.borrow();
            let matches = |known: &&[u8; 2]| known[0] <= key[0];
            let longest = values.keys().rev().find(matches);
            value[0] = *values.get(longest.ok_or(Errno::ENOENT)?).unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_shorter_prefix_is_not_taken_for_the_key() {
        let check = |take, key: [u8; 2], expected| {
            let values = [([8, 1], 1), ([16, 1], 2), ([24, 1], 3)];
            let values = RefCell::new(BTreeMap::from(values));
            let table = Prefixes { values, take };
            let mut value = [0];
            let found = Trie(&table).lookup(&key, &mut value);
            assert_eq!(found.map(|()| value[0]), expected, "{take:?} {key:?}");
        };
        for (key, value) in [([8, 1], 1), ([16, 1], 2), ([24, 1], 3)] {
            check(None, key, Ok(value));
            check(Some(key), key, Err(Errno::ENOENT));
        }
        check(Some([8, 1]), [16, 1], Ok(2));
    }
}
