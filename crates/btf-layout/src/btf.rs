//! BTF as a whole: its bytes, checked once, and its types, decoded on demand.

use std::cell::OnceCell;
use std::ffi::CStr;
use std::fmt;
use std::rc::Rc;

use crate::header::Header;
use crate::index::Index;
use crate::raw::{Info, RawType};
use crate::{Error, Kind, Type, TypeId};

/// How many typedefs, qualifiers and array dimensions may be stacked.
pub(crate) const MAX_DEPTH: usize = 64;

/// Bytes of a pointer. BTF does not say; every kernel that this crate serves
/// has 64 bits.
pub const POINTER_SIZE: u32 = 8;

/// The longest name that is read. The kernel takes up to 511 bytes; the bound
/// keeps hostile strings from being scanned again and again.
const MAX_NAME: usize = 1023;

/// The types of one kernel, module or program.
///
/// It keeps the bytes, an offset for each type, and an index of names that is
/// made at the first look-up by name. Types are decoded when they are asked
/// for.
pub struct Btf {
    origin: String,
    base: Option<Rc<Btf>>,
    data: Vec<u8>,
    strings: std::ops::Range<usize>,
    /// The id of the first own type.
    first_id: u32,
    /// The offset of the first own string, behind the base's.
    first_string: u32,
    /// Where in `data` each own type starts.
    offsets: Vec<u32>,
    index: OnceCell<Index>,
}

/// Bytes of every type's fixed part.
const FIXED: u64 = 12;

impl Btf {
    /// Takes BTF that stands alone: a kernel's. `origin` says whose it is, as
    /// errors shall name it, such as `Linux 6.12.115`.
    ///
    /// # Errors
    ///
    /// Bytes that are no little-endian BTF, sections outside them, a type that
    /// is cut off, or a kind whose size is not known.
    pub fn parse(data: Vec<u8>, origin: &str) -> Result<Self, Error> {
        Self::new(data, None, origin)
    }

    /// Takes BTF whose types and strings go on where those of `base` end: a
    /// module's or a program's.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Btf::parse).
    pub fn parse_split(data: Vec<u8>, base: Rc<Btf>, origin: &str) -> Result<Self, Error> {
        Self::new(data, Some(base), origin)
    }

    fn new(mut data: Vec<u8>, base: Option<Rc<Btf>>, origin: &str) -> Result<Self, Error> {
        let header = Header::parse(&data, origin)?;
        replace_invalid_utf8(data.get_mut(header.strings.clone()).unwrap_or_default());
        let (first_id, first_string) = match &base {
            Some(base) => (base.end_id(), base.end_string()),
            None => (1, 0),
        };
        let mut btf = Self {
            origin: origin.to_owned(),
            base,
            data,
            strings: header.strings.clone(),
            first_id,
            first_string,
            offsets: Vec::new(),
            index: OnceCell::new(),
        };
        btf.offsets = btf.find_types(&header)?;
        Ok(btf)
    }

    /// Where each type starts.
    fn find_types(&self, header: &Header) -> Result<Vec<u32>, Error> {
        let mut offsets = Vec::new();
        let mut at = header.types.start;
        while at < header.types.end {
            let offset = u32::try_from(at)
                .map_err(|_large| self.malformed(at as u64, "a type beyond 4 GiB"))?;
            let info = match u32_at(&self.data, at + 4) {
                Some(info) if at + 12 <= header.types.end => Info(info),
                _ => return Err(self.malformed(at as u64, "a type is cut off")),
            };
            let (stride, count) = match info.kind() {
                Some(kind) => info.items(kind),
                None => header
                    .layout_of(&self.data, info.number())
                    .map(|(fixed, each)| (1, fixed + each * info.vlen()))
                    .ok_or_else(|| Error::UnknownKind {
                        id: TypeId(self.next_id(&offsets)),
                        kind: info.number(),
                        offset: at as u64,
                        origin: self.origin.clone(),
                    })?,
            };
            let end = at as u64 + FIXED + u64::from(stride) * u64::from(count);
            let end = usize::try_from(end).ok();
            let Some(end) = end.filter(|&end| end <= header.types.end) else {
                return Err(self.malformed(at as u64, "a type reaches past the type section"));
            };
            offsets.push(offset);
            at = end;
        }
        if u32::try_from(offsets.len())
            .ok()
            .and_then(|count| self.first_id.checked_add(count))
            .is_none()
        {
            return Err(self.malformed(at as u64, "more types than ids"));
        }
        offsets.shrink_to_fit();
        Ok(offsets)
    }

    fn next_id(&self, offsets: &[u32]) -> u32 {
        let count = u32::try_from(offsets.len()).unwrap_or(u32::MAX);
        self.first_id.saturating_add(count)
    }

    /// Whose BTF it is.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The BTF that this one goes on from.
    #[must_use]
    pub fn base(&self) -> Option<&Rc<Btf>> {
        self.base.as_ref()
    }

    /// The ids of the own types, without the base's and without `void`.
    pub fn ids(&self) -> impl Iterator<Item = TypeId> + use<> {
        (self.first_id..self.end_id()).map(TypeId)
    }

    /// The first id behind the own types.
    pub(crate) fn end_id(&self) -> u32 {
        self.next_id(&self.offsets)
    }

    /// The first string offset behind the own strings.
    pub(crate) fn end_string(&self) -> u32 {
        let own = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        self.first_string.saturating_add(own)
    }

    /// Decodes one type, of this BTF or of its base.
    ///
    /// # Errors
    ///
    /// An id that no type has, a name outside the strings, or a kind that is
    /// not known.
    pub fn get(&self, id: TypeId) -> Result<Type<'_>, Error> {
        if id == TypeId::VOID {
            return Ok(Type::Void);
        }
        self.raw(id)?.decode(id)
    }

    /// The type of `kind` and `name`: the first of the own ones, else the
    /// first of the base's.
    ///
    /// The first look-up makes an index of all names in one pass.
    #[must_use]
    pub fn find(&self, kind: Kind, name: &str) -> Option<TypeId> {
        let index = self.index.get_or_init(|| Index::of(self));
        index
            .find(self, kind, name)
            .or_else(|| self.base.as_ref()?.find(kind, name))
    }

    /// The type itself, without the typedefs, qualifiers and type tags around
    /// it.
    ///
    /// # Errors
    ///
    /// As for [`get`](Btf::get); and a chain that does not end.
    pub fn resolve(&self, id: TypeId) -> Result<(TypeId, Type<'_>), Error> {
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            match self.get(at)? {
                Type::Typedef { target, .. }
                | Type::Volatile { target }
                | Type::Const { target }
                | Type::Restrict { target }
                | Type::TypeTag { target, .. } => at = target,
                ty => return Ok((at, ty)),
            }
        }
        Err(self.malformed_type(id, "typedefs and qualifiers without end"))
    }

    /// Bytes of an object of the type.
    ///
    /// # Errors
    ///
    /// As for [`resolve`](Btf::resolve); [`Error::Unsized`] for what has no
    /// size; and arrays whose size no number holds.
    pub fn size_of(&self, id: TypeId) -> Result<u64, Error> {
        let mut count: u64 = 1;
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let (resolved, ty) = self.resolve(at)?;
            let size = match ty {
                Type::Int { size, .. }
                | Type::Record { size, .. }
                | Type::Enum { size, .. }
                | Type::Datasec { size, .. }
                | Type::Float { size, .. } => size,
                Type::Ptr { .. } => POINTER_SIZE,
                Type::Var { target, .. } => {
                    at = target;
                    continue;
                }
                Type::Array { element, len, .. } => {
                    count = count
                        .checked_mul(u64::from(len))
                        .ok_or_else(|| self.malformed_type(id, "an array larger than memory"))?;
                    at = element;
                    continue;
                }
                _ => {
                    return Err(Error::Unsized {
                        id: resolved,
                        kind: ty.kind(),
                        origin: self.origin.clone(),
                    });
                }
            };
            return count
                .checked_mul(u64::from(size))
                .ok_or_else(|| self.malformed_type(id, "an array larger than memory"));
        }
        Err(self.malformed_type(id, "arrays of arrays without end"))
    }

    pub(crate) fn raw(&self, id: TypeId) -> Result<RawType<'_>, Error> {
        let bad = || Error::BadId {
            id,
            origin: self.origin.clone(),
        };
        let Some(own) = id.0.checked_sub(self.first_id) else {
            return self.base.as_ref().ok_or_else(bad)?.raw(id);
        };
        let own = usize::try_from(own).map_err(|_large| bad())?;
        let &offset = self.offsets.get(own).ok_or_else(bad)?;
        let cut = || self.malformed(u64::from(offset), "a type is cut off");
        let start = usize::try_from(offset).map_err(|_large| cut())?;
        let fixed = self.data.get(start..).ok_or_else(cut)?;
        let word = |index: usize| u32_at(fixed, index * 4).ok_or_else(cut);
        Ok(RawType {
            owner: self,
            offset: u64::from(offset),
            name_off: word(0)?,
            info: Info(word(1)?),
            word: word(2)?,
            rest: fixed.get(12..).ok_or_else(cut)?,
        })
    }

    /// The string at an offset, of this BTF's strings or of its base's.
    pub(crate) fn string(&self, offset: u32) -> Result<&str, Error> {
        let bytes = self.string_bytes(offset)?;
        // The strings as a whole are UTF-8.
        std::str::from_utf8(bytes)
            .map_err(|_inside| self.malformed(0, "a name starts inside a character"))
    }

    pub(crate) fn string_bytes(&self, offset: u32) -> Result<&[u8], Error> {
        if offset == 0 {
            return Ok(b"");
        }
        let Some(own) = offset.checked_sub(self.first_string) else {
            return match &self.base {
                Some(base) => base.string_bytes(offset),
                None => Ok(b""),
            };
        };
        let start = usize::try_from(own)
            .ok()
            .and_then(|own| self.strings.start.checked_add(own))
            .unwrap_or(usize::MAX);
        let text = self
            .data
            .get(start..self.strings.end)
            .ok_or_else(|| self.malformed(start as u64, "a name lies outside the strings"))?;
        let text = text.get(..=MAX_NAME).unwrap_or(text);
        CStr::from_bytes_until_nul(text)
            .map(CStr::to_bytes)
            .map_err(|_unterminated| self.malformed(start as u64, "a name does not end"))
    }

    pub(crate) fn malformed(&self, offset: u64, what: &'static str) -> Error {
        Error::Malformed {
            what,
            offset,
            origin: self.origin.clone(),
        }
    }

    /// [`Error::Malformed`] at a type.
    pub(crate) fn malformed_type(&self, id: TypeId, what: &'static str) -> Error {
        match self.raw(id) {
            Ok(raw) => raw.owner.malformed(raw.offset, what),
            Err(error) => error,
        }
    }
}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Btf")
            .field("origin", &self.origin)
            .field("base", &self.base)
            .field("types", &self.offsets.len())
            .finish_non_exhaustive()
    }
}

/// A little-endian word at a byte offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*word))
}

/// Puts a `?` for each byte that is no UTF-8, so that every name is a `str`
/// and no name moves.
fn replace_invalid_utf8(mut bytes: &mut [u8]) {
    while let Err(error) = std::str::from_utf8(bytes) {
        let rest = bytes.split_at_mut(error.valid_up_to()).1;
        let bad = error.error_len().unwrap_or(rest.len());
        let (bad, rest) = rest.split_at_mut(bad.min(rest.len()));
        bad.fill(b'?');
        bytes = rest;
    }
}
