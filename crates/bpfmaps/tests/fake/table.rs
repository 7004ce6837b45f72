//! Structs of the made-up kernel that are only read by the names of their
//! members: what their layouts are, and objects of them.

use btf_layout::TypeId;
use btf_layout::build::Builder;
use guestmem::Kva;
use kernel::build::Machine;

use super::on;
use super::prog_records::PROG_RECORDS;
use super::records::{RECORDS, RENAMED};

/// Every record.
fn records() -> impl Iterator<Item = &'static Table> {
    RECORDS.iter().chain(PROG_RECORDS)
}

/// The type of a member.
#[derive(Clone, Copy)]
pub(crate) enum Ty {
    /// A number or a pointer to something without a name, of so many bytes.
    Word(u8),
    /// An array of bytes; none for a flexible one.
    Bytes(u32),
    /// A pointer to a record that stands further up in the table.
    To(&'static str),
}

/// A member: its path, byte offset and type.
pub(crate) type Field = (&'static str, u64, Ty);

/// A struct: its name, bytes and members.
pub(crate) type Table = (&'static str, u64, &'static [Field]);

impl Ty {
    fn size(self) -> u64 {
        match self {
            Self::Word(bytes) => bytes.into(),
            Self::Bytes(len) => len.into(),
            Self::To(_) => 8,
        }
    }
}

/// What is put into a member.
#[derive(Clone, Copy)]
pub(crate) enum Put<'a> {
    Word(u64),
    Bytes(&'a [u8]),
}

impl From<u64> for Put<'_> {
    fn from(word: u64) -> Self {
        Self::Word(word)
    }
}

impl From<Kva> for Put<'_> {
    fn from(at: Kva) -> Self {
        Self::Word(guestmem::Address::get(at))
    }
}

impl<'a> From<&'a [u8]> for Put<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'a> From<&'a str> for Put<'a> {
    fn from(text: &'a str) -> Self {
        Self::Bytes(text.as_bytes())
    }
}

/// Adds the types of all records but those in `without`, and of no member
/// that is written `record.member` there.
pub(crate) fn types(b: &mut Builder, without: &[&str]) {
    let mut made: Vec<(&str, TypeId)> = Vec::new();
    for &(record, size, fields) in records() {
        if without.contains(&record) {
            continue;
        }
        let kept = |member: &str| {
            let path = format!("{record}.{member}");
            let old = RENAMED.iter().find(|(_, new)| *new == path);
            !without.contains(&path.as_str()) && old.is_none_or(|(old, _)| without.contains(old))
        };
        let fields: Vec<Field> = fields.iter().copied().filter(|f| kept(f.0)).collect();
        let ty = record_of(b, record, size, &fields, &made);
        made.push((record, ty));
    }
}

/// A record in which `a.b` is the member `b` of a member `a`, which is where
/// a member `a` is listed or else overlays the whole record.
fn record_of(
    b: &mut Builder,
    name: &str,
    size: u64,
    fields: &[Field],
    made: &[(&str, TypeId)],
) -> TypeId {
    let mut members: Vec<(&str, TypeId, u32)> = Vec::new();
    for &(path, offset, ty) in fields {
        let head = path.split('.').next().unwrap();
        if members.iter().any(|&(name, ..)| name == head) {
            continue;
        }
        let prefix = format!("{head}.");
        let inner: Vec<Field> = fields
            .iter()
            .filter_map(|&(path, offset, ty)| Some((path.strip_prefix(&prefix)?, offset, ty)))
            .collect();
        let (id, offset) = if inner.is_empty() {
            (type_of(b, ty, made), offset)
        } else {
            let whole = fields.iter().find(|field| field.0 == head);
            let (start, size) = whole.map_or((0, size), |f| (f.1, f.2.size()));
            let moved: Vec<Field> = inner.iter().map(|f| (f.0, f.1 - start, f.2)).collect();
            (record_of(b, "", size, &moved, made), start)
        };
        members.push((head, id, u32::try_from(offset * 8).unwrap()));
    }
    b.record(name, u32::try_from(size).unwrap(), &members)
}

fn type_of(b: &mut Builder, ty: Ty, made: &[(&str, TypeId)]) -> TypeId {
    match ty {
        Ty::Word(bytes) => b.int("word", bytes),
        Ty::Bytes(len) => {
            let byte = b.int("byte", 1);
            b.array(byte, len)
        }
        Ty::To(record) => {
            let target = made.iter().find(|(name, _)| *name == record);
            b.ptr(target.map_or(TypeId(0), |(_, ty)| *ty))
        }
    }
}

fn table(record: &str) -> &'static Table {
    records().find(|table| table.0 == record).unwrap()
}

/// Where the member at a path such as `task_struct.pid` is, and its size.
pub(crate) fn place_of(path: &str) -> (u64, u64) {
    let (record, member) = path.split_once('.').unwrap();
    let field = table(record).2.iter().find(|field| field.0 == member);
    let &(_, offset, ty) = field.unwrap();
    (offset, ty.size())
}

/// Bytes of a record.
pub(crate) fn size_of(record: &str) -> u64 {
    table(record).1
}

/// Puts an object of a record into memory, with `more` behind it.
pub(crate) fn object(
    machine: &mut Machine,
    record: &str,
    fields: &[(&str, Put<'_>)],
    more: &[u8],
) -> Kva {
    let mut bytes = vec![0; usize::try_from(size_of(record)).unwrap()];
    bytes.extend(more);
    let at = machine.allocate(&bytes);
    for &(member, put) in fields {
        set(machine, at, &format!("{record}.{member}"), put);
    }
    at
}

/// Puts something into the member of the object at `at`.
pub(crate) fn set<'a>(machine: &mut Machine, at: Kva, path: &str, put: impl Into<Put<'a>>) {
    let (offset, size) = place_of(path);
    let at = on(at, offset);
    match put.into() {
        Put::Bytes(bytes) => machine.place(at, bytes),
        Put::Word(word) => {
            let word = word.to_le_bytes();
            machine.place(at, &word[..usize::try_from(size).unwrap()]);
        }
    }
}
