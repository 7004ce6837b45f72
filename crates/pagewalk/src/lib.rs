//! Page tables, walked from outside.
//!
//! You bring physical memory, the address of a root table and the [`Format`]
//! of the tables; an [`AddressSpace`] then translates one address, lists a
//! range as runs and gaps, and is itself a [`Memory`](guestmem::Memory) of
//! kernel-virtual addresses, for reads of any length.
//!
//! It does not find the root table (the `kernel` crate does), and does not
//! care for permissions: what is present is readable.
//!
//! ```
//! use guestmem::{Fake, Gpa, Kva, MemoryExt};
//! use pagewalk::build::Tables;
//! use pagewalk::{AddressSpace, Format};
//!
//! let ram = Fake::new().with(Gpa::at(0x5000), b"bpf");
//! let format = Format::x86_64(4, 0)?;
//! let mut tables = Tables::new(ram, Gpa::at(0x10_0000), format);
//! tables.map(Kva::at(0xffff_8000_0000_0000), 1, Gpa::at(0x5000));
//!
//! let space = AddressSpace::new(&tables.ram, Gpa::at(0x10_0000), format);
//! assert_eq!(space.load(Kva::at(0xffff_8000_0000_0000)), Ok(*b"bpf"));
//! # Ok::<(), pagewalk::FormatError>(())
//! ```

pub mod build;
mod format;
mod mappings;
mod presence;
#[cfg(test)]
mod properties;
mod space;
mod tlb;

pub use format::{Format, FormatError};
pub use mappings::{Mapping, Mappings};
pub use presence::{Presence, Stretches};
pub use space::{AddressSpace, Translation};
