//! What types are made of: members, enumerators, parameters, variables.

use std::fmt;
use std::marker::PhantomData;

use crate::btf::u32_at;
use crate::{Btf, Error, TypeId};

/// A member as the record itself declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawMember<'a> {
    /// Its name; empty for an anonymous struct or union.
    pub name: &'a str,
    /// Its type.
    pub ty: TypeId,
    /// Bits from the record's start.
    pub bit_offset: u64,
    /// The length of a bit-field that the record declares. Old BTF says it in
    /// the member's integer type instead; [`Record`](crate::Record) knows both.
    pub bit_len: Option<u8>,
}

/// One enumerator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enumerator<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its value, in 32 bits signed or not, or 64 bits signed or not.
    pub value: i128,
}

/// One parameter of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Its name, often empty.
    pub name: &'a str,
    /// Its type; `void` at the end for `...`.
    pub ty: TypeId,
}

/// One variable's place in a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SectionVar {
    /// The variable, a [`Type::Var`](crate::Type::Var).
    pub var: TypeId,
    /// Bytes from the section's start.
    pub offset: u32,
    /// Bytes.
    pub size: u32,
}

/// The parts of a type, decoded one by one.
pub struct Items<'a, T> {
    pub(crate) btf: &'a Btf,
    pub(crate) bytes: &'a [u8],
    /// Bytes of one item; never 0.
    pub(crate) stride: usize,
    /// Bit 31 of the type's info word; its meaning is the kind's.
    pub(crate) kind_flag: bool,
    pub(crate) item: PhantomData<T>,
}

/// The members of a struct or union.
pub type Members<'a> = Items<'a, RawMember<'a>>;
/// The enumerators of an enum.
pub type Enumerators<'a> = Items<'a, Enumerator<'a>>;
/// The parameters of a function.
pub type Params<'a> = Items<'a, Param<'a>>;
/// The variables of a section.
pub type SectionVars<'a> = Items<'a, SectionVar>;

impl<T> Clone for Items<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Items<'_, T> {}

impl<'a, T: Item<'a>> Iterator for Items<'a, T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (item, rest) = self.bytes.split_at_checked(self.stride)?;
        self.bytes = rest;
        let word = |index: usize| u32_at(item, index * 4).unwrap_or(0);
        Some(T::decode(self, word))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.bytes.len() / self.stride;
        (left, Some(left))
    }
}

impl<'a, T: Item<'a>> ExactSizeIterator for Items<'a, T> {}

impl<'a, T: Item<'a> + fmt::Debug> fmt::Debug for Items<'a, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// What a type can be made of.
pub trait Item<'a>: sealed::Sealed + Sized {
    /// Decodes one item from its words.
    #[doc(hidden)]
    fn decode(of: &Items<'a, Self>, word: impl Fn(usize) -> u32) -> Result<Self, Error>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::RawMember<'_> {}
    impl Sealed for super::Enumerator<'_> {}
    impl Sealed for super::Param<'_> {}
    impl Sealed for super::SectionVar {}
}

impl<'a> Item<'a> for RawMember<'a> {
    fn decode(of: &Items<'a, Self>, word: impl Fn(usize) -> u32) -> Result<Self, Error> {
        let offset = word(2);
        let [low, middle, high, bit_len] = offset.to_le_bytes();
        let (bit_offset, bit_len) = if of.kind_flag {
            let bit_len = (bit_len > 0).then_some(bit_len);
            (u32::from_le_bytes([low, middle, high, 0]), bit_len)
        } else {
            (offset, None)
        };
        Ok(Self {
            name: of.btf.string(word(0))?,
            ty: TypeId(word(1)),
            bit_offset: u64::from(bit_offset),
            bit_len,
        })
    }
}

impl<'a> Item<'a> for Enumerator<'a> {
    fn decode(of: &Items<'a, Self>, word: impl Fn(usize) -> u32) -> Result<Self, Error> {
        let wide = of.stride > 8;
        let high = if wide { u64::from(word(2)) } else { 0 };
        let value = u64::from(word(1)) | high << 32;
        Ok(Self {
            name: of.btf.string(word(0))?,
            value: match (of.kind_flag, wide) {
                (false, _) => i128::from(value),
                (true, true) => i128::from(value.cast_signed()),
                (true, false) => i128::from(word(1).cast_signed()),
            },
        })
    }
}

impl<'a> Item<'a> for Param<'a> {
    fn decode(of: &Items<'a, Self>, word: impl Fn(usize) -> u32) -> Result<Self, Error> {
        Ok(Self {
            name: of.btf.string(word(0))?,
            ty: TypeId(word(1)),
        })
    }
}

impl<'a> Item<'a> for SectionVar {
    fn decode(_of: &Items<'a, Self>, word: impl Fn(usize) -> u32) -> Result<Self, Error> {
        Ok(Self {
            var: TypeId(word(0)),
            offset: word(1),
            size: word(2),
        })
    }
}
