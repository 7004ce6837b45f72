//! A machine's BPF state, taken while it stands still for milliseconds, and
//! read later.
//!
//! You bring a machine's memory: a file, a guest in QEMU by the socket of its
//! monitor, or a guest whose VMM your process is. [`Freeze`] takes a
//! [`Capture`] of it: the few thousand pages out of which everything that BPF
//! programs keep is read. Out of a capture, or out of the memory itself, comes
//! a [`Dump`], which is printed or asked. Nothing runs in the guest, and
//! nothing is asked of it.
//!
//! It is not for the running kernel of this machine (`bpfmaps` is), and never
//! writes to a guest.
//!
//! # In a test
//!
//! A test harness finds that something went wrong in its guest, and asserts on
//! what the scheduler in it kept:
//!
//! ```no_run
//! use bpfreeze_freeze::Freeze;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let capture = Freeze::qemu("qmp.sock".as_ref())?.capture()?;
//! // The guest runs again.
//! let dump = capture.open()?;
//! assert_eq!(dump.var("nr_dropped")?.as_u64()?, 0);
//! let task = dump.map("task_ctx")?.entry(812)?; // a task storage, by pid
//! assert_eq!(task.field("dsq_id")?.as_u64()?, 1);
//! assert_eq!(dump.map("stats")?.entry(3)?.sum("")?, 0); // over all CPUs
//! let slots = dump.slots("scx_task_allocator")?; // in an arena
//! assert!(slots.of_pid(812)?.field("last_run_at")?.as_u64()? > 0);
//! # Ok(()) }
//! ```
//!
//! Values are looked up in what bpfreeze's JSON shows. A name that is not there
//! is an error that lists what is, nearest first. What could not be read is
//! an error that says why: no assertion ever sees a default.
//!
//! ```
//! use std::rc::Rc;
//!
//! use bpfreeze_freeze::Dump;
//! use bpfreeze_freeze::bpfmaps::MapType;
//! use bpfreeze_freeze::render::fake::{Fake, FakeMap};
//! use btf_layout::{Btf, build::Builder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut types = Builder::new();
//! let u32_ = types.int("u32", 4);
//! let point = types.record("point", 8, &[("x", u32_, 0), ("y", u32_, 32)]);
//! let btf = Rc::new(Btf::parse(types.finish(), "an example")?);
//! let map = FakeMap::new(7, "points", MapType::HASH, 4, 8)
//!     .typed(&btf, u32_, point)
//!     .entry(&[1, 0, 0, 0], &[10, 0, 0, 0, 20, 0, 0, 0][..]);
//!
//! let dump = Dump::new(Box::new(Fake::new(vec![map])))?;
//! let points = dump.map("points")?;
//! assert_eq!(points.entry(1)?.field("y")?.as_u64()?, 20);
//! let error = points.entry(1)?.field("z").unwrap_err();
//! assert_eq!(error.to_string(), "there is no `z` in points[1]; there are x, y");
//! # Ok(()) }
//! ```
//!
//! `examples/harness` is such a test, with a guest and a scheduler of its own.
//!
//! # In a VMM
//!
//! A VMM has its guest's memory mapped. From vCPUs that are parked to a report:
//!
//! 1. **Say where memory is**, once: each region that KVM was given, by
//!    pointer, length and guest address. With the feature `vm-memory`,
//!    `guestmem::GuestRam` takes any memory of that crate instead, without
//!    `unsafe`.
//! 2. **Prepare**, while the guest runs: this finds the kernel and learns which
//!    pages a capture takes. It is repeated when other BPF programs were
//!    loaded.
//! 3. **Park the vCPUs, capture, resume them.** In a parked guest nothing is
//!    searched: known pages are copied, and what changed is read. The time
//!    that it may take is given; when it is over, the rest is missing, and
//!    every place where it is says so.
//! 4. **Report**, on any thread: a [`Capture`] is `Send` and holds nothing of
//!    the guest. It can be written to a file that bpfreeze, drgn and crash
//!    open, or be read here.
//!
//! ```no_run
//! use std::fs::File;
//! use std::ptr::NonNull;
//! use std::rc::Rc;
//! use std::time::Duration;
//!
//! use bpfreeze_freeze::Freeze;
//! use bpfreeze_freeze::guestmem::{
//!     Format, Gpa, Image, ProcessMemory, ProcessRegion,
//! };
//!
//! # fn park_vcpus() {}
//! # fn resume_vcpus() {}
//! # fn report(start: NonNull<u8>, len: usize) -> Result<(), Box<dyn std::error::Error>> {
//! // 1. What went into KVM_SET_USER_MEMORY_REGION.
//! let regions = [ProcessRegion { start, len, gpa: Gpa::at(0) }];
//! // SAFETY: guest memory stays mapped until the VMM ends, and everybody here
//! // touches it by raw pointers only.
//! let memory = unsafe { ProcessMemory::new(&regions)? };
//! let image = Image::new(Format::Process, Rc::new(memory));
//!
//! // 2. While the guest runs.
//! let mut freeze = Freeze::new(image);
//! freeze.prepare()?;
//!
//! // 3. When something has failed.
//! park_vcpus();
//! let captured = freeze.capture_within(Duration::from_millis(100));
//! resume_vcpus();
//!
//! // 4. At leisure.
//! let capture = captured?;
//! println!("{} pages, late: {}", capture.report().pages, capture.report().is_late);
//! capture.write_sparse(&mut File::create("failed.core")?)?;
//! print!("{}", capture.open()?.text()?);
//! # Ok(()) }
//! ```
//!
//! Where the kernel's VMCOREINFO is, a VMM does not know; it is found by a
//! search through the memory that exists. The root tables of the vCPUs
//! (`Image::with_roots`, CR3 on x86-64) are a help where the kernel's own page
//! tables are unusual. Reading guest memory makes no system calls; searching
//! it uses `/proc/self/pagemap` and mincore(2), which a seccomp filter may
//! refuse: then everything is searched, and memory that the guest never
//! touched may come to exist.
//!
//! A VMM that leaves parking and resuming to the engine implements [`Machine`]:
//! then the engine looks for what is missing after the guest runs again, and
//! pauses it once more if anything is, as it does with QEMU. That makes the
//! pauses shorter; parking oneself makes it a single one.
//!
//! `examples/vmm` is such a VMM, with no more than that.

pub mod capture;
mod error;
mod freeze;
mod machine;
mod query;

// What appears in what is public here.
pub use {bpfmaps, guestmem, render};

pub use capture::Capture;
pub use error::Error;
pub use freeze::Freeze;
pub use machine::{Machine, Standing, StandsStill};
pub use query::{Dump, Entry, Listed, MapView, QueryError, Slot, Slots, Value};
