//! Maps that change while they are read out of the kernel's memory: what is
//! shown was there, or a gap says that it may not have been.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use bpfmaps::{BpfMapAccessor, Entry, Gap, Live, Object, ObjectKind, Reason};
use libbpf_rs::{MapCore, MapFlags, MapType};

use crate::maker::{Made, Spec};
use crate::types::{memory_file, storage};

/// Ends the changing, also where a check fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads `made` while `change` changes it, again and again, until `read` has
/// seen what it wants to.
fn read_while(made: &Made, change: impl FnMut(u32) + Send, mut read: impl FnMut(&Live) -> bool) {
    let stop = AtomicBool::new(false);
    let mut change = change;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1u32;
            while !stop.load(Ordering::Relaxed) {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                change(state >> 8);
            }
        });
        let _stop = Stop(&stop);
        let live = Live::open().unwrap();
        assert!(
            live.maps()
                .unwrap()
                .maps
                .iter()
                .any(|map| map.id == made.id)
        );
        let seen = (0..10_000).filter(|_| read(&live)).take(20).count();
        assert_eq!(seen, 20);
    });
}

#[test]
fn slots_name_what_they_held() {
    let inner = Spec::new(MapType::Array, 4, 8, 2);
    let first = inner.make();
    let mut spec = Spec::new(MapType::ArrayOfMaps, 4, 4, 64);
    spec.inner = Some(first.handle.as_fd().as_raw_fd());
    let made = spec.make();
    let put = |random: u32| {
        let slot = (random % 64).to_le_bytes();
        if random & 64 == 0 {
            // It may be free.
            drop(made.handle.delete(&slot));
            return;
        }
        // Held by the slot alone from now on, and gone with the next one.
        let held = inner.make();
        let fd = held.handle.as_fd().as_raw_fd().to_le_bytes();
        made.handle.update(&slot, &fd, MapFlags::ANY).unwrap();
    };
    let mut seen = 0;
    read_while(&made, put, |live| {
        let info = made.info(live);
        let walk = live.entries(&info, &mut |entry| {
            let Entry::Slot { refers, value, .. } = entry else {
                panic!("{entry:?}");
            };
            let ObjectKind::Map {
                id: Some(id),
                name: Some(name),
                map_type,
            } = &refers.kind
            else {
                panic!("{refers:?}");
            };
            assert_eq!(
                (name.as_str(), *map_type),
                ("test", Some(bpfmaps::MapType::ARRAY))
            );
            assert_eq!(value.unwrap().present, id.to_le_bytes());
            seen += 1;
            ControlFlow::Continue(())
        });
        let walk = walk.unwrap();
        assert!(walk.is_complete(), "{walk:?}");
        std::mem::take(&mut seen) > 5
    });
}

#[test]
fn queues_that_move_say_so() {
    for map_type in [MapType::Queue, MapType::Stack] {
        let made = Spec::new(map_type, 0, 64, 1000).make();
        let change = |random: u32| {
            let byte = random.to_le_bytes()[0];
            // It may be full, or empty.
            drop(made.handle.update(&[], &[byte; 64], MapFlags::ANY));
            if random.is_multiple_of(3) {
                drop(made.handle.lookup_and_delete(&[]));
            }
        };
        read_while(&made, change, |live| {
            let info = made.info(live);
            let mut torn = 0;
            let walk = live.entries(&info, &mut |entry| {
                let Entry::Element { value, .. } = entry else {
                    panic!("{entry:?}");
                };
                torn += usize::from(value.present.iter().any(|byte| *byte != value.present[0]));
                ControlFlow::Continue(())
            });
            let walk = walk.unwrap();
            assert!(
                walk.gaps.iter().all(|gap| gap.reason == Reason::Outrun),
                "{walk:?}"
            );
            assert!(!walk.is_complete() || torn == 0, "{torn} values are torn");
            // A full stack of which one is taken and one put is as it was.
            !walk.is_complete() || map_type == MapType::Stack
        });
    }
}

#[test]
fn storages_name_owners_that_are_there() {
    let made = storage(MapType::InodeStorage);
    let mut files: Vec<Option<OwnedFd>> = Vec::new();
    files.resize_with(200, || None);
    let stay = memory_file();
    let value = [7; 8];
    let put = |fd: &OwnedFd| {
        let key = fd.as_raw_fd().to_le_bytes();
        made.handle.update(&key, &value, MapFlags::ANY).unwrap();
    };
    put(&stay);
    let change = |random: u32| {
        // The file that was there goes, and its storage with it.
        let file = memory_file();
        put(&file);
        files[random as usize % 200] = Some(file);
    };
    read_while(&made, change, |live| {
        let mut owners = BTreeSet::new();
        let walk = live.entries(&made.info(live), &mut |entry| {
            let Entry::Owned { owner, value, .. } = entry else {
                panic!("{entry:?}");
            };
            let Object {
                kva: Some(kva),
                kind:
                    ObjectKind::Inode {
                        ino: Some(ino),
                        fs: Some(fs),
                        ..
                    },
            } = owner
            else {
                panic!("{owner:?}");
            };
            assert_eq!((fs.as_str(), value.present), ("tmpfs", &[7; 8][..]));
            // Another inode may have the memory of one that has gone.
            assert!(owners.insert((*kva, *ino)), "{owner:?} comes twice");
            ControlFlow::Continue(())
        });
        // Buckets that never stand still, of which there are as many as CPUs,
        // are gaps.
        let walk = walk.unwrap();
        let unreadable = |gap: &&Gap| matches!(gap.reason, Reason::Unreadable(_));
        assert_eq!(walk.gaps.iter().find(unreadable), None);
        owners.len() > 5
    });
}
