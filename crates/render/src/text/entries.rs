//! The entries of a map, each where its map's form puts it: in a table, in
//! paragraphs, or as the variables of a section.

use std::io;

use bpfmaps::{Bytes, CpuValue, Entry, MapType};

use super::columns::{cells, columns, spaced};
use super::doc::Doc;
use super::hexdump;
use super::page::{Page, Role};
use super::table::{Align, Cell, Column, Row, Table};
use super::value::value;
use crate::object::Object;
use crate::shape::{Form, RecordForm};
use crate::walk::Described;

/// How far entries are moved in below their map.
const INDENT: usize = 2;

/// Bytes without a type that fit on the line of their key.
const MAX_INLINE: usize = 16;

/// Bytes of a key without a type that fit on a line.
const MAX_KEY: usize = 32;

/// Writes entries as they come.
pub(super) struct Entries<'m> {
    map: &'m Described<'m>,
    form: EntriesForm,
    /// Elements of an array that were equal so far, and are not yet written.
    run: Option<Run>,
}

enum EntriesForm {
    Table(Table),
    Paragraphs,
    Variables,
}

/// Elements `first..=last` of an array, all with this value.
struct Run {
    first: u32,
    last: u32,
    value: Vec<u8>,
}

/// How an entry is called.
#[derive(Clone, Copy)]
enum Key<'a> {
    Bytes(&'a [u8]),
    Index(u32),
    Range(u32, u32),
    /// The one of the row before.
    Same,
}

/// The CPUs whose value it is.
type CpuRange = (u32, u32);

impl<'m> Entries<'m> {
    pub(super) fn new(map: &'m Described<'m>, width: usize) -> Self {
        Self {
            form: form(map, width),
            map,
            run: None,
        }
    }

    /// Whether the map is a section of a program, whose one entry needs no
    /// counting.
    pub(super) fn is_section(&self) -> bool {
        matches!(self.form, EntriesForm::Variables)
    }

    pub(super) fn push(&mut self, page: &mut Page<'_>, entry: Entry<'_>) -> io::Result<()> {
        match entry {
            Entry::KeyValue { key, value } => {
                let index = match key {
                    &[a, b, c, d] if self.map.info.map_type == MapType::ARRAY => {
                        Some(u32::from_le_bytes([a, b, c, d]))
                    }
                    _ => None,
                };
                match index {
                    Some(index) => self.element(page, index, value),
                    None => self.write(page, Key::Bytes(key), None, value),
                }
            }
            Entry::PerCpu { key, values } => self.per_cpu(page, key, values),
            _ => page.line(
                INDENT,
                Role::Problem,
                "entries of this kind are not rendered",
            ),
        }
    }

    /// Writes what is held back.
    pub(super) fn finish(&mut self, page: &mut Page<'_>) -> io::Result<()> {
        self.end_run(page)?;
        match &mut self.form {
            EntriesForm::Table(table) => table.settle(page),
            EntriesForm::Paragraphs | EntriesForm::Variables => Ok(()),
        }
    }

    /// Joins equal neighbours in an array.
    fn element(&mut self, page: &mut Page<'_>, index: u32, value: Bytes<'_>) -> io::Result<()> {
        if !value.is_whole() {
            self.end_run(page)?;
            return self.write(page, Key::Index(index), None, value);
        }
        match &mut self.run {
            Some(run) if run.last.checked_add(1) == Some(index) && run.value == value.present => {
                run.last = index;
                Ok(())
            }
            _ => {
                self.end_run(page)?;
                self.run = Some(Run {
                    first: index,
                    last: index,
                    value: value.present.to_vec(),
                });
                Ok(())
            }
        }
    }

    fn end_run(&mut self, page: &mut Page<'_>) -> io::Result<()> {
        let Some(run) = self.run.take() else {
            return Ok(());
        };
        let key = match run.first == run.last {
            true => Key::Index(run.first),
            false => Key::Range(run.first, run.last),
        };
        self.write(page, key, None, Bytes::whole(&run.value))
    }

    /// Joins CPUs whose values are equal.
    fn per_cpu(
        &mut self,
        page: &mut Page<'_>,
        key: &[u8],
        values: &[CpuValue<'_>],
    ) -> io::Result<()> {
        let equal = |a: &CpuValue<'_>, b: &CpuValue<'_>| {
            a.value.is_whole() && a.value == b.value && a.cpu.checked_add(1) == Some(b.cpu)
        };
        let mut key = Key::Bytes(key);
        for run in values.chunk_by(equal) {
            if let [first, ..] = run {
                let last = run.last().unwrap_or(first);
                self.write(page, key, Some((first.cpu, last.cpu)), first.value)?;
                key = Key::Same;
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        page: &mut Page<'_>,
        key: Key<'_>,
        cpus: Option<CpuRange>,
        value: Bytes<'_>,
    ) -> io::Result<()> {
        match &mut self.form {
            EntriesForm::Table(table) => {
                let row = row(self.map, key, cpus, value);
                table.push(page, row)
            }
            EntriesForm::Paragraphs => paragraph(self.map, page, key, cpus, value),
            EntriesForm::Variables => variables(self.map, page, value),
        }
    }
}

fn form(map: &Described<'_>, width: usize) -> EntriesForm {
    let root = map.value.as_ref().map(|shape| &shape.root.form);
    if let Some(Form::Record(record)) = root
        && record.form == RecordForm::Section
        && map.info.max_entries == 1
    {
        return EntriesForm::Variables;
    }
    match table_columns(map) {
        Some(columns) if Table::likely_width(&columns) + INDENT <= width => {
            EntriesForm::Table(Table::new(columns, INDENT))
        }
        _ => EntriesForm::Paragraphs,
    }
}

fn table_columns(map: &Described<'_>) -> Option<Vec<Column>> {
    let info = map.info;
    let mut all = match is_array(map) {
        true => vec![Column {
            title: "INDEX".into(),
            align: Align::Right,
            likely: 5,
        }],
        false => columns(map.key.as_ref(), info.key_size, "KEY")?,
    };
    if info.map_type.is_per_cpu() {
        all.push(Column {
            title: "CPU".into(),
            align: Align::Right,
            likely: 3,
        });
    }
    all.push(Column {
        title: "→".into(),
        align: Align::Left,
        likely: 1,
    });
    all.extend(columns(map.value.as_ref(), info.value_size, "VALUE")?);
    Some(all)
}

/// Whether keys are indices.
fn is_array(map: &Described<'_>) -> bool {
    let map_type = map.info.map_type;
    matches!(map_type, MapType::ARRAY | MapType::PERCPU_ARRAY) && map.info.key_size == 4
}

fn row(map: &Described<'_>, key: Key<'_>, cpus: Option<CpuRange>, value: Bytes<'_>) -> Row {
    let mut row = Vec::new();
    match (key, index_text(map, key)) {
        (_, Some(text)) => row.push(Cell {
            role: Role::Plain,
            text,
        }),
        (Key::Bytes(bytes), None) => cells(map.key.as_ref(), Bytes::whole(bytes), &mut row),
        _ => {
            // As many empty cells as the key has columns.
            cells(map.key.as_ref(), Bytes::whole(&[]), &mut row);
            row.iter_mut().for_each(|cell| cell.text.clear());
        }
    }
    row.extend(cpus.map(|cpus| Cell {
        role: Role::Plain,
        text: cpu_text(cpus),
    }));
    row.push(Cell {
        role: Role::Faint,
        text: "→".to_owned(),
    });
    cells(map.value.as_ref(), value, &mut row);
    Row {
        cells: row,
        note: missing_text(value),
    }
}

/// The key of an array's element; empty if it is the one above.
fn index_text(map: &Described<'_>, key: Key<'_>) -> Option<String> {
    match key {
        Key::Index(index) => Some(index.to_string()),
        Key::Range(first, last) => Some(format!("{first}..{last}")),
        Key::Bytes(&[a, b, c, d]) if is_array(map) => {
            Some(u32::from_le_bytes([a, b, c, d]).to_string())
        }
        Key::Same if is_array(map) => Some(String::new()),
        Key::Bytes(_) | Key::Same => None,
    }
}

fn cpu_text((first, last): CpuRange) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}

/// What of a value is missing, and why.
fn missing_text(value: Bytes<'_>) -> Option<String> {
    if value.is_whole() {
        return None;
    }
    let missing = value.len.saturating_sub(value.present.len() as u64);
    let of = value.len;
    Some(match value.fault {
        Some(fault) => format!("{missing} of {of} bytes missing: {fault}"),
        None => format!("{missing} of {of} bytes missing"),
    })
}

/// The key, then the value behind it or below it.
fn paragraph(
    map: &Described<'_>,
    page: &mut Page<'_>,
    key: Key<'_>,
    cpus: Option<CpuRange>,
    value: Bytes<'_>,
) -> io::Result<()> {
    let mut indent = INDENT;
    if !matches!(key, Key::Same) {
        match key {
            Key::Bytes(bytes) if map.key.is_none() && bytes.len() > MAX_KEY => {
                hexdump::write(page, indent, bytes)?;
                if cpus.is_none() {
                    page.space(indent)?;
                    page.word(Role::Faint, "→")?;
                }
            }
            _ => {
                page.space(indent)?;
                write_key(map, page, key)?;
                match cpus {
                    Some(_) => page.end_line()?,
                    None => page.word(Role::Faint, " →")?,
                }
            }
        }
    }
    if let Some(cpus) = cpus {
        indent += 4;
        page.space(indent)?;
        page.word(Role::Name, &format!("cpu {}", cpu_text(cpus)))?;
    }
    match &map.value {
        Some(shape) => {
            let doc = super::value::value(&Object::new(shape, value));
            doc.write_below(page, indent, 1)?;
            page.end_line()?;
        }
        None if value.present.len() <= MAX_INLINE => {
            page.space(1)?;
            page.plain(&spaced(value.present))?;
            page.end_line()?;
        }
        None if value.is_whole() && value.present.iter().all(|&byte| byte == 0) => {
            page.space(1)?;
            page.word(Role::Faint, "all zero")?;
            page.end_line()?;
        }
        None => {
            page.end_line()?;
            hexdump::write(page, indent + 4, value.present)?;
        }
    }
    match missing_text(value) {
        Some(text) => page.line(indent + 4, Role::Problem, &text),
        None => Ok(()),
    }
}

fn write_key(map: &Described<'_>, page: &mut Page<'_>, key: Key<'_>) -> io::Result<()> {
    if let Some(index) = index_text(map, key) {
        return page.word(Role::Title, &format!("[{index}]"));
    }
    let Key::Bytes(bytes) = key else {
        return Ok(());
    };
    match &map.key {
        Some(shape) => {
            let doc = value(&Object::new(shape, Bytes::whole(bytes)));
            match doc {
                Doc::Word(Role::Plain, text) => page.word(Role::Title, &text),
                doc => doc.write(page, true),
            }
        }
        None => page.word(Role::Title, &spaced(bytes)),
    }
}

/// The variables of a section, one on each line.
fn variables(map: &Described<'_>, page: &mut Page<'_>, bytes: Bytes<'_>) -> io::Result<()> {
    let Some(shape) = &map.value else {
        return Ok(());
    };
    page.space(INDENT)?;
    match value(&Object::new(shape, bytes)) {
        Doc::List(list) => list.write_block(page, INDENT)?,
        doc => doc.write(page, false)?,
    }
    page.end_line()?;
    match missing_text(bytes) {
        Some(text) => page.line(INDENT, Role::Problem, &text),
        None => Ok(()),
    }
}
