//! A Linux kernel, found in physical memory and nothing else.
//!
//! You bring [`PhysicalMemory`](guestmem::PhysicalMemory); the [`Finder`]
//! looks for VMCOREINFO in it, proves through the page tables that the kernel
//! which wrote it is there, and gives a [`Kernel`]: its virtual memory, its
//! symbols, its BTF and where its per-CPU data lie. Every step can be given
//! instead, and is checked all the same. What was tried, and what was
//! refused and why, is kept for people to see.
//!
//! It does not know what a BPF map is, and never compares kernel versions.
//!
//! ```no_run
//! use std::rc::Rc;
//! use guestmem::RawImage;
//! use kernel::Finder;
//!
//! let image = RawImage::open("guest.ram".as_ref())?;
//! let kernel = Finder::new().find_in_image(&image)?;
//! println!("Linux {} at {}", kernel.release(), kernel.root());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arch;
mod btf_section;
pub mod build;
mod candidate;
mod error;
mod finder;
mod kallsyms;
mod loaded;
mod machine;
mod percpu;
mod symbol;
mod symbols;
mod vmcoreinfo;

pub use arch::Arch;
pub use btf_section::BtfSource;
pub use candidate::{Candidate, Refusal, Verdict};
pub use error::Error;
pub use finder::Finder;
pub use kallsyms::{Encoding, Kallsyms, KallsymsError};
pub use machine::Kernel;
pub use percpu::PerCpu;
pub use symbol::Symbol;
pub use symbols::{GivenSymbols, SymbolFileError, Symbols};
pub use vmcoreinfo::{Copy, Vmcoreinfo};
