//! One type, decoded: what BTF says of it, with names borrowed from the BTF.

use std::fmt;

use crate::{Enumerators, Members, Params, SectionVars};

/// The number of a type in its BTF. 0 is `void`; the types of a split BTF go
/// on where its base's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TypeId(pub u32);

impl TypeId {
    /// `void`.
    pub const VOID: Self = Self(0);
}

impl fmt::Display for TypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! kinds {
    ($($number:literal $name:ident $text:literal,)*) => {
        /// What sort of type a type is (`BTF_KIND_*` of the UAPI).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = concat!($text, ", number ", stringify!($number), ".")] $name,)*
        }

        impl Kind {
            /// Every kind, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind's number in BTF.
            #[must_use]
            pub const fn number(self) -> u8 {
                match self { $(Self::$name => $number,)* }
            }

            /// The kind of this number.
            #[must_use]
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }

        impl fmt::Display for Kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $(Self::$name => $text,)* })
            }
        }
    };
}

kinds! {
    0 Void "void",
    1 Int "int",
    2 Ptr "pointer",
    3 Array "array",
    4 Struct "struct",
    5 Union "union",
    6 Enum "enum",
    7 Fwd "forward declaration",
    8 Typedef "typedef",
    9 Volatile "volatile",
    10 Const "const",
    11 Restrict "restrict",
    12 Func "function",
    13 FuncProto "function prototype",
    14 Var "variable",
    15 Datasec "data section",
    16 Float "float",
    17 DeclTag "declaration tag",
    18 TypeTag "type tag",
    19 Enum64 "enum64",
}

/// What an integer stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntEncoding {
    /// A number without sign.
    Unsigned,
    /// A number in two's complement.
    Signed,
    /// A character.
    Char,
    /// `true` or `false`.
    Bool,
}

/// Which of the two a forward declaration declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// A struct.
    Struct,
    /// A union.
    Union,
}

impl RecordKind {
    /// The kind of the type itself.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Struct => Kind::Struct,
            Self::Union => Kind::Union,
        }
    }
}

impl fmt::Display for RecordKind {
    /// The C keyword.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind().fmt(f)
    }
}

/// One type. Names are empty where the type has none.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Type<'a> {
    /// Nothing at all.
    Void,
    /// An integer of `size` bytes, of which `bits` from bit `bit_offset` on
    /// are the value (fewer than all only in old encodings of bit-fields).
    Int {
        /// Its name.
        name: &'a str,
        /// Bytes.
        size: u32,
        /// What it stands for.
        encoding: IntEncoding,
        /// The first bit of the value.
        bit_offset: u8,
        /// How many bits the value has.
        bits: u8,
    },
    /// A pointer.
    Ptr {
        /// What it points to.
        target: TypeId,
    },
    /// `len` elements in a row. A flexible array has none.
    Array {
        /// The type of an element.
        element: TypeId,
        /// The type that an index has.
        index: TypeId,
        /// How many elements.
        len: u32,
    },
    /// A struct or union.
    Record {
        /// Which of the two.
        kind: RecordKind,
        /// Its tag.
        name: &'a str,
        /// Bytes.
        size: u32,
        /// Its members, in order of declaration.
        members: Members<'a>,
    },
    /// An `enum` (of either BTF kind: `Enum` or `Enum64`).
    Enum {
        /// Its tag.
        name: &'a str,
        /// Bytes.
        size: u32,
        /// Whether values below zero are possible.
        signed: bool,
        /// Its enumerators.
        values: Enumerators<'a>,
    },
    /// A declaration whose definition is not in this BTF.
    Fwd {
        /// What is declared.
        kind: RecordKind,
        /// Its tag.
        name: &'a str,
    },
    /// Another name for a type.
    Typedef {
        /// The new name.
        name: &'a str,
        /// The type.
        target: TypeId,
    },
    /// A volatile type.
    Volatile {
        /// The type without it.
        target: TypeId,
    },
    /// A constant type.
    Const {
        /// The type without it.
        target: TypeId,
    },
    /// A restricted pointer.
    Restrict {
        /// The type without it.
        target: TypeId,
    },
    /// A function.
    Func {
        /// Its name.
        name: &'a str,
        /// Its prototype.
        proto: TypeId,
        /// 0 static, 1 global, 2 extern.
        linkage: u32,
    },
    /// What a function takes and returns.
    FuncProto {
        /// What it returns.
        ret: TypeId,
        /// What it takes.
        params: Params<'a>,
    },
    /// A global variable.
    Var {
        /// Its name.
        name: &'a str,
        /// Its type.
        target: TypeId,
        /// 0 static, 1 global, 2 extern.
        linkage: u32,
    },
    /// A section of an object file, with variables at offsets in it.
    Datasec {
        /// Its name, such as `.bss`.
        name: &'a str,
        /// Bytes.
        size: u32,
        /// The variables.
        vars: SectionVars<'a>,
    },
    /// A floating-point number.
    Float {
        /// Its name.
        name: &'a str,
        /// Bytes.
        size: u32,
    },
    /// A word attached to a declaration.
    DeclTag {
        /// The word.
        name: &'a str,
        /// What it is attached to.
        target: TypeId,
        /// The member or parameter, if it is not the whole.
        component: Option<u32>,
    },
    /// A word attached to a type.
    TypeTag {
        /// The word.
        name: &'a str,
        /// The type without it.
        target: TypeId,
    },
}

impl Type<'_> {
    /// The type's kind, except that an enum of 64 bits answers `Enum` too.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Void => Kind::Void,
            Self::Int { .. } => Kind::Int,
            Self::Ptr { .. } => Kind::Ptr,
            Self::Array { .. } => Kind::Array,
            Self::Record { kind, .. } => kind.kind(),
            Self::Enum { .. } => Kind::Enum,
            Self::Fwd { .. } => Kind::Fwd,
            Self::Typedef { .. } => Kind::Typedef,
            Self::Volatile { .. } => Kind::Volatile,
            Self::Const { .. } => Kind::Const,
            Self::Restrict { .. } => Kind::Restrict,
            Self::Func { .. } => Kind::Func,
            Self::FuncProto { .. } => Kind::FuncProto,
            Self::Var { .. } => Kind::Var,
            Self::Datasec { .. } => Kind::Datasec,
            Self::Float { .. } => Kind::Float,
            Self::DeclTag { .. } => Kind::DeclTag,
            Self::TypeTag { .. } => Kind::TypeTag,
        }
    }
}
