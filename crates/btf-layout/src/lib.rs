//! BTF, the types that a kernel and its BPF programs describe themselves with,
//! for readers of memory.
//!
//! You bring the bytes: `.BTF` of a kernel, from its memory or from
//! `/sys/kernel/btf/vmlinux`, or the BTF of a module or program together with
//! its base. This crate finds types by id and by name, and members of structs
//! by path, with alternatives for members that kernels have renamed:
//!
//! ```
//! use btf_layout::{Btf, build::Builder};
//!
//! let mut types = Builder::new();
//! let u32_ = types.int("u32", 4);
//! let both = types.union("", 4, &[("id", u32_, 0), ("serial", u32_, 0)]);
//! types.record("bpf_map", 12, &[("map_type", u32_, 0), ("", both, 64)]);
//!
//! let btf = Btf::parse(types.finish(), "Linux 6.12.115")?;
//! let map = btf.record("bpf_map")?;
//! assert_eq!(map.member("id")?.offset, 8); // through the anonymous union
//! assert_eq!(map.member_any(&["type", "map_type"])?.offset, 0);
//! assert_eq!(
//!     map.member("owner").unwrap_err().to_string(),
//!     "struct bpf_map has no member `owner` in the BTF of Linux 6.12.115",
//! );
//! # Ok::<(), btf_layout::Error>(())
//! ```
//!
//! The bytes may come from a hostile guest: whatever they hold, every call
//! ends, and none panics. Loading is one pass that notes where each type
//! starts; types are decoded when they are asked for, so that a kernel's BTF
//! costs milliseconds and half a megabyte beside its bytes.
//!
//! It does not read `.BTF.ext` (line numbers, relocations), does not write
//! BTF except for tests ([`build`]), and reads no values: that is the
//! renderer's part. The format is that of `include/uapi/linux/btf.h`, up to
//! kernel 7.2; big-endian BTF is refused.

mod btf;
pub mod build;
mod error;
mod header;
mod index;
mod items;
mod raw;
mod record;
mod spell;
mod types;

pub use btf::{Btf, POINTER_SIZE};
pub use error::Error;
pub use items::{
    Enumerator, Enumerators, Item, Items, Members, Param, Params, RawMember, SectionVar,
    SectionVars,
};
pub use record::{BitRange, Member, Record};
pub use types::{IntEncoding, Kind, RecordKind, Type, TypeId};
