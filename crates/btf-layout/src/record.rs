//! Structs and unions: members by path, through anonymous ones.

use std::fmt;

use crate::btf::MAX_DEPTH;
use crate::{Btf, Error, Kind, Members, RawMember, RecordKind, Type, TypeId};

/// How many members one look-up may inspect. The largest structs of a kernel
/// have a few hundred; hostile BTF could nest anonymous ones exponentially.
const MAX_INSPECTED: u32 = 1 << 20;

/// A struct or union, ready for look-ups of its members.
#[derive(Clone, Copy)]
pub struct Record<'b> {
    btf: &'b Btf,
    id: TypeId,
    kind: RecordKind,
    name: &'b str,
    size: u64,
    members: Members<'b>,
}

/// Where a member is and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the record's start. For a bit-field, the byte that holds
    /// its first bit.
    pub offset: u64,
    /// Bytes; 0 for a flexible array. For a bit-field, the bytes that it
    /// touches.
    pub size: u64,
    /// The type, as it was declared.
    pub ty: TypeId,
    /// Which bits, for a bit-field.
    pub bits: Option<BitRange>,
}

/// The bits of a bit-field, counted from the least significant bit of the
/// record's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRange {
    /// Bits from the record's start.
    pub offset: u64,
    /// How many bits.
    pub len: u32,
}

impl Btf {
    /// The struct of this name, or the union if there is no struct.
    ///
    /// # Errors
    ///
    /// [`Error::MissingType`], or malformed BTF.
    pub fn record(&self, name: &str) -> Result<Record<'_>, Error> {
        let id = self
            .find(Kind::Struct, name)
            .or_else(|| self.find(Kind::Union, name))
            .ok_or_else(|| Error::MissingType {
                name: format!("struct {name}"),
                origin: self.origin().to_owned(),
            })?;
        self.record_by_id(id)
    }

    /// The struct or union that the type is, typedefs and qualifiers aside.
    ///
    /// # Errors
    ///
    /// [`Error::NotRecord`], or malformed BTF.
    pub fn record_by_id(&self, id: TypeId) -> Result<Record<'_>, Error> {
        match self.resolve(id)? {
            (
                id,
                Type::Record {
                    kind,
                    name,
                    size,
                    members,
                },
            ) => Ok(Record {
                btf: self,
                id,
                kind,
                name,
                size: u64::from(size),
                members,
            }),
            _ => Err(Error::NotRecord {
                name: self.type_name(id),
                origin: self.origin().to_owned(),
            }),
        }
    }
}

impl<'b> Record<'b> {
    /// Its tag; empty if it has none.
    #[must_use]
    pub fn name(&self) -> &'b str {
        self.name
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a struct or a union.
    #[must_use]
    pub fn kind(&self) -> RecordKind {
        self.kind
    }

    /// Its type.
    #[must_use]
    pub fn id(&self) -> TypeId {
        self.id
    }

    /// The BTF that it is read from.
    #[must_use]
    pub fn btf(&self) -> &'b Btf {
        self.btf
    }

    /// Its members in order of declaration, anonymous ones as such.
    pub fn members(&self) -> impl Iterator<Item = Result<(&'b str, Member), Error>> + use<'b> {
        let record = *self;
        self.members
            .map(move |raw| raw.and_then(|raw| Ok((raw.name, record.place(&raw)?))))
    }

    /// The member at a dotted path, such as `map.ops`. Members of anonymous
    /// structs and unions count as the record's own, at every level.
    ///
    /// # Errors
    ///
    /// [`Error::MissingMember`], or malformed BTF: a member that does not fit
    /// into its record is one.
    pub fn member(&self, path: &str) -> Result<Member, Error> {
        self.member_any(&[path])
    }

    /// The first of these paths that exists: the names that a member has had
    /// in different kernels.
    ///
    /// # Errors
    ///
    /// As for [`member`](Record::member), if none exists.
    pub fn member_any(&self, paths: &[&str]) -> Result<Member, Error> {
        for path in paths {
            if let Some(member) = self.search(path)? {
                return Ok(member);
            }
        }
        let alternatives: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
        Err(Error::MissingMember {
            record: self.to_string(),
            member: alternatives.join(" or "),
            origin: self.btf.origin().to_owned(),
        })
    }

    /// The member at a dotted path; `None` if there is none, or if the BTF is
    /// malformed on the way to it.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Member> {
        self.search(path).ok().flatten()
    }

    fn search(&self, path: &str) -> Result<Option<Member>, Error> {
        let mut record = *self;
        let mut start_bits = 0;
        let mut names = path.split('.').peekable();
        while let Some(name) = names.next() {
            let mut inspected = 0;
            let Some(found) = record.search_one(name, 0, &mut inspected)? else {
                return Ok(None);
            };
            let bits = checked_bits(&record, start_bits, found.bit_offset)?;
            if names.peek().is_none() {
                let member = RawMember {
                    bit_offset: bits,
                    ..found
                };
                return self.place(&member).map(Some);
            }
            record = match self.btf.record_by_id(found.ty) {
                Ok(record) => record,
                Err(Error::NotRecord { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            start_bits = bits;
        }
        Ok(None)
    }

    /// The member of this name, here or in an anonymous member, with its
    /// offset from this record's start.
    fn search_one(
        &self,
        name: &str,
        depth: usize,
        inspected: &mut u32,
    ) -> Result<Option<RawMember<'b>>, Error> {
        if name.is_empty() || depth > MAX_DEPTH {
            return Ok(None);
        }
        for member in self.members {
            let member = member?;
            *inspected += 1;
            if *inspected > MAX_INSPECTED {
                let what = "anonymous members nest without end";
                return Err(self.btf.malformed_type(self.id, what));
            }
            if member.name == name {
                return Ok(Some(member));
            }
            if member.name.is_empty()
                && let (_, Type::Record { .. }) = self.btf.resolve(member.ty)?
                && let Some(found) =
                    self.btf
                        .record_by_id(member.ty)?
                        .search_one(name, depth + 1, inspected)?
            {
                let bit_offset = checked_bits(self, member.bit_offset, found.bit_offset)?;
                return Ok(Some(RawMember {
                    bit_offset,
                    ..found
                }));
            }
        }
        Ok(None)
    }

    /// Turns a declaration into a place, and checks that it is inside.
    fn place(&self, raw: &RawMember<'_>) -> Result<Member, Error> {
        let outside = || {
            self.btf
                .malformed_type(self.id, "a member reaches past its record")
        };
        let mut bit_offset = raw.bit_offset;
        let mut bit_len = raw.bit_len.map(u32::from);
        let size = self.btf.size_of(raw.ty)?;
        let int = match (bit_len, self.btf.resolve(raw.ty)?.1) {
            (
                None,
                Type::Int {
                    bits, bit_offset, ..
                },
            ) => Some((u32::from(bits), bit_offset)),
            _ => None,
        };
        if let Some((bits, skipped)) = int
            && (u64::from(bits) != size.saturating_mul(8)
                || skipped != 0
                || !bit_offset.is_multiple_of(8))
        {
            bit_offset = checked_bits(self, bit_offset, u64::from(skipped))?;
            bit_len = Some(bits);
        }
        let offset = bit_offset / 8;
        let (size, bits) = match bit_len {
            Some(len) => {
                let touched = (bit_offset % 8 + u64::from(len)).div_ceil(8);
                let bits = BitRange {
                    offset: bit_offset,
                    len,
                };
                (touched, Some(bits))
            }
            None => (size, None),
        };
        let end = offset.checked_add(size).ok_or_else(outside)?;
        if end > self.size || (bits.is_none() && !bit_offset.is_multiple_of(8)) {
            return Err(outside());
        }
        Ok(Member {
            offset,
            size,
            ty: raw.ty,
            bits,
        })
    }
}

fn checked_bits(record: &Record<'_>, start: u64, more: u64) -> Result<u64, Error> {
    start.checked_add(more).ok_or_else(|| {
        record
            .btf
            .malformed_type(record.id, "a member reaches past its record")
    })
}

impl fmt::Display for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name {
            "" => write!(f, "{} {{…}}", self.kind),
            name => write!(f, "{} {name}", self.kind),
        }
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("size", &self.size)
            .field("members", &self.members)
            .finish()
    }
}
