//! Which keys and values are rows of a table, and their cells.

use bpfmaps::Bytes;

use super::page::Role;
use super::table::{Align, Cell, Column};
use super::value::scalar;
use crate::object::Object;
use crate::shape::{Array, Flavour, Form, Member, Node, Record, RecordForm, Shape, Text};

/// A value with more fields than this is no row.
const MAX_COLUMNS: usize = 12;

/// Text longer than this is no cell.
const MAX_TEXT: u64 = 32;

/// Bytes without a type that still are a cell.
const MAX_HEX: u32 = 8;

/// The columns of keys or values, or `None` if they do not fit into a row.
pub(super) fn columns(
    shape: Option<&Shape>,
    size: u32,
    title: &'static str,
) -> Option<Vec<Column>> {
    let Some(shape) = shape else {
        let likely = usize::try_from(size).ok()?.checked_mul(3)?;
        return (1..=MAX_HEX).contains(&size).then(|| {
            vec![Column {
                title: title.into(),
                align: Align::Left,
                likely,
            }]
        });
    };
    let mut columns = Vec::new();
    match &shape.root.form {
        Form::Record(record) => of_members(record, &mut columns)?,
        _ => columns.push(of_scalar(&shape.root, title.to_owned())?),
    }
    (!columns.is_empty()).then_some(columns)
}

/// The columns of a record inside a value, after `first`, or `None` if it does not fit into a
/// row.
pub(super) fn record_columns(first: Column, record: &Record) -> Option<Vec<Column>> {
    let mut columns = vec![first];
    of_members(record, &mut columns)?;
    (columns.len() > 1).then_some(columns)
}

/// The cells of a record for which [`record_columns`] gave columns.
pub(super) fn record_cells(object: &Object<'_>, record: &Record, to: &mut Vec<Cell>) {
    for member in &record.members {
        cells_of_member(object, member, to);
    }
}

fn of_members(record: &Record, columns: &mut Vec<Column>) -> Option<()> {
    if record.form != RecordForm::Struct {
        return None;
    }
    for member in &record.members {
        match member.anonymous() {
            Some(record) => of_members(record, columns)?,
            None if columns.len() < MAX_COLUMNS => {
                columns.push(of_scalar(&member.node, member.label.to_string())?);
            }
            None => return None,
        }
    }
    Some(())
}

/// The column of a scalar or a short text.
fn of_scalar(node: &Node, title: String) -> Option<Column> {
    let (align, likely) = match &node.form {
        Form::Int(int) if int.flavour == Flavour::Bool => (Align::Left, 5),
        Form::Int(int) => (Align::Right, if int.bits > 32 { 10 } else { 5 }),
        Form::Enum(table) => (Align::Left, table.longest()),
        Form::Pointer(_) | Form::Program(_) => (Align::Left, 18),
        Form::Float => (Align::Right, 8),
        Form::Array(array) => (Align::Left, usize::try_from(is_text(array)?).ok()?),
        Form::Record(_) | Form::Opaque(_) => return None,
    };
    Some(Column {
        title: title.into(),
        align,
        likely,
    })
}

/// How long the array's text may be, if it is a cell.
fn is_text(array: &Array) -> Option<u64> {
    (array.text != Text::No && (1..=MAX_TEXT).contains(&array.len)).then_some(array.len)
}

/// The cells for which [`columns`] gave columns.
pub(super) fn cells(shape: Option<&Shape>, bytes: Bytes<'_>, to: &mut Vec<Cell>) {
    let Some(shape) = shape else {
        to.push(match bytes.present {
            [] => missing(),
            present => Cell {
                role: Role::Plain,
                text: spaced(present),
            },
        });
        return;
    };
    let object = Object::new(shape, bytes);
    match &shape.root.form {
        Form::Record(record) => record_cells(&object, record, to),
        _ => to.push(cell(&object)),
    }
}

fn cells_of_member(object: &Object<'_>, member: &Member, to: &mut Vec<Cell>) {
    let value = object.member(member);
    match member.anonymous() {
        Some(record) => record_cells(&value, record, to),
        None => to.push(cell(&value)),
    }
}

fn cell(object: &Object<'_>) -> Cell {
    if let Form::Array(array) = &object.node.form {
        let text = object.letters(array);
        return match text {
            _ if object.is_missing() => missing(),
            Some(text) => Cell {
                role: Role::Text,
                text: format!("{text:?}"),
            },
            None => Cell {
                role: Role::Plain,
                text: spaced(object.present()),
            },
        };
    }
    let (role, text) = scalar(object);
    Cell {
        role,
        text: text.into_owned(),
    }
}

fn missing() -> Cell {
    Cell {
        role: Role::Problem,
        text: "missing".to_owned(),
    }
}

/// Bytes as `01 ff`.
pub(super) fn spaced(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (index, &byte) in bytes.iter().enumerate() {
        if index > 0 {
            text.push(' ');
        }
        let [.., high, low] = crate::hex::prefixed(byte);
        text.extend([char::from(high), char::from(low)]);
    }
    text
}
