//! A few members of an object, copied out of memory at once and as far as
//! they are readable.

use btf_layout::Member;
use guestmem::{Address, Cause, Fault, Kva, Memory, MemoryExt};

use super::copied::printable;
use crate::walk::Walk;

/// No members that are read together are further apart in any kernel.
const LARGEST: u64 = 64 << 10;

/// The bytes from the first to the last of some members. Unlike
/// [`Copied`](super::copied::Copied), it has what precedes a fault.
#[derive(Debug)]
pub(crate) struct Fields {
    bytes: Vec<u8>,
    /// Where in the object they start.
    start: u64,
}

impl Fields {
    /// Copies these members of the object at `at`; nothing, where there is
    /// none. What is unreadable is a gap, once.
    pub(crate) fn load(
        memory: &dyn Memory<Kva>,
        at: Option<Kva>,
        members: &[&Member],
        walk: &mut Walk,
    ) -> Self {
        let start = members.iter().map(|member| member.offset).min();
        let start = start.unwrap_or(0);
        let end = |member: &&Member| member.offset.saturating_add(member.size);
        let end = members.iter().map(end).max().unwrap_or(0);
        let mut bytes = Vec::new();
        let read = at.map_or(Ok(()), |at| {
            let first = at.checked_add(start);
            let first = first.ok_or(Fault::new(at, Cause::EndOfSpace))?;
            memory.read_more(first, (end - start).min(LARGEST), &mut bytes)
        });
        if let Err(fault) = read {
            walk.fault(fault);
        }
        Self { bytes, start }
    }

    /// The bytes of a member; `None` where they could not be read.
    pub(crate) fn raw(&self, member: &Member) -> Option<&[u8]> {
        let start = usize::try_from(member.offset.checked_sub(self.start)?).ok()?;
        let len = usize::try_from(member.size).ok()?;
        self.bytes.get(start..start.checked_add(len)?)
    }

    /// An unsigned member of up to 8 bytes.
    pub(crate) fn uint(&self, member: &Member) -> Option<u64> {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(self.raw(member)?) {
            *to = *from;
        }
        Some(u64::from_le_bytes(word))
    }

    /// A member of up to 4 bytes.
    pub(crate) fn u32(&self, member: &Member) -> Option<u32> {
        u32::try_from(self.uint(member)?).ok()
    }

    /// A signed member of 4 bytes.
    pub(crate) fn i32(&self, member: &Member) -> Option<i32> {
        self.u32(member).map(u32::cast_signed)
    }

    /// A pointer that is never null: one that is leads to a gap.
    pub(crate) fn address(&self, member: &Member) -> Option<Kva> {
        self.uint(member).map(Kva::at)
    }

    /// A pointer to what there may be none of.
    pub(crate) fn pointer(&self, member: &Member) -> Option<Kva> {
        self.address(member).filter(|&at| at != Kva::at(0))
    }

    /// The text in a member, up to its NUL.
    pub(crate) fn text(&self, member: &Member) -> Option<String> {
        let bytes = self.raw(member)?.split(|&byte| byte == 0).next();
        Some(printable(bytes.unwrap_or_default()))
    }
}
