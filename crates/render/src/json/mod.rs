//! JSON, as the schema in `schema/bpfreeze-1.schema.json` defines it. All of
//! it is written while it is read: memory does not grow with what a map holds.

mod document;
mod entry;
mod value;

pub(crate) use document::Document;
pub(crate) use value::Text;
