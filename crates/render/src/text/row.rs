//! The rows that entries are in a table.

use bpfmaps::{Bytes, MapInfo, MapType};

use super::columns::{cells, columns};
use super::entries::{CpuRange, Key, missing_text};
use super::page::Role;
use super::table::{Align, Cell, Column, Row};
use super::{is_storage, object};
use crate::walk::Described;

/// How the entries of a map are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Naming {
    /// By a number, under this title.
    Index(&'static str),
    Owner,
    OwnerAndKey,
    Key,
}

fn naming(info: &MapInfo) -> Naming {
    match info.map_type {
        MapType::ARRAY | MapType::PERCPU_ARRAY if info.key_size == 4 => Naming::Index("INDEX"),
        MapType::QUEUE | MapType::STACK => Naming::Index("#"),
        map_type if is_storage(map_type) => Naming::Owner,
        MapType::CGROUP_STORAGE | MapType::PERCPU_CGROUP_STORAGE => Naming::OwnerAndKey,
        _ => Naming::Key,
    }
}

/// The columns of the entries of `map`, or `None` if they do not fit into
/// rows, as what special fields hold and pointers lead to does not.
pub(super) fn table_columns(map: &Described<'_>) -> Option<Vec<Column>> {
    if map.specials.is_some() || map.roots.is_some() {
        return None;
    }
    let info = map.info;
    let column = |title: &'static str, align, likely| Column {
        title: title.into(),
        align,
        likely,
    };
    let keys = || columns(map.key.as_ref(), info.key_size, "KEY");
    let mut all = match naming(info) {
        Naming::Index(title) => vec![column(title, Align::Right, 5)],
        Naming::Owner | Naming::OwnerAndKey => vec![column("OWNER", Align::Left, 20)],
        Naming::Key => keys()?,
    };
    if naming(info) == Naming::OwnerAndKey {
        all.extend(keys()?);
    }
    if info.map_type.is_per_cpu() {
        all.push(column("CPU", Align::Right, 3));
    }
    all.push(column("→", Align::Left, 1));
    all.extend(columns(map.value.as_ref(), info.value_size, "VALUE")?);
    Some(all)
}

/// An entry as a row of these columns.
pub(super) fn row(
    map: &Described<'_>,
    key: Key<'_>,
    cpus: Option<CpuRange>,
    value: Bytes<'_>,
) -> Row {
    let mut row = Vec::new();
    key_cells(map, key, &mut row);
    row.extend(cpus.map(|cpus| plain(cpu_text(cpus))));
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

fn plain(text: String) -> Cell {
    Cell {
        role: Role::Plain,
        text,
    }
}

fn key_cells(map: &Described<'_>, key: Key<'_>, row: &mut Vec<Cell>) {
    if let Some(text) = index_text(map, key) {
        row.push(plain(text));
        return;
    }
    let (owner, bytes) = match key {
        Key::Bytes(bytes) => (None, bytes),
        Key::Owner(owner, bytes) => (Some(owner), bytes.unwrap_or_default()),
        Key::Index(_) | Key::Range(..) | Key::Same => (None, [].as_slice()),
    };
    let naming = naming(map.info);
    if matches!(naming, Naming::Owner | Naming::OwnerAndKey) {
        row.push(plain(owner.map(object::text).unwrap_or_default()));
    }
    if matches!(naming, Naming::Key | Naming::OwnerAndKey) {
        cells(map.key.as_ref(), Bytes::whole(bytes), row);
    }
    if matches!(key, Key::Same) {
        // As many empty cells as the key has columns.
        row.iter_mut().for_each(|cell| cell.text.clear());
    }
}

/// The key of an element; empty if it is the one above.
pub(super) fn index_text(map: &Described<'_>, key: Key<'_>) -> Option<String> {
    let is_index = matches!(naming(map.info), Naming::Index(_));
    match key {
        Key::Index(index) => Some(index.to_string()),
        Key::Range(first, last) => Some(format!("{first}..{last}")),
        Key::Bytes(&[a, b, c, d]) if is_index => Some(u32::from_le_bytes([a, b, c, d]).to_string()),
        Key::Same if is_index => Some(String::new()),
        Key::Bytes(_) | Key::Owner(..) | Key::Same => None,
    }
}

/// `0`, or `0-3`.
pub(super) fn cpu_text((first, last): CpuRange) -> String {
    match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    }
}
