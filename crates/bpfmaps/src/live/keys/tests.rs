//! Walks from key to key over a table that changes meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::{Entry, Walk};

/// A hash as the kernel's: new keys at the head of their bucket, updates
/// too, and a start from the beginning after a key that is not there.
struct Model {
    buckets: RefCell<Vec<Vec<u16>>>,
    calls: Cell<usize>,
    /// What happens before which call.
    script: BTreeMap<usize, Vec<Change>>,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Delete(u16),
    Put(u16),
}

impl Model {
    fn new(buckets: usize, keys: impl IntoIterator<Item = u16>) -> Self {
        let model = Self {
            buckets: RefCell::new(vec![Vec::new(); buckets]),
            calls: Cell::new(0),
            script: BTreeMap::new(),
        };
        for key in keys {
            model.change(Change::Put(key));
        }
        model
    }

    fn change(&self, change: Change) {
        let (Change::Delete(key) | Change::Put(key)) = change;
        let mut buckets = self.buckets.borrow_mut();
        let bucket = usize::from(key) % buckets.len();
        buckets[bucket].retain(|&other| other != key);
        if matches!(change, Change::Put(_)) {
            buckets[bucket].insert(0, key);
        }
    }

    fn called(&self) {
        let call = self.calls.replace(self.calls.get() + 1);
        for &change in self.script.get(&call).into_iter().flatten() {
            self.change(change);
        }
    }

    /// Walks, and counts the visits of each key.
    fn walk(&self, memory: usize) -> (Walk, BTreeMap<u16, usize>) {
        let mut seen = BTreeMap::new();
        let shape = Shape::new(2, 1, None);
        let mut visit = |entry: Entry<'_>| {
            let key = u16::from_le_bytes(entry.key().unwrap().try_into().unwrap());
            *seen.entry(key).or_default() += 1;
            ControlFlow::Continue(())
        };
        let mut walker = Walker::new(&mut visit);
        walk_remembering(memory, self, &shape, &mut walker);
        (walker.finish(), seen)
    }
}

impl Table for Model {
    fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno> {
        self.called();
        let buckets = self.buckets.borrow();
        let after = after.map(|key| u16::from_le_bytes(key.try_into().unwrap()));
        let all = || buckets.iter().flatten();
        let found = match after {
            Some(key) if all().any(|&other| other == key) => {
                all().skip_while(|&&other| other != key).nth(1)
            }
            _ => all().next(),
        };
        next.copy_from_slice(&found.ok_or(Errno::ENOENT)?.to_le_bytes());
        Ok(())
    }

    fn lookup(&self, key: &[u8], _value: &mut [u8]) -> Result<(), Errno> {
        self.called();
        let key = u16::from_le_bytes(key.try_into().unwrap());
        let there = self.buckets.borrow().iter().flatten().any(|&k| k == key);
        there.then_some(()).ok_or(Errno::ENOENT)
    }
}

#[test]
fn a_table_that_stands_still_is_visited_once() {
    for memory in [1, 4, 1000] {
        let (walk, seen) = Model::new(64, 0..300).walk(memory);
        assert!(walk.is_complete());
        assert!(seen.len() == 300 && seen.values().all(|&visits| visits == 1));
    }
}

#[test]
fn each_key_may_go_as_soon_as_it_is_seen() {
    // Call 0 finds the first key, then each key takes two calls while all
    // goes well: the deletions hit before, between and after them.
    for offset in 0..2 {
        let mut model = Model::new(16, 0..200);
        for call in 0..400 {
            let index = call / 2;
            let victim = model.buckets.borrow().iter().flatten().nth(index).copied();
            let change = victim.filter(|key| key % 3 == 0).map(Change::Delete);
            model
                .script
                .insert(call + offset, change.into_iter().collect());
        }
        let (walk, seen) = model.walk(8);
        assert!(walk.is_complete(), "{walk:?}");
        for key in (0..200).filter(|key| key % 3 != 0) {
            assert_eq!(seen.get(&key), Some(&1), "key {key}");
        }
    }
}

#[test]
fn a_key_put_back_at_once_does_not_restart_the_walk() {
    let mut model = Model::new(64, 0..500);
    // The cursor is gone just while its successor is asked for.
    let cursor = model
        .buckets
        .borrow()
        .iter()
        .flatten()
        .nth(300)
        .copied()
        .unwrap();
    model
        .script
        .insert(1 + 2 * 300, vec![Change::Delete(cursor)]);
    model.script.insert(2 + 2 * 300, vec![Change::Put(cursor)]);
    let (walk, seen) = model.walk(16);
    assert!(walk.is_complete(), "{walk:?}");
    assert!(seen.len() == 500 && seen.values().all(|&visits| visits == 1));
}

#[test]
fn a_lost_place_is_a_gap() {
    let mut model = Model::new(64, 0..500);
    let visited: Vec<u16> = model
        .buckets
        .borrow()
        .iter()
        .flatten()
        .copied()
        .take(301)
        .collect();
    let gone = visited[200..].iter().copied().map(Change::Delete).collect();
    model.script.insert(1 + 2 * 300, gone);
    let (walk, seen) = model.walk(16);
    assert_eq!(walk.gaps[0].reason, Reason::Outrun);
    assert!(seen.values().all(|&visits| visits == 1));
}

#[test]
fn an_emptied_table_ends_the_walk() {
    let mut model = Model::new(64, 0..10);
    model
        .script
        .insert(9, (0..10).map(Change::Delete).collect());
    let (walk, _) = model.walk(16);
    assert!(walk.is_complete(), "{walk:?}");
}

proptest! {
    #[test]
    fn keys_left_alone_are_visited_once(
        keys in proptest::collection::btree_set(0u16..600, 0..200),
        changes in proptest::collection::vec((0usize..600, 0u16..300, any::<bool>()), 0..300),
    ) {
        let mut model = Model::new(32, keys.iter().copied());
        for (call, key, put) in changes {
            let key = key * 2;
            let change = if put { Change::Put(key) } else { Change::Delete(key) };
            model.script.entry(call).or_default().push(change);
        }
        let (walk, seen) = model.walk(1000);
        prop_assert!(walk.is_complete(), "{:?}", walk);
        prop_assert!(seen.values().all(|&visits| visits == 1));
        for key in keys.iter().filter(|&key| key % 2 == 1) {
            prop_assert_eq!(seen.get(key), Some(&1), "key {}", key);
        }
    }
}
