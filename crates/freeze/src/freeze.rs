//! From a machine to its dump: what a harness or a VMM calls.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use bpfmaps::{BpfMapAccessor, Guest};
use guestmem::Image;
use qemu::Qemu;
use render::{Options, Source};

use crate::capture::{Arenas, Found, Given, Prepared, Scope};
use crate::query::is_named;
use crate::{Capture, Dump, Error, Listed, Machine, QueryError, StandsStill};

/// A machine to capture.
///
/// [`prepare`](Freeze::prepare) does what takes long, while the machine runs:
/// it finds the kernel and learns which memory a capture takes.
/// [`capture`](Freeze::capture) then copies some megabytes. It may be called
/// again and again; each result is a value of its own, which can be kept,
/// [written](Capture::write) or [opened](Capture::open), on another thread,
/// too.
pub struct Freeze {
    machine: Box<dyn Machine>,
    maps: Option<Vec<String>>,
    arenas: Arenas,
    prepared: Option<Prepared>,
}

impl std::fmt::Debug for Freeze {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Freeze")
            .field("maps", &self.maps)
            .field("prepared", &self.prepared)
            .finish_non_exhaustive()
    }
}

impl Freeze {
    /// Memory of which the caller sees to it that nothing writes it during
    /// [`capture`](Freeze::capture): of a guest in this process
    /// ([`ProcessMemory`](guestmem::ProcessMemory)) whose vCPUs are parked
    /// then, or in a file.
    #[must_use]
    pub fn new(image: Image) -> Self {
        Self::of(Box::new(StandsStill(image)))
    }

    /// Any machine that can be paused.
    #[must_use]
    pub fn of(machine: Box<dyn Machine>) -> Self {
        Self {
            machine,
            maps: None,
            arenas: Arenas::default(),
            prepared: None,
        }
    }

    /// A file with the memory of a machine that stands still.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is no such file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self::new(Image::open(path)?))
    }

    /// A guest in QEMU, by the socket of its monitor
    /// (`-qmp unix:PATH,server=on,wait=off`). It is paused for captures if it
    /// runs, and read as it stands if it does not.
    ///
    /// # Errors
    ///
    /// If no QEMU answers there.
    pub fn qemu(socket: &Path) -> Result<Self, Error> {
        let qemu = Qemu::connect(socket, &qemu::Options::default());
        let qemu = qemu.map_err(|error| Error::Machine {
            operation: "connect to",
            source: error.into(),
        })?;
        Ok(Self::of(Box::new(qemu)))
    }

    /// Captures only what is in these maps, by their names or ids, and what
    /// their values lead to in arenas. All others are listed, and what is in
    /// them is a gap.
    #[must_use]
    pub fn maps(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.maps = Some(names.into_iter().map(Into::into).collect());
        self.prepared = None;
        self
    }

    /// Captures of arenas only the pages that allocators, variables and
    /// pointers lead to, or all that exist.
    #[must_use]
    pub fn arenas(mut self, arenas: Arenas) -> Self {
        self.arenas = arenas;
        self.prepared = None;
        self
    }

    /// Finds the kernel and learns which memory a capture takes: a few hundred
    /// milliseconds, for which the machine should run. To be repeated when
    /// other BPF programs were loaded; what a capture then finds missing in
    /// what was learnt it reads as well, which takes longer.
    ///
    /// # Errors
    ///
    /// If no kernel is found, its maps cannot be listed, or there is none of
    /// those that were named.
    pub fn prepare(&mut self) -> Result<(), Error> {
        self.prepared = Some(self.learn()?);
        Ok(())
    }

    fn learn(&self) -> Result<Prepared, Error> {
        let found = Found::new(&self.machine.image()?, Given::default())?;
        let scope = Scope {
            maps: match &self.maps {
                Some(names) => Some(chosen(found.guest(), names)?),
                None => None,
            },
            arenas: self.arenas,
        };
        found.prepare(scope)
    }

    /// Captures the machine, and [prepares](Freeze::prepare) that first if
    /// nobody did.
    ///
    /// # Errors
    ///
    /// If it cannot be prepared, paused or resumed, or the kernel is not there
    /// any more.
    pub fn capture(&mut self) -> Result<Capture, Error> {
        self.take(None)
    }

    /// The same within this time, for one whose vCPUs are parked meanwhile.
    /// When the time is over, what was copied until then is the capture, and
    /// everything else reads as [late](guestmem::Cause::Late): it is said
    /// where it is missing, and [`Report::is_late`](crate::capture::Report)
    /// is set.
    ///
    /// # Errors
    ///
    /// As [`capture`](Freeze::capture). That time ran out is none.
    pub fn capture_within(&mut self, time: Duration) -> Result<Capture, Error> {
        self.take(Instant::now().checked_add(time))
    }

    fn take(&mut self, deadline: Option<Instant>) -> Result<Capture, Error> {
        let prepared = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.learn()?,
        };
        let captured = prepared.capture(&*self.machine, deadline);
        self.prepared = Some(prepared);
        captured
    }
}

/// The ids of the maps that are named.
fn chosen(guest: &Guest, names: &[String]) -> Result<BTreeSet<u32>, Error> {
    let maps = guest.maps()?.maps;
    let mut ids = BTreeSet::new();
    for name in names {
        let id = name.parse().ok();
        let by_id = maps.iter().find(|map| Some(map.id) == id);
        let mut found: Vec<u32> = by_id.iter().map(|map| map.id).collect();
        if found.is_empty() {
            let named = maps.iter().filter(|map| is_named(map, name));
            found.extend(named.map(|map| map.id));
        }
        if found.is_empty() {
            return Err(QueryError::Absent {
                what: format!("map `{name}`"),
                there: Listed::nearest(name, maps.iter().map(|map| map.name.clone())),
            }
            .into());
        }
        ids.extend(found);
    }
    Ok(ids)
}

impl Capture {
    /// The dump of what was captured.
    ///
    /// # Errors
    ///
    /// If so little was captured, for want of time, that the kernel is not in
    /// it.
    pub fn open(&self) -> Result<Dump, Error> {
        Dump::of(&self.image())
    }
}

impl Dump {
    /// The dump of the kernel in this memory, which is read in place: of a
    /// machine that stands still for as long as the dump is used.
    ///
    /// # Errors
    ///
    /// If no kernel is found, or its maps cannot be listed.
    pub fn of(image: &Image) -> Result<Self, Error> {
        let kernel = kernel::Finder::new().find_in(image)?;
        let dump = Self::new(Box::new(Guest::new(kernel)?))?;
        let source = Source::new(image.format().name());
        Ok(dump.with_options(Options::new(source)).that_stands())
    }

    /// The same of a file.
    ///
    /// # Errors
    ///
    /// As [`of`](Dump::of), and if the file cannot be opened or is no machine's
    /// memory.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::of(&Image::open(path)?)
    }
}
