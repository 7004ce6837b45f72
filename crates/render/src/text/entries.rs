//! The entries of a map, each where its map's form puts it: in a table, in
//! paragraphs, or as the variables of a section.

use std::io;

use bpfmaps::{Bytes, CpuValue, Entry, MapType, Object};

use super::page::{Page, Role};
use super::paragraph::{paragraph, variables};
use super::row::{row, table_columns};
use super::table::Table;
use super::{count, lines};
use crate::shape::{Form, RecordForm};
use crate::walk::Described;

/// How far entries are moved in below their map.
pub(super) const INDENT: usize = 2;

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
    first: u64,
    last: u64,
    value: Vec<u8>,
}

/// How an entry is called.
#[derive(Clone, Copy)]
pub(super) enum Key<'a> {
    Bytes(&'a [u8]),
    Index(u64),
    Range(u64, u64),
    /// What it belongs to, and the key if it has one.
    Owner(&'a Object, Option<&'a [u8]>),
    /// The one of the row before.
    Same,
}

/// The CPUs whose value it is.
pub(super) type CpuRange = (u32, u32);

impl<'m> Entries<'m> {
    pub(super) fn new(map: &'m Described<'m>, width: usize) -> Self {
        Self {
            form: form(map, width),
            map,
            run: None,
        }
    }

    /// How many entries there were, unless that goes without saying.
    pub(super) fn counted(&self, number: u64) -> Option<String> {
        let map_type = self.map.info.map_type;
        let (one, many) = match map_type {
            MapType::RINGBUF | MapType::USER_RINGBUF => ("record", "records"),
            MapType::QUEUE | MapType::STACK => ("element", "elements"),
            MapType::STACK_TRACE => ("stack", "stacks"),
            _ => ("entry", "entries"),
        };
        match (number, &self.form) {
            // The one entry of a section of a program.
            (1, EntriesForm::Variables) => None,
            // These have none, but a state.
            (0, _) if matches!(map_type, MapType::BLOOM_FILTER | MapType::ARENA) => None,
            (0, _) => Some(format!("no {many}")),
            _ => Some(count(number, one, many)),
        }
    }

    pub(super) fn push(&mut self, page: &mut Page<'_>, entry: Entry<'_>) -> io::Result<()> {
        match entry {
            Entry::KeyValue { key, value } => {
                let index = match key {
                    &[a, b, c, d] if self.map.info.map_type == MapType::ARRAY => {
                        Some(u64::from(u32::from_le_bytes([a, b, c, d])))
                    }
                    _ => None,
                };
                match index {
                    Some(index) => self.element(page, index, value),
                    None => self.write(page, Key::Bytes(key), None, value),
                }
            }
            Entry::PerCpu { key, values } => self.per_cpu(page, Key::Bytes(key), values),
            Entry::Owned { owner, key, value } => {
                self.write(page, Key::Owner(owner, key), None, value)
            }
            Entry::OwnedPerCpu { owner, key, values } => {
                self.per_cpu(page, Key::Owner(owner, Some(key)), values)
            }
            Entry::Slot { at, refers, value } => lines::slot(self.map, page, at, refers, value),
            Entry::Record {
                position,
                state,
                value,
            } => lines::record(self.map, page, position, state, value),
            Entry::Element { position, value } => self.element(page, position, value),
            Entry::Stack { id, frames } => lines::stack(page, id, frames),
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

    /// Joins equal neighbours in an array or queue.
    fn element(&mut self, page: &mut Page<'_>, index: u64, value: Bytes<'_>) -> io::Result<()> {
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
        mut key: Key<'_>,
        values: &[CpuValue<'_>],
    ) -> io::Result<()> {
        let equal = |a: &CpuValue<'_>, b: &CpuValue<'_>| {
            a.value.is_whole() && a.value == b.value && a.cpu.checked_add(1) == Some(b.cpu)
        };
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

/// What of a value is missing, and why.
pub(super) fn missing_text(value: Bytes<'_>) -> Option<String> {
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
