//! Bloom filters (`kernel/bpf/bloom_filter.c`): a set of bits, of which each
//! element sets a few. What was put in cannot be told from it.

use btf_layout::{Btf, Member};
use guestmem::{Address, Fault, Kva, MemoryExt};

use super::copied::Copied;
use crate::target::Target;
use crate::walk::{Reason, Walker};
use crate::{Error, MapInfo, MapState};

/// How much is read at a time.
const BLOCK: u64 = 256 << 10;

/// The smallest page: what is unreadable is so for at least the rest of it.
const PAGE: u64 = 0x1000;

/// Where the members of `struct bpf_bloom_filter` are.
struct Layout {
    size: u64,
    mask: Member,
    hash_functions: Member,
    bits: Member,
}

impl Layout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let filter = btf.record("bpf_bloom_filter")?;
        Ok(Self {
            size: filter.size(),
            mask: filter.member("bitset_mask")?,
            hash_functions: filter.member("nr_hash_funcs")?,
            bits: filter.member("bitset")?,
        })
    }
}

/// One filter, no larger than memory.
struct Filter {
    set: Kva,
    bits: u64,
    hash_functions: u32,
}

impl Filter {
    fn load(target: &dyn Target, at: Kva) -> Result<Self, Error> {
        let layout = Layout::new(target.btf())?;
        let object = Copied::object(target, at, layout.size, "struct bpf_bloom_filter")?;
        let bits = u64::from(object.u32(&layout.mask)) + 1;
        if !bits.is_power_of_two() {
            return Err(Error::Damaged(Reason::Contradiction {
                what: "bpf_bloom_filter.bitset_mask",
                expected: bits.next_power_of_two() - 1,
                found: bits - 1,
            }));
        }
        if bits / 8 > target.memory_size() {
            let (what, value) = ("bits of a Bloom filter", bits);
            return Err(Error::Damaged(Reason::Absurd { what, value }));
        }
        Ok(Self {
            set: at.checked_add(layout.bits.offset).unwrap_or(at),
            bits,
            hash_functions: object.u32(&layout.hash_functions),
        })
    }

    /// How many bits are set. What is unreadable is handed to `lost`, a page
    /// of it at a time.
    fn count(&self, target: &dyn Target, lost: &mut dyn FnMut(Fault<Kva>)) -> u64 {
        let bytes = self.bits.div_ceil(8);
        let (mut at, mut set) = (0, 0);
        let mut block = Vec::new();
        while at < bytes {
            let start = self.set.checked_add(at).unwrap_or(Kva::at(u64::MAX));
            let read = target.read_more(start, BLOCK.min(bytes - at), &mut block);
            let ones = block.iter().map(|byte| u64::from(byte.count_ones()));
            set += ones.sum::<u64>();
            at += block.len() as u64;
            if let Err(fault) = read {
                lost(fault);
                at += PAGE - fault.addr.get() % PAGE;
            }
        }
        set
    }
}

/// How full the filter at `at` is.
pub(crate) fn state(target: &dyn Target, at: Kva) -> Result<MapState, Error> {
    let filter = Filter::load(target, at)?;
    let mut first = None;
    let bits_set = filter.count(target, &mut |fault| {
        first.get_or_insert(fault);
    });
    if let Some(source) = first {
        let what = "bpf_bloom_filter.bitset";
        return Err(Error::Unreadable { what, source });
    }
    Ok(MapState::Bloom {
        bits: filter.bits,
        bits_set,
        hash_functions: filter.hash_functions,
    })
}

/// Reads the filter at `at`, which has no entries that could be visited, for
/// what of it cannot be read.
pub(crate) fn walk(
    target: &dyn Target,
    _map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    match Filter::load(target, at) {
        Err(Error::Damaged(reason)) => walker.walk.gap(at, reason),
        filter => {
            filter?.count(target, &mut |fault| walker.walk.fault(fault));
        }
    }
    Ok(())
}
