//! What holds for every [`BpfMapAccessor`], in code.
//!
//! For the tests of this crate and of whoever implements the trait: [`check`]
//! walks every map that the accessor lists and panics, with the map and the
//! promise that was broken, if one is. It takes as long as reading everything
//! three times, and remembers every key of one map at a time.

mod progs;

use std::fmt;
use std::hash::Hasher;
use std::ops::ControlFlow;

use btf_layout::{Btf, TypeId};
use rustc_hash::{FxHashMap, FxHasher};

use crate::{
    BpfMapAccessor, Bytes, CpuValue, Entry, Error, MapInfo, MapType, Maps, Reason, SlotAt, Walk,
};

/// What the kernel does while it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// Nothing: whatever is read twice is the same twice.
    Still,
    /// Maps come and go, and their entries too.
    Moving,
}

/// Checks `accessor` against the contract of [`BpfMapAccessor`].
///
/// # Panics
///
/// At the first promise that is broken.
pub fn check(accessor: &dyn BpfMapAccessor, world: World) {
    let kernel = accessor.kernel();
    let cpus = &kernel.possible_cpus.0;
    assert!(!kernel.release.is_empty(), "the kernel has no release");
    assert!(
        kernel.page_size.is_power_of_two(),
        "a page has {} bytes",
        kernel.page_size
    );
    assert!(
        !cpus.is_empty() && cpus.is_sorted_by(|a, b| a < b),
        "possible CPUs are not a set in order: {cpus:?}"
    );
    let maps = list(accessor);
    for map in &maps.maps {
        let checked = Checked {
            accessor,
            map,
            world,
        };
        checked.btf();
        checked.entries();
    }
    let progs = progs::list(accessor);
    progs::code(accessor, &progs, world);
    if world == World::Still {
        let again = list(accessor);
        assert!(maps == again, "a second list of maps is different");
        let again = progs::list(accessor);
        assert!(progs == again, "a second list of programs is different");
        progs::used_maps(&progs, &maps);
    }
}

/// The maps, checked as a list.
fn list(accessor: &dyn BpfMapAccessor) -> Maps {
    let maps = match accessor.maps() {
        Ok(maps) => maps,
        Err(error) => fail(format_args!("maps() failed: {error}")),
    };
    assert!(
        maps.walk.visited == maps.maps.len() as u64 && !maps.walk.stopped,
        "{} maps are listed, the account says {:?}",
        maps.maps.len(),
        maps.walk
    );
    assert!(
        maps.maps.is_sorted_by(|a, b| a.id < b.id),
        "maps are not in the order of their ids, or one comes twice"
    );
    maps
}

/// One map under examination.
struct Checked<'a> {
    accessor: &'a dyn BpfMapAccessor,
    map: &'a MapInfo,
    world: World,
}

impl Checked<'_> {
    fn fail(&self, what: fmt::Arguments<'_>) -> ! {
        let MapInfo {
            id, name, map_type, ..
        } = self.map;
        fail(format_args!("map {id} ({map_type} {name:?}): {what}"))
    }

    fn require(&self, holds: bool, what: fmt::Arguments<'_>) {
        if !holds {
            self.fail(what);
        }
    }

    /// What an operation gave; `None` if the map is gone, where maps go.
    fn given<T>(&self, operation: &str, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(given) => Some(given),
            Err(Error::Gone { .. }) if self.world == World::Moving => None,
            Err(error) => self.fail(format_args!("{operation} failed: {error}")),
        }
    }

    /// The BTF is there when the map says so, and its types have the sizes of
    /// the map's keys and values, as the kernel demands when it makes a map.
    fn btf(&self) {
        let map = self.map;
        let Some(btf) = self.given("btf()", self.accessor.btf(map)) else {
            return;
        };
        self.require(
            btf.is_some() == map.btf_id.is_some(),
            format_args!("BTF id {:?}, but BTF {}", map.btf_id, btf.is_some()),
        );
        let Some(btf) = btf else { return };
        self.type_size("key", &btf, map.btf_key_type_id, map.key_size);
        self.type_size("value", &btf, map.btf_value_type_id, map.value_size);
    }

    fn type_size(&self, what: &str, btf: &Btf, id: u32, size: u32) {
        if id == 0 {
            return;
        }
        match btf.size_of(TypeId(id)) {
            Ok(found) => self.require(
                found == u64::from(size),
                format_args!("a {what} has {size} bytes, its type {id} has {found}"),
            ),
            Err(error) => self.fail(format_args!("its {what}'s type: {error}")),
        }
    }

    fn entries(&self) {
        let Some((walk, first)) = self.walk(u64::MAX) else {
            return;
        };
        self.require(!walk.stopped, format_args!("the walk stopped by itself"));
        let map_type = self.map.map_type;
        if map_type.name().is_none() {
            self.unread(&walk);
            return;
        }
        self.count(&walk, &first);
        for limit in [1, 3] {
            if walk.visited >= limit {
                self.stops(limit);
            }
        }
        if self.world == World::Still {
            let Some((again, second)) = self.walk(u64::MAX) else {
                return;
            };
            self.require(
                walk == again && first.digests == second.digests,
                format_args!("a second walk is different: {walk:?}, then {again:?}"),
            );
        }
    }

    /// A type that is not read says so, once, for the whole map.
    fn unread(&self, walk: &Walk) {
        let said = walk.gaps.iter().any(|gap| {
            matches!(gap.reason, Reason::UnreadType { map_type } if map_type == self.map.map_type)
        });
        self.require(
            said && walk.visited == 0,
            format_args!("the type is not read, which {walk:?} does not say"),
        );
    }

    /// There are as many entries as there can be.
    fn count(&self, walk: &Walk, seen: &Seen) {
        let max = u64::from(self.map.max_entries);
        let count = seen.digests.len() as u64;
        if matches!(self.map.map_type, MapType::ARRAY | MapType::PERCPU_ARRAY) {
            self.require(
                count <= max && (count == max || !walk.is_complete()),
                format_args!("{count} of {max} elements, yet {walk:?}"),
            );
        } else if self.world == World::Still && self.is_bounded() {
            // Every CPU may insert one more while all of them look at the
            // count; and one that is updated is there twice for a moment.
            let slack = 2 * self.accessor.kernel().possible_cpus.0.len() as u64;
            self.require(
                count <= max + slack,
                format_args!("{count} elements in a map for {max}"),
            );
        }
        self.require(
            seen.parts == 0 || !walk.is_complete(),
            format_args!("{} values are not whole, yet the walk is", seen.parts),
        );
    }

    /// Whether `max_entries` is a number of entries. It is bytes for ring
    /// buffers, and means nothing for storages.
    fn is_bounded(&self) -> bool {
        !matches!(
            self.map.map_type,
            MapType::RINGBUF
                | MapType::USER_RINGBUF
                | MapType::TASK_STORAGE
                | MapType::INODE_STORAGE
                | MapType::SK_STORAGE
                | MapType::CGRP_STORAGE
                | MapType::CGROUP_STORAGE
                | MapType::PERCPU_CGROUP_STORAGE
        )
    }

    /// A visitor that ends the walk is not called again.
    fn stops(&self, limit: u64) {
        let Some((walk, _)) = self.walk(limit) else {
            return;
        };
        // Of a map that moves, fewer entries may be left.
        if self.world == World::Still || walk.visited == limit {
            self.require(
                walk.visited == limit && walk.stopped && !walk.is_complete(),
                format_args!("ended by the visitor at entry {limit}, but {walk:?}"),
            );
        }
    }

    /// Walks up to `limit` entries, and checks each of them.
    fn walk(&self, limit: u64) -> Option<(Walk, Seen)> {
        let is_array = is_array(self.map.map_type);
        let mut seen = Seen {
            is_array,
            ..Seen::default()
        };
        let mut calls = 0;
        let walk = self.accessor.entries(self.map, &mut |entry| {
            calls += 1;
            self.require(
                calls <= limit,
                format_args!("visited again after the visitor had ended the walk"),
            );
            self.entry(entry, &mut seen);
            if calls == limit {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        let walk = self.given("entries()", walk)?;
        self.require(
            walk.visited == calls,
            format_args!("{calls} entries, but {} counted", walk.visited),
        );
        Some((walk, seen))
    }

    fn entry(&self, entry: Entry<'_>, seen: &mut Seen) {
        self.require(
            is_of_type(&entry, self.map.map_type),
            format_args!("no such map has entries like {entry:x?}"),
        );
        if let Some(key) = entry.key() {
            self.require(
                key.len() == self.map.key_size as usize,
                format_args!("the key {key:x?} has not {} bytes", self.map.key_size),
            );
        }
        let identity = identity(&entry);
        if seen.is_array {
            let index = identity
                .first_chunk()
                .map(|&index| u32::from_le_bytes(index));
            self.require(
                index >= Some(seen.next_index) && index < Some(self.map.max_entries),
                format_args!("element {index:?} comes after {} of them", seen.next_index),
            );
            seen.next_index = index.and_then(|index| index.checked_add(1)).unwrap_or(0);
        }
        let mut digest = FxHasher::default();
        match entry {
            Entry::KeyValue { value, .. }
            | Entry::Owned { value, .. }
            | Entry::Element { value, .. } => {
                self.value(&identity, value, self.map.value_size, seen, &mut digest);
            }
            Entry::PerCpu { values, .. } | Entry::OwnedPerCpu { values, .. } => {
                let cpus = &self.accessor.kernel().possible_cpus.0;
                self.require(
                    values.iter().map(|value| &value.cpu).eq(cpus),
                    format_args!("not a value for each possible CPU in order at {identity:x?}"),
                );
                for CpuValue { value, .. } in values {
                    self.value(&identity, *value, self.map.value_size, seen, &mut digest);
                }
            }
            Entry::Slot { value, refers, .. } => {
                if let Some(value) = value {
                    self.value(&identity, value, self.map.value_size, seen, &mut digest);
                }
                digest.write(format!("{refers:?}").as_bytes());
            }
            Entry::Record { value, .. } => {
                let len = u32::try_from(value.len).unwrap_or(u32::MAX);
                self.require(
                    len <= self.map.max_entries,
                    format_args!("a record of {len} bytes"),
                );
                self.value(&identity, value, len, seen, &mut digest);
            }
            Entry::Stack { frames, .. } => digest.write(format!("{frames:?}").as_bytes()),
        }
        let before = seen.digests.insert(identity.clone(), digest.finish());
        self.require(before.is_none(), format_args!("{identity:x?} comes twice"));
    }

    fn value(
        &self,
        key: &[u8],
        value: Bytes<'_>,
        size: u32,
        seen: &mut Seen,
        digest: &mut FxHasher,
    ) {
        self.require(
            value.len == u64::from(size) && value.present.len() as u64 <= value.len,
            format_args!(
                "{} of {} bytes at {key:x?}, but a value has {}",
                value.present.len(),
                value.len,
                size
            ),
        );
        self.require(
            value.is_whole() == value.fault.is_none(),
            format_args!(
                "the value at {key:x?} is not whole, or it is: {:?}",
                value.fault
            ),
        );
        seen.parts += u64::from(!value.is_whole());
        digest.write(value.present);
        digest.write_u64(value.present.len() as u64);
    }
}

/// What tells an entry from the others of its map.
fn identity(entry: &Entry<'_>) -> Box<[u8]> {
    match *entry {
        Entry::KeyValue { key, .. }
        | Entry::PerCpu { key, .. }
        | Entry::OwnedPerCpu { key, .. }
        | Entry::Owned { key: Some(key), .. }
        | Entry::Slot {
            at: SlotAt::Key(key),
            ..
        } => key.into(),
        Entry::Slot {
            at: SlotAt::Index(index),
            ..
        } => index.to_le_bytes().into(),
        Entry::Owned { owner, .. } => format!("{owner:?}").into_bytes().into(),
        Entry::Record { position, .. } | Entry::Element { position, .. } => {
            position.to_le_bytes().into()
        }
        Entry::Stack { id, .. } => id.to_le_bytes().into(),
    }
}

/// Whether maps of this type have such entries.
fn is_of_type(entry: &Entry<'_>, map_type: MapType) -> bool {
    use MapType as T;
    let keyed = matches!(map_type, T::HASH_OF_MAPS | T::DEVMAP_HASH | T::SOCKHASH);
    match entry {
        Entry::KeyValue { .. } => matches!(
            map_type,
            T::HASH | T::LRU_HASH | T::ARRAY | T::LPM_TRIE | T::RHASH | T::STRUCT_OPS
        ),
        Entry::PerCpu { .. } => matches!(
            map_type,
            T::PERCPU_HASH | T::LRU_PERCPU_HASH | T::PERCPU_ARRAY
        ),
        Entry::Owned { key: None, .. } => matches!(
            map_type,
            T::TASK_STORAGE | T::INODE_STORAGE | T::SK_STORAGE | T::CGRP_STORAGE
        ),
        Entry::Owned { key: Some(_), .. } => map_type == T::CGROUP_STORAGE,
        Entry::OwnedPerCpu { .. } => map_type == T::PERCPU_CGROUP_STORAGE,
        Entry::Slot {
            at: SlotAt::Key(_), ..
        } => keyed,
        Entry::Slot {
            at: SlotAt::Index(_),
            ..
        } => is_array(map_type) && !matches!(map_type, T::ARRAY | T::PERCPU_ARRAY),
        Entry::Record { .. } => matches!(map_type, T::RINGBUF | T::USER_RINGBUF),
        Entry::Element { .. } => matches!(map_type, T::QUEUE | T::STACK),
        Entry::Stack { .. } => map_type == T::STACK_TRACE,
    }
}

/// Whether the entries of such maps have an index and come by it.
fn is_array(map_type: MapType) -> bool {
    use MapType as T;
    matches!(
        map_type,
        T::ARRAY
            | T::PERCPU_ARRAY
            | T::PROG_ARRAY
            | T::PERF_EVENT_ARRAY
            | T::CGROUP_ARRAY
            | T::ARRAY_OF_MAPS
            | T::DEVMAP
            | T::CPUMAP
            | T::XSKMAP
            | T::SOCKMAP
            | T::REUSEPORT_SOCKARRAY
            | T::INSN_ARRAY
    )
}

/// What was seen in one walk.
#[derive(Debug, Default)]
struct Seen {
    is_array: bool,
    /// The smallest index that may come next.
    next_index: u32,
    /// A digest of its values, for each key.
    digests: FxHashMap<Box<[u8]>, u64>,
    /// How many values were not whole.
    parts: u64,
}

#[expect(clippy::panic, reason = "this is what a suite of tests is for")]
fn fail(what: fmt::Arguments<'_>) -> ! {
    panic!("{what}");
}
