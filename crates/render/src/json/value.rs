//! Values as JSON.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::follow::PointerJson;
use super::special::SpecialJson;
use crate::hex::Hex;
use crate::object::{Object, Scalar};
use crate::shape::{EnumText, Form, Record};

/// Integers and floats are numbers, 128-bit integers decimal strings, enums
/// their names, pointers hexadecimal strings (or objects that tell what they
/// lead to), the programs of a `struct_ops`
/// map objects, records objects (CPU masks lists of CPUs such as `0-3,8`, anonymous
/// members among the others), arrays arrays, or strings where they are text.
/// What could not be read is `null`, and nothing else is; one `null` ends an
/// array of which the rest is missing.
impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Some(field) = self.special() {
            return SpecialJson(field).serialize(serializer);
        }
        if let Some((site, pointer)) = self.follow() {
            return PointerJson(pointer, site).serialize(serializer);
        }
        match &self.node.form {
            _ if self.is_missing() => serializer.serialize_unit(),
            Form::Record(record) => {
                if let Some(cpus) = self.cpus() {
                    return serializer.collect_str(&cpus);
                }
                let mut map = serializer.serialize_map(None)?;
                members(&mut map, self, record)?;
                map.end()
            }
            Form::Array(array) => {
                if let Some(text) = self.text(array) {
                    return serializer.serialize_str(text);
                }
                serializer.collect_seq(self.elements(array))
            }
            _ => match self.scalar() {
                Some(value) => scalar(value, serializer),
                None => serializer.serialize_unit(),
            },
        }
    }
}

fn members<M: SerializeMap>(
    map: &mut M,
    object: &Object<'_>,
    record: &Record,
) -> Result<(), M::Error> {
    for member in &record.members {
        let value = object.member(member);
        match member.anonymous() {
            Some(record) => members(map, &value, record)?,
            None => map.serialize_entry(&*member.label, &value)?,
        }
    }
    Ok(())
}

fn scalar<S: Serializer>(value: Scalar<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Scalar::Unsigned(value) => serializer.serialize_u64(value),
        Scalar::Signed(value) => serializer.serialize_i64(value),
        Scalar::UnsignedWide(value) => serializer.collect_str(&value),
        Scalar::SignedWide(value) => serializer.collect_str(&value),
        Scalar::Char(value) => serializer.serialize_u8(value),
        Scalar::Bool(value) => serializer.serialize_bool(value),
        Scalar::Float(value) if value.is_finite() => serializer.serialize_f64(value),
        Scalar::Float(value) => serializer.collect_str(&value),
        Scalar::Single(value) if value.is_finite() => serializer.serialize_f32(value),
        Scalar::Single(value) => serializer.collect_str(&value),
        Scalar::Pointer(value) => serializer.collect_str(&Address(value)),
        Scalar::Program(0, _) => serializer.collect_str(&Address(0)),
        Scalar::Program(id, prog) => {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("prog", &id)?;
            if let Some(prog) = prog {
                map.serialize_entry("name", &prog.name)?;
            }
            map.end()
        }
        Scalar::Enum(table, bits) => match table.text(bits) {
            EnumText::Name(name) => serializer.serialize_str(name),
            EnumText::Flags(flags) => serializer.collect_str(&flags),
            EnumText::Number => serializer.serialize_i128(table.number(bits)),
        },
        Scalar::Opaque(bytes, why) => {
            let mut map = serializer.serialize_map(None)?;
            map.serialize_entry("hex", &Text(Hex(bytes)))?;
            map.serialize_entry("why", why)?;
            map.end()
        }
    }
}

/// Serializes as what it displays.
pub(crate) struct Text<T>(pub(crate) T);

impl<T: std::fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Displays as a hexadecimal address.
pub(crate) struct Address(pub(crate) u64);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
