//! Hash tables of `hlist`s, as all of the kernel's have them that need no
//! look-up without locks: buckets with the first node of a chain, which ends
//! in a null pointer.

use std::ops::ControlFlow;

use btf_layout::Member;
use guestmem::{Address, Fault, Kva};

use super::cycle::Milestone;
use super::place::{self, Elements};
use crate::walk::{GapAt, Reason, Walker};

/// The chains of a table.
pub(crate) struct Chains<'m> {
    /// The buckets.
    pub(crate) buckets: Elements<'m>,
    /// `hlist_head.first` in a bucket.
    pub(crate) first: &'m Member,
    /// `hlist_node.next` in an element, which starts the node.
    pub(crate) next: &'m Member,
    /// How many elements memory can hold.
    pub(crate) most: u64,
    /// What the elements are.
    pub(crate) what: &'static str,
}

/// What became of an element.
pub(crate) enum Step {
    /// The pointer to the next one.
    Next(u64),
    /// Its chain cannot be followed further; a gap says why.
    Broken,
    /// The visitor ends the walk.
    Stop,
}

/// Takes the index of a bucket and one of the elements there.
pub(crate) type EachElement<'e> = dyn FnMut(u64, Kva, &mut Walker<'_, '_>) -> Step + 'e;

impl Chains<'_> {
    /// Hands out every element.
    pub(crate) fn walk(&self, walker: &mut Walker<'_, '_>, each: &mut EachElement<'_>) {
        let mut seen = 0;
        let first = |head: &[u8]| {
            let first = head.get(usize::try_from(self.first.offset).ok()?..)?;
            Some(u64::from_le_bytes(*first.first_chunk()?))
        };
        self.buckets.walk(
            walker,
            &mut |bucket, head, fault, walker| match (first(head), fault) {
                (Some(first), _) => self.chain(bucket.into(), first, &mut seen, walker, each),
                (None, Some(fault)) => {
                    walker.walk.fault(fault);
                    ControlFlow::Continue(())
                }
                (None, None) => ControlFlow::Continue(()),
            },
        );
    }

    /// Hands out the elements of one bucket. `seen` are those of all buckets.
    fn chain(
        &self,
        bucket: u64,
        first: u64,
        seen: &mut u64,
        walker: &mut Walker<'_, '_>,
        each: &mut EachElement<'_>,
    ) -> ControlFlow<()> {
        let mut milestone = Milestone::new();
        let mut node = first;
        while node != 0 {
            if milestone.repeats(node) {
                let what = "the chain of a bucket";
                walker
                    .walk
                    .gap(GapAt::Index(bucket), Reason::Cycle { what });
                break;
            }
            if *seen >= self.most {
                let (what, value) = (self.what, *seen);
                walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
                return ControlFlow::Break(());
            }
            *seen += 1;
            let element = place::container(Kva::new(node), self.next.offset);
            match each(bucket, element, walker) {
                Step::Next(next) => node = next,
                Step::Broken => break,
                Step::Stop => return ControlFlow::Break(()),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Notes that an element could not be read.
pub(crate) fn lost(fault: Fault<Kva>, walker: &mut Walker<'_, '_>) -> Step {
    walker.walk.fault(fault);
    Step::Broken
}
