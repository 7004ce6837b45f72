//! Values as people read them: zeros and repetitions folded.

use std::borrow::Cow;

use super::columns::{record_cells, record_columns};
use super::doc::{Doc, Item, List, ListKind};
use super::follow::{item, pointer};
use super::page::Role;
use super::special::special;
use super::table::{Align, Cell, Column, Grid, Row};
use crate::context::prog_name;
use crate::hex::Hex;
use crate::object::{Object, Scalar};
use crate::shape::{Array, EnumText, Form, Record, RecordForm};

/// Records of up to so many fields show their zeros.
const FEW: usize = 4;

/// How many runs of equal elements an array shows.
const MAX_RUNS: usize = 64;

/// How many bytes are shown of what has no value.
const MAX_OPAQUE: usize = 16;

/// A value, whole or in part.
pub(super) fn value<'a>(object: &Object<'a>) -> Doc<'a> {
    if let Some(field) = object.special() {
        return special(&field);
    }
    if let Some((site, met)) = object.follow() {
        return pointer(&met, site);
    }
    match &object.node.form {
        _ if object.is_missing() => Doc::word(Role::Problem, "missing"),
        Form::Record(record) if record.form == RecordForm::Section => section(object, record),
        Form::Record(record) => match object.cpus() {
            Some(cpus) if cpus.0.is_empty() => Doc::word(Role::Faint, "no CPU"),
            Some(cpus) => Doc::word(Role::Plain, format!("CPUs {cpus}")),
            None => fields(object, record),
        },
        Form::Array(array) => match object.letters(array) {
            Some(text) => Doc::word(Role::Text, format!("{text:?}")),
            None => elements(object, array),
        },
        _ => {
            let (role, text) = scalar(object);
            Doc::Word(role, text)
        }
    }
}

/// What is no record and no array.
pub(super) fn scalar<'a>(object: &Object<'a>) -> (Role, Cow<'a, str>) {
    let Some(scalar) = object.scalar() else {
        return (Role::Problem, "missing".into());
    };
    let plain = |text: String| (Role::Plain, text.into());
    match scalar {
        Scalar::Unsigned(value) => plain(value.to_string()),
        Scalar::Signed(value) => plain(value.to_string()),
        Scalar::UnsignedWide(value) => plain(value.to_string()),
        Scalar::SignedWide(value) => plain(value.to_string()),
        Scalar::Bool(value) => plain(value.to_string()),
        Scalar::Float(value) => plain(format!("{value:?}")),
        Scalar::Single(value) => plain(format!("{value:?}")),
        Scalar::Char(value @ b' '..=b'~') => {
            (Role::Text, format!("{:?}", char::from(value)).into())
        }
        Scalar::Char(value) => plain(value.to_string()),
        Scalar::Pointer(0) | Scalar::Program(0, _) => (Role::Faint, "NULL".into()),
        Scalar::Pointer(value) => (Role::Address, format!("{value:#x}").into()),
        Scalar::Program(id, prog) => {
            let name = prog.map(prog_name).unwrap_or_default();
            plain(format!("prog {id} {name}").trim_end().to_owned())
        }
        Scalar::Enum(table, bits) => match table.text(bits) {
            EnumText::Name(name) => (Role::Plain, name.into()),
            EnumText::Flags(flags) => plain(flags.to_string()),
            EnumText::Number => plain(table.number(bits).to_string()),
        },
        Scalar::Opaque(bytes, why) => {
            let shown = bytes.get(..MAX_OPAQUE).unwrap_or(bytes);
            let more = match bytes.len() {
                all if all > shown.len() => format!("… of {all} bytes"),
                _ => String::new(),
            };
            (Role::Faint, format!("{}{more} ({why})", Hex(shown)).into())
        }
    }
}

/// The fields of a record, those of anonymous members among them.
fn flatten<'a>(object: &Object<'a>, record: &'a Record, to: &mut Vec<(&'a str, Object<'a>)>) {
    for member in &record.members {
        let value = object.member(member);
        match member.anonymous() {
            Some(record) => flatten(&value, record, to),
            None => to.push((&member.label, value)),
        }
    }
}

fn fields<'a>(object: &Object<'a>, record: &'a Record) -> Doc<'a> {
    let mut all = Vec::with_capacity(record.members.len());
    flatten(object, record, &mut all);
    let zeros = all.iter().filter(|(_, field)| field.is_zero()).count();
    let folded = all.len() > FEW && zeros > 1;
    if folded && zeros == all.len() {
        return Doc::word(Role::Faint, "all zero");
    }
    let missing = all.iter().filter(|(_, field)| field.is_missing()).count();
    let mut items: Vec<Item<'a>> = all
        .iter()
        .filter(|(_, field)| !(folded && field.is_zero()) && (missing < 2 || !field.is_missing()))
        .map(|&(label, field)| item(label.into(), value(&field)))
        .collect();
    if folded {
        items.push(note(Role::Faint, format!("… {zeros} zero fields")));
    }
    if missing > 1 {
        items.push(note(Role::Problem, format!("… {missing} fields missing")));
    }
    list(ListKind::Fields, items, "{}")
}

/// A list, or what stands for an empty one.
fn list<'a>(kind: ListKind, items: Vec<Item<'a>>, empty: &'static str) -> Doc<'a> {
    match items.is_empty() {
        true => Doc::word(Role::Faint, empty),
        false => Doc::List(List {
            kind,
            items,
            grid: None,
            left_out: 0,
        }),
    }
}

fn note<'a>(role: Role, text: String) -> Item<'a> {
    Item {
        label: Cow::Borrowed(""),
        doc: Doc::word(role, text),
    }
}

/// The variables of a section. Those that are zero are only named.
fn section<'a>(object: &Object<'a>, record: &'a Record) -> Doc<'a> {
    let named = |zero: bool| {
        record
            .members
            .iter()
            .map(|member| (&*member.label, object.member(member)))
            .filter(move |(_, variable)| zero == (variable.is_zero() && record.members.len() > FEW))
    };
    let mut items: Vec<Item<'a>> = named(false)
        .map(|(label, variable)| item(label.into(), value(&variable)))
        .collect();
    let zeros: Vec<Item<'a>> = named(true)
        .map(|(label, _)| Item {
            label: Cow::Borrowed(""),
            doc: Doc::word(Role::Faint, label),
        })
        .collect();
    if !zeros.is_empty() {
        items.push(Item {
            label: "zero:".into(),
            doc: list(ListKind::Names, zeros, ""),
        });
    }
    list(ListKind::Variables, items, "no variables")
}

/// A run of equal elements.
struct Run<'a> {
    first: u64,
    count: u64,
    element: Object<'a>,
}

/// The elements of an array, equal neighbours once.
fn elements<'a>(object: &Object<'a>, array: &'a Array) -> Doc<'a> {
    let count = object.element_count(array);
    let is_record = matches!(array.element.form, Form::Record(_));
    let labelled = is_record || object.has_followed();
    // A record shows the part of it that could be read, a number has no part.
    let is_missing = |element: &Object<'_>| match is_record {
        true => element.is_missing(),
        false => element.whole().is_none(),
    };
    let mut runs: Vec<Run<'a>> = Vec::new();
    let mut seen = 0;
    for index in 0..count {
        let element = object.element(array, index);
        if is_missing(&element) {
            break;
        }
        let is_full = runs.len() == MAX_RUNS;
        match runs.last_mut() {
            Some(run) if run.element.present() == element.present() => run.count += 1,
            _ if is_full => break,
            _ => runs.push(Run {
                first: index,
                count: 1,
                element,
            }),
        }
        seen = index + 1;
    }
    let mut items: Vec<Item<'a>> = Vec::new();
    for run in &runs {
        match labelled {
            true => items.push(labelled_run(run)),
            false => plain_run(run, &mut items),
        }
    }
    let mut left_out = 0;
    if seen < count {
        let left = count - seen;
        items.push(match is_missing(&object.element(array, seen)) {
            true => note(Role::Problem, format!("… {left} missing")),
            false => {
                left_out = left;
                let nonzero = nonzero_elements(object, array, seen);
                note(
                    Role::Faint,
                    format!("… {left} more, {nonzero} of them not zero"),
                )
            }
        });
    }
    if items.is_empty() {
        return Doc::word(Role::Faint, "[]");
    }
    Doc::List(List {
        kind: match labelled {
            true => ListKind::Labelled,
            false => ListKind::Elements,
        },
        items,
        grid: match object.has_followed() {
            true => None,
            false => grid(&runs, array),
        },
        left_out,
    })
}

/// How many elements from `first` on are not zero.
fn nonzero_elements(object: &Object<'_>, array: &Array, first: u64) -> usize {
    let size = usize::try_from(array.element.size).unwrap_or(0).max(1);
    let bytes = object.present();
    let skipped = usize::try_from(first)
        .ok()
        .and_then(|first| first.checked_mul(size));
    let rest = skipped
        .and_then(|skipped| bytes.get(skipped..))
        .unwrap_or_default();
    rest.chunks(size)
        .filter(|element| element.iter().any(|&byte| byte != 0))
        .count()
}

/// The runs as a table, if their elements are records of scalars.
fn grid(runs: &[Run<'_>], array: &Array) -> Option<Grid> {
    let Form::Record(record) = &array.element.form else {
        return None;
    };
    if runs.len() < 2 {
        return None;
    }
    let first = Column {
        title: "".into(),
        align: Align::Right,
        likely: 0,
    };
    let columns = record_columns(first, record)?;
    let rows = runs.iter().map(|run| {
        let mut cells = vec![Cell {
            role: Role::Name,
            text: run.label(),
        }];
        record_cells(&run.element, record, &mut cells);
        Row { cells, note: None }
    });
    Some(Grid::new(columns, rows.collect()))
}

impl Run<'_> {
    /// `[1]`, or `[1..3]`.
    fn label(&self) -> String {
        let Self { first, count, .. } = self;
        match count {
            1 => format!("[{first}]"),
            _ => format!("[{first}..{}]", first + count - 1),
        }
    }
}

fn labelled_run<'a>(run: &Run<'a>) -> Item<'a> {
    let doc = match (&run.element.node.form, run.element.is_zero()) {
        (Form::Record(_), true) => Doc::word(Role::Faint, "all zero"),
        _ => value(&run.element),
    };
    item(run.label().into(), doc)
}

/// Two equal elements are written twice, more with their number.
fn plain_run<'a>(run: &Run<'a>, items: &mut Vec<Item<'a>>) {
    let doc = match value(&run.element) {
        Doc::Word(role, text) if run.count > 2 => Doc::word(role, format!("{text} ×{}", run.count)),
        Doc::List(list) if run.count > 2 => {
            items.push(Item {
                label: format!("{}×", run.count).into(),
                doc: Doc::List(list),
            });
            return;
        }
        doc => doc,
    };
    let item = Item {
        label: Cow::Borrowed(""),
        doc,
    };
    if run.count == 2 {
        items.push(item.clone());
    }
    items.push(item);
}
