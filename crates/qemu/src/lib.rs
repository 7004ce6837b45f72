//! The memory of a running QEMU: paused, read and resumed through its monitor
//! socket (QMP).
//!
//! You bring the path of the socket (`-qmp unix:PATH,server=on,wait=off`), and
//! the rights to read QEMU's memory: as the same user, or as root. Nothing else
//! is asked of how QEMU was started: RAM in a shared file or a memfd is mapped
//! here and not copied, all other is read out of the process. Nothing is asked
//! of the guest.
//!
//! [`Qemu::image`] may be taken before the guest is paused, and is true
//! whenever it is read. [`Qemu::pause`] pauses; the guest runs again when
//! [`Paused`] is dropped, and also if this process dies in between, however it
//! does: a child of ours, which is started at [`Qemu::connect`], sees to it.
//!
//! It is not for what else QMP can do, and never writes to the guest's memory.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use bpfreeze_qemu::{Options, Qemu};
//! use guestmem::{Gpa, MemoryExt};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let qemu = Qemu::connect(Path::new("qmp.sock"), &Options::default())?;
//! let image = qemu.image()?;
//! let paused = qemu.pause()?;
//! if let Some(memory) = image.layouts().first() {
//!     println!("{:#x}", memory.load_u32(Gpa::at(0x10_0000))?);
//! }
//! println!("paused for {:?}", paused.resume()?);
//! # Ok(())
//! # }
//! ```

mod client;
mod error;
mod guardian;
mod layout;
mod maps;
mod memory;
mod process;

use std::cell::RefCell;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use guestmem::{Address, Format, Image};
use serde_json::Value;

use crate::client::Client;
pub use crate::error::Error;
use crate::guardian::Guardian;
use crate::layout::Run;
use crate::memory::{Block, GuestMemory};
use crate::process::Process;

/// How to deal with a QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its process, where the socket does not tell: libvirt makes the socket
    /// itself, and a process in another container has no number here.
    pub pid: Option<i32>,
    /// How long it may take to answer one command.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pid: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// A QEMU process, by its monitor.
#[derive(Debug)]
pub struct Qemu {
    // Dropped first: it is told to end before the connection closes.
    guardian: RefCell<Guardian>,
    client: RefCell<Client>,
    pid: Option<i32>,
}

/// A guest's state, as QEMU tells it.
struct State {
    running: bool,
    status: String,
}

/// How often the layout is asked for again if it changed meanwhile: firmware
/// and drivers move the memory of devices while the guest boots.
const TRIES: usize = 3;

impl Qemu {
    /// Connects to the QMP socket at `socket`. As long as this lives no other
    /// client is served there.
    ///
    /// # Errors
    ///
    /// That nobody listens there, that what does is no QEMU or is busy with
    /// another client, or that a child cannot be forked.
    pub fn connect(socket: &Path, options: &Options) -> Result<Self, Error> {
        let client = Client::connect(socket, options.timeout)?;
        let guardian =
            Guardian::start(client.as_fd()).map_err(|source| Error::Guardian { source })?;
        Ok(Self {
            guardian: RefCell::new(guardian),
            client: RefCell::new(client),
            pid: options.pid,
        })
    }

    /// The guest's memory, whose root tables are those of its CPUs now. It
    /// stays what QEMU has, whether the guest runs or is paused, and can be
    /// read after this is dropped.
    ///
    /// # Errors
    ///
    /// What QEMU or the operating system refuses to tell or to show.
    pub fn image(&self) -> Result<Image, Error> {
        let mut client = self.client.borrow_mut();
        let state = state(&mut client)?;
        if still_loading(&state.status) {
            return Err(Error::NotLoaded {
                status: state.status,
            });
        }
        let blocks = blocks(&mut client)?;
        let registers = client.monitor("info registers -a")?;
        let pid = self.pid.or_else(|| client.pid());
        let pid = pid.ok_or_else(|| Error::NoPid {
            socket: client.socket().to_owned(),
        })?;
        let process = Process::open(pid);
        let named = format!("{pid} ({})", process.name());
        let memory = GuestMemory::new(process, &blocks)?;
        Ok(Image::new(Format::Qemu, Rc::new(memory))
            .with_roots(layout::roots(&registers))
            .with_fact("process", named))
    }

    /// Whether the guest runs; it may be paused, or have ended or failed.
    ///
    /// # Errors
    ///
    /// That QEMU does not answer.
    pub fn is_running(&self) -> Result<bool, Error> {
        Ok(state(&mut self.client.borrow_mut())?.running)
    }

    /// Pauses the guest if it runs. One that is paused already stays so, also
    /// at the end.
    ///
    /// # Errors
    ///
    /// That QEMU does not answer or refuses, or that the guest's memory is
    /// still being loaded. The guest is resumed then, if it was paused.
    pub fn pause(&self) -> Result<Paused<'_>, Error> {
        let mut client = self.client.borrow_mut();
        let state = state(&mut client)?;
        if still_loading(&state.status) {
            return Err(Error::NotLoaded {
                status: state.status,
            });
        }
        let mut paused = Paused {
            qemu: self,
            since: None,
            resumed: client.resumed(),
        };
        if state.running {
            let mut guardian = self.guardian.borrow_mut();
            guardian
                .arm()
                .map_err(|source| Error::Guardian { source })?;
            drop(guardian);
            // From here on `paused` resumes it, also where the answer does not come: it may yet
            // be obeyed.
            paused.since = Some(Instant::now());
            let stopped = client.execute("stop", None);
            drop(client);
            stopped?;
        }
        Ok(paused)
    }
}

/// Asks for the guest's state.
fn state(client: &mut Client) -> Result<State, Error> {
    const COMMAND: &str = "query-status";
    let answer = client.execute(COMMAND, None)?;
    let running = answer.get("running").and_then(Value::as_bool);
    let status = answer.get("status").and_then(Value::as_str);
    match (running, status) {
        (Some(running), Some(status)) => Ok(State {
            running,
            status: status.to_owned(),
        }),
        _ => Err(Error::answer(COMMAND, &answer.to_string())),
    }
}

/// Whether a guest in this state gets its memory from elsewhere, bit by bit.
fn still_loading(status: &str) -> bool {
    matches!(status, "inmigrate" | "restore-vm")
}

/// Where the guest's memory is in QEMU's.
fn blocks(client: &mut Client) -> Result<Vec<Block>, Error> {
    const COMMAND: &str = "info mtree -f";
    let mut moved = None;
    for _ in 0..TRIES {
        let answer = client.monitor(COMMAND)?;
        let runs = layout::runs(&answer).filter(|runs| !runs.is_empty());
        let runs = runs.ok_or_else(|| Error::answer(COMMAND, &answer))?;
        let blocks = runs.iter().map(|run| block(client, run));
        match blocks.collect::<Result<Vec<_>, _>>() {
            Err(error @ Error::Answer { .. }) => moved = Some(error),
            other => return other,
        }
    }
    Err(moved.unwrap_or_else(|| Error::answer(COMMAND, "")))
}

/// Where one run of it is. Both of its ends are asked for.
fn block(client: &mut Client, run: &Run) -> Result<Block, Error> {
    let mut ask = |gpa| {
        let command = format!("gpa2hva {gpa}");
        let answer = client.monitor(&command)?;
        layout::host_address(&answer).ok_or_else(|| Error::answer(&command, &answer))
    };
    let (first, last) = (ask(run.gpa)?, ask(run.last)?);
    let span = run.last.checked_offset_from(run.gpa);
    match span.filter(|&span| last.checked_sub(first) == Some(span)) {
        Some(span) => Ok(Block {
            gpa: run.gpa,
            hva: first,
            len: span.saturating_add(1),
        }),
        None => Err(Error::answer(
            &format!("gpa2hva {}", run.last),
            &format!("{last:#x}, though {} is at {first:#x}", run.gpa),
        )),
    }
}

/// A guest that stands still until this is dropped, or this process ends.
///
/// That nobody else resumes it meanwhile cannot be prevented, but is noticed.
#[derive(Debug)]
pub struct Paused<'a> {
    qemu: &'a Qemu,
    /// When it was told to stop; `None` if it was not, or runs again.
    since: Option<Instant>,
    /// How often it was resumed by then.
    resumed: u64,
}

impl Paused<'_> {
    /// Whether the guest did not run already, and so is left as it is.
    #[must_use]
    pub fn was_paused(&self) -> bool {
        self.since.is_none()
    }

    /// Lets the guest run, and tells how long it stood still at most: from the
    /// request to pause until the answer to that to resume. `None` where it
    /// was paused before, and still is.
    ///
    /// # Errors
    ///
    /// That QEMU does not answer: the guest is then resumed as soon as it
    /// does. [`Error::Ran`], if the guest ran meanwhile: it does now, too.
    pub fn resume(mut self) -> Result<Option<Duration>, Error> {
        let asked = {
            let mut client = self.qemu.client.borrow_mut();
            // Its answer comes after word of all that happened until now.
            let state = state(&mut client);
            state.map(|state| {
                let ran = client.resumed() != self.resumed;
                ran || (state.running && self.since.is_some())
            })
        };
        let stood = self.end()?;
        if asked? { Err(Error::Ran) } else { Ok(stood) }
    }

    fn end(&mut self) -> Result<Option<Duration>, Error> {
        let Some(since) = self.since.take() else {
            return Ok(None);
        };
        // Where this fails, the guardian tries again when the connection ends.
        self.qemu.client.borrow_mut().execute("cont", None)?;
        let stood = since.elapsed();
        self.qemu.guardian.borrow_mut().disarm();
        Ok(Some(stood))
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        // There is nobody to tell of an error, and the guardian is left.
        let _ = self.end();
    }
}
