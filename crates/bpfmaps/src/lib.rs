//! The maps that BPF programs keep in a kernel, frozen or live, behind one
//! trait.
//!
//! You bring a [`Kernel`](kernel::Kernel) found in the memory of a machine
//! that stands still, and get a [`Guest`]; or you bring the rights to use
//! bpf(2) on the running kernel, and get a [`Live`]. Both are a
//! [`BpfMapAccessor`], which is all that the layers above know: it lists maps,
//! gives the BTF that describes them, and visits their entries one by one.
//!
//! Nothing is ever silently empty or cut: what could not be read is a
//! [`Gap`] in the [`Walk`] that each visit returns. How values look is not
//! this crate's business (`render`'s is), nor is it to change a map.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use bpfmaps::{BpfMapAccessor, Guest};
//!
//! let image = guestmem::RawImage::open("guest.ram".as_ref())?;
//! let guest = Guest::new(kernel::Finder::new().find_in_image(&image)?)?;
//! for map in &guest.maps()?.maps {
//!     let walk = guest.entries(map, &mut |entry| {
//!         println!("{}: {entry:02x?}", map.name);
//!         ControlFlow::Continue(())
//!     })?;
//!     assert!(walk.is_complete());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accessor;
mod code;
pub mod contract;
mod entry;
mod error;
mod guest;
mod info;
#[cfg(feature = "live")]
mod live;
mod map_type;
mod object;
mod prog;
pub mod special;
mod state;
mod structures;
mod target;
mod walk;

pub use arena;

pub use accessor::{BpfMapAccessor, Visitor};
pub use code::{Code, Function, Refers};
pub use entry::{Bytes, CpuValue, Entry, Frame, RecordState, SlotAt};
pub use error::{Error, NoMemory, NoUser};
pub use guest::Guest;
pub use info::{Arch, Cpus, KernelInfo, MapInfo, Maps};
#[cfg(feature = "live")]
pub use live::{Fetch, Live, Via};
pub use map_type::MapType;
pub use object::{Object, ObjectKind, ProgRef, Socket, Symbol};
pub use prog::{Attach, ProgInfo, ProgType, Progs};
pub use state::{MapState, PagesFrom};
pub use walk::{Gap, GapAt, Reason, Walk};
