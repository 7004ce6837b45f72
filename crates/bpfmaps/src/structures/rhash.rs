//! Resizable hash tables (`kernel/bpf/hashtab.c` and `lib/rhashtable.c`, since
//! 7.2).
//!
//! A table is an array of buckets, or, if there was no memory for one, pages
//! of buckets below pages of pointers. A table that is being resized has a
//! successor, to which the elements go one by one.

use std::ops::ControlFlow;

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, MemoryExt};

use super::bytes::{self, part, u64_at};
use super::copied::Copied;
use super::cycle::Milestone;
use super::place::{self, POINTER};
use super::words;
use crate::entry::Entry;
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo};

/// The lock bit of a bucket, and what tells the end of a chain from a pointer.
const LOW_BIT: u64 = 1;

/// Where the members of `struct bpf_rhtab` and its parts are.
struct Layout {
    size: u64,
    elem_size: Member,
    table: Member,
    table_size: u64,
    count: Member,
    nest: Member,
    future: Member,
    buckets: Member,
    next: Member,
    key: Member,
}

impl Layout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let map = btf.record("bpf_rhtab")?;
        let table = btf.record("bucket_table")?;
        let element = btf.record("rhtab_elem")?;
        Ok(Self {
            size: map.size(),
            elem_size: map.member("elem_size")?,
            table: map.member("ht.tbl")?,
            table_size: table.size(),
            count: table.member("size")?,
            nest: table.member("nest")?,
            future: table.member("future_tbl")?,
            buckets: table.member("buckets")?,
            next: element.member("node.next")?,
            key: element.member("data")?,
        })
    }
}

/// Visits the elements of `map` at `at`.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let layout = Layout::new(target.btf())?;
    let object = Copied::object(target, at, layout.size, "struct bpf_rhtab")?;
    let key_size = u64::from(map.key_size);
    let value_at = layout.key.offset + key_size.next_multiple_of(8);
    let elem_size = value_at + u64::from(map.value_size).next_multiple_of(8);
    let found = object.uint(&layout.elem_size);
    if found != elem_size {
        let reason = Reason::Contradiction {
            what: "bpf_rhtab.elem_size",
            expected: elem_size,
            found,
        };
        walker.walk.gap(at, reason);
        return Ok(());
    }
    let memory_size = target.memory_size();
    let mut walk = TableWalk {
        target,
        key_size,
        value_at,
        value_size: map.value_size.into(),
        most: memory_size / elem_size.max(1),
        buckets_left: memory_size / POINTER,
        buf: Vec::new(),
        layout,
    };
    walk.tables(object.pointer(&walk.layout.table), walker);
    Ok(())
}

/// One table, its numbers copied.
struct Table {
    buckets: Kva,
    count: u64,
    nest: u64,
    /// Its successor, while it is being resized; 0 for none.
    future: Kva,
}

/// The walk over all tables of one map.
struct TableWalk<'t> {
    target: &'t dyn Target,
    layout: Layout,
    key_size: u64,
    value_at: u64,
    value_size: u64,
    /// How many elements memory can hold.
    most: u64,
    /// How many more buckets memory can hold.
    buckets_left: u64,
    buf: Vec<u8>,
}

impl TableWalk<'_> {
    fn load(&self, at: Kva) -> Result<Table, guestmem::Fault<Kva>> {
        let layout = &self.layout;
        let table = Copied::load(self.target, at, layout.table_size)?;
        Ok(Table {
            buckets: at.checked_add(layout.buckets.offset).unwrap_or(at),
            count: table.uint(&layout.count),
            nest: table.uint(&layout.nest),
            future: table.pointer(&layout.future),
        })
    }

    /// Visits the table at `at` and its successors.
    fn tables(&mut self, mut at: Kva, walker: &mut Walker<'_, '_>) {
        let mut milestone = Milestone::new();
        while at.get() != 0 {
            if milestone.repeats(at.get()) {
                let what = "bucket_table.future_tbl";
                walker.walk.gap(at, Reason::Cycle { what });
                return;
            }
            let table = match self.load(at) {
                Ok(table) => table,
                Err(fault) => return walker.walk.fault(fault),
            };
            match self.refuse(&table) {
                Some(reason) => walker.walk.gap(at, reason),
                None if self.table(&table, walker).is_break() => return,
                None => {}
            }
            at = table.future;
        }
    }

    /// Why nothing of the table can be believed, if so.
    fn refuse(&mut self, table: &Table) -> Option<Reason> {
        let buckets_left = self.buckets_left;
        self.buckets_left = buckets_left.saturating_sub(table.count.max(1));
        let most_nest = self.per_page().ilog2().into();
        if table.count > buckets_left || buckets_left == 0 {
            let (what, value) = ("bucket_table.size", table.count);
            Some(Reason::Absurd { what, value })
        } else if !table.count.is_power_of_two() {
            Some(Reason::Contradiction {
                what: "bucket_table.size",
                expected: table.count.next_power_of_two(),
                found: table.count,
            })
        } else if table.nest > most_nest || table.count >> table.nest == 0 {
            Some(Reason::Contradiction {
                what: "bucket_table.nest",
                expected: most_nest.min(table.count.ilog2().into()),
                found: table.nest,
            })
        } else {
            None
        }
    }

    /// How many words a page has.
    fn per_page(&self) -> u64 {
        (self.target.page_size() / POINTER).max(1)
    }

    fn table(&mut self, table: &Table, walker: &mut Walker<'_, '_>) -> ControlFlow<()> {
        if table.nest == 0 {
            return self.buckets(table, table.buckets, 0, table.count, walker);
        }
        let top = match self.target.load_u64(table.buckets) {
            Ok(top) => Kva::new(top),
            Err(fault) => {
                walker.walk.fault(fault);
                return ControlFlow::Continue(());
            }
        };
        let below = table.count >> table.nest;
        self.nested(table, top, 0, 1 << table.nest, below, walker)
    }

    /// Visits what `len` pointers from `at` on lead to: `below` buckets each,
    /// of which `first` is the first.
    fn nested(
        &mut self,
        table: &Table,
        at: Kva,
        first: u64,
        len: u64,
        below: u64,
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        let per_page = self.per_page();
        let target = self.target;
        words::walk(
            target,
            at,
            first,
            len,
            walker,
            &mut |index, _, word, walker| {
                let page = Kva::new(word);
                let first = first + (index - first) * below;
                if word == 0 {
                    ControlFlow::Continue(())
                } else if below > per_page {
                    self.nested(table, page, first, per_page, below / per_page, walker)
                } else {
                    self.buckets(table, page, first, below, walker)
                }
            },
        )
    }

    fn buckets(
        &mut self,
        table: &Table,
        at: Kva,
        first: u64,
        count: u64,
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        let target = self.target;
        words::walk(
            target,
            at,
            first,
            count,
            walker,
            &mut |_, at, word, walker| self.chain(table, at, word & !LOW_BIT, walker),
        )
    }

    /// Visits the chain of the bucket at `bucket`, which begins at `head`.
    fn chain(
        &mut self,
        table: &Table,
        bucket: Kva,
        head: u64,
        walker: &mut Walker<'_, '_>,
    ) -> ControlFlow<()> {
        if head == 0 {
            return ControlFlow::Continue(());
        }
        let moved = match table.future.get() {
            0 => None,
            _ => self.moved(table, bucket, head),
        };
        let mut milestone = Milestone::new();
        let mut next = head;
        while next & LOW_BIT == 0 && Some(next) != moved {
            if milestone.repeats(next) {
                let what = "the chain of a bucket";
                walker.walk.gap(bucket, Reason::Cycle { what });
                return ControlFlow::Continue(());
            }
            if walker.walk.visited >= self.most {
                let (what, value) = ("elements of a bpf_rhtab", walker.walk.visited);
                walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
                return ControlFlow::Break(());
            }
            match self.element(Kva::new(next), walker) {
                (Some(after), flow) => {
                    flow?;
                    next = after;
                }
                (None, _) => return ControlFlow::Continue(()),
            }
        }
        let end = bucket.get() | LOW_BIT;
        if Some(next) != moved && next != end {
            let reason = Reason::Contradiction {
                what: "the end of a bucket's chain",
                expected: end,
                found: next,
            };
            walker.walk.gap(bucket, reason);
        }
        ControlFlow::Continue(())
    }

    /// Where the chain from `head` on goes over into one of a later table.
    ///
    /// The last element of a chain is the first to be moved: it is linked to
    /// the chain that it goes to, made its head, and then taken off the old
    /// one (`rhashtable_rehash_one`). In between it is in both; before, what
    /// follows it is.
    fn moved(&self, table: &Table, bucket: Kva, head: u64) -> Option<u64> {
        let mut milestone = Milestone::new();
        let mut next = head;
        while next & LOW_BIT == 0 {
            if milestone.repeats(next) {
                return None;
            }
            let link = Kva::new(next).checked_add(self.layout.next.offset)?;
            next = self.target.load_u64(link).ok()?;
        }
        let end = Kva::new(next & !LOW_BIT);
        if end == bucket {
            return None;
        }
        let mut milestone = Milestone::new();
        let mut later = table.future;
        while later.get() != 0 && !milestone.repeats(later.get()) {
            let table = self.load(later).ok()?;
            let offset = end.checked_offset_from(table.buckets);
            let is_inside = |offset| offset % POINTER == 0 && offset / POINTER < table.count;
            if table.nest == 0 && offset.is_some_and(is_inside) {
                let head = self.target.load_u64(end).ok()? & !LOW_BIT;
                return Some(head).filter(|&head| head != 0);
            }
            later = table.future;
        }
        None
    }

    /// Visits the element at `at` and gives the link to the next one; `None`
    /// where that is lost.
    fn element(&mut self, at: Kva, walker: &mut Walker<'_, '_>) -> (Option<u64>, ControlFlow<()>) {
        let read = self.target.read_more(at, self.value_at, &mut self.buf);
        let next = u64_at(&self.buf, self.layout.next.offset);
        if let Err(fault) = read {
            walker.walk.fault(fault);
            return (next, ControlFlow::Continue(()));
        }
        let key = part(&self.buf, self.layout.key.offset, self.key_size);
        let key = key.unwrap_or_default().to_vec();
        let value_at = place::element(at, self.value_at, 1);
        let value = bytes::value(
            self.target,
            value_at,
            self.value_size,
            &mut self.buf,
            &mut walker.walk,
        );
        let flow = walker.visit(Entry::KeyValue { key: &key, value });
        (next, flow)
    }
}
