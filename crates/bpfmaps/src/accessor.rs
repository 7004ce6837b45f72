//! The trait that everything above the backends knows, and all it knows.

use std::ops::ControlFlow;
use std::rc::Rc;

use arena::Arena;
use btf_layout::Btf;
use guestmem::{Kva, Memory};
use kernel::PerCpu;

use crate::{
    Code, Entry, Error, KernelInfo, MapInfo, MapState, Maps, ProgInfo, Progs, Symbol, Walk,
};

/// Receives the entries of a map one by one, and may end the walk.
pub type Visitor<'v> = dyn FnMut(Entry<'_>) -> ControlFlow<()> + 'v;

/// A kernel's BPF maps, whatever the kernel is read through.
///
/// The contract suite `bpfmaps::contract` states in code what holds for every
/// implementation.
pub trait BpfMapAccessor {
    /// The kernel that is read.
    fn kernel(&self) -> &KernelInfo;

    /// Every map of the kernel, by ascending id. A map that could not be
    /// described is a gap, never left out silently.
    ///
    /// # Errors
    ///
    /// Only if no map can be listed at all.
    fn maps(&self) -> Result<Maps, Error>;

    /// The BTF that describes `map`'s keys and values, split on its right
    /// base; `None` for a map without BTF.
    ///
    /// # Errors
    ///
    /// BTF that the map has but that could not be read or parsed.
    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error>;

    /// The kernel's own BTF.
    ///
    /// # Errors
    ///
    /// If it could not be read or parsed.
    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error>;

    /// Visits every entry of `map` once, with bytes that are valid for the
    /// visit only. Memory use does not grow with the number of entries.
    ///
    /// The visitor ends the walk by [`ControlFlow::Break`]. Entries of arrays
    /// come by ascending index, those of hashes in no order, others as
    /// [`Entry`] says. What could not be
    /// read is in the returned [`Walk`]; an entry that could be read in part
    /// is visited with what there is, and counted among the gaps too; one of
    /// which nothing could be read is a gap only.
    ///
    /// # Errors
    ///
    /// If `map` cannot be opened at all, such as one deleted meanwhile.
    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error>;

    /// The state of a map as a whole, for the types that have one
    /// ([`MapState`] lists them).
    ///
    /// # Errors
    ///
    /// If it could not be read.
    fn state(&self, map: &MapInfo) -> Result<Option<MapState>, Error>;

    /// An arena with the pages that exist in it; `None` for other types of
    /// map. Finding them out allocates none.
    ///
    /// # Errors
    ///
    /// If they cannot be told.
    fn arena(&self, map: &MapInfo) -> Result<Option<Arena<'_>>, Error>;

    /// Every program of the kernel, by ascending id. A program that could not
    /// be described is a gap, never left out silently.
    ///
    /// # Errors
    ///
    /// Only if no program can be listed at all.
    fn progs(&self) -> Result<Progs, Error>;

    /// The instructions of `prog`; `None` where the kernel does not tell them.
    ///
    /// # Errors
    ///
    /// If they, or what they refer to, could not be read; or the program was
    /// deleted meanwhile.
    fn code(&self, _prog: &ProgInfo) -> Result<Option<Code>, Error> {
        Ok(None)
    }

    /// The function or variable of the kernel that `at` lies in, where the
    /// kernel's symbols tell it.
    fn symbol(&self, at: Kva) -> Option<Symbol>;

    /// The kernel's memory, where the backend can read it.
    fn memory(&self) -> Option<&dyn Memory<Kva>>;

    /// Bytes of physical memory, where known: what bounds a walk through
    /// [`memory`](BpfMapAccessor::memory).
    fn memory_size(&self) -> Option<u64> {
        None
    }

    /// Where the possible CPUs keep their per-CPU data, where known.
    fn per_cpu(&self) -> Option<&PerCpu> {
        None
    }

    /// Whether [`entries`](BpfMapAccessor::entries) gives the values of `map`
    /// as bpf(2) copies them, without what their
    /// [special](crate::special) fields hold, rather than as they lie in
    /// memory.
    fn hides_special(&self, _map: &MapInfo) -> bool {
        false
    }
}
