//! What a map is in as a whole, beside its entries.

/// The state of a map of a type that has one.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MapState {
    /// Where a ring buffer's users are, in bytes since its creation.
    RingBuffer {
        /// Bytes of its data area.
        size: u64,
        /// Up to where it was consumed.
        consumer_pos: u64,
        /// Up to where space was reserved.
        producer_pos: u64,
        /// The oldest record that was reserved and not yet submitted when
        /// space was last reserved; `None` in kernels that do not note it
        /// (before 6.6).
        pending_pos: Option<u64>,
        /// The oldest record that was not overwritten; `None` in kernels
        /// that cannot overwrite.
        overwrite_pos: Option<u64>,
        /// Whether new records overwrite old ones.
        overwrite: bool,
    },
    /// How full a Bloom filter is.
    Bloom {
        /// Its size in bits.
        bits: u64,
        /// How many of them are set.
        bits_set: u64,
        /// How many bits an element sets.
        hash_functions: u32,
    },
    /// Where a queue's or stack's ends are.
    Queue {
        /// The slot that the next element goes to.
        head: u32,
        /// The slot of the oldest element.
        tail: u32,
        /// How many slots there are, one more than elements may be.
        slots: u32,
    },
    /// How far a `struct_ops` map is registered.
    StructOps {
        /// `init`, `in use`, `to be freed`, `ready`, or the number of
        /// another.
        state: String,
        /// How many use it.
        refcount: u64,
        /// The struct that it implements.
        name: Option<String>,
    },
}
