//! BTF made by hand, for tests.
//!
//! ```
//! use btf_layout::{Btf, build::Builder};
//!
//! let mut types = Builder::new();
//! let u32_ = types.int("u32", 4);
//! types.record("point", 8, &[("x", u32_, 0), ("y", u32_, 32)]);
//! let btf = Btf::parse(types.finish(), "a test").unwrap();
//! assert_eq!(btf.record("point").unwrap().member("y").unwrap().offset, 4);
//! ```

use crate::{Btf, IntEncoding, Kind, TypeId};

/// Collects types; [`finish`](Builder::finish) gives the bytes.
///
/// Each method adds one type and returns its id. Offsets of members are in
/// bits, those of variables in bytes.
#[derive(Clone, Debug)]
pub struct Builder {
    first_id: u32,
    first_string: u32,
    count: u32,
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder {
    /// BTF that stands alone.
    #[must_use]
    pub fn new() -> Self {
        Self {
            first_id: 1,
            first_string: 0,
            count: 0,
            types: Vec::new(),
            strings: vec![0],
        }
    }

    /// BTF that goes on where `base` ends.
    #[must_use]
    pub fn split(base: &Btf) -> Self {
        Self {
            first_id: base.end_id(),
            first_string: base.end_string(),
            ..Self::new()
        }
    }

    /// An unsigned integer of up to 31 bytes.
    pub fn int(&mut self, name: &str, bytes: u8) -> TypeId {
        self.int_as(name, bytes, IntEncoding::Unsigned)
    }

    /// An integer that stands for something else.
    pub fn int_as(&mut self, name: &str, bytes: u8, encoding: IntEncoding) -> TypeId {
        self.int_bits(name, bytes, encoding, 0, bytes.saturating_mul(8))
    }

    /// An integer of which only some bits are the value.
    pub fn int_bits(
        &mut self,
        name: &str,
        bytes: u8,
        encoding: IntEncoding,
        bit_offset: u8,
        bits: u8,
    ) -> TypeId {
        let encoding = match encoding {
            IntEncoding::Unsigned => 0,
            IntEncoding::Signed => 1,
            IntEncoding::Char => 2,
            IntEncoding::Bool => 4,
        };
        let word = u32::from_le_bytes([bits, 0, bit_offset, encoding]);
        self.add(Kind::Int, name, 0, u32::from(bytes), &[word])
    }

    /// A pointer.
    pub fn ptr(&mut self, target: TypeId) -> TypeId {
        self.wrap(Kind::Ptr, "", target)
    }

    /// An array; its index has the element's type, as nobody looks.
    pub fn array(&mut self, element: TypeId, len: u32) -> TypeId {
        self.add(Kind::Array, "", 0, 0, &[element.0, element.0, len])
    }

    /// A struct with members (name, type, offset in bits).
    pub fn record(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        self.members(Kind::Struct, name, size, members)
    }

    /// A union with members (name, type, offset in bits).
    pub fn union(&mut self, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
        self.members(Kind::Union, name, size, members)
    }

    /// A struct that declares the bits of its bit-fields: members (name, type,
    /// offset in bits, length in bits or 0 for a whole member).
    pub fn bitfields(
        &mut self,
        name: &str,
        size: u32,
        members: &[(&str, TypeId, u32, u8)],
    ) -> TypeId {
        let mut words = Vec::new();
        for &(name, ty, offset, bits) in members {
            words.extend([self.string(name), ty.0, offset | u32::from(bits) << 24]);
        }
        let flag = FLAG | vlen(members.len());
        self.add(Kind::Struct, name, flag, size, &words)
    }

    fn members(
        &mut self,
        kind: Kind,
        name: &str,
        size: u32,
        members: &[(&str, TypeId, u32)],
    ) -> TypeId {
        let mut words = Vec::new();
        for &(name, ty, offset) in members {
            words.extend([self.string(name), ty.0, offset]);
        }
        self.add(kind, name, vlen(members.len()), size, &words)
    }

    /// An enum of up to four bytes; signed if any value is below zero.
    pub fn enumeration(&mut self, name: &str, size: u32, values: &[(&str, i64)]) -> TypeId {
        let mut words = Vec::new();
        for &(name, value) in values {
            words.extend([self.string(name), low(value)]);
        }
        let signed = signed(values);
        self.add(Kind::Enum, name, signed | vlen(values.len()), size, &words)
    }

    /// An enum of eight bytes; signed if any value is below zero.
    pub fn enumeration64(&mut self, name: &str, values: &[(&str, i64)]) -> TypeId {
        let mut words = Vec::new();
        for &(name, value) in values {
            words.extend([self.string(name), low(value), low(value >> 32)]);
        }
        let signed = signed(values);
        self.add(Kind::Enum64, name, signed | vlen(values.len()), 8, &words)
    }

    /// A forward declaration of a struct.
    pub fn forward(&mut self, name: &str) -> TypeId {
        self.add(Kind::Fwd, name, 0, 0, &[])
    }

    /// A typedef.
    pub fn typedef(&mut self, name: &str, target: TypeId) -> TypeId {
        self.wrap(Kind::Typedef, name, target)
    }

    /// What refers to one other type and has nothing else: qualifiers, tags
    /// of types, pointers, typedefs.
    pub fn wrap(&mut self, kind: Kind, name: &str, target: TypeId) -> TypeId {
        self.add(kind, name, 0, target.0, &[])
    }

    /// A prototype with parameters (name, type).
    pub fn prototype(&mut self, ret: TypeId, params: &[(&str, TypeId)]) -> TypeId {
        let mut words = Vec::new();
        for &(name, ty) in params {
            words.extend([self.string(name), ty.0]);
        }
        self.add(Kind::FuncProto, "", vlen(params.len()), ret.0, &words)
    }

    /// A global function.
    pub fn function(&mut self, name: &str, proto: TypeId) -> TypeId {
        self.add(Kind::Func, name, 1, proto.0, &[])
    }

    /// A global variable.
    pub fn variable(&mut self, name: &str, ty: TypeId) -> TypeId {
        self.add(Kind::Var, name, 0, ty.0, &[1])
    }

    /// A section with variables (variable, offset, size; both in bytes).
    pub fn section(&mut self, name: &str, size: u32, vars: &[(TypeId, u32, u32)]) -> TypeId {
        let words: Vec<u32> = vars
            .iter()
            .flat_map(|&(var, offset, size)| [var.0, offset, size])
            .collect();
        self.add(Kind::Datasec, name, vlen(vars.len()), size, &words)
    }

    /// A floating-point number.
    pub fn float(&mut self, name: &str, size: u32) -> TypeId {
        self.add(Kind::Float, name, 0, size, &[])
    }

    /// A tag of a declaration, or of one of its components.
    pub fn decl_tag(&mut self, name: &str, target: TypeId, component: Option<u32>) -> TypeId {
        let component = component.unwrap_or(u32::MAX);
        self.add(Kind::DeclTag, name, 0, target.0, &[component])
    }

    /// A type of known kind with a low half of the info word, a size or type,
    /// and the words behind, right or wrong.
    pub fn add(&mut self, kind: Kind, name: &str, info: u32, word: u32, more: &[u32]) -> TypeId {
        self.add_raw(u32::from(kind.number()) << 24 | info, name, word, more)
    }

    /// Any words at all as the next type.
    pub fn add_raw(&mut self, info: u32, name: &str, word: u32, more: &[u32]) -> TypeId {
        let name = self.string(name);
        for word in [name, info, word].iter().chain(more) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        let id = TypeId(self.first_id + self.count);
        self.count += 1;
        id
    }

    /// The offset of a name, which is added to the strings.
    fn string(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.first_string + len32(&self.strings);
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    /// The BTF.
    #[must_use]
    pub fn finish(&self) -> Vec<u8> {
        let mut data = vec![0x9f, 0xeb, 1, 0];
        let types = len32(&self.types);
        for word in [24, 0, types, types, len32(&self.strings)] {
            data.extend_from_slice(&u32::to_le_bytes(word));
        }
        data.extend_from_slice(&self.types);
        data.extend_from_slice(&self.strings);
        data
    }
}

const FLAG: u32 = 1 << 31;

fn vlen(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX) & 0xff_ffff
}

fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn low(value: i64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn signed(values: &[(&str, i64)]) -> u32 {
    match values.iter().any(|&(_, value)| value < 0) {
        true => FLAG,
        false => 0,
    }
}
