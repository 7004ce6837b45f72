//! BPF maps as text for people, as JSON for programs, and as bpftool prints
//! them.
//!
//! You bring a [`BpfMapAccessor`] (a frozen guest, the running kernel, or
//! [`fake::Fake`] in a test) and somewhere to write. [`dump()`] writes the
//! contents of maps, [`maps()`] a list of them, in the [`Format`] of your
//! [`Options`]. Keys and values are typed by the map's BTF, of which every
//! kind is rendered. What could not be read is said where it is missing, never
//! shown as zeros; the [`Outcome`] tells whether anything is.
//!
//! ```
//! use std::rc::Rc;
//!
//! use bpfmaps::{BpfMapAccessor, MapType};
//! use btf_layout::{Btf, build::Builder};
//! use render::fake::{Fake, FakeMap};
//! use render::{Format, Options, Source};
//!
//! let mut types = Builder::new();
//! let u32_ = types.int("u32", 4);
//! let point = types.record("point", 8, &[("x", u32_, 0), ("y", u32_, 32)]);
//! let btf = Rc::new(Btf::parse(types.finish(), "an example")?);
//! let map = FakeMap::new(7, "points", MapType::HASH, 4, 8)
//!     .typed(&btf, u32_, point)
//!     .entry(&[1, 0, 0, 0], &[10, 0, 0, 0, 20, 0, 0, 0][..]);
//! let kernel = Fake::new(vec![map]);
//!
//! let mut out = Vec::new();
//! let options = Options::new(Source::new("example"));
//! let outcome = render::dump(&kernel, &kernel.maps()?, &options, &mut out)?;
//! assert!(outcome.is_complete());
//! assert_eq!(
//!     String::from_utf8(out)?,
//!     "\
//! 7 points   hash   u32 → struct point   at most 64 entries
//!   KEY  →   x   y
//!     1  →  10  20
//!   1 entry
//! ",
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Pointers into arenas are followed by their types, as far as the [`Budget`]
//! of a dump reaches: an object is shown at the first pointer that leads to it,
//! or behind the maps where that would nest too deep, and referred to from then
//! on. A pointer that leads nowhere says why.
//!
//! Everything is written while it is read: memory does not grow with the
//! number of entries, and a writer that fails ends the walk at once. BTF may
//! be hostile; what it says is never followed without a bound.
//!
//! It does not choose maps, open files or know terminals: that is the
//! caller's part.

mod allocators;
mod bpftool;
mod context;
mod error;
pub mod fake;
mod follow;
mod hex;
mod json;
mod object;
mod options;
mod page_bytes;
mod shape;
mod special;
mod state;
mod text;
mod walk;

use std::cell::RefCell;
use std::io::{BufWriter, Write};

use bpfmaps::{BpfMapAccessor, KernelInfo, Maps, Progs};
use context::Context;
use json::{Document, Part};

pub use allocators::Wanted;
pub use error::Error;
pub use options::{ArenaPages, Budget, Format, Options, Outcome, ParseFormatError, Source, Style};

/// How much output is collected before it is written.
const BUFFER: usize = 1 << 16;

/// Writes the contents of `maps` to `out`, in the order given.
///
/// `maps` may be all of [`BpfMapAccessor::maps`] or some of them; the gaps of
/// its walk are stated as gaps of the list. A map that cannot be read does not
/// keep the others from being written.
///
/// # Errors
///
/// Only those of writing.
pub fn dump(
    accessor: &dyn BpfMapAccessor,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    write(accessor, maps, options, out, Part::Contents)
}

/// Writes a list of `maps` to `out`, and the programs that use them, without
/// their contents.
///
/// # Errors
///
/// Only those of writing.
pub fn maps(
    accessor: &dyn BpfMapAccessor,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    write(accessor, maps, options, out, Part::List)
}

/// The contents of `maps` as the document that [`Format::Json`] writes, in
/// memory, for those who look something up in it.
///
/// # Errors
///
/// None that the kernel's state could bring about.
pub fn document(
    accessor: &dyn BpfMapAccessor,
    maps: &Maps,
    options: &Options,
) -> Result<(serde_json::Value, Outcome), Error> {
    let context = Context::of_contents(accessor, options);
    let document = Document {
        context: &context,
        part: Part::Contents,
        maps,
        options,
        outcome: RefCell::default(),
    };
    let value = serde_json::to_value(&document)?;
    let mut outcome = document.outcome.into_inner();
    outcome.add_gaps(&maps.walk);
    context.finish(options, &mut outcome);
    Ok((value, outcome))
}

fn write(
    accessor: &dyn BpfMapAccessor,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
    part: Part,
) -> Result<Outcome, Error> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let context = match (options.format, part) {
        (Format::Bpftool, _) | (_, Part::List) => Context::new(accessor),
        (_, Part::Contents) => Context::of_contents(accessor, options),
    };
    let document = || Document {
        context: &context,
        part,
        maps,
        options,
        outcome: RefCell::default(),
    };
    let mut outcome = match (options.format, part) {
        (Format::Text, Part::Contents) => text::dump(&context, maps, options, &mut out)?,
        (Format::Text, Part::List) => text::maps(&context, maps, options, &mut out)?,
        (Format::Json, _) => document().write(&mut out)?,
        (Format::Jsonl, _) => document().write_lines(&mut out)?,
        (Format::Bpftool, Part::Contents) => bpftool::dump(&context, maps, options, &mut out)?,
        (Format::Bpftool, Part::List) => bpftool::show(maps, &mut out)?,
    };
    out.flush()?;
    outcome.add_gaps(&maps.walk);
    context.finish(options, &mut outcome);
    Ok(outcome)
}

/// Writes a list of `progs` to `out`. bpftool's format, of which too much is
/// not known, is our JSON.
///
/// # Errors
///
/// Only those of writing.
pub fn progs(
    kernel: &KernelInfo,
    progs: &Progs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    match options.format {
        Format::Text => text::progs(kernel, progs, options, &mut out)?,
        Format::Json | Format::Bpftool => json::progs(kernel, progs, options, &mut out)?,
        Format::Jsonl => json::prog_lines(kernel, progs, options, &mut out)?,
    }
    Ok(out.flush()?)
}
