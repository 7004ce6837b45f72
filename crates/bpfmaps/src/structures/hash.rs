//! Hash tables (`kernel/bpf/hashtab.c`): buckets of `hlist_nulls`, elements
//! with their hash, key and value in one piece.

use std::ops::ControlFlow;

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, Memory, MemoryExt};
use kernel::PerCpu;

use super::bytes::part;
use super::copied::{Copied, pointee};
use super::cycle::Milestone;
use super::per_cpu::Gatherer;
use super::place::{self, POINTER};
use crate::entry::{Bytes, Entry};
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo};

/// How many bytes of buckets are read at a time.
const BLOCK: u64 = 64 << 10;

/// Bytes of an element that are read before its hash is known to be right.
const FIRST_READ: u64 = 64 << 10;

/// Where the members of `struct bpf_htab` and its parts are.
#[derive(Debug)]
pub(crate) struct HashLayout {
    table_size: u64,
    buckets: Member,
    n_buckets: Member,
    elem_size: Member,
    bucket_size: u64,
    first: Member,
    next: Member,
    hash: Member,
    key: Member,
    element_size: u64,
}

/// One hash map.
pub(crate) struct Table<'m> {
    layout: &'m HashLayout,
    memory: &'m dyn Memory<Kva>,
    buckets: Kva,
    /// A power of two.
    count: u64,
    /// The part of `count` that memory can hold.
    readable: u64,
    key_size: u64,
    value_size: u32,
    per_cpu: Option<&'m PerCpu>,
    /// `bpf_htab.elem_size`, and what the sizes of keys and values make of it.
    elem_size: (u64, u64),
    /// How many elements memory can hold.
    most: u64,
    /// How often a bucket is tried whose elements move.
    attempts: u32,
}

/// How often, in a kernel that runs.
const ATTEMPTS: u32 = 64;

impl HashLayout {
    pub(crate) fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let table = btf.record("bpf_htab")?;
        let buckets = table.member("buckets")?;
        let bucket = pointee(btf, &buckets)?;
        let element = btf.record("htab_elem")?;
        Ok(Self {
            table_size: table.size(),
            n_buckets: table.member("n_buckets")?,
            elem_size: table.member("elem_size")?,
            bucket_size: bucket.size(),
            first: bucket.member("head.first")?,
            next: element.member("hash_node.next")?,
            hash: element.member("hash")?,
            key: element.member("key")?,
            element_size: element.size(),
            buckets,
        })
    }

    /// The table of `map` at `at`; `per_cpu` for tables whose values are.
    pub(crate) fn table<'m>(
        &'m self,
        memory: &'m dyn Memory<Kva>,
        map: &MapInfo,
        at: Kva,
        per_cpu: Option<&'m PerCpu>,
        memory_size: u64,
    ) -> Result<Table<'m>, Error> {
        let object = Copied::object(memory, at, self.table_size, "struct bpf_htab")?;
        let count = object.uint(&self.n_buckets);
        let value_size = u64::from(map.value_size).next_multiple_of(8);
        let (stored, elsewhere) = match per_cpu {
            Some(per_cpu) => (POINTER, per_cpu.size_of(value_size)),
            None => (value_size, 0),
        };
        let elem_size = self.element_size + u64::from(map.key_size).next_multiple_of(8) + stored;
        Ok(Table {
            layout: self,
            memory,
            buckets: object.pointer(&self.buckets),
            count,
            readable: count.min(memory_size / self.bucket_size.max(1)),
            key_size: map.key_size.into(),
            value_size: map.value_size,
            per_cpu,
            elem_size: (object.uint(&self.elem_size), elem_size),
            most: memory_size / (elem_size + elsewhere).max(1),
            attempts: 1,
        })
    }
}

/// Why the chain of one bucket ended before its end.
type Broken = (GapAt, Reason);

/// Takes a key and the pointer that is stored with it.
pub(crate) type EachPointer<'e> =
    dyn FnMut(&[u8], u64, &mut Walker<'_, '_>) -> ControlFlow<()> + 'e;

/// What an element has behind its key.
enum Stored<'a> {
    /// The value.
    Value,
    /// A `__percpu` pointer to the values.
    PerCpu(Gatherer<'a>),
    /// A pointer to something else, and who takes it.
    Pointer(&'a mut EachPointer<'a>),
}

impl Table<'_> {
    /// The same table in a kernel that runs, if it does: elements may leave
    /// their buckets, be in another one the next moment, and come back.
    pub(crate) fn moving(mut self, moves: bool) -> Self {
        self.attempts = if moves { ATTEMPTS } else { 1 };
        self
    }

    /// Visits every element.
    pub(crate) fn walk(&self, walker: &mut Walker<'_, '_>) {
        let gatherer = |per_cpu| Gatherer::new(self.memory, per_cpu, self.value_size);
        let stored = self.per_cpu.map(gatherer);
        self.walk_as(stored.map_or(Stored::Value, Stored::PerCpu), walker);
    }

    /// Hands out the pointers that are the values of `hash_of_maps`.
    pub(crate) fn walk_pointers<'e>(
        &'e self,
        walker: &mut Walker<'_, '_>,
        each: &'e mut EachPointer<'e>,
    ) {
        self.walk_as(Stored::Pointer(each), walker);
    }

    fn walk_as<'e>(&'e self, stored: Stored<'e>, walker: &mut Walker<'_, '_>) {
        if !self.count.is_power_of_two() {
            walker.walk.gap(
                GapAt::Map,
                Reason::Contradiction {
                    what: "bpf_htab.n_buckets is no power of two",
                    expected: self.count.checked_next_power_of_two().unwrap_or(0),
                    found: self.count,
                },
            );
            return;
        }
        if self.readable < self.count {
            walker.walk.gap(
                GapAt::Map,
                Reason::Absurd {
                    what: "bpf_htab.n_buckets",
                    value: self.count,
                },
            );
        }
        let (found, expected) = self.elem_size;
        if found != expected {
            walker.walk.gap(
                GapAt::Map,
                Reason::Contradiction {
                    what: "bpf_htab.elem_size",
                    expected,
                    found,
                },
            );
        }
        let mut element = Element {
            buf: Vec::new(),
            stored,
            link: self.buckets,
            visited: Vec::new(),
        };
        let bucket_size = self.layout.bucket_size.max(1);
        let per_block = (BLOCK / bucket_size).max(1);
        let mut block = Vec::new();
        let mut bucket = 0;
        while bucket < self.readable {
            let count = per_block.min(self.readable - bucket);
            let at = place::element(self.buckets, bucket, bucket_size);
            let read = self.memory.read_more(at, count * bucket_size, &mut block);
            // As many buckets as the block holds whole.
            let whole = block.len() as u64 / bucket_size;
            let step = usize::try_from(bucket_size).unwrap_or(usize::MAX);
            for (index, head) in (bucket..).zip(block.chunks_exact(step)) {
                let first = pointer_in(head, &self.layout.first);
                if self.bucket(index, first, &mut element, walker).is_break() {
                    return;
                }
            }
            bucket += whole;
            if let Err(fault) = read {
                walker.walk.fault(fault);
                let readable = place::behind(fault, self.buckets, bucket_size);
                bucket = readable.max(bucket + 1);
            }
        }
    }

    /// Visits the bucket `index`, whose first element is at `first`, again
    /// and again while its elements move.
    fn bucket(
        &self,
        index: u64,
        mut first: u64,
        element: &mut Element<'_>,
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        let at = place::element(self.buckets, index, self.layout.bucket_size);
        let head = at.checked_add(self.layout.first.offset).unwrap_or(at);
        element.visited.clear();
        let mut attempts = self.attempts;
        loop {
            element.link = head;
            let (at, reason) = match self.chain(index, first, element, walker) {
                Ok(flow) => return flow,
                Err(broken) => broken,
            };
            attempts = attempts.saturating_sub(1);
            let again = (attempts > 0).then(|| self.memory.load_u64(head));
            let Some(Ok(again)) = again else {
                walker.walk.gap(at, reason);
                return ControlFlow::Continue(());
            };
            first = again;
        }
    }

    /// Visits the chain from `next` on, in the bucket `index`.
    fn chain(
        &self,
        index: u64,
        mut next: u64,
        element: &mut Element<'_>,
        walker: &mut Walker<'_, '_>,
    ) -> Result<ControlFlow<()>, Broken> {
        let mut milestone = Milestone::new();
        while !is_nulls(next) {
            if milestone.repeats(next) {
                let what = "the chain of a bucket";
                return Err((GapAt::Index(index), Reason::Cycle { what }));
            }
            if walker.walk.visited >= self.most {
                let (what, value) = ("elements of a bpf_htab", walker.walk.visited);
                walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
                return Ok(ControlFlow::Break(()));
            }
            let at = Kva::new(next);
            let (after, flow) = self.element(index, at, element, walker)?;
            if flow.is_break() {
                return Ok(flow);
            }
            next = after;
            element.link = at.checked_add(self.layout.next.offset).unwrap_or(at);
        }
        if next >> 1 == index {
            return Ok(ControlFlow::Continue(()));
        }
        // The chain leads into another bucket: an element was moved there
        // while this kernel was stopped or is read, or memory is corrupt.
        let reason = Reason::Contradiction {
            what: "the end of a bucket's chain",
            expected: index << 1 | 1,
            found: next,
        };
        Err((GapAt::Index(index), reason))
    }

    /// Whether the element at `at`, just copied, is one to visit: in a kernel
    /// that runs it must be in its place still, or its bytes may be another's,
    /// and not have been visited before the bucket was tried again.
    fn is_due(
        &self,
        at: Kva,
        key: &[u8],
        link: Kva,
        visited: &mut Vec<Box<[u8]>>,
    ) -> Result<bool, Broken> {
        if self.attempts <= 1 {
            return Ok(true);
        }
        let found = self.memory.load_u64(link);
        let found = found.map_err(|fault| (GapAt::Kva(fault.addr), fault.cause.into()))?;
        if found != at.get() {
            let reason = Reason::Contradiction {
                what: "an element that was taken out of its bucket",
                expected: at.get(),
                found,
            };
            return Err((GapAt::Kva(at), reason));
        }
        if visited.iter().any(|before| **before == *key) {
            return Ok(false);
        }
        visited.push(key.into());
        Ok(true)
    }

    /// Visits the element at `at` and gives the pointer to the next one.
    fn element(
        &self,
        bucket: u64,
        at: Kva,
        element: &mut Element<'_>,
        walker: &mut Walker<'_, '_>,
    ) -> Result<(u64, ControlFlow<()>), Broken> {
        let Element {
            buf,
            stored,
            link,
            visited,
        } = element;
        let layout = self.layout;
        let key_at = layout.key.offset;
        let value_at = key_at + self.key_size.next_multiple_of(8);
        let value_len = match stored {
            Stored::Value => u64::from(self.value_size),
            Stored::PerCpu(_) | Stored::Pointer(_) => POINTER,
        };
        let len = value_at + value_len;
        // A wrong pointer must not cost the reading of a huge value.
        let mut fault = self.memory.read_more(at, len.min(FIRST_READ), buf).err();
        let whole_key = |buf: &Vec<u8>| part(buf, key_at, self.key_size).is_some();
        let lost = |fault: Option<guestmem::Fault<Kva>>| match fault {
            Some(fault) => (GapAt::Kva(fault.addr), Reason::Unreadable(fault.cause)),
            None => (
                GapAt::Kva(at),
                Reason::Absurd {
                    what: "key size",
                    value: self.key_size,
                },
            ),
        };
        if buf.len() as u64 <= layout.hash.offset + 3 {
            return Err(lost(fault));
        }
        let hash = part(buf, layout.hash.offset, 4)
            .and_then(|hash| hash.first_chunk())
            .map_or(0, |hash| u64::from(u32::from_le_bytes(*hash)));
        if hash & (self.count - 1) != bucket {
            return Err((
                GapAt::Kva(at),
                Reason::Contradiction {
                    what: "htab_elem.hash of another bucket",
                    expected: bucket,
                    found: hash & (self.count - 1),
                },
            ));
        }
        if len > FIRST_READ && fault.is_none() {
            fault = self.memory.read_more(at, len, buf).err();
        }
        let next = pointer_in(buf, &layout.next);
        if !whole_key(buf) {
            return Err(lost(fault));
        }
        let key = part(buf, key_at, self.key_size).unwrap_or_default();
        if !self.is_due(at, key, *link, visited)? {
            return Ok((next, ControlFlow::Continue(())));
        }
        if let Some(fault) = fault {
            walker.walk.fault(fault);
        }
        let present = usize::try_from(value_at)
            .ok()
            .and_then(|value_at| buf.get(value_at..))
            .unwrap_or_default();
        let flow = match (stored, present.first_chunk().copied()) {
            (Stored::Value, _) => walker.visit(Entry::KeyValue {
                key,
                value: Bytes {
                    present,
                    len: value_len,
                    fault,
                },
            }),
            (Stored::PerCpu(gatherer), Some(pointer)) => {
                gatherer.visit(key, u64::from_le_bytes(pointer), walker)
            }
            (Stored::Pointer(each), Some(pointer)) => {
                each(key, u64::from_le_bytes(pointer), walker)
            }
            // The pointer's fault is noted above.
            (Stored::PerCpu(_) | Stored::Pointer(_), None) => ControlFlow::Continue(()),
        };
        Ok((next, flow))
    }
}

/// What is kept from element to element.
struct Element<'a> {
    buf: Vec<u8>,
    stored: Stored<'a>,
    /// Where the pointer to the element is.
    link: Kva,
    /// The keys that were visited in this bucket, in a kernel that runs.
    visited: Vec<Box<[u8]>>,
}

/// Whether a link is the end of its list (`is_a_nulls`).
fn is_nulls(link: u64) -> bool {
    link & 1 == 1
}

/// A pointer member of a copied struct; a list's end if it is not there.
fn pointer_in(bytes: &[u8], member: &Member) -> u64 {
    part(bytes, member.offset, 8)
        .and_then(|raw| raw.first_chunk())
        .map_or(1, |raw| u64::from_le_bytes(*raw))
}
