//! Tries of prefixes (`kernel/bpf/lpm_trie.c`).
//!
//! Each node has a prefix and up to two children, whose prefixes go on where
//! its own ends, with a 0 or with a 1. Nodes without a value stand where two
//! children need a parent.

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, MemoryExt};

use super::bytes::{self, part, u32_at, u64_at};
use super::copied::Copied;
use super::place::POINTER;
use crate::entry::Entry;
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo};

/// Bytes of a key before its data: `bpf_lpm_trie_key_u8.prefixlen`.
const KEY_HEAD: u64 = 4;

/// `LPM_DATA_SIZE_MAX`.
const LARGEST_DATA: u64 = 256;

/// `LPM_TREE_NODE_FLAG_IM`: a node without a value.
const INTERMEDIATE: u32 = 1;

/// Where the members of `struct lpm_trie` and its nodes are.
struct Layout {
    size: u64,
    root: Member,
    data_size: Member,
    max_prefixlen: Member,
    /// First since 6.13 (3d8dc43eb2a3), behind a `struct rcu_head` before.
    child: Member,
    prefixlen: Member,
    flags: Member,
    data: Member,
}

impl Layout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let trie = btf.record("lpm_trie")?;
        let node = btf.record("lpm_trie_node")?;
        Ok(Self {
            size: trie.size(),
            root: trie.member("root")?,
            data_size: trie.member("data_size")?,
            max_prefixlen: trie.member("max_prefixlen")?,
            child: node.member("child")?,
            prefixlen: node.member("prefixlen")?,
            flags: node.member("flags")?,
            data: node.member("data")?,
        })
    }
}

/// One trie.
struct Trie<'t> {
    target: &'t dyn Target,
    layout: Layout,
    data_size: u64,
    value_size: u64,
    /// The data of the node that was visited last. Its beginning is the
    /// prefix of each node whose children are still to be visited.
    path: Vec<u8>,
}

/// A node that is to be visited.
struct Pending {
    at: Kva,
    /// Its parent's prefix length, and the bit that comes next.
    branch: Option<(u32, u8)>,
}

/// Visits the prefixes of `map` at `at`.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let layout = Layout::new(target.btf())?;
    let object = Copied::object(target, at, layout.size, "struct lpm_trie")?;
    let data_size = u64::from(map.key_size).saturating_sub(KEY_HEAD);
    let value_size = u64::from(map.value_size);
    let sizes = [
        (
            "bpf_map.key_size of an lpm_trie",
            data_size.clamp(1, LARGEST_DATA) + KEY_HEAD,
            map.key_size.into(),
        ),
        (
            "lpm_trie.data_size",
            data_size,
            object.uint(&layout.data_size),
        ),
        (
            "lpm_trie.max_prefixlen",
            data_size * 8,
            object.uint(&layout.max_prefixlen),
        ),
    ];
    for (what, expected, found) in sizes {
        if expected != found {
            walker.walk.gap(at, contradiction(what, expected, found));
            return Ok(());
        }
    }
    if value_size > target.memory_size() {
        let (what, value) = ("bpf_map.value_size", value_size);
        walker.walk.gap(at, Reason::Absurd { what, value });
        return Ok(());
    }
    let root = object.pointer(&layout.root);
    let mut trie = Trie {
        target,
        layout,
        data_size,
        value_size,
        path: Vec::new(),
    };
    trie.walk(root, walker);
    Ok(())
}

fn contradiction(what: &'static str, expected: u64, found: u64) -> Reason {
    Reason::Contradiction {
        what,
        expected,
        found,
    }
}

impl Trie<'_> {
    /// Visits the nodes from `root` down, a parent before its children.
    ///
    /// A child's prefix must be longer than its parent's and go on from it:
    /// each node has one place where it can be, so that there are no cycles
    /// and no node is reached in two ways.
    fn walk(&mut self, root: Kva, walker: &mut Walker<'_, '_>) {
        let head = self.layout.data.offset.saturating_add(self.data_size);
        let most = self.target.memory_size() / head.max(1);
        let most_values = self.target.memory_size() / head.saturating_add(self.value_size).max(1);
        let (mut node, mut value, mut nodes) = (Vec::new(), Vec::new(), 0);
        // Two for each node on the way down, which is as long as a prefix.
        let mut pending = vec![Pending {
            at: root,
            branch: None,
        }];
        while let Some(Pending { at, branch }) = pending.pop() {
            if at.get() == 0 {
                continue;
            }
            nodes += 1;
            if nodes > most || walker.walk.visited > most_values {
                let (what, value) = ("nodes of an lpm_trie", nodes);
                walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
                return;
            }
            if let Err(fault) = self.target.read_more(at, head, &mut node) {
                walker.walk.fault(fault);
                continue;
            }
            let Some((prefixlen, flags)) = self.take(&node, branch, at, walker) else {
                continue;
            };
            for bit in [1, 0] {
                let child = self.layout.child.offset + u64::from(bit) * POINTER;
                pending.push(Pending {
                    at: Kva::new(u64_at(&node, child).unwrap_or(0)),
                    branch: Some((prefixlen, bit)),
                });
            }
            if flags & INTERMEDIATE != 0 {
                continue;
            }
            let mut key = prefixlen.to_le_bytes().to_vec();
            key.extend_from_slice(&self.path);
            let value_at = at.checked_add(head).unwrap_or(Kva::at(u64::MAX));
            let value = bytes::value(
                self.target,
                value_at,
                self.value_size,
                &mut value,
                &mut walker.walk,
            );
            if walker
                .visit(Entry::KeyValue { key: &key, value })
                .is_break()
            {
                return;
            }
        }
    }

    /// The prefix length and flags of the node whose bytes are `node`, and
    /// its data in `path`; `None`, and a gap, for one that cannot be there.
    fn take(
        &mut self,
        node: &[u8],
        branch: Option<(u32, u8)>,
        at: Kva,
        walker: &mut Walker<'_, '_>,
    ) -> Option<(u32, u32)> {
        let layout = &self.layout;
        let prefixlen = u32_at(node, layout.prefixlen.offset)?;
        let flags = u32_at(node, layout.flags.offset)?;
        let data = part(node, layout.data.offset, self.data_size)?;
        let mut found = u64::from(prefixlen);
        let least = branch.map_or(0, |(parent, _)| u64::from(parent) + 1);
        let expected = found.clamp(least, (self.data_size * 8).max(least));
        let mut what = "lpm_trie_node.prefixlen";
        let mut expected = expected;
        if let (true, Some((parent, bit))) = (expected == found, branch) {
            what = "bits of lpm_trie_node.data that are as the parent says";
            (expected, found) = (least, agreement(&self.path, data, parent, bit).into());
        }
        if expected != found {
            walker.walk.gap(at, contradiction(what, expected, found));
            return None;
        }
        self.path.clear();
        self.path.extend_from_slice(data);
        Some((prefixlen, flags))
    }
}

/// How many bits `data` begins with as a child must: the `len` bits that
/// `parent` begins with, then `bit`.
fn agreement(parent: &[u8], data: &[u8], len: u32, bit: u8) -> u32 {
    let mut same = 0;
    for (parent, data) in parent.iter().zip(data) {
        let equal = (parent ^ data).leading_zeros();
        same += equal;
        if equal < u8::BITS || same >= len {
            break;
        }
    }
    if same < len {
        return same;
    }
    let byte = usize::try_from(len / 8).unwrap_or(usize::MAX);
    let next = data.get(byte).map(|byte| byte >> (7 - len % 8) & 1);
    len + u32::from(next == Some(bit))
}
