//! Typed values, built without a compiler's help: the bytes in memory and what the types make
//! of them, side by side.

use serde_json::{Map, Value, json};

/// One value of some C type.
#[derive(Debug, Clone)]
pub(crate) struct Datum {
    pub(crate) bytes: Vec<u8>,
    align: usize,
    /// What a typed dump says; null where nothing is said about it.
    pub(crate) json: Value,
}

impl Datum {
    /// The same value of a type with another alignment.
    pub(crate) fn aligned(self, align: usize) -> Self {
        Self { align, ..self }
    }
}

/// A C scalar.
pub(crate) trait Scalar: Copy {
    /// Its bytes on a little-endian machine.
    fn to_bytes(self) -> Vec<u8>;
    /// Its place in JSON.
    fn to_json(self) -> Value;
}

macro_rules! scalars {
    ($($kind:ty: $value:ident => $json:expr;)*) => {
        $(impl Scalar for $kind {
            fn to_bytes(self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn to_json(self) -> Value {
                let $value = self;
                $json
            }
        })*
    };
}

scalars! {
    u8: value => json!(value);
    i8: value => json!(value);
    u16: value => json!(value);
    i16: value => json!(value);
    u32: value => json!(value);
    i32: value => json!(value);
    u64: value => json!(value);
    i64: value => json!(value);
    // Beyond what JSON's numbers carry safely: a string, as in bpfreeze's own documents.
    u128: value => json!(value.to_string());
    i128: value => json!(value.to_string());
    f32: value => json!(value);
    f64: value => json!(value);
}

impl Scalar for bool {
    fn to_bytes(self) -> Vec<u8> {
        vec![u8::from(self)]
    }
    fn to_json(self) -> Value {
        json!(self)
    }
}

/// A number.
pub(crate) fn num<T: Scalar>(value: T) -> Datum {
    let bytes = value.to_bytes();
    Datum {
        align: bytes.len(),
        bytes,
        json: value.to_json(),
    }
}

/// A scalar that a typed dump shows in another way: an enumerator's name, a pointer's text.
pub(crate) fn shown<T: Scalar>(value: T, json: impl Into<Value>) -> Datum {
    Datum {
        json: json.into(),
        ..num(value)
    }
}

/// A pointer.
pub(crate) fn pointer(address: u64) -> Datum {
    shown(address, format!("0x{address:x}"))
}

/// A char array that holds a NUL-terminated text.
pub(crate) fn text(size: usize, value: &str) -> Datum {
    let mut bytes = value.as_bytes().to_vec();
    bytes.resize(size, 0);
    Datum {
        bytes,
        align: 1,
        json: json!(value),
    }
}

/// A char array that holds something else; how it is shown is left open.
pub(crate) fn chars(bytes: &[u8]) -> Datum {
    Datum {
        bytes: bytes.to_vec(),
        align: 1,
        json: Value::Null,
    }
}

/// An array.
pub(crate) fn list(items: impl IntoIterator<Item = Datum>) -> Datum {
    let mut whole = Datum {
        bytes: Vec::new(),
        align: 1,
        json: Value::Null,
    };
    let mut json = Vec::new();
    for item in items {
        whole.align = whole.align.max(item.align);
        whole.bytes.extend(item.bytes);
        json.push(item.json);
    }
    whole.json = Value::Array(json);
    whole
}

/// A struct. A member whose name is empty has none: its own members are the struct's.
pub(crate) fn record<'a>(members: impl IntoIterator<Item = (&'a str, Datum)>) -> Datum {
    lay_out(members, usize::MAX)
}

/// A struct with `__attribute__((packed))`.
pub(crate) fn packed<'a>(members: impl IntoIterator<Item = (&'a str, Datum)>) -> Datum {
    lay_out(members, 1)
}

fn lay_out<'a>(members: impl IntoIterator<Item = (&'a str, Datum)>, most: usize) -> Datum {
    let (mut bytes, mut align, mut json) = (Vec::new(), 1, Map::new());
    for (name, member) in members {
        let wanted = member.align.min(most).max(1);
        bytes.resize(bytes.len().next_multiple_of(wanted), 0);
        bytes.extend(member.bytes);
        align = align.max(wanted);
        match member.json {
            Value::Object(inner) if name.is_empty() => json.extend(inner),
            value => {
                json.insert(name.to_owned(), value);
            }
        }
    }
    bytes.resize(bytes.len().next_multiple_of(align), 0);
    Datum {
        bytes,
        align,
        json: Value::Object(json),
    }
}

/// A union: the bytes of its largest member, seen as each of them.
pub(crate) fn overlay<'a>(members: impl IntoIterator<Item = (&'a str, Datum)>) -> Datum {
    let (mut largest, mut align, mut json) = (Vec::new(), 1, Map::new());
    for (name, member) in members {
        align = align.max(member.align);
        if member.bytes.len() > largest.len() {
            largest = member.bytes;
        }
        json.insert(name.to_owned(), member.json);
    }
    Datum {
        bytes: largest,
        align,
        json: Value::Object(json),
    }
}

/// A bitfield: name, first bit from the start of the struct, width, value, what is shown.
pub(crate) type BitField<'a> = (&'a str, u32, u32, i64, Value);

/// A struct of bitfields, `size` bytes long, on a little-endian machine.
pub(crate) fn bits<'a>(
    size: usize,
    align: usize,
    fields: impl IntoIterator<Item = BitField<'a>>,
) -> Datum {
    let mut bytes = vec![0_u8; size];
    let mut json = Map::new();
    for (name, first, width, value, shown) in fields {
        for bit in 0..width {
            let at = first + bit;
            if value >> bit & 1 == 1
                && let Some(byte) = usize::try_from(at / 8)
                    .ok()
                    .and_then(|at| bytes.get_mut(at))
            {
                *byte |= 1 << (at % 8);
            }
        }
        json.insert(name.to_owned(), shown);
    }
    Datum {
        bytes,
        align,
        json: Value::Object(json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_are_padded_as_c_does() {
        let datum = record([
            ("a", num(1_u8)),
            ("b", num(2_u32)),
            ("", record([("c", num(3_u8))])),
        ]);
        assert_eq!(datum.bytes, [1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(datum.json, json!({"a": 1, "b": 2, "c": 3}));
    }

    #[test]
    fn packed_structs_are_not() {
        let datum = packed([("a", num(1_u8)), ("b", num(2_u32))]);
        assert_eq!(datum.bytes, [1, 2, 0, 0, 0]);
    }

    #[test]
    fn bits_start_at_the_low_end() {
        let datum = bits(2, 2, [("a", 0, 3, -1, json!(-1)), ("b", 7, 2, 3, json!(3))]);
        assert_eq!(datum.bytes, [0b1000_0111, 1]);
    }
}
