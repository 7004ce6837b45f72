//! Objects in the bytes of a value: where each is, and what its bits say.

#[cfg(test)]
mod tests;

use bpfmaps::{Bytes, Cpus, ProgInfo};
use btf_layout::BitRange;

use crate::follow::{Pointer, Site};
use crate::shape::{Array, EnumTable, Flavour, Form, Int, Member, Node, Shape, Text};
use crate::special::{Place, SpecialField};

/// An object of a known type at an offset of a value.
#[derive(Clone, Copy)]
pub(crate) struct Object<'a> {
    pub(crate) node: &'a Node,
    /// The bytes of the whole value that could be read.
    present: &'a [u8],
    /// Bytes from the value's start.
    at: u64,
    /// Where a flexible array in this object ends.
    end: u64,
    /// The bits that the object consists of, from the value's start.
    bits: Option<BitRange>,
    /// Where the value has special fields, if it has any.
    place: Option<&'a Place<'a>>,
    /// Where its pointers are followed from, if they are.
    site: Option<&'a Site<'a>>,
}

/// What an object that is no aggregate says.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Unsigned(u64),
    Signed(i64),
    /// Numbers of more than 64 bits.
    UnsignedWide(u128),
    SignedWide(i128),
    Char(u8),
    Bool(bool),
    Float(f64),
    /// A float of 32 bits or fewer, whose shortest spelling is its own.
    Single(f32),
    Pointer(u64),
    /// A program's id, and what is known of it; 0 for none.
    Program(u64, Option<&'a ProgInfo>),
    Enum(&'a EnumTable, u64),
    /// Bytes that say nothing, and why.
    Opaque(&'a [u8], &'a str),
}

impl<'a> Object<'a> {
    pub(crate) fn new(shape: &'a Shape, bytes: Bytes<'a>) -> Self {
        Self {
            node: &shape.root,
            present: bytes.present,
            at: 0,
            end: bytes.len,
            bits: None,
            place: None,
            site: None,
        }
    }

    /// The same object, whose pointers are followed.
    pub(crate) fn following(self, site: &'a Site<'a>) -> Self {
        Self {
            site: Some(site),
            ..self
        }
    }

    /// Whether pointers in it may be followed, or it is one.
    pub(crate) fn has_followed(&self) -> bool {
        self.site.is_some() && self.node.pointers
    }

    /// Where its pointers are followed from, and what it leads to, if it is a
    /// pointer that somebody asked for.
    pub(crate) fn follow(&self) -> Option<(&'a Site<'a>, Pointer)> {
        let site = self.site?;
        match (&self.node.form, self.scalar()?) {
            (Form::Pointer(target), Scalar::Pointer(value)) if self.node.pointers => {
                Some((site, site.meet(value, *target)?))
            }
            _ => None,
        }
    }

    /// The same object of a value that has special fields.
    pub(crate) fn within(self, place: &'a Place<'a>) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }

    /// The special field that it is, if it is one.
    pub(crate) fn special(&self) -> Option<SpecialField<'a>> {
        self.place?.field(self.node, self.at, self.present)
    }

    /// Whether there are special fields in it, or it is one.
    fn has_special(&self) -> bool {
        self.place
            .is_some_and(|place| place.has_any(self.at, self.size()))
    }

    pub(crate) fn member(&self, member: &'a Member) -> Self {
        let at = self.at.saturating_add(member.offset);
        let size = member.node.size;
        Self {
            node: &member.node,
            present: self.present,
            at,
            end: match member.last {
                true => self.end,
                false => at.saturating_add(size),
            },
            bits: member.bits.map(|bits| BitRange {
                offset: self.at.saturating_mul(8).saturating_add(bits.offset),
                len: bits.len,
            }),
            place: self.place,
            site: self.site,
        }
    }

    /// How many elements an array has: a flexible one, as many as fit.
    pub(crate) fn element_count(&self, array: &Array) -> u64 {
        match (array.len, array.element.size) {
            (0, 0) => 0,
            (0, size) => self.end.saturating_sub(self.at) / size,
            (len, _) => len,
        }
    }

    /// The elements of which something could be read, and behind them one
    /// that stands for all that are missing.
    pub(crate) fn elements(&self, array: &'a Array) -> impl Iterator<Item = Self> + use<'a> {
        let array_object = *self;
        let mut is_missing = false;
        (0..self.element_count(array)).map_while(move |index| {
            let element = array_object.element(array, index);
            let is_first = !is_missing;
            is_missing = element.is_missing();
            is_first.then_some(element)
        })
    }

    pub(crate) fn element(&self, array: &'a Array, index: u64) -> Self {
        let size = array.element.size;
        let at = self.at.saturating_add(index.saturating_mul(size));
        Self {
            node: &array.element,
            present: self.present,
            at,
            end: at.saturating_add(size),
            bits: None,
            place: self.place,
            site: self.site,
        }
    }

    /// Whether the object's type says nothing of its size, so that it goes on
    /// to where its surroundings end.
    fn size(&self) -> u64 {
        match &self.node.form {
            Form::Array(array) if array.len == 0 => {
                self.element_count(array).saturating_mul(array.element.size)
            }
            Form::Opaque(_) if self.node.size == 0 => self.end.saturating_sub(self.at),
            _ => self.node.size,
        }
    }

    /// Whether not even the first byte could be read.
    pub(crate) fn is_missing(&self) -> bool {
        let first = match self.bits {
            Some(bits) => bits.offset / 8,
            None => self.at,
        };
        first >= self.present.len() as u64 && self.size() > 0
    }

    /// The object's bytes, as far as they could be read.
    pub(crate) fn present(&self) -> &'a [u8] {
        let rest = usize::try_from(self.at)
            .ok()
            .and_then(|at| self.present.get(at..))
            .unwrap_or_default();
        let size = usize::try_from(self.size()).unwrap_or(usize::MAX);
        rest.get(..size).unwrap_or(rest)
    }

    /// Whether it could be read and is zero throughout. What a special field
    /// holds is more than its bytes say.
    pub(crate) fn is_zero(&self) -> bool {
        match self.bits {
            _ if self.has_special() => false,
            Some(_) => self.raw().is_some_and(|(raw, _)| raw == 0),
            None => self
                .whole()
                .is_some_and(|bytes| bytes.iter().all(|&byte| byte == 0)),
        }
    }

    /// The text of an array of characters: printable up to a NUL.
    pub(crate) fn text(&self, array: &Array) -> Option<&'a str> {
        if array.text == Text::No {
            return None;
        }
        let bytes = self.present();
        let nul = bytes.iter().position(|&byte| byte == 0)?;
        let text = std::str::from_utf8(bytes.get(..nul)?).ok()?;
        let printable = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
        text.chars().all(printable).then_some(text)
    }

    /// The same for people, who also read letters that no NUL ends.
    pub(crate) fn letters(&self, array: &Array) -> Option<&'a str> {
        let filled = || {
            let bytes = self.whole().filter(|_| array.text != Text::No)?;
            let printable = |&byte: &u8| matches!(byte, b' '..=b'~');
            let is_text = !bytes.is_empty() && bytes.iter().all(printable);
            std::str::from_utf8(bytes).ok().filter(|_| is_text)
        };
        self.text(array).or_else(filled)
    }

    /// The CPUs in a `struct cpumask`, as the kernel prints them, if the
    /// object is one and all of it could be read.
    pub(crate) fn cpus(&self) -> Option<Cpus> {
        let Form::Record(record) = &self.node.form else {
            return None;
        };
        let is_mask = *record.name == *"cpumask"
            && matches!(&*record.members, [bits] if *bits.name == *"bits");
        let bytes = self.whole().filter(|_| is_mask)?;
        let bits = |(at, &byte): (u32, &u8)| {
            let set = (0..8).filter(move |bit| byte >> bit & 1 == 1);
            set.map(move |bit| at * 8 + bit)
        };
        Some(Cpus((0..).zip(bytes).flat_map(bits).collect()))
    }

    /// What the object says; `None` if not all of it could be read, or if it
    /// is an aggregate.
    pub(crate) fn scalar(&self) -> Option<Scalar<'a>> {
        Some(match &self.node.form {
            Form::Int(int) => {
                let (raw, bits) = self.raw()?;
                integer(*int, raw, bits)
            }
            Form::Enum(table) => {
                let (raw, bits) = self.raw()?;
                Scalar::Enum(table, table.extend(low_half(raw), bits))
            }
            Form::Pointer(_) => Scalar::Pointer(low_half(self.raw()?.0)),
            Form::Program(progs) => {
                let id = low_half(self.raw()?.0);
                let prog = u32::try_from(id).ok().and_then(|id| progs.find(id));
                Scalar::Program(id, prog)
            }
            Form::Float => match *self.whole()? {
                [a, b] => Scalar::Single(half(u16::from_le_bytes([a, b]))),
                [a, b, c, d] => Scalar::Single(f32::from_le_bytes([a, b, c, d])),
                [a, b, c, d, e, f, g, h] => {
                    Scalar::Float(f64::from_le_bytes([a, b, c, d, e, f, g, h]))
                }
                _ => Scalar::Opaque(self.present(), "a float of this size is not known"),
            },
            Form::Opaque(why) => Scalar::Opaque(self.whole()?, why),
            Form::Record(_) | Form::Array(_) => return None,
        })
    }

    /// The object's bytes, if all of them could be read.
    pub(crate) fn whole(&self) -> Option<&'a [u8]> {
        Some(self.present()).filter(|bytes| bytes.len() as u64 == self.size())
    }

    /// The bits, from the value's start, of a bit-field of a record.
    pub(crate) fn bits(&self) -> Option<BitRange> {
        self.bits
    }

    /// The object's bits, zero-extended, and how many they are.
    pub(crate) fn raw(&self) -> Option<(u128, u32)> {
        let range = match (self.bits, &self.node.form) {
            (Some(bits), _) => bits,
            (None, Form::Int(int)) if !int.whole => BitRange {
                offset: self.at.saturating_mul(8) + u64::from(int.bit_offset),
                len: int.bits,
            },
            (None, _) => return self.raw_bytes(),
        };
        bits(self.present, range).map(|raw| (raw, range.len))
    }

    /// The same for what consists of whole bytes.
    fn raw_bytes(&self) -> Option<(u128, u32)> {
        let bytes = self.present.get(usize::try_from(self.at).ok()?..)?;
        let raw = match self.node.size {
            1 => u128::from(*bytes.first()?),
            2 => u128::from(u16::from_le_bytes(*bytes.first_chunk()?)),
            4 => u128::from(u32::from_le_bytes(*bytes.first_chunk()?)),
            8 => u128::from(u64::from_le_bytes(*bytes.first_chunk()?)),
            16 => u128::from_le_bytes(*bytes.first_chunk()?),
            size @ 0..16 => little_endian(bytes.get(..usize::try_from(size).ok()?)?),
            _ => return None,
        };
        Some((raw, u32::try_from(self.node.size * 8).ok()?))
    }
}

fn integer(int: Int, raw: u128, bits: u32) -> Scalar<'static> {
    match int.flavour {
        Flavour::Bool if raw <= 1 => Scalar::Bool(raw == 1),
        Flavour::Char if bits == 8 => Scalar::Char(raw.to_le_bytes()[0]),
        Flavour::Signed => {
            let shift = 128 - bits.clamp(1, 128);
            let value = (raw << shift).cast_signed() >> shift;
            i64::try_from(value)
                .ok()
                .filter(|_| bits <= 64)
                .map_or(Scalar::SignedWide(value), Scalar::Signed)
        }
        _ => u64::try_from(raw)
            .ok()
            .filter(|_| bits <= 64)
            .map_or(Scalar::UnsignedWide(raw), Scalar::Unsigned),
    }
}

fn low_half(raw: u128) -> u64 {
    u64::try_from(raw & u128::from(u64::MAX)).unwrap_or(0)
}

/// Up to 128 bits at any bit offset.
fn bits(bytes: &[u8], range: BitRange) -> Option<u128> {
    if range.len == 0 || range.len > 128 {
        return None;
    }
    let last = range.offset.checked_add(u64::from(range.len) - 1)? / 8;
    let first = usize::try_from(range.offset / 8).ok()?;
    let bytes = bytes.get(first..=usize::try_from(last).ok()?)?;
    let shift = u32::try_from(range.offset % 8).ok()?;
    let (low, high) = bytes.split_at(bytes.len().min(16));
    let low = little_endian(low) >> shift;
    // A 17th byte is only there if the range is shifted.
    let high = match shift {
        0 => 0,
        shift => little_endian(high) << (128 - shift),
    };
    Some((low | high) & (u128::MAX >> (128 - range.len)))
}

/// Up to 16 bytes.
fn little_endian(bytes: &[u8]) -> u128 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u128::from(byte))
}

/// A float of 16 bits (IEEE 754 binary16).
fn half(bits: u16) -> f32 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    match bits >> 10 & 0x1f {
        0 => sign * fraction * 2_f32.powi(-14),
        31 if bits & 0x3ff == 0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1.0 + fraction) * 2_f32.powi(i32::from(exponent) - 15),
    }
}
