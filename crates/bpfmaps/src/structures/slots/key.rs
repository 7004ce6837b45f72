//! Slots by key: hashes whose elements point at what they refer to.

use guestmem::{Address, Kva, MemoryExt};

use super::refers::Refers;
use crate::entry::SlotAt;
use crate::structures::copied::{Copied, pointee};
use crate::structures::hash::HashLayout;
use crate::structures::hlist::{Chains, Step, lost};
use crate::structures::place::Elements;
use crate::target::Target;
use crate::walk::{Gap, GapAt, Reason, Walker};
use crate::{Error, MapInfo};

/// Visits the slots of a `struct bpf_htab` whose values are pointers to maps.
pub(super) fn hash_of_maps(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    refers: &Refers,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    HashLayout::new(target.btf())?
        .table(target, map, at, None, target.memory_size())?
        .moving(target.is_running())
        .walk_pointers(walker, &mut |key, pointer, walker| {
            refers.visit(target, map, SlotAt::Key(key), Kva::at(pointer), walker)
        });
    Ok(())
}

/// Visits the slots of a `struct bpf_dtab` that is a hash. Each element is the
/// slot's entry itself, in the bucket of its index's low bits.
pub(super) fn devmap_hash(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    refers: &Refers,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let btf = target.btf();
    let table = btf.record("bpf_dtab")?;
    let buckets = table.member("dev_index_head")?;
    let count = table.member("n_buckets")?;
    let head = pointee(btf, &buckets)?;
    let first = head.member("first")?;
    let element = btf.record("bpf_dtab_netdev")?;
    let next = element.member("index_hlist.next")?;
    let index = element.member("idx")?;
    let object = Copied::object(target, at, table.size(), "struct bpf_dtab")?;
    let count = object.u32(&count);
    let chains = Chains {
        buckets: elements(target, object.pointer(&buckets), count, head.size(), walker),
        first: &first,
        next: &next,
        most: target.memory_size() / element.size().max(1),
        what: "elements of a bpf_dtab",
        moving: target.is_running(),
    };
    chains.walk(walker, &mut |bucket, at, walker| {
        let copy = match Copied::load(target, at, element.size()) {
            Ok(copy) => copy,
            Err(fault) => return lost(fault),
        };
        let key = copy.u32(&index);
        if let Some(gap) = misplaced(key, count, bucket, at) {
            return Step::Broken(gap);
        }
        let slot = key.to_le_bytes();
        match refers.visit(target, map, SlotAt::Key(&slot), at, walker) {
            flow if flow.is_break() => Step::Stop,
            _ => Step::Next(copy.uint(&next)),
        }
    });
    Ok(())
}

/// Visits the slots of a `struct bpf_shtab` (`net/core/sock_map.c`).
pub(super) fn sockhash(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    refers: &Refers,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let btf = target.btf();
    let table = btf.record("bpf_shtab")?;
    let buckets = table.member("buckets")?;
    let count = table.member("buckets_num")?;
    let bucket = pointee(btf, &buckets)?;
    let first = bucket.member("head.first")?;
    let element = btf.record("bpf_shtab_elem")?;
    let next = element.member("node.next")?;
    let hash = element.member("hash")?;
    let socket = element.member("sk")?;
    let key = element.member("key")?;
    let object = Copied::object(target, at, table.size(), "struct bpf_shtab")?;
    let count = object.u32(&count);
    let size = element.size().saturating_add(map.key_size.into());
    let chains = Chains {
        buckets: elements(
            target,
            object.pointer(&buckets),
            count,
            bucket.size(),
            walker,
        ),
        first: &first,
        next: &next,
        most: target.memory_size() / size,
        what: "elements of a bpf_shtab",
        moving: target.is_running(),
    };
    let mut keys = Vec::new();
    chains.walk(walker, &mut |bucket, at, walker| {
        let copy = match Copied::load(target, at, element.size()) {
            Ok(copy) => copy,
            Err(fault) => return lost(fault),
        };
        if let Some(gap) = misplaced(copy.u32(&hash), count, bucket, at) {
            return Step::Broken(gap);
        }
        let key_at = at.checked_add(key.offset).unwrap_or(at);
        if let Err(fault) = target.read_more(key_at, map.key_size.into(), &mut keys) {
            return lost(fault);
        }
        let socket = copy.pointer(&socket);
        match refers.visit(target, map, SlotAt::Key(&keys), socket, walker) {
            flow if flow.is_break() => Step::Stop,
            _ => Step::Next(copy.uint(&next)),
        }
    });
    Ok(())
}

fn elements<'t>(
    target: &'t dyn Target,
    at: Kva,
    count: u32,
    stride: u64,
    walker: &mut Walker<'_, '_>,
) -> Elements<'t> {
    let buckets = Elements {
        memory: target,
        at,
        count,
        stride,
    };
    buckets.bounded(target.memory_size(), "number of buckets", walker)
}

/// Says so if an element with this hash is not one of this bucket of `count`,
/// which is a power of two.
fn misplaced(hash: u32, count: u32, bucket: u64, at: Kva) -> Option<Gap> {
    let found = u64::from(hash & count.wrapping_sub(1));
    let reason = Reason::Contradiction {
        what: "the hash of an element of another bucket",
        expected: bucket,
        found,
    };
    let at = GapAt::Kva(at);
    (found != bucket).then_some(Gap { at, reason })
}
