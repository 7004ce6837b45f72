//! The memory of a machine that stands still.
//!
//! You bring a source of bytes (a raw RAM image, or [`Fake`] in a test); this
//! crate gives them addresses and reads them through one small trait,
//! [`Memory`], that says of every byte it cannot read where it is and why.
//! Higher layers take a `Memory` of one address space and are a `Memory` of
//! the next: physical ([`Gpa`]) becomes kernel-virtual ([`Kva`]) in the
//! `pagewalk` crate, and so on.
//!
//! It knows nothing of page tables, kernels or BPF, and never writes.
//!
//! ```
//! use guestmem::{Address, Fake, Gpa, Memory, MemoryExt};
//!
//! let ram = Fake::new().with(Gpa::new(0x1000), &7u32.to_le_bytes());
//! assert_eq!(ram.load_u32(Gpa::new(0x1000)), Ok(7));
//!
//! let mut buf = [0; 8];
//! let fault = ram.read(Gpa::new(0x1000), &mut buf).unwrap_err();
//! assert_eq!(fault.addr, Gpa::new(0x1004)); // the first byte that is not there
//! ```

mod absence;
mod addr;
mod capture_note;
mod core_writer;
mod elf;
mod extents;
mod fake;
mod fault;
mod faults;
#[cfg(feature = "vm-memory")]
mod guest_ram;
mod image;
mod kcore;
#[cfg(feature = "compression")]
mod kdump;
mod mapped;
mod memory;
mod open;
mod packed;
mod page_set;
mod process;
mod raw;
mod recognise;
mod recorder;
mod region;
mod residency;
mod sigbus;
mod snapshot;
mod windows;

pub use absence::{Absence, AbsentRun};
pub use addr::{Address, ArenaPtr, Gpa, Kva};
pub use capture_note::{CaptureNote, CaptureNoteError};
pub use core_writer::{Core, CoreError};
pub use elf::ElfError;
pub use fake::Fake;
pub use fault::{Cause, Fault};
pub use faults::Faults;
#[cfg(feature = "vm-memory")]
pub use guest_ram::GuestRam;
pub use image::{Format, Image};
#[cfg(feature = "compression")]
pub use kdump::KdumpError;
pub use mapped::{Contents, MappedFile};
pub use memory::{Memory, MemoryExt, Partial, Physical, PhysicalMemory, Span};
pub use open::OpenError;
pub use page_set::{PAGE, PageSet};
pub use process::{ProcessMemory, ProcessRegion};
pub use raw::RawImage;
pub use recognise::{Foreign, Packing};
pub use recorder::Recorder;
pub use region::{ParseRegionError, Region, RegionError, Regions};
pub use snapshot::{Filler, Snapshot};
