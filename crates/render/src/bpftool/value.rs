//! Values as bpftool formats them.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::hex::Hex;
use crate::json::Text as Shown;
use crate::object::{Object, Scalar};
use crate::shape::{Array, Flavour, Form, RecordForm, Text};

/// As bpftool differs from our own JSON: members of anonymous records stay in
/// an object named `""`, bit-fields and 128-bit integers are hexadecimal
/// strings, pointers are decimal numbers, flag sets without a name of their
/// own are numbers, a section is an array of variables.
pub(super) struct Formatted<'a>(pub(super) Object<'a>);

impl Serialize for Formatted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let object = self.0;
        match &object.node.form {
            _ if object.is_missing() => serializer.serialize_unit(),
            Form::Record(record) if record.form == RecordForm::Section => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry(&*record.name, &Variables(object))?;
                map.end()
            }
            Form::Record(record) => {
                let mut map = serializer.serialize_map(Some(record.members.len()))?;
                for member in &record.members {
                    map.serialize_entry(&*member.name, &Self(object.member(member)))?;
                }
                map.end()
            }
            Form::Array(array) => match text(&object, array) {
                Some(text) => serializer.serialize_str(text),
                None if array.len == 0 => serializer.serialize_seq(Some(0))?.end(),
                None => serializer.collect_seq(object.elements(array).map(Self)),
            },
            _ => scalar(&object, serializer),
        }
    }
}

/// The variables of a section, each in an object of its own.
struct Variables<'a>(Object<'a>);

impl Serialize for Variables<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Form::Record(record) = &self.0.node.form else {
            return serializer.serialize_seq(Some(0))?.end();
        };
        let mut seq = serializer.serialize_seq(Some(record.members.len()))?;
        for member in &record.members {
            let value = Formatted(self.0.member(member));
            seq.serialize_element(&Variable(&member.name, value))?;
        }
        seq.end()
    }
}

struct Variable<'a>(&'a str, Formatted<'a>);

impl Serialize for Variable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

/// Only `char` by that name, and only printable ASCII, is text. It gives a
/// flexible array no elements.
fn text<'a>(object: &Object<'a>, array: &Array) -> Option<&'a str> {
    if array.text != Text::Char || array.len == 0 {
        return None;
    }
    let bytes = object.present();
    let nul = bytes.iter().position(|&byte| byte == 0)?;
    let text = std::str::from_utf8(bytes.get(..nul)?).ok()?;
    text.bytes()
        .all(|byte| matches!(byte, b' '..=b'~'))
        .then_some(text)
}

fn scalar<S: Serializer>(object: &Object<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let Some(scalar) = object.scalar() else {
        return serializer.serialize_unit();
    };
    let (raw, bits) = object.raw().unwrap_or_default();
    if is_hexadecimal(object, bits) {
        return serializer.collect_str(&format_args!("{raw:#x}"));
    }
    match scalar {
        _ if is_bool(object) => serializer.serialize_bool(raw & 0xff != 0),
        Scalar::Unsigned(value) => serializer.serialize_u64(value),
        Scalar::Signed(value) => serializer.serialize_i64(value),
        Scalar::Pointer(value) | Scalar::Program(value, _) => serializer.serialize_u64(value),
        Scalar::Char(value) => serializer.serialize_char(char::from(value)),
        Scalar::Bool(value) => serializer.serialize_bool(value),
        Scalar::Enum(table, value) => {
            let number = sign_extended(value, bits);
            // It compares a sign-extended value with the enumerators.
            let known = bits >= 32 || number >= 0 || table.signed;
            match table.exact(value).filter(|_| known) {
                Some(name) => serializer.serialize_str(name),
                None => serializer.serialize_i64(number),
            }
        }
        // From here on bpftool has no valid JSON to compare with.
        Scalar::Float(value) if value.is_finite() => serializer.serialize_f64(value),
        Scalar::Float(value) => serializer.collect_str(&value),
        Scalar::Single(value) if value.is_finite() => serializer.serialize_f32(value),
        Scalar::Single(value) => serializer.collect_str(&value),
        Scalar::Opaque(bytes, _) => serializer.collect_str(&Hex(bytes)),
        Scalar::UnsignedWide(value) => serializer.serialize_some(&Shown(value)),
        Scalar::SignedWide(value) => serializer.serialize_some(&Shown(value)),
    }
}

/// Whether an integer or enum is shown as its bits: one that is a bit-field,
/// or that has no size which C can print.
fn is_hexadecimal(object: &Object<'_>, bits: u32) -> bool {
    let Form::Int(int) = &object.node.form else {
        return object.bits().is_some();
    };
    let is_bits = match object.bits() {
        // Old BTF has the length of a bit-field in the integer itself. Whole
        // bytes among these are no bit-fields to bpftool.
        Some(range) if !int.whole => {
            int.bit_offset != 0 || range.offset % 8 != 0 || int.bits % 8 != 0
        }
        range => range.is_some(),
    };
    let printable = match int.flavour {
        Flavour::Unsigned | Flavour::Signed => matches!(bits, 8 | 16 | 32 | 64),
        Flavour::Char | Flavour::Bool => true,
    };
    is_bits || !printable
}

fn is_bool(object: &Object<'_>) -> bool {
    matches!(&object.node.form, Form::Int(int) if int.flavour == Flavour::Bool)
}

fn sign_extended(value: u64, bits: u32) -> i64 {
    let shift = 64 - bits.clamp(1, 64);
    (value << shift).cast_signed() >> shift
}
