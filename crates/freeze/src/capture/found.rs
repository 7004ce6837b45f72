//! A kernel whose reader is watched.

use std::fmt;
use std::rc::Rc;

use bpfmaps::{Arch, Guest};
use guestmem::{Core, Faults, Format, Image, PageSet, Physical, PhysicalMemory, Recorder};
use kernel::Kernel;

use super::door::Door;
use super::{Facts, Given, Prepared, Scope, collect};
use crate::Error;

/// A kernel that was found, and of which is noted what is read.
pub struct Found {
    pub(super) source: Physical,
    door: Rc<Door>,
    recorder: Rc<Recorder>,
    /// What finding it took.
    pub(super) pages: PageSet,
    faults: Faults,
    pub(super) guest: Guest,
    pub(super) facts: Facts,
    pub(super) given: Given,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

impl Found {
    /// Finds the kernel of `image`.
    ///
    /// # Errors
    ///
    /// If it is not found, or not understood.
    pub fn new(image: &Image, given: Given) -> Result<Self, Error> {
        let kernel = given.finder().find_in(image)?;
        Self::known(&kernel, image.format(), given)
    }

    /// Takes what was found out about `kernel` in an image of this format.
    ///
    /// # Errors
    ///
    /// If it is not understood.
    pub fn known(kernel: &Kernel, format: Format, given: Given) -> Result<Self, Error> {
        let source = Rc::clone(kernel.space().physical());
        let facts = Facts {
            source: format,
            vmcoreinfo: kernel.vmcoreinfo().as_str().to_owned(),
            root: kernel.root(),
            machine: match kernel.arch() {
                Arch::X86_64 => 62,
                Arch::Arm64 => 183,
            },
        };
        let recorder = Rc::new(Recorder::new(Rc::clone(&source)));
        let door = Rc::new(Door::new(Rc::clone(&recorder) as Physical));
        let guest = facts.open(Rc::clone(&door) as Physical, &given)?;
        let (pages, faults) = recorder.take();
        Ok(Self {
            source,
            door,
            recorder,
            pages,
            faults,
            guest,
            facts,
            given,
        })
    }

    /// The kernel's maps, for a choice among them. What is read of them here
    /// is captured.
    #[must_use]
    pub fn guest(&self) -> &Guest {
        &self.guest
    }

    /// Reads everything in `scope` and notes what memory that takes.
    ///
    /// # Errors
    ///
    /// If the maps or the programs cannot be listed at all.
    pub fn prepare(self, scope: Scope) -> Result<Prepared, Error> {
        collect::everything(&self.guest, &scope)?;
        let (mut pages, mut faults) = self.recorder.take();
        pages.extend(&self.pages);
        faults.extend(&self.faults);
        Ok(Prepared::new(self, scope, pages, faults))
    }

    /// Has its reader read `memory`, until what is returned is dropped.
    pub(super) fn read_through(&self, memory: Physical) -> impl Drop + '_ {
        struct Through<'f>(&'f Found);
        impl Drop for Through<'_> {
            fn drop(&mut self) {
                let Found { door, recorder, .. } = self.0;
                door.set(Rc::clone(recorder) as Physical);
            }
        }
        self.door.set(memory);
        Through(self)
    }
}

impl Facts {
    /// `memory` with what is known of the kernel in it.
    pub(super) fn image(&self, memory: Physical) -> Image {
        Image::new(self.source, memory)
            .with_vmcoreinfo(Some(self.vmcoreinfo.clone().into_bytes()))
            .with_roots(vec![self.root])
    }

    /// The kernel in `memory`.
    pub(super) fn open(&self, memory: Physical, given: &Given) -> Result<Guest, Error> {
        let finder = given.finder_in_capture();
        Ok(Guest::new(finder.find_in(&self.image(memory))?)?)
    }

    /// The core of `pages` of `memory`, without faults and pauses.
    pub(super) fn core<'a>(
        &'a self,
        memory: &'a dyn PhysicalMemory,
        pages: &'a PageSet,
        faults: &'a Faults,
    ) -> Core<'a> {
        Core {
            memory,
            pages,
            faults,
            source: self.source,
            machine: self.machine,
            vmcoreinfo: self.vmcoreinfo.as_bytes(),
            root: self.root,
            paused: None,
        }
    }
}
