//! Captures: the few thousand pages out of which everything is read, taken in
//! milliseconds.
//!
//! A machine that runs is captured in rounds. While it runs, its kernel is
//! found and everything is read once through a recorder, which tells the pages
//! that it takes. Then the machine is paused, those pages are copied, what
//! changes most is walked once more so that new pages come in, and the machine
//! runs again. Whether anything is missing is found out on the copy alone: if
//! so, the next round copies that, too, and the last one reads everything
//! while the machine stands. Of all rounds the last is kept: a capture is one
//! instant.

mod collect;
mod door;
mod engine;
mod found;

use std::collections::BTreeSet;
use std::io::{Seek, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bpfmaps::MapInfo;
use guestmem::{Core, Format, Gpa, Image, Snapshot};
use kernel::{Finder, GivenSymbols};

pub use engine::Prepared;
pub use found::Found;

use crate::Error;

/// What of arenas is captured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Arenas {
    /// Every page that exists.
    #[default]
    Whole,
    /// The pages that allocators, variables and pointers lead to.
    Reached,
    /// None; which there are is told all the same.
    No,
}

/// What is captured. The lists of maps and programs always are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// The ids of the maps with contents; `None` for all.
    pub maps: Option<BTreeSet<u32>>,
    /// What of arenas.
    pub arenas: Arenas,
}

impl Scope {
    /// The lists alone.
    #[must_use]
    pub fn lists() -> Self {
        Self {
            maps: Some(BTreeSet::new()),
            arenas: Arenas::No,
        }
    }

    fn has(&self, map: &MapInfo) -> bool {
        self.maps.as_ref().is_none_or(|ids| ids.contains(&map.id))
    }
}

/// What is known of a kernel and need not be found.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Where its VMCOREINFO is.
    pub vmcoreinfo: Option<Gpa>,
    /// Its root table.
    pub root: Option<Gpa>,
    /// Its symbols.
    pub symbols: Option<GivenSymbols>,
    /// Its BTF.
    pub btf: Option<Vec<u8>>,
}

impl Given {
    /// A search that takes all of it as given.
    #[must_use]
    pub fn finder<'f>(&self) -> Finder<'f> {
        let mut finder = self.finder_in_capture();
        if let Some(gpa) = self.vmcoreinfo {
            finder = finder.vmcoreinfo(gpa);
        }
        match self.root {
            Some(gpa) => finder.root(gpa),
            None => finder,
        }
    }

    /// A search in a capture, which says itself where the kernel is.
    #[must_use]
    pub fn finder_in_capture<'f>(&self) -> Finder<'f> {
        let mut finder = Finder::new();
        if let Some(symbols) = &self.symbols {
            finder = finder.symbols(symbols.clone());
        }
        match &self.btf {
            Some(btf) => finder.btf(btf.clone()),
            None => finder,
        }
    }
}

/// What a capture tells of its kernel.
#[derive(Clone, Debug)]
struct Facts {
    /// What the memory itself was read from.
    source: Format,
    vmcoreinfo: String,
    root: Gpa,
    /// ELF's number of the architecture.
    machine: u16,
}

/// What a capture took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many pages of 4 KiB it has.
    pub pages: u64,
    /// How long the machine stood still, each time that it was paused for it.
    pub paused: Vec<Duration>,
    /// Whether time ran out before all was copied.
    pub is_late: bool,
}

impl Report {
    /// The longest pause; `None` for a machine that stood still anyway.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        self.paused.iter().max().copied()
    }

    /// All pauses together.
    #[must_use]
    pub fn total(&self) -> Option<Duration> {
        let any = !self.paused.is_empty();
        any.then(|| self.paused.iter().sum())
    }
}

/// The memory of a kernel at one instant, as far as its maps and programs
/// need it. It holds nothing of the machine, and can go to another thread.
#[derive(Clone, Debug)]
pub struct Capture {
    snapshot: Arc<Snapshot>,
    facts: Facts,
    report: Report,
}

impl Capture {
    fn new(snapshot: Arc<Snapshot>, facts: Facts, paused: Vec<Duration>) -> Self {
        let report = Report {
            pages: snapshot.pages().len(),
            paused,
            is_late: snapshot.faults().is_late(),
        };
        Self {
            snapshot,
            facts,
            report,
        }
    }

    /// The memory, to read it here and now. The bytes are shared.
    #[must_use]
    pub fn image(&self) -> Image {
        self.facts.image(Rc::new(Arc::clone(&self.snapshot)))
    }

    /// What it took.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Writes it as an ELF core: see [`Core`].
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), Error> {
        Ok(self.core().write(out)?)
    }

    /// The same to a file, of which pages of zeros become holes.
    ///
    /// # Errors
    ///
    /// Those of writing.
    pub fn write_sparse(&self, out: &mut (impl Write + Seek)) -> Result<(), Error> {
        Ok(self.core().write_sparse(out)?)
    }

    fn core(&self) -> Core<'_> {
        Core {
            paused: self.report.longest(),
            ..self.facts.core(
                &*self.snapshot,
                self.snapshot.pages(),
                self.snapshot.faults(),
            )
        }
    }
}
