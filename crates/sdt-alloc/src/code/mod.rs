//! What slots hold, told by the instructions of the programs that use them.
//!
//! To the library a payload is bytes, and a program's BTF calls it `void`.
//! The program itself knows better: it passes the pointers that an allocator
//! gives out to functions whose prototypes name a struct, returns them from
//! such functions, and reads members. [`analyse`] follows these pointers
//! through registers, the stack, calls and map values, forwards and as far as
//! that goes without guessing, and says what it has seen and what follows.
//!
//! The instructions are those after the verifier's rewriting, with
//! [`Reference`]s in place of addresses. They may be hostile: the analysis
//! ends, whatever they are, and says if it was cut short.

mod flow;
mod insn;
mod proto;
mod run;
#[cfg(test)]
mod tests;
mod value;
mod verdict;

use std::collections::BTreeSet;

use btf_layout::{Btf, TypeId};

/// What an instruction refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The map with this id.
    Map(u32),
    /// A byte in the value of a data section's map.
    Value {
        /// The map's id.
        map: u32,
        /// Bytes from the value's start.
        offset: u32,
    },
    /// The function that starts at this instruction.
    Function(u32),
}

/// A program.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    /// `struct bpf_insn` each, all functions.
    pub insns: &'a [[u8; 8]],
    /// The first instruction and the type of each function, by ascending
    /// instruction.
    pub functions: &'a [(u32, TypeId)],
    /// What instructions refer to, by ascending instruction.
    pub references: &'a [(u32, Reference)],
}

/// An allocator whose slots are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The map of the data section that has its variable.
    pub map: u32,
    /// Where in the section.
    pub offset: u32,
    /// Bytes of a payload.
    pub payload_size: u64,
    /// Bytes from where the library's pointers point to the payload: those of
    /// a header, or 0 where the id is behind the payload.
    pub payload_at: u32,
}

/// A member of a map's values that points at slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The map.
    pub map: u32,
    /// Bytes from a value's start.
    pub offset: u32,
    /// The number of the allocator among the [`Site`]s.
    pub site: usize,
}

/// An access to a slot: bytes from the payload's start, and how many.
pub type Access = (u64, u8);

/// What the programs tell of an allocator's slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The type of a payload: a struct, or the typedef of one without a name.
    pub ty: Option<TypeId>,
    /// Where it is known from, or why it is not; empty if nothing is known.
    pub from: String,
    /// What it may be, where that is not certain.
    pub candidates: Vec<TypeId>,
    /// Every access that was seen.
    pub accesses: BTreeSet<Access>,
    /// Whether all instructions were followed.
    pub complete: bool,
}

/// What `programs`, whose types are in `btf`, tell of the slots of each of
/// `sites`. `stored` are members of map values that are known to point at
/// slots; others are found out. `is_kernel` says whether the kernel's own BTF
/// has a struct of that name and size, which then is no payload's.
#[must_use]
pub fn analyse(
    btf: &Btf,
    is_kernel: &dyn Fn(&str, u64) -> bool,
    programs: &[Program<'_>],
    sites: &[Site],
    stored: &[Stored],
) -> Vec<Verdict> {
    let seen = run::run(btf, programs, sites, stored);
    let judge = verdict::Judge::new(btf, is_kernel);
    sites
        .iter()
        .enumerate()
        .map(|(site, of)| judge.verdict(&seen, site, of))
        .collect()
}
