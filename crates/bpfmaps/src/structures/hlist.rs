//! Hash tables of `hlist`s, as all of the kernel's have them that need no
//! look-up without locks: buckets with the first node of a chain, which ends
//! in a null pointer.

use std::ops::ControlFlow;

use btf_layout::Member;
use guestmem::{Address, Fault, Kva, MemoryExt};
use rustc_hash::FxHashSet;

use super::cycle::Milestone;
use super::place::{self, Elements};
use crate::walk::{Gap, GapAt, Reason, Walker};

/// How often a bucket is tried whose elements move.
const ATTEMPTS: u32 = 16;

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
    /// Whether the kernel goes on meanwhile, so that what was read of a
    /// bucket a while ago is not what it has now.
    pub(crate) moving: bool,
}

/// What became of an element.
pub(crate) enum Step {
    /// The pointer to the next one.
    Next(u64),
    /// Its chain cannot be followed further, and why.
    Broken(Gap),
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
                (Some(0), _) => ControlFlow::Continue(()),
                (Some(first), _) => {
                    let first = match self.moving {
                        true => self.first_now(bucket.into()).unwrap_or(first),
                        false => first,
                    };
                    self.chain(bucket.into(), first, &mut seen, walker, each)
                }
                (None, Some(fault)) => {
                    walker.walk.fault(fault);
                    ControlFlow::Continue(())
                }
                (None, None) => ControlFlow::Continue(()),
            },
        );
    }

    fn first_now(&self, bucket: u64) -> Option<u64> {
        let bucket = place::element(self.buckets.at, bucket, self.buckets.stride);
        let first = bucket.checked_add(self.first.offset)?;
        self.buckets.memory.load_u64(first).ok()
    }

    /// Hands out the elements of one bucket, again and again while they move.
    /// `seen` are those of all buckets.
    fn chain(
        &self,
        bucket: u64,
        mut first: u64,
        seen: &mut u64,
        walker: &mut Walker<'_, '_>,
        each: &mut EachElement<'_>,
    ) -> ControlFlow<()> {
        let mut known = FxHashSet::default();
        let mut attempts = if self.moving { ATTEMPTS } else { 1 };
        loop {
            let gap = match self.follow(bucket, first, seen, &mut known, walker, each) {
                Ok(flow) => return flow,
                Err(gap) => gap,
            };
            attempts -= 1;
            let again = (attempts > 0).then(|| self.first_now(bucket)).flatten();
            let Some(again) = again else {
                walker.walk.gap(gap.at, gap.reason);
                return ControlFlow::Continue(());
            };
            first = again;
        }
    }

    /// Follows one chain. Nodes that are `known` have been handed out, which
    /// is noted of them in a kernel that runs.
    fn follow(
        &self,
        bucket: u64,
        first: u64,
        seen: &mut u64,
        known: &mut FxHashSet<u64>,
        walker: &mut Walker<'_, '_>,
        each: &mut EachElement<'_>,
    ) -> Result<ControlFlow<()>, Gap> {
        let mut milestone = Milestone::new();
        let mut node = first;
        while node != 0 {
            if milestone.repeats(node) {
                let what = "the chain of a bucket";
                return Err(gap(GapAt::Index(bucket), Reason::Cycle { what }));
            }
            if *seen >= self.most {
                let (what, value) = (self.what, *seen);
                walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
                return Ok(ControlFlow::Break(()));
            }
            let at = Kva::new(node);
            if known.contains(&node) {
                let next = self.buckets.memory.load_u64(at);
                node = next.map_err(|fault| gap(fault.addr, fault.cause))?;
                continue;
            }
            *seen += 1;
            let element = place::container(at, self.next.offset);
            match each(bucket, element, walker) {
                Step::Next(next) => {
                    if self.moving {
                        known.insert(node);
                    }
                    node = next;
                }
                Step::Broken(gap) => return Err(gap),
                Step::Stop => return Ok(ControlFlow::Break(())),
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// Something that could not be read.
fn gap(at: impl Into<GapAt>, reason: impl Into<Reason>) -> Gap {
    Gap {
        at: at.into(),
        reason: reason.into(),
    }
}

/// Says that an element could not be read.
pub(crate) fn lost(fault: Fault<Kva>) -> Step {
    Step::Broken(gap(fault.addr, fault.cause))
}
