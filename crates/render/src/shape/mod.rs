//! Types made ready for rendering: BTF is asked once for a map, and never
//! while its entries are read.

mod compile;
mod enums;

use std::rc::Rc;

use bpfmaps::{ProgInfo, Progs};
use btf_layout::{BitRange, Btf, TypeId};

use compile::Compiled;

pub(crate) use enums::{EnumTable, EnumText};

/// A type with everything that rendering needs of it. Types that occur more
/// than once are shared.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    pub(crate) root: Rc<Node>,
    /// As C spells it.
    pub(crate) name: String,
}

impl Shape {
    /// What cannot be compiled becomes [`Form::Opaque`], in its place.
    pub(crate) fn new(btf: &Btf, id: TypeId) -> Self {
        Self {
            root: compile::compile(btf, id, None, &mut Compiled::default()),
            name: btf.type_name(id),
        }
    }

    /// The same for the value of a `struct_ops` map, whose pointers to
    /// functions hold the ids of programs.
    pub(crate) fn of_struct_ops(btf: &Btf, id: TypeId, progs: Rc<Progs>) -> Self {
        Self {
            root: compile::compile(btf, id, Some(progs), &mut Compiled::default()),
            name: btf.type_name(id),
        }
    }
}

/// The types of one BTF, each compiled when it is first asked for. All of them
/// together take memory in proportion to the BTF.
#[derive(Debug)]
pub(crate) struct Shapes {
    pub(crate) btf: Rc<Btf>,
    compiled: Compiled,
}

impl Shapes {
    pub(crate) fn new(btf: Rc<Btf>) -> Self {
        Self {
            btf,
            compiled: Compiled::default(),
        }
    }

    /// As [`Shape::new`].
    pub(crate) fn shape(&mut self, id: TypeId) -> Shape {
        Shape {
            root: compile::compile(&self.btf, id, None, &mut self.compiled),
            name: self.btf.type_name(id),
        }
    }
}

/// One type.
#[derive(Debug)]
pub(crate) struct Node {
    /// Bytes; 0 where it is not known.
    pub(crate) size: u64,
    /// How many scalars one value prints, at most.
    pub(crate) leaves: u64,
    /// Whether pointers to data are in it, or it is one.
    pub(crate) pointers: bool,
    pub(crate) form: Form,
}

#[derive(Debug)]
pub(crate) enum Form {
    Int(Int),
    Enum(EnumTable),
    /// A pointer to this type, which is compiled only where it is followed.
    Pointer(TypeId),
    /// A program's id, in the place of a pointer to a function.
    Program(Programs),
    Float,
    Record(Record),
    Array(Array),
    /// No value can be made of the bytes, for this reason.
    Opaque(String),
}

/// The programs that an id may be of.
#[derive(Clone, Debug)]
pub(crate) struct Programs(Rc<Progs>);

impl Programs {
    pub(crate) fn find(&self, id: u32) -> Option<&ProgInfo> {
        let progs = &self.0.progs;
        let at = progs.binary_search_by_key(&id, |prog| prog.id).ok()?;
        progs.get(at)
    }
}

/// An integer. `bits` bits from `bit_offset` on are the value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Int {
    pub(crate) bit_offset: u32,
    pub(crate) bits: u32,
    pub(crate) flavour: Flavour,
    /// Whether its bits are exactly its bytes.
    pub(crate) whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    Unsigned,
    Signed,
    Char,
    Bool,
}

/// What a record is, which says how its members relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordForm {
    Struct,
    Union,
    /// A section, whose members are variables.
    Section,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) form: RecordForm,
    pub(crate) name: Box<str>,
    pub(crate) members: Box<[Member]>,
}

#[derive(Debug)]
pub(crate) struct Member {
    /// As declared; empty for an anonymous struct or union.
    pub(crate) name: Box<str>,
    /// `name`, or something unique in the record where the name cannot serve.
    pub(crate) label: Box<str>,
    /// Bytes from the record's start.
    pub(crate) offset: u64,
    pub(crate) bits: Option<BitRange>,
    pub(crate) node: Rc<Node>,
    /// Whether no other member follows, so that a flexible array at the
    /// member's end goes on to where the record's surroundings end.
    pub(crate) last: bool,
}

impl Member {
    /// The record whose members count as members of the one that has this
    /// member.
    pub(crate) fn anonymous(&self) -> Option<&Record> {
        match &self.node.form {
            Form::Record(record) if self.name.is_empty() => Some(record),
            _ => None,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Array {
    pub(crate) element: Rc<Node>,
    /// 0 for a flexible array.
    pub(crate) len: u64,
    pub(crate) text: Text,
}

/// Whether an array may be text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// Its elements are no characters.
    No,
    /// Its elements are `char`, by that very name.
    Char,
    /// Its elements are a typedef of `char`.
    Typedef,
}
