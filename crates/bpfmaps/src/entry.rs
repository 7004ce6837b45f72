//! The kinds of entry that maps have, as borrowed bytes.

use guestmem::{Fault, Kva};

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
}

impl<'a> Entry<'a> {
    /// The entry's key.
    #[must_use]
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Self::KeyValue { key, .. } | Self::PerCpu { key, .. } => key,
        }
    }
}
