//! JSON, as the schema in `schema/bpfreeze-1.schema.json` defines it. All of
//! it is written while it is read: memory does not grow with what a map holds.

mod allocators;
mod document;
mod entry;
mod follow;
mod gaps;
mod header;
mod object;
mod page_bytes;
mod progs;
mod special;
mod state;
mod value;

pub(crate) use document::{Document, Part};
pub(crate) use progs::{document as progs, lines as prog_lines};
pub(crate) use value::Text;
