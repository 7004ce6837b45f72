//! What is asked of a dump: maps, entries, variables, slots.

mod document;
mod dump;
mod entry;
mod error;
mod key;
mod map;
mod nearest;
mod pointer;
mod slots;
mod value;
mod vars;

pub use dump::Dump;
pub(crate) use dump::is_named;
pub use entry::Entry;
pub use error::QueryError;
pub use map::MapView;
pub use nearest::Listed;
pub use slots::{Slot, Slots};
pub use value::Value;
