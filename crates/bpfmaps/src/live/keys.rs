//! A hash walked key by key, for kernels that do not look up in batches.
//!
//! `BPF_MAP_GET_NEXT_KEY` goes by the last key. If that key has been deleted,
//! the kernel starts again at the first one, without a word. So the successor
//! of a key is asked for *before* its value: a value that is still there says
//! that the key was, and that the successor is its own. If the value is gone,
//! the walk goes on from the newest key visited that is still there.
//!
//! What remains is a key that is deleted and put back between two calls. For
//! this the walk remembers the first and the latest keys that it visited: a
//! step to a remembered key is no new entry, and a step to one of the first
//! ones, long after it was visited, is a fall back to the start.
//!
//! Memory is bounded, so a walk through a large map does not remember all. If
//! all of the latest keys have been deleted, there is nothing to go on from;
//! the walk then ends with a gap instead of guessing.

use std::collections::VecDeque;
use std::rc::Rc;

use nix::errno::Errno;
use rustc_hash::FxHashSet;

use super::shape::{Shape, buffer};
use crate::walk::Walker;
use crate::{GapAt, Reason};

/// A table whose keys have an order that nobody can compute.
pub(super) trait Table {
    /// The key after `after`, or the first; `ENOENT` after the last.
    fn next_key(&self, after: Option<&[u8]>, next: &mut [u8]) -> Result<(), Errno>;

    /// A key's value; `ENOENT` if there is none.
    fn lookup(&self, key: &[u8], value: &mut [u8]) -> Result<(), Errno>;
}

type Key = Rc<[u8]>;

/// Visits each key that stays in `table` during the walk exactly once.
pub(super) fn walk(table: &impl Table, shape: &Shape<'_>, walker: &mut Walker<'_, '_>) {
    // Up to 4096 keys, fewer if they are large.
    let memory = (256 * 1024 / shape.key_size().max(1)).clamp(16, 4096);
    walk_remembering(memory, table, shape, walker);
}

fn walk_remembering(
    memory: usize,
    table: &impl Table,
    shape: &Shape<'_>,
    walker: &mut Walker<'_, '_>,
) {
    let (Some(next), Some(value)) = (buffer(shape.key_size()), buffer(shape.value_len())) else {
        return walker.walk.gap(GapAt::Map, shape.absurd());
    };
    let mut steps = Steps {
        table,
        known: Known::new(memory),
        next,
        value,
    };
    let mut at = steps.after(None);
    loop {
        let key = match at {
            Ok(Some(key)) => key,
            Ok(None) => return,
            Err(reason) => return walker.walk.gap(GapAt::Map, reason),
        };
        let after = steps.after(Some(&key));
        let looked_up = table.lookup(&key, &mut steps.value);
        match looked_up {
            Ok(()) => {
                if shape.visit_all(&key, &steps.value, walker).is_break() {
                    return;
                }
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                let operation = "BPF_MAP_LOOKUP_ELEM";
                let reason = Reason::Refused { operation, errno };
                if errno == Errno::EPERM {
                    return walker.walk.gap(GapAt::Map, reason);
                }
                walker.walk.gap(GapAt::Key(key.as_ref().into()), reason);
            }
        }
        let gone = looked_up == Err(Errno::ENOENT);
        if !gone {
            steps.known.add(key);
        }
        at = match after {
            Ok(Some(next)) if !gone && steps.known.recall(&next) == Recall::New => Ok(Some(next)),
            Ok(None) if !gone => Ok(None),
            Ok(_) => steps.resume(),
            Err(reason) => Err(reason),
        };
    }
}

/// The way through a table.
struct Steps<'t, T> {
    table: &'t T,
    known: Known,
    next: Vec<u8>,
    value: Vec<u8>,
}

impl<T: Table> Steps<'_, T> {
    /// What the table says comes after `key`.
    fn after(&mut self, key: Option<&[u8]>) -> Result<Option<Key>, Reason> {
        match self.table.next_key(key, &mut self.next) {
            Ok(()) => Ok(Some(self.next.as_slice().into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(Reason::Refused {
                operation: "BPF_MAP_GET_NEXT_KEY",
                errno,
            }),
        }
    }

    /// The first key not visited yet, from the newest known one on that is
    /// still there.
    fn resume(&mut self) -> Result<Option<Key>, Reason> {
        let mut patience = 64 * self.known.memory;
        loop {
            let mut age = 0;
            while let Some(start) = self.known.starting_point(age) {
                age += 1;
                let mut at = start;
                loop {
                    patience = patience.checked_sub(1).ok_or(Reason::Outrun)?;
                    let after = self.after(at.as_deref())?;
                    let there = at.is_none_or(|key| {
                        self.table.lookup(&key, &mut self.value) != Err(Errno::ENOENT)
                    });
                    match after {
                        _ if !there => break,
                        None => return Ok(None),
                        Some(key) => match self.known.recall(&key) {
                            Recall::New => return Ok(Some(key)),
                            Recall::Latest => at = Some(key),
                            // Here is the start, not where the walk was.
                            Recall::First => break,
                        },
                    }
                }
            }
            if self.known.forgotten {
                return Err(Reason::Outrun);
            }
        }
    }
}

/// What the walk knows of a key.
#[derive(Debug, PartialEq, Eq)]
enum Recall {
    /// It has not been visited, or that has been forgotten.
    New,
    /// It has been visited; nothing since has been forgotten.
    Latest,
    /// It was one of the first, before much that has been forgotten.
    First,
}

/// The first and the latest keys that were visited.
struct Known {
    /// How many of each.
    memory: usize,
    first: FxHashSet<Key>,
    latest: VecDeque<Key>,
    latest_set: FxHashSet<Key>,
    /// Whether any key has been visited that is in neither.
    forgotten: bool,
}

impl Known {
    fn new(memory: usize) -> Self {
        Self {
            memory,
            first: FxHashSet::default(),
            latest: VecDeque::new(),
            latest_set: FxHashSet::default(),
            forgotten: false,
        }
    }

    fn add(&mut self, key: Key) {
        if self.first.len() < self.memory {
            self.first.insert(Rc::clone(&key));
        }
        if self.latest_set.insert(Rc::clone(&key)) {
            self.latest.push_back(key);
        }
        if self.latest.len() > self.memory
            && let Some(oldest) = self.latest.pop_front()
        {
            self.latest_set.remove(&oldest);
            self.forgotten |= !self.first.contains(&oldest);
        }
    }

    fn recall(&self, key: &[u8]) -> Recall {
        if self.latest_set.contains(key) {
            Recall::Latest
        } else if !self.first.contains(key) {
            Recall::New
        } else if self.forgotten {
            Recall::First
        } else {
            Recall::Latest
        }
    }

    /// The known places, newest first; where nothing has been forgotten, the
    /// start is one of them.
    fn starting_point(&self, age: usize) -> Option<Option<Key>> {
        match self.latest.len().checked_sub(age + 1) {
            Some(index) => self.latest.get(index).cloned().map(Some),
            None if age == self.latest.len() && !self.forgotten => Some(None),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests;
