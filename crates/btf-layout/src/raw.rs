//! A type as the bytes have it, and its decoding.

use std::marker::PhantomData;

use crate::btf::u32_at;
use crate::items::Items;
use crate::{Btf, Error, IntEncoding, Kind, RecordKind, Type, TypeId};

/// A type's fixed part, and what follows it.
pub(crate) struct RawType<'a> {
    /// The BTF that holds the type: the one asked, or its base.
    pub(crate) owner: &'a Btf,
    pub(crate) offset: u64,
    pub(crate) name_off: u32,
    pub(crate) info: Info,
    /// A size or a type id, as the kind says.
    pub(crate) word: u32,
    pub(crate) rest: &'a [u8],
}

/// A type's info word. Bits that older kernels did not use were zero, so the
/// wider fields of newer ones read old BTF as well.
#[derive(Clone, Copy)]
pub(crate) struct Info(pub(crate) u32);

impl Info {
    pub(crate) fn number(self) -> u8 {
        let [.., high] = self.0.to_le_bytes();
        high & 0x7f
    }

    pub(crate) fn kind(self) -> Option<Kind> {
        Kind::from_number(self.number()).filter(|&kind| kind != Kind::Void)
    }

    pub(crate) fn vlen(self) -> u32 {
        self.0 & 0xff_ffff
    }

    fn kind_flag(self) -> bool {
        self.0 >> 31 == 1
    }

    /// Bytes of one item behind the fixed part, and how many there are.
    pub(crate) fn items(self, kind: Kind) -> (u32, u32) {
        match kind {
            Kind::Int | Kind::Var | Kind::DeclTag => (4, 1),
            Kind::Array => (12, 1),
            Kind::Enum | Kind::FuncProto => (8, self.vlen()),
            Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => (12, self.vlen()),
            _ => (0, 0),
        }
    }
}

impl<'a> RawType<'a> {
    pub(crate) fn name(&self) -> Result<&'a str, Error> {
        self.owner.string(self.name_off)
    }

    /// Decodes the type, whose id is only needed for errors.
    pub(crate) fn decode(&self, id: TypeId) -> Result<Type<'a>, Error> {
        let Some(kind) = self.info.kind() else {
            return Err(Error::UnknownKind {
                id,
                kind: self.info.number(),
                offset: self.offset,
                origin: self.owner.origin().to_owned(),
            });
        };
        let name = self.name()?;
        let size = self.word;
        let target = TypeId(self.word);
        Ok(match kind {
            Kind::Void => Type::Void,
            Kind::Int => {
                let [bits, _unused, bit_offset, encoding] = self.item(0).to_le_bytes();
                Type::Int {
                    name,
                    size,
                    encoding: int_encoding(encoding),
                    bit_offset,
                    bits,
                }
            }
            Kind::Ptr => Type::Ptr { target },
            Kind::Array => Type::Array {
                element: TypeId(self.item(0)),
                index: TypeId(self.item(1)),
                len: self.item(2),
            },
            Kind::Struct | Kind::Union => Type::Record {
                kind: match kind {
                    Kind::Struct => RecordKind::Struct,
                    _ => RecordKind::Union,
                },
                name,
                size,
                members: self.items(kind),
            },
            Kind::Enum | Kind::Enum64 => Type::Enum {
                name,
                size,
                signed: self.info.kind_flag(),
                values: self.items(kind),
            },
            Kind::Fwd => Type::Fwd {
                kind: match self.info.kind_flag() {
                    true => RecordKind::Union,
                    false => RecordKind::Struct,
                },
                name,
            },
            Kind::Typedef => Type::Typedef { name, target },
            Kind::Volatile => Type::Volatile { target },
            Kind::Const => Type::Const { target },
            Kind::Restrict => Type::Restrict { target },
            Kind::Func => Type::Func {
                name,
                proto: target,
                linkage: self.info.vlen(),
            },
            Kind::FuncProto => Type::FuncProto {
                ret: target,
                params: self.items(kind),
            },
            Kind::Var => Type::Var {
                name,
                target,
                linkage: self.item(0),
            },
            Kind::Datasec => Type::Datasec {
                name,
                size,
                vars: self.items(kind),
            },
            Kind::Float => Type::Float { name, size },
            Kind::DeclTag => Type::DeclTag {
                name,
                target,
                component: Some(self.item(0)).filter(|&component| component != u32::MAX),
            },
            Kind::TypeTag => Type::TypeTag { name, target },
        })
    }

    /// One word behind the fixed part.
    fn item(&self, index: usize) -> u32 {
        u32_at(self.rest, index * 4).unwrap_or(0)
    }

    fn items<T>(&self, kind: Kind) -> Items<'a, T> {
        let (stride, count) = self.info.items(kind);
        let len = u64::from(stride) * u64::from(count);
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| self.rest.get(..len))
            .unwrap_or_default();
        Items {
            btf: self.owner,
            bytes,
            stride: usize::try_from(stride).unwrap_or(0).max(1),
            kind_flag: self.info.kind_flag(),
            item: PhantomData,
        }
    }
}

fn int_encoding(bits: u8) -> IntEncoding {
    match bits & 0xf {
        0 => IntEncoding::Unsigned,
        bits if bits & 4 != 0 => IntEncoding::Bool,
        bits if bits & 2 != 0 => IntEncoding::Char,
        _ => IntEncoding::Signed,
    }
}
