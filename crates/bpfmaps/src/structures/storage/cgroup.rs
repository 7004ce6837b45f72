//! Storage of control groups by attached programs
//! (`kernel/bpf/local_storage.c`): a list of elements, each with its key and
//! a buffer of its own or one for each CPU.

use std::ops::ControlFlow;

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, MemoryExt};

use crate::entry::Entry;
use crate::structures::bytes;
use crate::structures::copied::Copied;
use crate::structures::cycle::{Budget, Milestone};
use crate::structures::fields::Fields;
use crate::structures::objects::{CgroupNames, Names};
use crate::structures::per_cpu::Gatherer;
use crate::structures::place;
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walk, Walker};
use crate::{Error, MapInfo, Object, ObjectKind};

/// Where the members of the structs are.
struct StorageLayout {
    /// `next`, with which the head of the map's list begins.
    list: Member,
    storage_size: u64,
    buffer: Member,
    per_cpu_buffer: Member,
    map: Member,
    key: Member,
    cgroup_id: Member,
    next: Member,
    /// The element's place in the list of its control group.
    of_cgroup: Member,
    data: Member,
    /// The head of that list in `struct cgroup`.
    cgroup_list: Member,
    cgroups: CgroupNames,
}

impl StorageLayout {
    fn new(btf: &Btf, memory_size: u64) -> Result<Self, btf_layout::Error> {
        let map = btf.record("bpf_cgroup_storage_map")?;
        let storage = btf.record("bpf_cgroup_storage")?;
        Ok(Self {
            list: map.member("list.next")?,
            storage_size: storage.size(),
            buffer: storage.member("buf")?,
            per_cpu_buffer: storage.member("percpu_buf")?,
            map: storage.member("map")?,
            key: storage.member("key")?,
            cgroup_id: storage.member("key.cgroup_inode_id")?,
            next: storage.member("list_map.next")?,
            of_cgroup: storage.member("list_cg.next")?,
            data: btf.record("bpf_storage_buffer")?.member("data")?,
            cgroup_list: btf.record("cgroup")?.member("bpf.storages")?,
            cgroups: CgroupNames::new(btf, memory_size)?,
        })
    }
}

/// Visits the entries of `map` at `at`.
pub(super) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let memory_size = target.memory_size();
    let layout = &StorageLayout::new(target.btf(), memory_size)?;
    let mut values = Values {
        target,
        layout,
        map,
        gatherer: match map.map_type.is_per_cpu() {
            true => Some(Gatherer::new(target, target.per_cpu()?, map.value_size)),
            false => None,
        },
        buf: Vec::new(),
        steps: Budget::of_memory(memory_size),
    };
    let head = at.checked_add(layout.list.offset).unwrap_or(at);
    let mut node = target.load_u64(head).map_err(|source| {
        let what = "bpf_cgroup_storage_map.list";
        Error::Unreadable { what, source }
    })?;
    let size = layout.storage_size.saturating_add(map.value_size.into());
    let most = memory_size / size.max(1);
    let mut milestone = Milestone::new();
    while node != head.get() {
        if milestone.repeats(node) {
            let what = "the list of a bpf_cgroup_storage_map";
            walker.walk.gap(GapAt::Map, Reason::Cycle { what });
            break;
        }
        if walker.walk.visited >= most {
            let (what, value) = ("elements of a bpf_cgroup_storage_map", most);
            walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
            break;
        }
        let element = place::container(Kva::new(node), layout.next.offset);
        let storage = match Copied::load(target, element, layout.storage_size) {
            Ok(storage) => storage,
            Err(fault) => {
                walker.walk.fault(fault);
                break;
            }
        };
        let of = storage.pointer(&layout.map);
        if of != at {
            let reason = Reason::Contradiction {
                what: "bpf_cgroup_storage.map",
                expected: at.get(),
                found: of.get(),
            };
            walker.walk.gap(element, reason);
            break;
        }
        if values.visit(&storage, walker).is_break() {
            break;
        }
        node = storage.uint(&layout.next);
    }
    Ok(())
}

/// What the values of a map are read with.
struct Values<'a> {
    target: &'a dyn Target,
    layout: &'a StorageLayout,
    map: &'a MapInfo,
    gatherer: Option<Gatherer<'a>>,
    buf: Vec<u8>,
    /// The steps from elements to their control groups.
    steps: Budget,
}

impl Values<'_> {
    /// Visits one element.
    fn visit(&mut self, storage: &Copied, walker: &mut Walker<'_, '_>) -> ControlFlow<()> {
        let layout = self.layout;
        let size = usize::try_from(self.map.key_size).unwrap_or(usize::MAX);
        // The key is the id of a control group alone, or with a type.
        let whole = storage.raw(&layout.key);
        let Some(key) = whole.get(..size) else {
            let reason = Reason::Contradiction {
                what: "bpf_map.key_size",
                expected: whole.len() as u64,
                found: self.map.key_size.into(),
            };
            walker.walk.gap(GapAt::Map, reason);
            return ControlFlow::Break(());
        };
        let owner = &self.owner(storage, &mut walker.walk);
        if let Some(gatherer) = &mut self.gatherer {
            let pointer = storage.uint(&layout.per_cpu_buffer);
            let values = &gatherer.gather(pointer, walker);
            return walker.visit(Entry::OwnedPerCpu { owner, key, values });
        }
        let buffer = storage.pointer(&layout.buffer);
        let data = buffer.checked_add(layout.data.offset).unwrap_or(buffer);
        let len = self.map.value_size.into();
        let value = bytes::value(self.target, data, len, &mut self.buf, &mut walker.walk);
        walker.visit(Entry::Owned {
            owner,
            key: Some(key),
            value,
        })
    }

    /// The control group of an element: its key says the id, and the list of
    /// all elements of one group leads through the group itself.
    fn owner(&self, storage: &Copied, walk: &mut Walk) -> Object {
        let id = storage.uint(&self.layout.cgroup_id);
        let first = storage.uint(&self.layout.of_cgroup);
        let found = self.find(id, first, walk);
        let mut owner = self.layout.cgroups.object(self.target, found, walk);
        if let ObjectKind::Cgroup { id: named, .. } = &mut owner.kind {
            *named = Some(id);
        }
        owner
    }

    /// Goes along a list from the node at `first` to its head, which is in
    /// the control group with the id `id`.
    fn find(&self, id: u64, first: u64, walk: &mut Walk) -> Option<Kva> {
        let next = &self.layout.of_cgroup;
        let mut milestone = Milestone::new();
        let mut node = first;
        while !milestone.repeats(node) {
            if let Err(value) = self.steps.step() {
                let what = "number of storages before all cgroups";
                walk.gap(Kva::new(node), Reason::Absurd { what, value });
                return None;
            }
            let cgroup = place::container(Kva::new(node), self.layout.cgroup_list.offset);
            if self.layout.cgroups.is(self.target, cgroup, id) {
                return Some(cgroup);
            }
            let element = place::container(Kva::new(node), next.offset);
            node = Fields::load(self.target, Some(element), &[next], walk).uint(next)?;
        }
        let what = "the list of a cgroup's storages";
        walk.gap(Kva::new(first), Reason::Cycle { what });
        None
    }
}
