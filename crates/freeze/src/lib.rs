//! A machine's BPF state, taken while it stands still for milliseconds, and
//! read later.

pub mod capture;
mod error;
mod freeze;
mod machine;
mod query;

pub use capture::Capture;
pub use error::Error;
pub use freeze::Freeze;
pub use machine::{Machine, Standing, StandsStill};
pub use query::{Dump, Entry, Listed, MapView, QueryError, Slot, Slots, Value};
