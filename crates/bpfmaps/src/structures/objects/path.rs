//! Paths, put together on the way up from an object to its root.

use guestmem::{Address, Kva, Memory, MemoryExt};

use crate::structures::copied::printable;
use crate::structures::cycle::{Budget, Milestone};
use crate::walk::{Reason, Walk};

/// The longest name of a file or folder (`NAME_MAX`).
const LONGEST_NAME: u64 = 255;

/// Longer paths than any system call takes (`PATH_MAX`).
const LONGEST_PATH: usize = 64 << 10;

/// One step on the way up.
pub(crate) enum Up {
    /// The name of the object, and what it is in.
    Name(String, Kva),
    /// The object is the root.
    Root,
}

/// The ways from objects of one kind to their roots.
#[derive(Debug)]
pub(crate) struct Ways {
    /// The relation between the objects, for gaps.
    what: &'static str,
    budget: Budget,
}

impl Ways {
    pub(crate) fn new(what: &'static str, memory_size: u64) -> Self {
        let budget = Budget::of_memory(memory_size);
        Self { what, budget }
    }

    /// The path of the object at `start` from its root, `/` for the root
    /// itself. `up` reads one object; where that gives nothing there is no
    /// path.
    pub(crate) fn path(
        &self,
        start: Kva,
        walk: &mut Walk,
        up: &mut dyn FnMut(Kva, &mut Walk) -> Option<Up>,
    ) -> Option<String> {
        let mut milestone = Milestone::new();
        let mut names = Vec::new();
        let mut len = 0;
        let mut at = start;
        loop {
            if milestone.repeats(at.get()) {
                let what = self.what;
                walk.gap(at, Reason::Cycle { what });
                return None;
            }
            if let Err(value) = self.budget.step() {
                let what = "number of names in all paths";
                walk.gap(at, Reason::Absurd { what, value });
                return None;
            }
            let (name, parent) = match up(at, walk)? {
                Up::Root => break,
                Up::Name(name, parent) => (name, parent),
            };
            len += name.len() + 1;
            if len > LONGEST_PATH {
                let (what, value) = ("length of a path", len as u64);
                walk.gap(at, Reason::Absurd { what, value });
                return None;
            }
            names.push(name);
            at = parent;
        }
        names.push(String::new());
        names.reverse();
        match names.as_slice() {
            [_root] => Some("/".to_owned()),
            names => Some(names.join("/")),
        }
    }
}

/// The name at `at`, which ends in a NUL and, where that is known, has `len`
/// bytes before it.
pub(crate) fn name(
    memory: &dyn Memory<Kva>,
    at: Kva,
    len: Option<u64>,
    walk: &mut Walk,
) -> Option<String> {
    if let Some(value) = len.filter(|&len| len > LONGEST_NAME) {
        let what = "length of a file's name";
        walk.gap(at, Reason::Absurd { what, value });
        return None;
    }
    let len = usize::try_from(len.unwrap_or(LONGEST_NAME)).ok()?;
    match memory.read_cstr(at, len) {
        Ok(bytes) => Some(printable(&bytes)),
        Err(fault) => {
            walk.fault(fault);
            None
        }
    }
}
