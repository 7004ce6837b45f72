//! Lists and trees of objects that a value owns.
//!
//! Each node must lead back to where it was reached from: a list's to the
//! node before it, a tree's to its parent. So none is visited twice, and a
//! walk ends by itself however memory is made up.

use std::ops::ControlFlow;

use btf_layout::{Btf, Error, Member};
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};

use super::reader::long;
use super::{Field, FieldKind, Node, NodeVisitor, Reader, Target};
use crate::Bytes;
use crate::structures::Copied;
use crate::walk::{GapAt, Reason, Walk};

/// How deep a tree may be. A red-black tree that fills an address space of
/// 64 bits is not twice as deep as that.
const DEEPEST: usize = 128;

/// The bits of `rb_node.__rb_parent_color` that are not part of the parent's
/// address.
const COLOR: u64 = 0b11;

/// A walk through one list or tree.
pub(super) struct Found<'w, 'r, 'v> {
    pub(super) reader: &'w Reader<'r>,
    pub(super) target: Target,
    pub(super) walk: &'w mut Walk,
    pub(super) visit: &'w mut NodeVisitor<'v>,
}

/// The walk ends here.
struct End;

/// Where the members of `struct list_head` are.
struct ListHead {
    size: u64,
    next: Member,
    prev: Member,
}

/// A list's head or node.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Links {
    next: Kva,
    prev: Kva,
}

impl ListHead {
    fn new(btf: &Btf) -> Result<Self, Error> {
        let head = btf.record("list_head")?;
        Ok(Self {
            size: head.size(),
            next: head.member("next")?,
            prev: head.member("prev")?,
        })
    }

    fn links(&self, object: &Copied) -> Links {
        Links {
            next: object.pointer(&self.next),
            prev: object.pointer(&self.prev),
        }
    }

    fn load(&self, memory: &dyn Memory<Kva>, at: Kva) -> Result<Links, Fault<Kva>> {
        Ok(self.links(&Copied::load(memory, at, self.size)?))
    }
}

/// Where the members of `struct rb_node` are, and the root's pointer.
struct RbNode {
    size: u64,
    parent: Member,
    left: Member,
    right: Member,
    root: Member,
}

impl RbNode {
    fn new(btf: &Btf) -> Result<Self, Error> {
        let node = btf.record("rb_node")?;
        Ok(Self {
            size: node.size(),
            parent: node.member("__rb_parent_color")?,
            left: node.member("rb_left")?,
            right: node.member("rb_right")?,
            root: btf.record("rb_root_cached")?.member("rb_root.rb_node")?,
        })
    }
}

impl Found<'_, '_, '_> {
    /// Walks the list whose head has these bytes, and lies at `head` if that
    /// is known.
    pub(super) fn list(&mut self, bytes: &[u8], head: Option<Kva>) {
        let at = head.map_or(GapAt::Map, GapAt::Kva);
        match ListHead::new(&self.reader.vmlinux) {
            Ok(layout) => {
                let links = layout.links(&Copied::of(bytes));
                // Nothing was ever put in, if there are no pointers.
                if links.next.get() != 0 {
                    let _: Result<(), End> = self.list_from(&layout, links, head);
                }
            }
            Err(error) => self.walk.gap(at, error),
        }
    }

    fn list_from(&mut self, layout: &ListHead, links: Links, head: Option<Kva>) -> Result<(), End> {
        let memory = self.memory(links.next)?;
        let head = match head {
            Some(head) => head,
            None => {
                let first = self.noted(layout.load(memory, links.next))?;
                if first == links && links.next == links.prev {
                    // The head of an empty list, which points at itself.
                    return Ok(());
                }
                // What the first node leads back to must be this head.
                let head = first.prev;
                let found = self.noted(layout.load(memory, head))?;
                self.agree("list_head.next", head, links.next, found.next)?;
                self.agree("list_head.prev", head, links.prev, found.prev)?;
                head
            }
        };
        let (mut at, mut from) = (links.next, head);
        while at != head {
            let node = self.noted(layout.load(memory, at))?;
            self.agree("list_head.prev", at, from, node.prev)?;
            self.hand_out(memory, at)?;
            (from, at) = (at, node.next);
        }
        self.agree("list_head.prev", head, from, links.prev)
    }

    /// Walks the tree whose root has these bytes.
    pub(super) fn tree(&mut self, bytes: &[u8]) {
        match RbNode::new(&self.reader.vmlinux) {
            Ok(layout) => {
                let root = Copied::of(bytes).pointer(&layout.root);
                if root.get() != 0 {
                    let _: Result<(), End> = self.tree_from(&layout, root);
                }
            }
            Err(error) => self.walk.gap(GapAt::Map, error),
        }
    }

    fn tree_from(&mut self, layout: &RbNode, root: Kva) -> Result<(), End> {
        let memory = self.memory(root)?;
        // Nodes whose left side is being visited: they and their right side
        // come next.
        let mut pending: Vec<(Kva, Kva)> = Vec::new();
        let (mut at, mut parent) = (root, Kva::at(0));
        loop {
            while at.get() != 0 {
                // One that cannot be followed costs what is below it.
                let Ok((left, right)) = self.children(layout, memory, at, parent) else {
                    break;
                };
                if pending.len() >= DEEPEST {
                    let (what, value) = ("depth of a tree", DEEPEST as u64);
                    self.walk.gap(at, Reason::Absurd { what, value });
                    return Err(End);
                }
                pending.push((at, right));
                (at, parent) = (left, at);
            }
            let Some((node, right)) = pending.pop() else {
                return Ok(());
            };
            self.hand_out(memory, node)?;
            (at, parent) = (right, node);
        }
    }

    /// The children of the node at `at`, which must know its parent.
    fn children(
        &mut self,
        layout: &RbNode,
        memory: &dyn Memory<Kva>,
        at: Kva,
        parent: Kva,
    ) -> Result<(Kva, Kva), End> {
        let node = self.noted(Copied::load(memory, at, layout.size))?;
        let known = Kva::new(node.uint(&layout.parent) & !COLOR);
        self.agree("rb_node.__rb_parent_color", at, parent, known)?;
        let (left, right) = (node.pointer(&layout.left), node.pointer(&layout.right));
        if left == right && left.get() != 0 {
            let what = "a tree of objects";
            self.walk.gap(at, Reason::Cycle { what });
            return Err(End);
        }
        Ok((left, right))
    }

    /// Hands out the object whose node is at `node`.
    fn hand_out(&mut self, memory: &dyn Memory<Kva>, node: Kva) -> Result<(), End> {
        let Some(address) = node.get().checked_sub(self.target.node) else {
            self.walk.gap(node, Cause::EndOfSpace);
            return Err(End);
        };
        let address = Kva::new(address);
        let len = match self.reader.btf.size_of(self.target.ty) {
            Ok(len) => len,
            Err(error) => {
                self.walk.gap(node, error);
                return Err(End);
            }
        };
        let left = &self.reader.left;
        let Some(rest) = left.get().checked_sub(len.max(1)) else {
            let (what, value) = ("size of all objects of lists and trees", len);
            self.walk.gap(node, Reason::Absurd { what, value });
            return Err(End);
        };
        left.set(rest);
        let read = memory.read_up_to(address, len);
        if let Some(fault) = read.fault {
            self.walk.fault(fault);
        }
        self.walk.visited += 1;
        let flow = (self.visit)(Node {
            address,
            ty: self.target.ty,
            bytes: Bytes {
                present: &read.bytes,
                len,
                fault: read.fault,
            },
        });
        match flow {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                self.walk.stopped = true;
                Err(End)
            }
        }
    }

    /// What was read, or a gap.
    fn noted<T>(&mut self, read: Result<T, Fault<Kva>>) -> Result<T, End> {
        read.map_err(|fault| {
            self.walk.fault(fault);
            End
        })
    }

    /// A gap where a node leads elsewhere than to where it was reached from.
    fn agree(&mut self, what: &'static str, at: Kva, expected: Kva, found: Kva) -> Result<(), End> {
        if expected == found {
            return Ok(());
        }
        let (expected, found) = (expected.get(), found.get());
        self.walk.gap(
            at,
            Reason::Contradiction {
                what,
                expected,
                found,
            },
        );
        Err(End)
    }
}

impl<'w> Found<'w, '_, '_> {
    /// The memory that the list or tree is in.
    fn memory(&mut self, at: Kva) -> Result<&'w dyn Memory<Kva>, End> {
        let reader = self.reader;
        reader.memory().map_err(|reason| {
            self.walk.gap(at, reason);
            End
        })
    }
}

/// Whether an object's node is in a list or tree. It has an owner then
/// (`bpf_list_node_kern`, `bpf_rb_node_kern`; since 6.6, c3c510ce431c); before,
/// a node that is in none points at itself or nowhere.
pub(super) fn is_linked(reader: &Reader<'_>, field: &Field, bytes: &[u8], at: Option<Kva>) -> bool {
    let name = match field.kind {
        FieldKind::ListNode => "bpf_list_node_kern",
        _ => "bpf_rb_node_kern",
    };
    let owner = reader.vmlinux.record(name).ok();
    let owner = owner.and_then(|record| record.find("owner"));
    let owner = owner.and_then(|owner| usize::try_from(owner.offset).ok());
    match owner.and_then(|offset| bytes.get(offset..)) {
        Some(owner) => long(owner) != 0,
        None => {
            let own = at.and_then(|at| at.checked_add(field.offset));
            let link = Kva::new(long(bytes));
            link.get() != 0 && Some(link) != own
        }
    }
}
