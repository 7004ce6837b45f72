//! A virtual machine monitor in miniature: as much of one as a capture has to
//! do with. Guest memory is mapped in this process, vCPUs are threads that can
//! be parked. Instead of running a kernel, memory is loaded from a file.
#![expect(unsafe_code, reason = "guest memory is shared with the guest")]

use std::error::Error;
use std::path::Path;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use freeze::Freeze;
use freeze::guestmem::{Address, Format, Gpa, Image, Memory, ProcessMemory, ProcessRegion};
use memmap2::{MmapMut, MmapRaw};

/// Where a vCPU counts: a word of memory that firmware leaves free.
const TICKS: usize = 0x500;

/// How much is loaded at a time.
const STEP: u64 = 1 << 20;

/// A guest: its memory and its vCPUs.
#[derive(Debug)]
pub struct Vmm {
    ram: Arc<MmapRaw>,
    gate: Arc<Gate>,
    vcpus: Vec<JoinHandle<()>>,
}

/// What vCPUs are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Park,
    End,
}

/// Where vCPUs look between two entries into the guest. A real one is kicked
/// out of the guest by a signal.
#[derive(Debug)]
struct Gate {
    /// What they are to do, and how many are parked.
    state: Mutex<(Wish, usize)>,
    changed: Condvar,
}

impl Vmm {
    /// A guest with the memory in this file and so many vCPUs, which run.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is too large for this address space.
    pub fn start(file: &Path, vcpus: usize) -> Result<Self, Box<dyn Error>> {
        let ram = Arc::new(load(file)?);
        let gate = Arc::new(Gate {
            state: Mutex::new((Wish::Run, 0)),
            changed: Condvar::new(),
        });
        let run = |_| {
            let (ram, gate) = (Arc::clone(&ram), Arc::clone(&gate));
            thread::spawn(move || vcpu(&ram, &gate))
        };
        let vcpus = (0..vcpus).map(run).collect();
        Ok(Self { ram, gate, vcpus })
    }

    /// Its memory, as bpfreeze reads it. A VMM passes the regions that it gave
    /// KVM, here it is one.
    ///
    /// # Errors
    ///
    /// If regions overlap.
    pub fn freeze(&self) -> Result<Freeze, Box<dyn Error>> {
        let region = ProcessRegion {
            start: NonNull::new(self.ram.as_mut_ptr()).ok_or("no memory")?,
            len: self.ram.len(),
            gpa: Gpa::at(0),
        };
        // SAFETY: the memory keeps its mapping, which is anonymous, so that
        // nothing can cut it short. No reference into it exists: vCPUs write
        // it by volatile stores through a pointer.
        let memory = unsafe { ProcessMemory::new(&[region]) }?;
        let memory = memory.keeping(Arc::clone(&self.ram));
        Ok(Freeze::new(Image::new(Format::Process, Rc::new(memory))))
    }

    /// Has all vCPUs leave the guest, and returns when they have.
    pub fn park(&self) {
        self.gate.wish(Wish::Park, self.vcpus.len());
    }

    /// Lets them enter it again.
    pub fn resume(&self) {
        self.gate.wish(Wish::Run, 0);
    }

    /// How often vCPUs have counted.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        // SAFETY: the word is in the mapping, aligned, and only touched by
        // volatile accesses.
        unsafe { ticks(&self.ram).read_volatile() }
    }
}

impl Drop for Vmm {
    fn drop(&mut self) {
        self.gate.wish(Wish::End, 0);
        for vcpu in self.vcpus.drain(..) {
            // One that panicked has said so.
            let _ = vcpu.join();
        }
    }
}

impl Gate {
    /// Says what to do, and waits until so many are parked.
    fn wish(&self, wish: Wish, parked: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = wish;
        self.changed.notify_all();
        while state.1 < parked {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether to enter the guest; waits for as long as that is not known.
    fn may_enter(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 += 1;
        while state.0 == Wish::Park {
            self.changed.notify_all();
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.1 -= 1;
        state.0 == Wish::Run
    }
}

/// A vCPU: the guest changes its memory as it likes.
fn vcpu(ram: &MmapRaw, gate: &Gate) {
    let ticks = ticks(ram);
    while gate.may_enter() {
        // SAFETY: the word is in the mapping, aligned, and only touched by
        // volatile accesses.
        let seen = unsafe { ticks.read_volatile() };
        // SAFETY: as above.
        unsafe { ticks.write_volatile(seen.wrapping_add(1)) };
    }
}

fn ticks(ram: &MmapRaw) -> *mut u64 {
    ram.as_mut_ptr().wrapping_add(TICKS).cast()
}

/// The memory of a machine, from a file into a mapping of this process.
fn load(file: &Path) -> Result<MmapRaw, Box<dyn Error>> {
    let image = Image::open(file)?;
    let memory = image.layouts().first().ok_or("no memory")?;
    let mut at = Gpa::at(0);
    let mut spans = Vec::new();
    while let Some(span) = memory.next_data(at) {
        at = span.start.checked_add(span.len).ok_or("no end")?;
        spans.push(span);
    }
    let len = usize::try_from(at.get().max(memory.size()))?;
    let mut ram = MmapMut::map_anon(len)?;
    for span in spans {
        let mut done = 0;
        while done < span.len {
            let from = span.start.checked_add(done).ok_or("no end")?;
            let start = usize::try_from(from.get())?;
            let step = usize::try_from(STEP.min(span.len - done))?;
            let into = ram
                .get_mut(start..start + step)
                .ok_or("outside of memory")?;
            memory.read(from, into)?;
            done += step as u64;
        }
    }
    Ok(ram.into())
}
