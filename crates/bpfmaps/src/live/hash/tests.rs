//! Batches of a hash, from a kernel made by hand.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::*;
use crate::{Entry, Gap, Walk};

/// Buckets with so many elements each, and errors for the calls that come
/// first.
struct Model {
    buckets: Vec<u8>,
    errors: RefCell<Vec<End>>,
    /// Buckets that never can be read, and why.
    broken: BTreeMap<u32, Errno>,
}

impl Model {
    fn new(buckets: &[u8]) -> Self {
        Self {
            buckets: buckets.to_vec(),
            errors: RefCell::default(),
            broken: BTreeMap::new(),
        }
    }

    /// Walks with values so large that a batch has room for two elements.
    fn walk(&self) -> (bool, Walk, Vec<[u8; 2]>) {
        let mut seen = Vec::new();
        let mut visit = |entry: Entry<'_>| {
            seen.push(entry.key().unwrap().try_into().unwrap());
            ControlFlow::Continue(())
        };
        let mut walker = Walker::new(&mut visit);
        let shape = Shape::new(2, 500_000, None);
        let done = walk(self, &shape, 8, &mut walker);
        (done, walker.finish(), seen)
    }
}

impl Buckets for Model {
    fn batch(&self, bucket: u32, keys: &mut [u8], _values: &mut [u8]) -> (u32, u32, End) {
        if let Some(end) = self.errors.borrow_mut().pop() {
            return (0, bucket, end);
        }
        let mut room = keys.chunks_exact_mut(2);
        let mut count = 0;
        for next in bucket.. {
            let Some(&elements) = self.buckets.get(next as usize) else {
                return (count, next, End::Last);
            };
            if let Some(&errno) = self.broken.get(&next) {
                return (count, next, End::Stopped(errno));
            }
            if usize::from(elements) > room.len() {
                let end = match count {
                    0 => End::Stopped(Errno::ENOSPC),
                    _ => End::More,
                };
                return (count, next, end);
            }
            for (element, key) in (0..elements).zip(&mut room) {
                key.copy_from_slice(&[u8::try_from(next).unwrap(), element]);
                count += 1;
            }
        }
        unreachable!("the buckets end")
    }
}

/// What is seen of all buckets but those left out.
fn all_but(buckets: &[u8], but: &[u8]) -> Vec<[u8; 2]> {
    (0u8..)
        .zip(buckets)
        .filter(|(bucket, _)| !but.contains(bucket))
        .flat_map(|(bucket, &count)| (0..count).map(move |element| [bucket, element]))
        .collect()
}

const BUCKETS: &[u8] = &[0, 1, 2, 0, 5, 0, 1, 1];

#[test]
fn large_buckets_make_larger_batches() {
    for buckets in [BUCKETS, &[], &[0, 0], &[8]] {
        let (done, walk, seen) = Model::new(buckets).walk();
        assert!(done && walk.is_complete(), "{walk:?}");
        assert_eq!(seen, all_but(buckets, &[]));
    }
}

#[test]
fn what_passes_is_tried_again() {
    let model = Model::new(BUCKETS);
    for errno in [Errno::EINTR, Errno::EAGAIN, Errno::EBUSY] {
        let ends = [End::Stopped(errno), End::Refused(errno)];
        model.errors.borrow_mut().extend(ends);
    }
    let (done, walk, seen) = model.walk();
    assert!(done && walk.is_complete(), "{walk:?}");
    assert_eq!(seen, all_but(BUCKETS, &[]));
}

#[test]
fn a_bucket_that_cannot_be_read_is_a_gap_in_the_rest() {
    for errno in [Errno::EBUSY, Errno::ENOMEM] {
        let mut model = Model::new(BUCKETS);
        model.broken.insert(4, errno);
        let (done, walk, seen) = model.walk();
        let (at, reason) = (GapAt::Index(4), refused(errno));
        assert!(done);
        assert_eq!(walk.gaps, [Gap { at, reason }]);
        assert_eq!(seen, all_but(BUCKETS, &[4]));
    }
}

#[test]
fn kernels_without_batches_are_noticed_before_anything_is_seen() {
    for end in [
        End::Refused(Errno::EINVAL),
        End::Refused(Errno::EOPNOTSUPP),
        End::Stopped(Errno::ENOMEM),
    ] {
        let model = Model::new(BUCKETS);
        model.errors.borrow_mut().push(end);
        let (done, walk, seen) = model.walk();
        assert!(!done && seen.is_empty() && walk.is_complete(), "{walk:?}");
    }
}

#[test]
fn a_refusal_ends_the_walk_with_a_gap() {
    let model = Model::new(BUCKETS);
    model.errors.borrow_mut().push(End::Refused(Errno::EPERM));
    let (done, walk, seen) = model.walk();
    assert!(done && seen.is_empty());
    let (at, reason) = (GapAt::Map, refused(Errno::EPERM));
    assert_eq!(walk.gaps, [Gap { at, reason }]);
}
