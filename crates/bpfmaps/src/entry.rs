//! The kinds of entry that maps have, as borrowed bytes.

use guestmem::{Fault, Kva};

use crate::{Object, Symbol};

/// The bytes of a key or value, as far as they could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<'a> {
    /// What could be read, from the first byte on.
    pub present: &'a [u8],
    /// How long the whole is.
    pub len: u64,
    /// What ended the read, if `present` is not the whole.
    pub fault: Option<Fault<Kva>>,
}

impl<'a> Bytes<'a> {
    /// A whole value.
    #[must_use]
    pub fn whole(present: &'a [u8]) -> Self {
        Self {
            present,
            len: present.len() as u64,
            fault: None,
        }
    }

    /// Whether nothing is missing.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.present.len() as u64 == self.len
    }
}

/// One CPU's value of a per-CPU entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuValue<'a> {
    /// The CPU's number; possible CPUs may leave numbers out.
    pub cpu: u32,
    /// Its value.
    pub value: Bytes<'a>,
}

/// One entry of a map, valid for the time of the visit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Entry<'a> {
    /// A key and its value: hashes, and arrays with their index as the key.
    KeyValue {
        /// The key, `key_size` bytes. An array's is its index as a
        /// little-endian `u32`.
        key: &'a [u8],
        /// The value, `value_size` bytes.
        value: Bytes<'a>,
    },
    /// A key and one value for each possible CPU, in CPU order.
    PerCpu {
        /// The key, as above.
        key: &'a [u8],
        /// The values, each `value_size` bytes.
        values: &'a [CpuValue<'a>],
    },
    /// A value and the object that it belongs to: local storages.
    Owned {
        /// The object.
        owner: &'a Object,
        /// The key that bpf(2) knows it by, for types that have one.
        key: Option<&'a [u8]>,
        /// The value, `value_size` bytes.
        value: Bytes<'a>,
    },
    /// One value for each possible CPU and the object that they belong to.
    OwnedPerCpu {
        /// The object.
        owner: &'a Object,
        /// The key that bpf(2) knows it by.
        key: &'a [u8],
        /// The values, each `value_size` bytes.
        values: &'a [CpuValue<'a>],
    },
    /// A place that is taken, and what it refers to. Free ones do not come.
    Slot {
        /// Which place.
        at: SlotAt<'a>,
        /// What it refers to.
        refers: &'a Object,
        /// What a look-up by bpf(2) gives, for types that it gives anything
        /// for.
        value: Option<Bytes<'a>>,
    },
    /// A record of a ring buffer that is not consumed yet, the oldest first.
    Record {
        /// Where its header is, in bytes since the buffer's creation.
        position: u64,
        /// How far its producer is.
        state: RecordState,
        /// What was or is being written.
        value: Bytes<'a>,
    },
    /// An element of a queue or stack, in the order in which they would be
    /// taken out.
    Element {
        /// 0 for the first to be taken out.
        position: u64,
        /// The value, `value_size` bytes.
        value: Bytes<'a>,
    },
    /// A stack trace.
    Stack {
        /// Its id, which is its bucket.
        id: u32,
        /// The frames, innermost first.
        frames: &'a [Frame],
    },
}

/// The place of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotAt<'a> {
    /// Its index, in maps that are arrays.
    Index(u32),
    /// Its key, in maps that are hashes.
    Key(&'a [u8]),
}

/// How far the producer of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordState {
    /// It was submitted.
    Ready,
    /// It is reserved, and not submitted yet.
    Busy,
    /// It was given up; its consumer passes over it.
    Discarded,
}

impl RecordState {
    /// As documents name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Busy => "busy",
            Self::Discarded => "discarded",
        }
    }
}

/// One frame of a stack trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// An address.
    Address {
        /// The address, of the kernel or of a process.
        ip: u64,
        /// The kernel's symbol there.
        symbol: Option<Symbol>,
    },
    /// A place in an ELF file.
    BuildId {
        /// The file's build id.
        build_id: [u8; 20],
        /// Bytes from the file's start.
        offset: u64,
    },
    /// An address for which the file was asked for and could not be told.
    NoBuildId {
        /// The address in its process.
        ip: u64,
    },
}

impl<'a> Entry<'a> {
    /// The entry's key, if it is of a kind that has one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Self::KeyValue { key, .. }
            | Self::PerCpu { key, .. }
            | Self::OwnedPerCpu { key, .. }
            | Self::Slot {
                at: SlotAt::Key(key),
                ..
            } => Some(key),
            Self::Owned { key, .. } => key,
            Self::Slot { .. } | Self::Record { .. } | Self::Element { .. } | Self::Stack { .. } => {
                None
            }
        }
    }
}
