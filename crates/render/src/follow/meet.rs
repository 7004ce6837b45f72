//! What a pointer leads to.

use std::rc::Rc;

use bpfmaps::arena::Arena;
use bpfmaps::special::Pointee;
use bpfmaps::{Object as Named, Walk};
use btf_layout::{Kind, TypeId};
use guestmem::{Address, ArenaPtr, Kva};

use super::arenas::{Located, absent, locate, read};
use super::types::Target;
use super::{Cut, Follower, MAX_DEPTH, ObjectType, Read, Site};
use crate::Budget;
use crate::allocators::SlotRef;

/// The structs that an allocator's tree consists of.
const TREE: [&str; 2] = ["struct sdt_desc", "struct sdt_chunk"];

/// A pointer that somebody asked for.
pub(crate) struct Pointer {
    pub(crate) value: u64,
    /// The type that it is declared to lead to.
    pub(crate) type_name: String,
    pub(crate) met: Met,
}

/// What a pointer leads to.
pub(crate) enum Met {
    /// An object that is to be shown here.
    Here(Reached),
    /// An object that is shown elsewhere: already, or later.
    Elsewhere { is_above: bool },
    /// A part, at this offset, of an object that is shown elsewhere.
    Within {
        at: ArenaPtr,
        type_name: String,
        offset: u64,
        is_above: bool,
    },
    /// A slot of an allocator.
    Slot(InSlot),
    /// A well-known object of the kernel.
    Named(Named),
    /// Nothing that could be shown, for this reason.
    Not(String),
}

/// The place in a slot that a pointer leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InSlot {
    pub(crate) of: SlotRef,
    /// Bytes from the start of the payload.
    pub(crate) offset: i64,
}

/// An object in an arena.
pub(crate) struct Reached {
    /// The map of the arena.
    arena: [u32; 1],
    pub(crate) ty: Rc<ObjectType>,
    pub(crate) read: Read,
    depth: u32,
}

impl Reached {
    /// Where its own pointers are followed from.
    pub(crate) fn site<'a>(&'a self, from: &Site<'a>) -> Site<'a> {
        Site {
            follower: from.follower,
            btf: &self.ty.btf,
            arenas: &self.arena,
            depth: self.depth,
        }
    }
}

impl Site<'_> {
    /// What a pointer to `stated` with this value leads to. `None` if there is
    /// no more to it than its value.
    pub(crate) fn meet(&self, value: u64, stated: TypeId) -> Option<Pointer> {
        if value == 0 {
            return None;
        }
        let follower = self.follower;
        let target = follower.types.target(self.btf, stated);
        Some(Pointer {
            value,
            met: match locate(follower.survey()?, self.arenas, value) {
                Located::In(id, arena, at) => self.met(id, arena, at, &target)?,
                Located::Outside => follower.named(&target, value)?,
                _ if target.object.is_none() => return None,
                Located::Either(one, other) => {
                    follower.count(|counts| counts.foreign += 1);
                    Met::Not(format!("in the windows of arenas {one} and {other}"))
                }
                Located::Foreign(arena) => {
                    follower.count(|counts| counts.foreign += 1);
                    let whose = "which its programs do not use";
                    Met::Not(format!("in the window of arena {arena}, {whose}"))
                }
            },
            type_name: target.name.clone(),
        })
    }

    fn met(&self, id: u32, arena: &Arena<'_>, at: ArenaPtr, target: &Target) -> Option<Met> {
        let follower = self.follower;
        if let Some(slot) = follower.slot(id, at) {
            return Some(Met::Slot(slot));
        }
        let ty = target.object.as_ref()?;
        if TREE.contains(&target.name.as_str()) && follower.has_allocators(id) {
            return Some(Met::Not("of an allocator's tree".to_owned()));
        }
        let key = (id, at.get(), ty.number);
        if let Some(is_above) = follower.seen.borrow().get(&key) {
            return Some(Met::Elsewhere { is_above });
        }
        if let Some(within) = follower.within(id, at, ty) {
            return Some(within);
        }
        if let Some(cut) = absent(arena, at) {
            follower.note(&cut);
            return Some(Met::Not(cut.why));
        }
        if let Some(why) = follower.refusal() {
            follower.count(|counts| counts.left_out += 1);
            return Some(Met::Not(why));
        }
        let left = follower.nested_left.get();
        let is_here = self.depth < MAX_DEPTH && left.objects > 0 && ty.size <= left.bytes;
        follower.seen.borrow_mut().insert(key, ty.size, is_here);
        if !is_here {
            follower.queue.borrow_mut().push_back(key);
            return Some(Met::Elsewhere { is_above: false });
        }
        follower.nested_left.set(Budget {
            objects: left.objects - 1,
            bytes: left.bytes - ty.size,
        });
        Some(Met::Here(Reached {
            arena: [id],
            ty: Rc::clone(ty),
            read: follower.read(arena, at, ty),
            depth: self.depth + 1,
        }))
    }
}

impl Follower<'_> {
    /// The slot that an address lies in.
    fn slot(&self, arena: u32, at: ArenaPtr) -> Option<InSlot> {
        let of = *self.survey()?.slot_at(arena, at)?;
        Some(InSlot {
            of,
            offset: of.offset_of(at),
        })
    }

    fn has_allocators(&self, arena: u32) -> bool {
        let mut all = self
            .survey()
            .into_iter()
            .flat_map(|survey| &survey.allocators);
        all.any(|found| found.arena == arena)
    }

    /// The object that was met and that this one is a part of.
    fn within(&self, arena: u32, at: ArenaPtr, ty: &ObjectType) -> Option<Met> {
        let seen = self.seen.borrow();
        let (start, outer) = seen.around(arena, at.get(), ty.size)?;
        let is_above = seen.get(&(arena, start, outer))?;
        let outer = self.types.by_number(outer)?;
        let offset = at.get().checked_sub(start)?;
        outer.has_part(offset, ty).then(|| Met::Within {
            at: ArenaPtr::new(start),
            type_name: outer.shape.name.clone(),
            offset,
            is_above,
        })
    }

    /// Why no further object is met, once that is so.
    fn refusal(&self) -> Option<String> {
        let budget = self.budget;
        if self.spent().objects >= budget.objects {
            return Some(format!("the budget of {} objects is spent", budget.objects));
        }
        (self.bytes_left.get() == 0).then(|| spent_bytes(budget.bytes))
    }

    /// Reads an object, as far as it is there and the budget reaches.
    pub(super) fn read(&self, arena: &Arena<'_>, at: ArenaPtr, ty: &ObjectType) -> Read {
        let left = self.bytes_left.get();
        let mut object = match left {
            0 => Read {
                bytes: Vec::new(),
                cut: None,
            },
            left => read(arena, at, ty.size.min(left)),
        };
        let got = object.bytes.len() as u64;
        self.bytes_left.set(left.saturating_sub(got));
        match &object.cut {
            Some(cut) => self.note(cut),
            None if got < ty.size => {
                self.count(|counts| counts.left_out += 1);
                object.cut = Some(Cut::new(&spent_bytes(self.budget.bytes)));
            }
            None => {}
        }
        object
    }

    fn note(&self, cut: &Cut) {
        self.count(|counts| match cut.is_gap {
            true => counts.gaps += 1,
            false => counts.dangling += 1,
        });
    }

    /// The object of the kernel at `value`, where such have names.
    fn named(&self, target: &Target, value: u64) -> Option<Met> {
        let name = match target.name.trim_start_matches("const ") {
            "struct task_struct" => "task_struct",
            "struct cgroup" => "cgroup",
            _ => return None,
        };
        // The other half of the address space is the processes'.
        let at = Some(value).filter(|value| value >> 63 == 1).map(Kva::new)?;
        let btf = self.accessor.vmlinux_btf().ok()?;
        let pointee = Pointee {
            ty: btf.find(Kind::Struct, name)?,
            btf,
            type_name: format!("struct {name}"),
            of_kernel: true,
            bytes: Vec::new(),
        };
        let mut walk = Walk::default();
        let named = self.names.object(self.accessor, &pointee, at, &mut walk)?;
        Some(match walk.gaps.first() {
            None => Met::Named(named),
            // Nothing keeps the object of a plain pointer alive.
            Some(gap) => Met::Not(gap.to_string()),
        })
    }
}

fn spent_bytes(budget: u64) -> String {
    format!("the budget of {budget} bytes is spent")
}
