//! The rounds in which a machine is captured.

use std::fmt;
use std::io::{Seek, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use guestmem::{
    Address, Core, Faults, Filler, PageSet, Physical, PhysicalMemory, Recorder, Snapshot,
};

use super::{Capture, Found, Scope, collect};
use crate::{Error, Machine};

/// How often a running machine is paused at most.
const ROUNDS: u32 = 3;

/// Room for so many pages that come in while a machine stands.
const SPARE: u64 = 256;

/// What is read while the machine stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// What is likely to have changed. What is missing is found out later.
    WhatChanges,
    /// Everything, by the kernel that is known, until the time is over.
    InTime,
    /// Everything, with the kernel found anew.
    Everything,
}

/// A kernel of which is known what memory a capture takes, as far as that
/// does not change.
pub struct Prepared {
    found: Found,
    scope: Scope,
    pages: PageSet,
    faults: Faults,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("scope", &self.scope)
            .field("pages", &self.pages.len())
            .finish_non_exhaustive()
    }
}

impl Prepared {
    pub(super) fn new(found: Found, scope: Scope, pages: PageSet, faults: Faults) -> Self {
        Self {
            found,
            scope,
            pages,
            faults,
        }
    }

    /// The pages that it takes.
    #[must_use]
    pub fn pages(&self) -> &PageSet {
        &self.pages
    }

    /// Captures the machine whose memory this is, however it is made to stand
    /// still. A machine that stood still before is read until `deadline`; what
    /// was not copied then is [late](guestmem::Cause::Late).
    ///
    /// # Errors
    ///
    /// If it cannot be paused or resumed, or its kernel is not there any more.
    pub fn capture(
        &self,
        machine: &dyn Machine,
        deadline: Option<Instant>,
    ) -> Result<Capture, Error> {
        let mut pages = self.pages.clone();
        let mut paused = Vec::new();
        let mut round = 0;
        loop {
            round += 1;
            let room = pages.len().saturating_add(pages.len() / 8 + SPARE);
            let snapshot = Snapshot::with_room(self.found.source.size(), room);
            let standing = machine.pause()?;
            let depth = match deadline {
                _ if standing.ran() && round < ROUNDS => Depth::WhatChanges,
                Some(_) => Depth::InTime,
                None => Depth::Everything,
            };
            let snapshot = self.copy(snapshot, &pages, depth, deadline)?;
            paused.extend(standing.resume()?);
            let snapshot = Arc::new(snapshot);
            if depth == Depth::WhatChanges && !snapshot.faults().is_late() {
                let missing = self.missing(&snapshot)?;
                if !missing.is_empty() {
                    pages.extend(snapshot.pages());
                    pages.extend(&missing);
                    continue;
                }
            }
            return Ok(Capture::new(snapshot, self.found.facts.clone(), paused));
        }
    }

    /// Copies `pages`, and what else is read at this depth.
    fn copy(
        &self,
        mut snapshot: Snapshot,
        pages: &PageSet,
        depth: Depth,
        deadline: Option<Instant>,
    ) -> Result<Snapshot, Error> {
        let source = &self.found.source;
        // Without these the others cannot be read.
        snapshot.copy(source, &self.found.pages, deadline);
        snapshot.copy(source, pages, deadline);
        let filler = Rc::new(Filler::new(Rc::clone(source), snapshot, deadline));
        let through = self.found.read_through(Rc::clone(&filler) as Physical);
        collect::what_changes(&self.found.guest, &self.scope);
        let read = match depth {
            Depth::WhatChanges => Ok(()),
            Depth::InTime => collect::everything(&self.found.guest, &self.scope),
            Depth::Everything => self.everything_in(Rc::clone(&filler) as Physical),
        };
        drop(through);
        let snapshot = filler.take();
        if !snapshot.faults().is_late() {
            // What stops at the deadline says so itself.
            read?;
        }
        Ok(snapshot)
    }

    fn everything_in(&self, memory: Physical) -> Result<(), Error> {
        let guest = self.found.facts.open(memory, &self.found.given)?;
        collect::everything(&guest, &self.scope)
    }

    /// The pages that `snapshot` lacks for everything to be read in it.
    fn missing(&self, snapshot: &Arc<Snapshot>) -> Result<PageSet, Error> {
        let recorder = Rc::new(Recorder::new(Rc::new(Arc::clone(snapshot))));
        let read = self.everything_in(Rc::clone(&recorder) as Physical);
        let mut missing = PageSet::new();
        for run in recorder.take().1.absent() {
            let len = run.end.checked_offset_from(run.start).unwrap_or(0);
            if snapshot.faults().at(run.start).is_none() {
                missing.insert_bytes(run.start, len);
            }
        }
        if missing.is_empty() {
            read?;
        }
        Ok(missing)
    }

    /// Writes the capture of a machine that stands still as an ELF core,
    /// straight from its memory.
    ///
    /// # Errors
    ///
    /// Those of writing, and memory that is not there any more.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), Error> {
        Ok(self.core().write(out)?)
    }

    /// The same to a file, of which pages of zeros become holes.
    ///
    /// # Errors
    ///
    /// Those of writing, and memory that is not there any more.
    pub fn write_sparse(&self, out: &mut (impl Write + Seek)) -> Result<(), Error> {
        Ok(self.core().write_sparse(out)?)
    }

    fn core(&self) -> Core<'_> {
        let Found { facts, source, .. } = &self.found;
        facts.core(source, &self.pages, &self.faults)
    }
}
