//! Special fields of values: locks, timers, pointers to kernel objects, lists
//! and trees that BPF programs keep inside of map values.
//!
//! BTF names them, their contents are the kernel's own business: a
//! `struct bpf_timer` of the UAPI is 16 opaque bytes. [`Fields`] finds them in
//! a type, as the kernel does when it makes a map (`btf_parse_fields` in
//! `kernel/bpf/btf.c`); a [`Reader`] tells what one of them holds.
//!
//! ```no_run
//! # fn show(accessor: &dyn bpfmaps::BpfMapAccessor, map: &bpfmaps::MapInfo, value: &[u8])
//! # -> Result<(), bpfmaps::Error> {
//! use bpfmaps::special::Reader;
//!
//! let Some(reader) = Reader::of(accessor, map)? else {
//!     return Ok(()); // The values are plain bytes.
//! };
//! for field in reader.fields().iter() {
//!     println!("{} at {}: {:?}", field.kind, field.offset, reader.read(field, value, None));
//! }
//! # Ok(())
//! # }
//! ```

mod deferred;
mod fields;
mod find;
mod graph;
mod known;
mod named;
mod pointer;
mod reader;

use std::ops::ControlFlow;
use std::rc::Rc;

use btf_layout::{Btf, TypeId};
use guestmem::Kva;

use crate::{Bytes, Gap, ProgRef};

pub use fields::{Field, FieldKind, Fields, Target};
pub use named::KernelNames;
pub use reader::Reader;

/// What a special field holds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Special {
    /// Nothing is known of it: the accessor has copies of values, in which
    /// the kernel leaves special fields out
    /// ([`hides_special`](crate::BpfMapAccessor::hides_special)).
    Hidden,
    /// The bytes of the value end before the field does.
    Missing,
    /// `bpf_spin_lock` or `bpf_res_spin_lock`.
    SpinLock {
        /// Whether somebody holds it.
        held: bool,
    },
    /// `bpf_refcount`.
    Refcount {
        /// How many references there are.
        count: u32,
    },
    /// `bpf_timer`; null before `bpf_timer_init`.
    Timer(Pointed<Timer>),
    /// `bpf_wq`; null before `bpf_wq_init`.
    Workqueue(Pointed<Work>),
    /// `bpf_task_work`; null before it was first scheduled.
    TaskWork(Pointed<TaskWork>),
    /// `kptr` or `kptr_untrusted`.
    Kptr(Pointed<Pointee>),
    /// `percpu_kptr`: the object of each possible CPU.
    PercpuKptr(Pointed<Vec<CpuPointee>>),
    /// `uptr`: memory of a process that the kernel maps.
    Uptr(Pointed<Pointee>),
    /// `bpf_list_head`; [`Reader::nodes`] has what is in it.
    List,
    /// `bpf_rb_root`; [`Reader::nodes`] has what is in it.
    Tree,
    /// `bpf_list_node` or `bpf_rb_node`: the place of an object in a list or
    /// tree.
    Node {
        /// Whether the object is in one.
        linked: bool,
    },
}

/// What a pointer points at.
#[derive(Clone, Debug, PartialEq)]
pub enum Pointed<T> {
    /// Nothing.
    Null,
    /// Something at an address.
    At {
        /// The address, as it stands in the value.
        address: Kva,
        /// What is there, or why that is not known.
        found: Result<T, Gap>,
    },
}

/// A function that is called back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// Where its machine code is.
    pub address: Kva,
    /// Its name in its program, where it could be told.
    pub name: Option<String>,
}

/// A timer that was initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Whether it is going to expire.
    pub armed: bool,
    /// When it expires, or did so last, in nanoseconds of its clock; 0 if it
    /// was never started.
    pub expires_ns: u64,
    /// `monotonic`, `realtime`, `boottime`, or the number of another.
    pub clock: String,
    /// What it calls; `None` before one is set, and after it was cancelled.
    pub callback: Option<Callback>,
    /// The program that the callback is part of.
    pub prog: Option<ProgRef>,
}

/// Work that was initialised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Work {
    /// Whether it is queued and not yet begun.
    pub pending: bool,
    /// What it calls; `None` before one is set.
    pub callback: Option<Callback>,
    /// The program that the callback is part of.
    pub prog: Option<ProgRef>,
}

/// Work for a task, scheduled at least once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskWork {
    /// `standby`, `pending`, `scheduling`, `scheduled`, `running`, `freed`,
    /// or the number of another.
    pub state: String,
    /// What it calls or called last.
    pub callback: Option<Callback>,
    /// The program that scheduled it; `None` on standby.
    pub prog: Option<ProgRef>,
    /// The `task_struct` of the task that it is scheduled for.
    pub task: Option<Kva>,
}

/// The object that a pointer points at.
#[derive(Clone, Debug)]
pub struct Pointee {
    /// Whose types describe it: the kernel's for objects of the kernel, the
    /// map's for those that programs allocate.
    pub btf: Rc<Btf>,
    /// Its type there.
    pub ty: TypeId,
    /// As C spells it, such as `struct task_struct`.
    pub type_name: String,
    /// Whether it is the kernel's object rather than a program's.
    pub of_kernel: bool,
    /// Its bytes, as many as its type has.
    pub bytes: Vec<u8>,
}

impl PartialEq for Pointee {
    fn eq(&self, other: &Self) -> bool {
        (self.ty, &self.type_name, self.of_kernel, &self.bytes)
            == (other.ty, &other.type_name, other.of_kernel, &other.bytes)
    }
}

/// One CPU's object of a `percpu_kptr`.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuPointee {
    /// The CPU.
    pub cpu: u32,
    /// Where its object is.
    pub address: Kva,
    /// The object.
    pub found: Result<Pointee, Gap>,
}

/// An object in a list or tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Where the object begins (not its node).
    pub address: Kva,
    /// Its type, in the map's BTF ([`Reader::btf`]).
    pub ty: TypeId,
    /// Its bytes.
    pub bytes: Bytes<'a>,
}

/// Receives the objects of a list or tree.
pub type NodeVisitor<'v> = dyn FnMut(Node<'_>) -> ControlFlow<()> + 'v;
