//! What entries of maps belong to or refer to: tasks, sockets, devices, …

use guestmem::Kva;

pub use kernel::Symbol;

use crate::{MapType, ProgType};

/// An object of the kernel outside of the map, named as far as it could be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Where it is, where known.
    pub kva: Option<Kva>,
    /// What it is.
    pub kind: ObjectKind,
}

/// What an [`Object`] is. A part that could not be had is `None`; where
/// memory was unreadable, a gap of the walk says so.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ObjectKind {
    /// A thread.
    Task {
        /// The thread's id in the initial namespace (`task_struct.pid`).
        pid: Option<i32>,
        /// The process' id.
        tgid: Option<i32>,
        /// Its name.
        comm: Option<String>,
    },
    /// An inode.
    Inode {
        /// Its number in its file system.
        ino: Option<u64>,
        /// Its super block's name (`s_id`), such as `vda1` or `tmpfs`.
        device: Option<String>,
        /// The type of its file system.
        fs: Option<String>,
        /// A path inside of the file system, from the one of its dentries
        /// that comes first.
        path: Option<String>,
    },
    /// A socket.
    Socket(Socket),
    /// A control group.
    Cgroup {
        /// Its kernfs id, which is its inode number.
        id: Option<u64>,
        /// Its path from the root of its hierarchy.
        path: Option<String>,
    },
    /// A BPF program.
    Prog {
        /// Its id.
        id: Option<u32>,
        /// Its name.
        name: Option<String>,
        /// Its type.
        prog_type: Option<ProgType>,
    },
    /// A BPF map.
    Map {
        /// Its id.
        id: Option<u32>,
        /// Its name.
        name: Option<String>,
        /// Its type.
        map_type: Option<MapType>,
    },
    /// A network device.
    Device {
        /// Its interface index.
        ifindex: Option<u32>,
        /// Its name.
        name: Option<String>,
        /// The program that runs on what is redirected to it.
        prog: Option<ProgRef>,
    },
    /// A CPU that packets are handed to (`cpumap`).
    Cpu {
        /// Its number.
        cpu: Option<u32>,
        /// How many packets its queue takes.
        queue_size: Option<u32>,
        /// The program that runs there.
        prog: Option<ProgRef>,
    },
    /// A perf event.
    PerfEvent {
        /// `perf_event_attr.type`, by its name or as a number.
        event_type: Option<String>,
        /// `perf_event_attr.config`.
        config: Option<u64>,
        /// The CPU that it counts on; -1 for all.
        cpu: Option<i32>,
        /// The task that it counts for.
        pid: Option<i32>,
    },
    /// An instruction of a BPF program (`insn_array`); the object's address
    /// is the instruction's.
    Instruction {
        /// What kallsyms calls the place.
        symbol: Option<Symbol>,
        /// The program.
        prog: Option<ProgRef>,
    },
}

/// A BPF program, in brief.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgRef {
    /// Its id.
    pub id: u32,
    /// Its name, where it could be had.
    pub name: Option<String>,
}

/// What is known of a socket. Addresses are written as people write them:
/// `127.0.0.1:80`, `[::1]:80`, a path, `@` and an abstract name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Socket {
    /// `inet`, `unix`, …; the number of one that is not known.
    pub family: Option<String>,
    /// `stream`, `dgram`, …; the number of one that is not known.
    pub socket_type: Option<String>,
    /// `tcp`, `udp`, …; the number of one that is not known.
    pub protocol: Option<String>,
    /// The state of a connection, such as `established` or `listen`.
    pub state: Option<String>,
    /// The local address, if it has one.
    pub local: Option<String>,
    /// The other end's address, if it is connected.
    pub remote: Option<String>,
    /// The device that an XDP socket is bound to.
    pub device: Option<String>,
    /// The queue of that device.
    pub queue: Option<u32>,
    /// The socket's cookie, if anybody asked for one so far.
    pub cookie: Option<u64>,
}
