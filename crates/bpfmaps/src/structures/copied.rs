//! A kernel object, copied out of memory once.

use btf_layout::{Btf, Member, Record, Type};
use guestmem::{Fault, Kva, Memory, MemoryExt};

use super::bytes;
use crate::Error;

/// No struct that is copied whole is larger in any kernel.
const LARGEST: u64 = 64 << 10;

/// The bytes of a struct and where they come from.
#[derive(Debug)]
pub(crate) struct Copied {
    bytes: Vec<u8>,
}

impl Copied {
    /// Copies `size` bytes, which BTF says and is not believed beyond reason.
    pub(crate) fn load(memory: &dyn Memory<Kva>, at: Kva, size: u64) -> Result<Self, Fault<Kva>> {
        let read = memory.read_up_to(at, size.min(LARGEST));
        match read.fault {
            Some(fault) => Err(fault),
            None => Ok(Self { bytes: read.bytes }),
        }
    }

    /// Copies the object that a map is, for callers who cannot go on without.
    pub(crate) fn object(
        memory: &dyn Memory<Kva>,
        at: Kva,
        size: u64,
        what: &'static str,
    ) -> Result<Self, Error> {
        Self::load(memory, at, size).map_err(|source| Error::Unreadable { what, source })
    }

    /// A struct of which somebody else has the bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
        }
    }

    /// An unsigned member of 1, 2, 4 or 8 bytes. A member that BTF places
    /// outside of its struct is 0, as it cannot have been copied.
    pub(crate) fn uint(&self, member: &Member) -> u64 {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(self.raw(member)) {
            *to = *from;
        }
        u64::from_le_bytes(word)
    }

    /// The lower half of a member, for those that have no more.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "used for members that BTF gives 4 bytes"
    )]
    pub(crate) fn u32(&self, member: &Member) -> u32 {
        self.uint(member) as u32
    }

    /// A member as an address.
    pub(crate) fn pointer(&self, member: &Member) -> Kva {
        Kva::at(self.uint(member))
    }

    /// The bytes of a member.
    pub(crate) fn raw(&self, member: &Member) -> &[u8] {
        bytes::part(&self.bytes, member.offset, member.size).unwrap_or_default()
    }

    /// The text in a member, up to its NUL.
    pub(crate) fn text(&self, member: &Member) -> String {
        let bytes = self.raw(member).split(|&byte| byte == 0).next();
        printable(bytes.unwrap_or_default())
    }
}

/// A name of the kernel's or a file's as text. Control characters are replaced
/// like bytes that are no UTF-8.
pub(crate) fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace(char::is_control, "\u{fffd}")
}

/// The struct that the pointer `member` points at.
///
/// Safer than its name where several structs of the kernel share one.
pub(crate) fn pointee<'b>(btf: &'b Btf, member: &Member) -> Result<Record<'b>, btf_layout::Error> {
    match btf.resolve(member.ty)?.1 {
        Type::Ptr { target } => btf.record_by_id(target),
        _ => btf.record_by_id(member.ty),
    }
}
