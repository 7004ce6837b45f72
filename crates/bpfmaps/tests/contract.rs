//! The contract suite itself: it lets a good accessor pass and notices each
//! promise that is broken.
#![cfg(test)]

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::contract::{World, check};
use bpfmaps::{
    Arch, BpfMapAccessor, Bytes, Code, CpuValue, Cpus, Entry, Error, GapAt, KernelInfo, MapInfo,
    MapState, MapType, Maps, ProgInfo, Progs, Reason, Refers, Symbol, Visitor, Walk,
};
use btf_layout::Btf;
use btf_layout::build::Builder;
use guestmem::{Cause, Fault, Kva, Memory};

/// Which promise is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Flaw {
    None,
    NoCpus,
    Unordered,
    Miscounted,
    ShortKey,
    ShortValue,
    RepeatedKey,
    SkippedElement,
    BackwardElement,
    MissingCpu,
    SilentlyPartial,
    IgnoredBreak,
    SilentlyUnread,
    WrongKind,
    WrongType,
    Restless,
    ProgsUnordered,
    ProgsMiscounted,
    UnlistedMap,
    ShortCode,
    RestlessCode,
    ForeignReference,
}

/// An array, a hash and a queue of two entries each, and one of a
/// type that nobody knows.
struct Toy {
    kernel: KernelInfo,
    flaw: Flaw,
    calls: std::cell::Cell<u8>,
}

impl Toy {
    fn new(flaw: Flaw) -> Self {
        let cpus = if flaw == Flaw::NoCpus {
            vec![]
        } else {
            vec![0, 2]
        };
        Self {
            kernel: KernelInfo {
                release: "6.18".to_owned(),
                arch: Arch::X86_64,
                page_size: 4096,
                paging_levels: None,
                possible_cpus: Cpus(cpus),
            },
            flaw,
            calls: 0.into(),
        }
    }

    fn is(&self, flaw: Flaw) -> bool {
        self.flaw == flaw
    }
}

fn map(id: u32, map_type: MapType, value_size: u32) -> MapInfo {
    MapInfo {
        id,
        name: "toy".to_owned(),
        map_type,
        key_size: 4,
        value_size,
        max_entries: 2,
        flags: 0,
        map_extra: 0,
        btf_id: Some(id),
        btf_key_type_id: 1,
        btf_value_type_id: 0,
        btf_vmlinux_value_type_id: 0,
        frozen: None,
        memory: None,
        kva: None,
    }
}

impl BpfMapAccessor for Toy {
    fn kernel(&self) -> &KernelInfo {
        &self.kernel
    }

    fn maps(&self) -> Result<Maps, Error> {
        let mut maps = Maps {
            maps: vec![
                map(1, MapType::ARRAY, 4),
                map(2, MapType::PERCPU_HASH, 4),
                map(3, MapType(77), 4),
                map(4, MapType::QUEUE, 4),
            ],
            ..Maps::default()
        };
        if self.is(Flaw::Unordered) {
            maps.maps.swap(0, 1);
        }
        maps.walk.visited = 4;
        Ok(maps)
    }

    fn btf(&self, map: &MapInfo) -> Result<Option<Rc<Btf>>, Error> {
        let mut types = Builder::new();
        let size = if self.is(Flaw::WrongType) { 8 } else { 4 };
        types.int("key", size);
        let btf = Btf::parse(types.finish(), &map.name)?;
        Ok(Some(Rc::new(btf)))
    }

    fn vmlinux_btf(&self) -> Result<Rc<Btf>, Error> {
        Err(Error::NoBpf)
    }

    fn entries(&self, map: &MapInfo, visit: &mut Visitor<'_>) -> Result<Walk, Error> {
        let mut walk = Walk::default();
        if map.map_type == MapType(77) {
            if !self.is(Flaw::SilentlyUnread) {
                let map_type = map.map_type;
                walk.gap(GapAt::Map, Reason::UnreadType { map_type });
            }
            return Ok(walk);
        }
        let mut keys: [u32; 2] = [0, 1];
        match self.flaw {
            Flaw::RepeatedKey if map.id == 2 => keys = [1, 1],
            Flaw::SkippedElement => keys = [1, 1],
            Flaw::BackwardElement => keys = [1, 0],
            _ => {}
        }
        let mut value = [7; 4];
        if self.is(Flaw::Restless) {
            self.calls.set(self.calls.get().wrapping_add(1));
            value[0] = self.calls.get();
        }
        let size = if self.is(Flaw::ShortValue) { 3 } else { 4 };
        let mut bytes = Bytes::whole(&value[..size]);
        if self.is(Flaw::SilentlyPartial) {
            bytes = Bytes {
                present: &value[..1],
                len: 4,
                fault: Some(Fault::new(Kva::at(0), Cause::EndOfSpace)),
            };
        }
        let taken = if self.is(Flaw::SkippedElement) { 1 } else { 2 };
        for key in &keys[..taken] {
            let key = key.to_le_bytes();
            let key = &key[..if self.is(Flaw::ShortKey) { 3 } else { 4 }];
            let values = [0, 2].map(|cpu| CpuValue { cpu, value: bytes });
            let present = if self.is(Flaw::MissingCpu) { 1 } else { 2 };
            let entry = match map.map_type {
                MapType::ARRAY => Entry::KeyValue { key, value: bytes },
                MapType::QUEUE if !self.is(Flaw::WrongKind) => Entry::Element {
                    position: walk.visited,
                    value: bytes,
                },
                _ => Entry::PerCpu {
                    key,
                    values: &values[..present],
                },
            };
            walk.visited += 1;
            if visit(entry) == ControlFlow::Break(()) && !self.is(Flaw::IgnoredBreak) {
                walk.stopped = true;
                return Ok(walk);
            }
        }
        walk.visited += u64::from(self.is(Flaw::Miscounted));
        Ok(walk)
    }

    fn state(&self, _map: &MapInfo) -> Result<Option<MapState>, Error> {
        Ok(None)
    }

    fn arena(&self, _map: &MapInfo) -> Result<Option<Arena<'_>>, Error> {
        Ok(None)
    }

    fn progs(&self) -> Result<Progs, Error> {
        let used = if self.is(Flaw::UnlistedMap) { 77 } else { 2 };
        let mut progs = Progs::default();
        for id in [5, 9] {
            progs.progs.push(ProgInfo {
                id,
                map_ids: vec![used, 1],
                insns: Some(1),
                ..ProgInfo::default()
            });
        }
        if self.is(Flaw::ProgsUnordered) {
            progs.progs.reverse();
        }
        progs.walk.visited = if self.is(Flaw::ProgsMiscounted) { 3 } else { 2 };
        Ok(progs)
    }

    fn code(&self, _prog: &ProgInfo) -> Result<Option<Code>, Error> {
        let mut code = Code::default();
        code.insns.push([0x95; 8]);
        code.refers.push((0, Refers::Map(1)));
        match self.flaw {
            Flaw::ShortCode => code.insns.push([0x95; 8]),
            Flaw::ForeignReference => code.refers[0].1 = Refers::Map(8),
            Flaw::RestlessCode => {
                self.calls.set(self.calls.get().wrapping_add(1));
                code.insns[0][1] = self.calls.get();
            }
            _ => {}
        }
        Ok(Some(code))
    }

    fn symbol(&self, _at: Kva) -> Option<Symbol> {
        None
    }

    fn memory(&self) -> Option<&dyn Memory<Kva>> {
        None
    }
}

#[test]
fn each_broken_promise_is_noticed() {
    for (flaw, expected) in [
        (Flaw::NoCpus, "possible CPUs are not a set in order: []"),
        (Flaw::Unordered, "maps are not in the order of their ids"),
        (Flaw::Miscounted, "2 entries, but 3 counted"),
        (Flaw::ShortKey, "the key [0, 0, 0] has not 4 bytes"),
        (Flaw::ShortValue, "3 of 3 bytes"),
        (Flaw::RepeatedKey, "[1, 0, 0, 0] comes twice"),
        (Flaw::SkippedElement, "1 of 2 elements"),
        (Flaw::BackwardElement, "element Some(0) comes after 2"),
        (Flaw::MissingCpu, "not a value for each possible CPU"),
        (
            Flaw::SilentlyPartial,
            "2 values are not whole, yet the walk is",
        ),
        (
            Flaw::IgnoredBreak,
            "visited again after the visitor had ended",
        ),
        (
            Flaw::SilentlyUnread,
            "map 3 (type 77 \"toy\"): the type is not read",
        ),
        (
            Flaw::WrongKind,
            "map 4 (queue \"toy\"): no such map has entries like PerCpu",
        ),
        (Flaw::WrongType, "a key has 4 bytes, its type 1 has 8"),
        (Flaw::Restless, "a second walk is different"),
        (
            Flaw::ProgsUnordered,
            "programs are not in the order of their ids",
        ),
        (Flaw::ProgsMiscounted, "2 programs are listed, the account"),
        (
            Flaw::UnlistedMap,
            "program 5 uses map 77, which is not listed",
        ),
        (
            Flaw::ShortCode,
            "program 5: Some(1) instructions are told, 2 read",
        ),
        (
            Flaw::RestlessCode,
            "program 5: other instructions when read again",
        ),
        (
            Flaw::ForeignReference,
            "program 5: instruction 0 refers to Map(8), which is not",
        ),
    ] {
        let toy = AssertUnwindSafe(Toy::new(flaw));
        let panic = catch_unwind(|| check(&*toy, World::Still)).unwrap_err();
        let said = match panic.downcast_ref::<&str>() {
            Some(&said) => said,
            None => panic.downcast_ref::<String>().unwrap(),
        };
        assert!(said.contains(expected), "{flaw:?}: {said}");
    }
}

#[test]
fn a_good_accessor_passes() {
    check(&Toy::new(Flaw::None), World::Still);
    check(&Toy::new(Flaw::Restless), World::Moving);
}
