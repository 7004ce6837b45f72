//! What the library's other allocators have taken of an arena.

use btf_layout::{Btf, Record, Type, TypeId};
use guestmem::{Address, ArenaPtr, Memory, MemoryExt};
use rustc_hash::FxHashSet;

use crate::error::{Error, Problem};
use crate::instances::Instance;
use crate::types::{Allocator, Pool, pointer, word};

/// The structs that tell of memory, besides the allocators' own.
pub const OTHERS: [&str; 9] = [
    "sdt_pool",
    "scx_alloc_stack",
    "sdt_alloc_stack",
    "scx_static",
    "sdt_static",
    "scx_stk",
    "stk",
    "scx_buddy",
    "buddy",
];

/// What a part of an arena serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Descriptors and chunks of trees, and pages kept for them.
    Index,
    /// Slots of trees, given out or not.
    Slots,
    /// A region for what lives as long as the program.
    Static,
    /// A stack of free objects, and these.
    Stack,
    /// Chunks of a buddy allocator.
    Buddy,
}

/// A part of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its first byte.
    pub start: ArenaPtr,
    /// Bytes.
    pub len: u64,
    /// What it serves.
    pub serves: Use,
}

/// Finds the regions of allocators in one arena.
pub struct Regions<'a> {
    memory: &'a dyn Memory<ArenaPtr>,
    btf: &'a Btf,
    page_size: u64,
    /// Bytes that exist in the arena: what bounds its lists.
    size: u64,
    visit: &'a mut dyn FnMut(Result<Region, Problem>),
}

impl std::fmt::Debug for Regions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Regions")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl<'a> Regions<'a> {
    /// Those of an arena with `size` bytes in pages of `page_size`, for a
    /// program with this BTF. `visit` gets each region, and what keeps others
    /// from being found.
    pub fn new(
        memory: &'a dyn Memory<ArenaPtr>,
        btf: &'a Btf,
        page_size: u64,
        size: u64,
        visit: &'a mut dyn FnMut(Result<Region, Problem>),
    ) -> Self {
        Self {
            memory,
            btf,
            page_size: page_size.max(1),
            size,
            visit,
        }
    }

    fn region(&mut self, start: ArenaPtr, len: u64, serves: Use) {
        if start.get() != 0 && len != 0 {
            (self.visit)(Ok(Region { start, len, serves }));
        }
    }

    /// The pages that an allocator's slots are cut from.
    pub fn allocator(&mut self, allocator: &Allocator) {
        self.pool(&allocator.pool, Use::Slots);
    }

    /// One of [`OTHERS`], in the bytes of its variable. Of what the BTF only
    /// declares, as published schedulers' does, no region is told.
    ///
    /// # Errors
    ///
    /// BTF without a member that is needed, or too few bytes.
    pub fn other(&mut self, instance: &Instance, bytes: &[u8]) -> Result<(), Error> {
        let record = self.btf.record_by_id(instance.ty)?;
        let short = Error::Short {
            name: instance.name,
            len: bytes.len(),
        };
        if instance.is_pointer {
            let target = pointer(bytes, 0).ok_or(short)?;
            return self.pointed(instance.name, &record, target);
        }
        let member = |name: &str| -> Result<u64, Error> {
            let offset = record.member(name)?.offset;
            word(bytes, offset).ok_or(short.clone())
        };
        match instance.name {
            // An allocator's own is taken for its index's too: slots are told
            // first.
            "sdt_pool" => self.pool(&Pool::read(&record, bytes, 0)?, Use::Index),
            "scx_static" | "sdt_static" => {
                let start = ArenaPtr::new(member("memory")?);
                self.region(start, member("max_alloc_bytes")?, Use::Static);
            }
            "scx_stk" | "stk" => {
                let [first, current, reserve] = ["first", "current", "reserve"].map(&member);
                let size = member("data_size")?;
                let Some(segment) = self.segment(&record)? else {
                    return Ok(());
                };
                let stack = Stack {
                    size: segment,
                    current: ArenaPtr::new(current?),
                    filled: member("cind")?,
                    element: size,
                };
                self.stack(&stack, ArenaPtr::new(first?))?;
                self.stack(&stack, ArenaPtr::new(reserve?))?;
            }
            "scx_buddy" | "buddy" => {
                let chunk = record.member("first_chunk")?;
                let Some(target) = self.pointee(chunk.ty)? else {
                    return Ok(());
                };
                let orders = target.member("orders")?.size;
                let next = target.member("next")?.offset;
                // Two orders a byte, one for each of the smallest pieces.
                let pieces = orders.saturating_mul(2);
                let len = pieces.saturating_mul(member("min_alloc_bytes")?);
                let first = ArenaPtr::new(member("first_chunk")?);
                self.list("chunks of a buddy allocator", first, next, len, Use::Buddy);
            }
            _ => {}
        }
        Ok(())
    }

    /// What a pointer to one of the structs leads to.
    fn pointed(&mut self, name: &str, record: &Record<'_>, at: ArenaPtr) -> Result<(), Error> {
        if at.get() == 0 || !name.ends_with("_alloc_stack") {
            return Ok(());
        }
        let page = self.page_size;
        self.region(at, record.size(), Use::Index);
        let stack = record.member("stack")?;
        let found = self.memory.read_up_to(at, record.size());
        if let Some(fault) = found.fault {
            let what = "a stack of pages";
            (self.visit)(Err(Problem::Unreadable { what, fault }));
        }
        let count = word(&found.bytes, record.member("idx")?.offset).unwrap_or(0);
        for index in 0..count.min(stack.size / 8) {
            let kept = pointer(&found.bytes, stack.offset.saturating_add(index * 8));
            self.region(kept.unwrap_or(ArenaPtr::new(0)), page, Use::Index);
        }
        if let Some(reserve) = record.find("reserve") {
            let first = pointer(&found.bytes, reserve.offset).unwrap_or(ArenaPtr::new(0));
            self.list("kept pages", first, 0, page, Use::Index);
        }
        Ok(())
    }

    fn pool(&mut self, pool: &Pool, serves: Use) {
        let bytes = pool.elem_size.saturating_mul(pool.max_elems);
        let len = bytes
            .div_ceil(self.page_size)
            .saturating_mul(self.page_size);
        self.region(pool.slab, len, serves);
        self.list("kept slabs", pool.reserve, 0, len, serves);
    }

    /// Regions of `len` bytes that are linked by a word at `next`.
    fn list(&mut self, what: &'static str, first: ArenaPtr, next: u64, len: u64, serves: Use) {
        let mut seen = FxHashSet::default();
        let bound = self.size / self.page_size;
        let mut at = first;
        while at.get() != 0 {
            let too_many = seen.len() as u64 > bound;
            if too_many || !seen.insert(at) {
                let problem = match too_many {
                    true => Problem::TooMany { what, at },
                    false => Problem::Twice { what, at },
                };
                return (self.visit)(Err(problem));
            }
            self.region(at, len, serves);
            let link = at.checked_add(next).unwrap_or(at);
            match self.memory.load_u64(link) {
                Ok(next) => at = ArenaPtr::new(next),
                Err(fault) => return (self.visit)(Err(Problem::Unreadable { what, fault })),
            }
        }
    }

    /// The struct that a member points to; `None` if it is only declared.
    fn pointee(&self, pointer: TypeId) -> Result<Option<Record<'a>>, Error> {
        let (_, ty) = self.btf.resolve(pointer)?;
        match ty {
            Type::Ptr { target } => match self.btf.resolve(target)? {
                (_, Type::Fwd { .. }) => Ok(None),
                _ => Ok(Some(self.btf.record_by_id(target)?)),
            },
            _ => Err(Error::Shape {
                name: "scx_stk",
                what: "a member that is no pointer",
            }),
        }
    }

    /// The layout of a stack's segments.
    fn segment(&self, stack: &Record<'_>) -> Result<Option<Segment>, Error> {
        let Some(record) = self.pointee(stack.member("first")?.ty)? else {
            return Ok(None);
        };
        let elems = record.member("elems")?;
        Ok(Some(Segment {
            size: record.size(),
            elems: elems.offset,
            count: elems.size / 8,
            next: record.member("next")?.offset,
        }))
    }

    /// A stack's segments, and the free objects that they list.
    fn stack(&mut self, stack: &Stack, first: ArenaPtr) -> Result<(), Error> {
        let what = "segments of a stack";
        let mut seen = FxHashSet::default();
        let mut at = first;
        let mut is_filled = true;
        while at.get() != 0 {
            if seen.len() as u64 > self.size / self.page_size || !seen.insert(at) {
                (self.visit)(Err(Problem::Twice { what, at }));
                break;
            }
            let segment = stack.size;
            self.region(at, segment.size, Use::Stack);
            let found = self.memory.read_up_to(at, segment.size);
            if let Some(fault) = found.fault {
                (self.visit)(Err(Problem::Unreadable { what, fault }));
                break;
            }
            let filled = match (is_filled, at == stack.current) {
                (true, false) => segment.count,
                (true, true) => stack.filled.min(segment.count),
                (false, _) => 0,
            };
            is_filled &= at != stack.current;
            for index in 0..filled {
                let place = segment.elems.saturating_add(index * 8);
                if let Some(object) = pointer(&found.bytes, place) {
                    self.region(object, stack.element, Use::Stack);
                }
            }
            let next = pointer(&found.bytes, segment.next);
            at = next.unwrap_or(ArenaPtr::new(0));
        }
        Ok(())
    }
}

/// The layout of a stack's segment.
#[derive(Clone, Copy)]
struct Segment {
    size: u64,
    elems: u64,
    count: u64,
    next: u64,
}

/// A stack of free objects.
struct Stack {
    size: Segment,
    /// The segment with the topmost object, and how many it has.
    current: ArenaPtr,
    filled: u64,
    /// Bytes of an object.
    element: u64,
}
