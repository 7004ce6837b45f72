//! The pointers in an object.

use btf_layout::TypeId;

use crate::object::{Object, Scalar};
use crate::shape::{Form, Record};

/// A pointer in an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct PointerAt<'a> {
    pub(super) value: u64,
    /// The type that it states to lead to.
    pub(super) target: TypeId,
    /// The innermost record with a name that it is in, and the member of it.
    inside: (&'a str, &'a str),
}

impl PointerAt<'_> {
    /// The record and its member, as `task_ctx.next`.
    pub(super) fn place(&self) -> String {
        match self.inside {
            (record, "") => record.to_owned(),
            (record, member) => format!("{record}.{member}"),
        }
    }
}

/// Visits the pointers to data in an object.
pub(super) fn each_pointer<'a>(object: &Object<'a>, visit: &mut dyn FnMut(PointerAt<'a>)) {
    inside(object, ("", ""), visit);
}

fn inside<'a>(
    object: &Object<'a>,
    place: (&'a str, &'a str),
    visit: &mut dyn FnMut(PointerAt<'a>),
) {
    if !object.node.pointers || object.is_missing() {
        return;
    }
    match &object.node.form {
        Form::Pointer(target) => {
            if let Some(Scalar::Pointer(value)) = object.scalar() {
                visit(PointerAt {
                    value,
                    target: *target,
                    inside: place,
                });
            }
        }
        Form::Record(record) => {
            let name = named(record, place.0);
            for member in &record.members {
                let place = match &*member.name {
                    "" => (name, place.1),
                    member => (name, member),
                };
                inside(&object.member(member), place, visit);
            }
        }
        Form::Array(array) => {
            for element in object.elements(array) {
                inside(&element, place, visit);
            }
        }
        _ => {}
    }
}

/// The name of a record, or of the one around it.
fn named<'a>(record: &'a Record, around: &'a str) -> &'a str {
    match &*record.name {
        "" => around,
        name => name,
    }
}
