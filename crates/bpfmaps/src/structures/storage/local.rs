//! Local storage (`kernel/bpf/bpf_local_storage.c`): elements that are both in
//! a list of their owner's and in a bucket of the map's.
//!
//! The map's buckets lead to everything, and from each element to its owner;
//! where owners keep their lists need not be known.

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, MemoryExt};

use crate::entry::{Bytes, Entry};
use crate::structures::copied::{Copied, pointee};
use crate::structures::fields::Fields;
use crate::structures::hlist::{Chains, Step, lost};
use crate::structures::objects::{CgroupNames, InodeNames, Names, SocketNames, TaskNames};
use crate::structures::place::Elements;
use crate::target::Target;
use crate::walk::{Gap, GapAt, Reason, Walk, Walker};
use crate::{Error, MapInfo, MapType};

/// More buckets than this power of two no machine has memory for.
const MOST_BITS: u64 = 31;

/// Where the members of the structs of local storage are.
struct LocalLayout {
    map_size: u64,
    buckets: Member,
    bucket_log: Member,
    bucket_size: u64,
    first: Member,
    next: Member,
    /// For kernels that run.
    link: Option<Member>,
    storage: Member,
    map: Member,
    data: Member,
    owner: Member,
}

impl LocalLayout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let map = btf.record("bpf_local_storage_map")?;
        let buckets = map.member("buckets")?;
        let bucket = pointee(btf, &buckets)?;
        let element = btf.record("bpf_local_storage_elem")?;
        Ok(Self {
            map_size: map.size(),
            bucket_log: map.member("bucket_log")?,
            bucket_size: bucket.size(),
            first: bucket.member("list.first")?,
            next: element.member("map_node.next")?,
            link: element.find("map_node.pprev"),
            storage: element.member("local_storage")?,
            map: element.member("sdata.smap")?,
            data: element.member("sdata.data")?,
            owner: btf.record("bpf_local_storage")?.member("owner")?,
            buckets,
        })
    }

    /// Whether the element at `at` is in its bucket: where its node says that
    /// the pointer to it is, there is one.
    fn is_linked(&self, target: &dyn Target, at: Kva) -> bool {
        let node = at.checked_add(self.next.offset);
        let link = self.link.and_then(|link| at.checked_add(link.offset));
        let link = link.and_then(|link| target.load_u64(link).ok());
        let found = link.and_then(|link| target.load_u64(Kva::new(link)).ok());
        node.map(Kva::get) == found
    }
}

/// Visits the entries of `map` at `at`.
pub(super) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let (btf, memory_size) = (target.btf(), target.memory_size());
    let layout = &LocalLayout::new(btf)?;
    let owners: Box<dyn Names> = match map.map_type {
        MapType::TASK_STORAGE => Box::new(TaskNames::new(btf)?),
        MapType::INODE_STORAGE => Box::new(InodeNames::new(btf, memory_size)?),
        MapType::SK_STORAGE => Box::new(SocketNames::new(btf)?),
        _ => Box::new(CgroupNames::new(btf, memory_size)?),
    };
    let what = "struct bpf_local_storage_map";
    let object = Copied::object(target, at, layout.map_size, what)?;
    let bits = object.uint(&layout.bucket_log);
    if bits > MOST_BITS {
        let what = "bpf_local_storage_map.bucket_log";
        walker
            .walk
            .gap(GapAt::Map, Reason::Absurd { what, value: bits });
        return Ok(());
    }
    let buckets = Elements {
        memory: target,
        at: object.pointer(&layout.buckets),
        count: 1 << bits,
        stride: layout.bucket_size,
    };
    let size = layout.data.offset.saturating_add(map.value_size.into());
    let chains = Chains {
        buckets: buckets.bounded(memory_size, "number of buckets", walker),
        first: &layout.first,
        next: &layout.next,
        most: memory_size / size.max(1),
        what: "elements of a bpf_local_storage_map",
        moving: target.is_running(),
    };
    let mut buf = Vec::new();
    chains.walk(walker, &mut |_bucket, element, walker| {
        let head = match Copied::load(target, element, layout.data.offset) {
            Ok(head) => head,
            Err(fault) => return lost(fault),
        };
        let of = head.pointer(&layout.map);
        if of != at {
            let (expected, found) = (at.get(), of.get());
            let reason = Reason::Contradiction {
                what: "bpf_local_storage_data.smap",
                expected,
                found,
            };
            let at = GapAt::Kva(element);
            return Step::Broken(Gap { at, reason });
        }
        let next = head.uint(&layout.next);
        let storage = head.pointer(&layout.storage);
        let mut walk = Walk::default();
        let owner_at = owner_of(target, layout, storage, &mut walk);
        let owner = owners.object(target, owner_at, &mut walk);
        let data = element.checked_add(layout.data.offset).unwrap_or(element);
        let fault = target
            .read_more(data, map.value_size.into(), &mut buf)
            .err();
        // What has been taken out meanwhile may have been freed, and so may
        // its owner; or it is another's by now.
        if target.is_running() {
            let stays = Copied::load(target, element, layout.data.offset).is_ok_and(|now| {
                let same = |member| now.pointer(member) == head.pointer(member);
                same(&layout.map)
                    && same(&layout.storage)
                    && owner_of(target, layout, storage, &mut Walk::default()) == owner_at
                    && layout.is_linked(target, element)
            });
            if !stays {
                let (at, reason) = (GapAt::Kva(element), Reason::Outrun);
                return Step::Broken(Gap { at, reason });
            }
        }
        walker.walk.append(walk);
        if let Some(fault) = fault {
            walker.walk.fault(fault);
        }
        let flow = walker.visit(Entry::Owned {
            owner: &owner,
            key: None,
            value: Bytes {
                present: &buf,
                len: map.value_size.into(),
                fault,
            },
        });
        match flow.is_break() {
            true => Step::Stop,
            false => Step::Next(next),
        }
    });
    Ok(())
}

/// The address of the owner of the `struct bpf_local_storage` at `storage`.
/// That it cannot be read is a gap.
fn owner_of(
    target: &dyn Target,
    layout: &LocalLayout,
    storage: Kva,
    walk: &mut Walk,
) -> Option<Kva> {
    Fields::load(target, Some(storage), &[&layout.owner], walk).address(&layout.owner)
}
