//! What can be wrong with BTF, or missing from it.

use thiserror::Error;

use crate::{Kind, TypeId};

/// Why BTF could not answer. Every text names the BTF's origin, so that it
/// says which kernel or program lacks what.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Error {
    /// No type of this name.
    #[error("no type `{name}` in the BTF of {origin}")]
    MissingType {
        /// The name that was looked for.
        name: String,
        /// Whose BTF.
        origin: String,
    },
    /// A struct or union without the member.
    #[error("{record} has no member {member} in the BTF of {origin}")]
    MissingMember {
        /// The struct or union, such as `struct bpf_map`.
        record: String,
        /// The member's path; alternatives are joined by `or`.
        member: String,
        /// Whose BTF.
        origin: String,
    },
    /// A type that was expected to be a struct or union.
    #[error("`{name}` is no struct or union in the BTF of {origin}")]
    NotRecord {
        /// The type's spelling.
        name: String,
        /// Whose BTF.
        origin: String,
    },
    /// A type of which no object can exist, such as a forward declaration.
    #[error("a {kind} (type {id}) has no size in the BTF of {origin}")]
    Unsized {
        /// The type.
        id: TypeId,
        /// What it is.
        kind: Kind,
        /// Whose BTF.
        origin: String,
    },
    /// An id that no type has.
    #[error("no type {id} in the BTF of {origin}")]
    BadId {
        /// The id.
        id: TypeId,
        /// Whose BTF.
        origin: String,
    },
    /// A kind that this version does not know. If BTF does not carry the
    /// kind's layout, what follows it cannot be read either.
    #[error("type {id} at byte {offset:#x} has unknown kind {kind} in the BTF of {origin}")]
    UnknownKind {
        /// The type.
        id: TypeId,
        /// The kind's number.
        kind: u8,
        /// Where the type is, from the first byte of the BTF.
        offset: u64,
        /// Whose BTF.
        origin: String,
    },
    /// The bytes are no BTF, or of the other byte order, or of a version that
    /// this crate does not read.
    #[error("the BTF of {origin} cannot be read: {what}")]
    Unsupported {
        /// What is the matter.
        what: &'static str,
        /// Whose BTF.
        origin: String,
    },
    /// BTF that contradicts itself.
    #[error("the BTF of {origin} is malformed at byte {offset:#x}: {what}")]
    Malformed {
        /// What is the matter.
        what: &'static str,
        /// Where, from the first byte of the BTF.
        offset: u64,
        /// Whose BTF.
        origin: String,
    },
}
