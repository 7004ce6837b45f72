//! From BTF to shapes. The BTF may be hostile: nothing here may recurse,
//! multiply or grow without a bound.

use std::collections::HashSet;
use std::rc::Rc;

use bpfmaps::Progs;
use btf_layout::{Btf, Error, IntEncoding, RecordKind, SectionVars, Type, TypeId};
use rustc_hash::FxHashMap;

use super::{
    Array, EnumTable, Flavour, Form, Int, Member, Node, Programs, Record, RecordForm, Text,
};

/// How deep structs and arrays may nest by value.
const MAX_DEPTH: u32 = 32;

/// How many members all types of one map may have together.
const MAX_MEMBERS: usize = 1 << 20;

/// How many enumerators all types of one map may have together.
const MAX_ENUMERATORS: usize = 1 << 20;

/// How many scalars a value may print, beyond a share for each byte. Nested
/// unions of hostile BTF could print gigabytes of four bytes.
const MAX_LEAVES: u64 = 4096;
const MAX_LEAVES_PER_BYTE: u64 = 64;

/// What was compiled of one BTF, and how much more may be.
#[derive(Debug)]
pub(super) struct Compiled {
    /// `None` while the type is being compiled.
    done: FxHashMap<TypeId, Option<Rc<Node>>>,
    members_left: usize,
    enumerators_left: usize,
}

impl Default for Compiled {
    fn default() -> Self {
        Self {
            done: FxHashMap::default(),
            members_left: MAX_MEMBERS,
            enumerators_left: MAX_ENUMERATORS,
        }
    }
}

/// With `progs`, pointers to functions are ids of these.
pub(super) fn compile(
    btf: &Btf,
    id: TypeId,
    progs: Option<Rc<Progs>>,
    compiled: &mut Compiled,
) -> Rc<Node> {
    let mut compiler = Compiler {
        btf,
        progs,
        compiled,
    };
    compiler.node(id, 0)
}

struct Compiler<'b> {
    btf: &'b Btf,
    progs: Option<Rc<Progs>>,
    compiled: &'b mut Compiled,
}

/// Why a type becomes opaque.
enum Reject {
    Btf(Error),
    Because(&'static str),
}

impl From<Error> for Reject {
    fn from(error: Error) -> Self {
        Self::Btf(error)
    }
}

impl Compiler<'_> {
    fn node(&mut self, id: TypeId, depth: u32) -> Rc<Node> {
        let resolved = match self.btf.resolve(id) {
            Ok((_, Type::Var { target, .. })) => self.btf.resolve(target),
            resolved => resolved,
        };
        let (id, ty) = match resolved {
            Ok(resolved) => resolved,
            Err(error) => return opaque(0, error.to_string()),
        };
        match self.compiled.done.get(&id) {
            Some(Some(node)) => return Rc::clone(node),
            Some(None) => return opaque(0, "the type contains itself".to_owned()),
            None => {}
        }
        self.compiled.done.insert(id, None);
        let size = self.btf.size_of(id).unwrap_or(0);
        let form = match depth {
            0..MAX_DEPTH => self.form(id, ty, depth),
            _ => Err(Reject::Because("the type nests too deep")),
        };
        let node = form.and_then(|form| {
            let leaves = leaves(&form);
            let bound = MAX_LEAVES.saturating_add(size.saturating_mul(MAX_LEAVES_PER_BYTE));
            match leaves > bound {
                true => Err(Reject::Because("the type has far more fields than bytes")),
                false => Ok(Rc::new(Node {
                    size,
                    leaves,
                    pointers: self.has_pointers(&form),
                    form,
                })),
            }
        });
        let node = node.unwrap_or_else(|reject| match reject {
            Reject::Btf(error) => opaque(size, error.to_string()),
            Reject::Because(why) => opaque(size, why.to_owned()),
        });
        self.compiled.done.insert(id, Some(Rc::clone(&node)));
        node
    }

    fn form(&mut self, id: TypeId, ty: Type<'_>, depth: u32) -> Result<Form, Reject> {
        Ok(match ty {
            Type::Int {
                size,
                encoding,
                bit_offset,
                bits,
                ..
            } => int(size, encoding, bit_offset, bits)?,
            Type::Ptr { target } => match &self.progs {
                Some(progs) if self.is_function(target) => {
                    Form::Program(Programs(Rc::clone(progs)))
                }
                _ => Form::Pointer(target),
            },
            Type::Float { .. } => Form::Float,
            Type::Enum {
                size,
                signed,
                values,
                ..
            } => {
                if !matches!(size, 1 | 2 | 4 | 8) {
                    return Err(Reject::Because("an enum of this size is not known"));
                }
                self.compiled.enumerators_left = self
                    .compiled
                    .enumerators_left
                    .checked_sub(values.len())
                    .ok_or(Reject::Because("the types have too many enumerators"))?;
                let values = values
                    .map(|value| value.map(|value| (value.name, value.value)))
                    .collect::<Result<Vec<_>, _>>()?;
                Form::Enum(EnumTable::new(&values, size, signed))
            }
            Type::Array { element, len, .. } => Form::Array(Array {
                text: self.text(element)?,
                element: self.node(element, depth + 1),
                len: u64::from(len),
            }),
            Type::Record { .. } => self.record(id, depth)?,
            Type::Datasec { name, vars, .. } => self.section(id, name, vars, depth)?,
            Type::Fwd { kind, name } => {
                let why = format!("{kind} {name} is only declared in this BTF");
                Form::Opaque(why)
            }
            _ => Form::Opaque(format!("a {} has no value", ty.kind())),
        })
    }

    fn record(&mut self, id: TypeId, depth: u32) -> Result<Form, Reject> {
        let record = self.btf.record_by_id(id)?;
        let form = match record.kind() {
            RecordKind::Struct => RecordForm::Struct,
            RecordKind::Union => RecordForm::Union,
        };
        let mut members = Vec::new();
        let mut furthest = 0;
        for member in record.members() {
            let (name, place) = member?;
            self.spend_member()?;
            furthest = furthest.max(place.offset.saturating_add(place.size));
            members.push(Member {
                name: name.into(),
                label: name.into(),
                offset: place.offset,
                bits: place.bits,
                node: self.node(place.ty, depth + 1),
                last: form == RecordForm::Union,
            });
        }
        for member in &mut members {
            member.last |= member.offset.saturating_add(member.node.size) >= furthest;
        }
        Ok(Form::Record(Record {
            form,
            name: record.name().into(),
            members: labelled(members),
        }))
    }

    fn section(
        &mut self,
        id: TypeId,
        name: &str,
        vars: SectionVars<'_>,
        depth: u32,
    ) -> Result<Form, Reject> {
        let size = self.btf.size_of(id)?;
        let mut members = Vec::new();
        for var in vars {
            let var = var?;
            self.spend_member()?;
            let (name, node) = match self.btf.get(var.var)? {
                Type::Var { name, target, .. } => (name, self.node(target, depth + 1)),
                ty => ("", opaque(0, format!("a {} is no variable", ty.kind()))),
            };
            let offset = u64::from(var.offset);
            if offset.saturating_add(node.size) > size {
                return Err(Reject::Because("a variable reaches past its section"));
            }
            members.push(Member {
                name: name.into(),
                label: name.into(),
                offset,
                bits: None,
                node,
                last: false,
            });
        }
        Ok(Form::Record(Record {
            form: RecordForm::Section,
            name: name.into(),
            members: labelled(members),
        }))
    }

    fn has_pointers(&self, form: &Form) -> bool {
        match form {
            Form::Pointer(target) => !self.is_function(*target),
            Form::Record(record) => record.members.iter().any(|member| member.node.pointers),
            Form::Array(array) => array.element.pointers,
            _ => false,
        }
    }

    fn is_function(&self, id: TypeId) -> bool {
        matches!(self.btf.resolve(id), Ok((_, Type::FuncProto { .. })))
    }

    fn spend_member(&mut self) -> Result<(), Reject> {
        self.compiled.members_left = self
            .compiled
            .members_left
            .checked_sub(1)
            .ok_or(Reject::Because("the types have too many members"))?;
        Ok(())
    }

    /// Whether an array of `element` may be text.
    fn text(&self, element: TypeId) -> Result<Text, Error> {
        let is_char = matches!(
            self.btf.resolve(element)?.1,
            Type::Int { size: 1, encoding, name, .. }
                if encoding == IntEncoding::Char || name == "char"
        );
        let mut at = element;
        // As many steps as `resolve` may take.
        for _ in 0..MAX_DEPTH * 2 {
            at = match self.btf.get(at)? {
                Type::Const { target }
                | Type::Volatile { target }
                | Type::Restrict { target }
                | Type::TypeTag { target, .. } => target,
                Type::Typedef { .. } if is_char => return Ok(Text::Typedef),
                _ if is_char => return Ok(Text::Char),
                _ => break,
            };
        }
        Ok(Text::No)
    }
}

fn opaque(size: u64, why: String) -> Rc<Node> {
    Rc::new(Node {
        size,
        leaves: 1,
        pointers: false,
        form: Form::Opaque(why),
    })
}

fn int(size: u32, encoding: IntEncoding, bit_offset: u8, bits: u8) -> Result<Form, Reject> {
    let (bit_offset, bits) = (u32::from(bit_offset), u32::from(bits));
    if bits == 0 || bits > 128 || size > 16 || bit_offset + bits > size * 8 {
        return Err(Reject::Because("an integer of this size is not known"));
    }
    Ok(Form::Int(Int {
        bit_offset,
        bits,
        whole: bit_offset == 0 && bits == size * 8,
        flavour: match encoding {
            IntEncoding::Unsigned => Flavour::Unsigned,
            IntEncoding::Signed => Flavour::Signed,
            IntEncoding::Char => Flavour::Char,
            IntEncoding::Bool => Flavour::Bool,
        },
    }))
}

fn leaves(form: &Form) -> u64 {
    match form {
        Form::Record(record) => record
            .members
            .iter()
            .fold(1, |sum: u64, member| sum.saturating_add(member.node.leaves)),
        Form::Array(array) => array.element.leaves.saturating_mul(array.len.max(1)),
        _ => 1,
    }
}

/// Gives every member a label that no other has, so that it can be a key.
fn labelled(mut members: Vec<Member>) -> Box<[Member]> {
    let mut seen = HashSet::new();
    for member in &mut members {
        if member.anonymous().is_some() {
            continue;
        }
        if member.name.is_empty() || !seen.insert(member.name.clone()) {
            member.label = format!("{}@{}", member.name, member.offset).into();
        }
    }
    members.into()
}
