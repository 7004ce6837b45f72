//! Entries that are no rows: the key, then the value behind it or below it.

use std::io;

use bpfmaps::Bytes;

use super::columns::spaced;
use super::doc::Doc;
use super::entries::{CpuRange, INDENT, Key, missing_text};
use super::page::{Page, Role};
use super::row::{cpu_text, index_text};
use super::value::value;
use super::{hexdump, object};
use crate::follow::Site;
use crate::object::Object;
use crate::shape::Shape;
use crate::special::Place;
use crate::walk::Described;

/// Bytes without a type that fit on the line of their key.
const MAX_INLINE: usize = 16;

/// Bytes of a key without a type that fit on a line.
const MAX_KEY: usize = 32;

/// The key, then the value behind it or below it.
pub(super) fn paragraph(
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
    write_value(map, page, indent, value)
}

/// A value behind the current line or below it, and what is missing of it.
pub(super) fn write_value(
    map: &Described<'_>,
    page: &mut Page<'_>,
    indent: usize,
    value: Bytes<'_>,
) -> io::Result<()> {
    match &map.value {
        Some(shape) => {
            let (place, site) = (map.place(), map.site());
            let doc = typed(shape, place.as_ref(), site.as_ref(), value);
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

/// A value by its type.
fn typed<'a>(
    shape: &'a Shape,
    place: Option<&'a Place<'a>>,
    site: Option<&'a Site<'a>>,
    bytes: Bytes<'a>,
) -> Doc<'a> {
    let object = Object::new(shape, bytes);
    let object = place.into_iter().fold(object, Object::within);
    value(&site.into_iter().fold(object, Object::following))
}

/// How an entry is called, as a title.
pub(super) fn write_key(map: &Described<'_>, page: &mut Page<'_>, key: Key<'_>) -> io::Result<()> {
    if let Some(index) = index_text(map, key) {
        return page.word(Role::Title, &format!("[{index}]"));
    }
    let bytes = match key {
        Key::Bytes(bytes) => bytes,
        Key::Owner(owner, bytes) => {
            object::write(page, owner)?;
            let Some(bytes) = bytes else {
                return Ok(());
            };
            page.space(3)?;
            bytes
        }
        Key::Index(_) | Key::Range(..) | Key::Same => return Ok(()),
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
pub(super) fn variables(
    map: &Described<'_>,
    page: &mut Page<'_>,
    bytes: Bytes<'_>,
) -> io::Result<()> {
    let Some(shape) = &map.value else {
        return Ok(());
    };
    page.space(INDENT)?;
    let (place, site) = (map.place(), map.site());
    match typed(shape, place.as_ref(), site.as_ref(), bytes) {
        Doc::List(list) => list.write_block(page, INDENT)?,
        doc => doc.write(page, false)?,
    }
    page.end_line()?;
    match missing_text(bytes) {
        Some(text) => page.line(INDENT, Role::Problem, &text),
        None => Ok(()),
    }
}
