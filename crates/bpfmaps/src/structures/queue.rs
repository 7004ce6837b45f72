//! Queues and stacks (`kernel/bpf/queue_stack_maps.c`): a ring of slots, one
//! more than elements may be.

use btf_layout::{Btf, Member};
use guestmem::{Address, Fault, Kva, MemoryExt};

use super::copied::Copied;
use super::place;
use crate::entry::{Bytes, Entry};
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo, MapState, MapType};

/// Where the members of `struct bpf_queue_stack` are.
struct Layout {
    size: u64,
    head: Member,
    tail: Member,
    slots: Member,
    elements: Member,
}

impl Layout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let queue = btf.record("bpf_queue_stack")?;
        Ok(Self {
            size: queue.size(),
            head: queue.member("head")?,
            tail: queue.member("tail")?,
            slots: queue.member("size")?,
            elements: queue.member("elements")?,
        })
    }
}

/// The ends of a queue or stack, both of them slots that it has.
struct Ring {
    elements: Kva,
    /// The slot that the next element goes to.
    head: u32,
    /// The slot of the oldest element.
    tail: u32,
    slots: u32,
}

impl Ring {
    fn load(target: &dyn Target, at: Kva) -> Result<Self, Error> {
        let layout = Layout::new(target.btf())?;
        let object = Copied::object(target, at, layout.size, "struct bpf_queue_stack")?;
        let slots = object.u32(&layout.slots);
        let end = |what, member| match object.u32(member) {
            end if end < slots => Ok(end),
            end => Err(Reason::Contradiction {
                what,
                expected: u64::from(slots).saturating_sub(1),
                found: end.into(),
            }),
        };
        Ok(Self {
            elements: at.checked_add(layout.elements.offset).unwrap_or(at),
            head: end("bpf_queue_stack.head", &layout.head)?,
            tail: end("bpf_queue_stack.tail", &layout.tail)?,
            slots,
        })
    }

    fn len(&self) -> u64 {
        let (head, slots) = (u64::from(self.head), u64::from(self.slots));
        (head + slots - u64::from(self.tail)) % slots.max(1)
    }

    /// The slot of the element that is taken out after `position` others.
    fn slot(&self, order: Order, position: u64) -> u64 {
        let slots = u64::from(self.slots).max(1);
        match order {
            Order::OldestFirst => (u64::from(self.tail) + position) % slots,
            Order::NewestFirst => (u64::from(self.head) + slots - 1 - position % slots) % slots,
        }
    }
}

#[derive(Clone, Copy)]
enum Order {
    OldestFirst,
    NewestFirst,
}

/// How full the queue or stack at `at` is.
pub(crate) fn state(target: &dyn Target, at: Kva) -> Result<MapState, Error> {
    let ring = Ring::load(target, at)?;
    Ok(MapState::Queue {
        head: ring.head,
        tail: ring.tail,
        slots: ring.slots,
    })
}

/// Visits the elements of `map` at `at` in the order in which they would be
/// taken out.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let ring = match Ring::load(target, at) {
        Err(Error::Damaged(reason)) => {
            walker.walk.gap(at, reason);
            return Ok(());
        }
        ring => ring?,
    };
    let order = match map.map_type {
        MapType::STACK => Order::NewestFirst,
        _ => Order::OldestFirst,
    };
    let value_size = u64::from(map.value_size);
    let contradictions = [
        (
            "bpf_queue_stack.size",
            u64::from(map.max_entries) + 1,
            u64::from(ring.slots),
        ),
        (
            "bpf_map.value_size of a queue",
            value_size.max(1),
            value_size,
        ),
    ];
    for (what, expected, found) in contradictions {
        if expected != found {
            let reason = Reason::Contradiction {
                what,
                expected,
                found,
            };
            walker.walk.gap(at, reason);
            return Ok(());
        }
    }
    let most = target.memory_size() / value_size;
    if u64::from(ring.slots) > most {
        let what = "slots of a queue";
        let value = ring.slots.into();
        walker.walk.gap(at, Reason::Absurd { what, value });
    }
    let len = ring.len().min(most);
    let mut buf = Vec::new();
    let mut position = 0;
    while position < len {
        let slot = ring.slot(order, position);
        let at = place::element(ring.elements, slot, value_size);
        let fault = target.read_more(at, value_size, &mut buf).err();
        if let (true, Some(fault)) = (buf.is_empty(), fault) {
            let lost =
                unreadable(target, &ring, order, slot, fault, value_size).min(len - position);
            let at = GapAt::Indices(position, position + lost - 1);
            walker.walk.gap(at, fault.cause);
            position += lost;
            continue;
        }
        if let Some(fault) = fault {
            walker.walk.fault(fault);
        }
        let entry = Entry::Element {
            position,
            value: Bytes {
                present: &buf,
                len: value_size,
                fault,
            },
        };
        if walker.visit(entry).is_break() {
            return Ok(());
        }
        position += 1;
    }
    Ok(())
}

/// How many elements from `slot` on are lost with the page of `fault`; at
/// least 1.
fn unreadable(
    target: &dyn Target,
    ring: &Ring,
    order: Order,
    slot: u64,
    fault: Fault<Kva>,
    value_size: u64,
) -> u64 {
    let lost = match order {
        Order::OldestFirst => {
            let behind = place::behind(fault, ring.elements, value_size);
            behind.min(ring.slots.into()).saturating_sub(slot)
        }
        Order::NewestFirst => {
            let first = place::first_in_page(fault, ring.elements, value_size);
            let start = place::element(ring.elements, first, value_size);
            match target.load_u8(start) {
                Ok(_) => 1,
                Err(_) => (slot + 1).saturating_sub(first),
            }
        }
    };
    lost.max(1)
}
