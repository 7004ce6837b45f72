//! One BPF arena: its window, the pages that exist in it, and their bytes.
//!
//! You bring the kernel's memory, its BTF, and a way to ask its page tables
//! which addresses are mapped; an [`Arena`] then lists the pages that exist
//! and is itself a [`Memory`](guestmem::Memory) of
//! [`ArenaPtr`](guestmem::ArenaPtr)s, the user addresses that programs store
//! in arenas. Nothing is read that does not exist, so that a running kernel
//! allocates nothing.
//!
//! It does not know what programs keep in an arena, nor how page tables are
//! walked.
//!
//! ```
//! use arena::{Arena, Stretch, Window};
//! use guestmem::{ArenaPtr, Fake, Kva, MemoryExt};
//!
//! // 16 pages at 0x7000_0000_0000, of which the third exists.
//! let base = Kva::at(0xffff_c900_0000_8000);
//! let window = Window::new(0x7000_0000_0000, 16, base, 4096)?;
//! let memory = Fake::new().with(Kva::at(0xffff_c900_0000_a000), b"a value");
//! let mut tables = |_: Kva, len: u64, visit: &mut dyn FnMut(Stretch)| {
//!     visit(Stretch::Absent { len: 0x2000 });
//!     visit(Stretch::Mapped { len: 0x1000 });
//!     visit(Stretch::Absent { len: len - 0x3000 });
//! };
//! let arena = Arena::new(&memory, window, &mut tables);
//! assert_eq!(arena.pages().mapped(), 1);
//! assert_eq!(arena.load(ArenaPtr::at(0x7000_0000_2000)), Ok(*b"a value"));
//! # Ok::<(), arena::WindowError>(())
//! ```

mod layout;
mod memory;
mod pages;
mod window;

pub use layout::{Description, Layout};
pub use memory::Arena;
pub use pages::{Lost, Pages, Run, Stretch, Tables};
pub use window::{Window, WindowError};
