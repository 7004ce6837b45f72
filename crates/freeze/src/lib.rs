//! A machine's BPF state, taken while it stands still for milliseconds, and
//! read later.

mod query;

pub use query::{Dump, Entry, Listed, MapView, QueryError, Slot, Slots, Value};
