//! Entries that have lines of their own form: slots, records of ring buffers,
//! and stack traces.

use std::io;

use bpfmaps::{Bytes, Frame, MapType, Object, RecordState, SlotAt};

use super::entries::{INDENT, Key, missing_text};
use super::object;
use super::page::{Page, Role};
use super::paragraph::{write_key, write_value};
use crate::hex::Hex;
use crate::walk::Described;

/// A slot and what it refers to. The bytes of its value say the same again,
/// but for those of instructions.
pub(super) fn slot(
    map: &Described<'_>,
    page: &mut Page<'_>,
    at: SlotAt<'_>,
    refers: &Object,
    value: Option<Bytes<'_>>,
) -> io::Result<()> {
    page.space(INDENT)?;
    match at {
        SlotAt::Index(index) => page.word(Role::Title, &format!("[{index}]"))?,
        SlotAt::Key(key) => {
            write_key(map, page, Key::Bytes(key))?;
            page.word(Role::Faint, " →")?;
        }
    }
    page.space(1)?;
    object::write(page, refers)?;
    match value {
        Some(value) if map.info.map_type == MapType::INSN_ARRAY => {
            page.word(Role::Faint, " →")?;
            write_value(map, page, INDENT, value)
        }
        value => {
            page.end_line()?;
            match value.and_then(missing_text) {
                Some(text) => page.line(INDENT + 4, Role::Problem, &text),
                None => Ok(()),
            }
        }
    }
}

/// A record, with its position before and its bytes below.
pub(super) fn record(
    map: &Described<'_>,
    page: &mut Page<'_>,
    position: u64,
    state: RecordState,
    value: Bytes<'_>,
) -> io::Result<()> {
    page.space(INDENT)?;
    page.word(Role::Title, &format!("@{position}"))?;
    page.space(1)?;
    let role = match state {
        RecordState::Ready => Role::Plain,
        RecordState::Busy => Role::Name,
        RecordState::Discarded => Role::Faint,
    };
    page.word(role, state.name())?;
    page.plain(&format!(", {} bytes", value.len))?;
    page.word(Role::Faint, " →")?;
    write_value(map, page, INDENT, value)
}

/// A stack, a line for each frame.
pub(super) fn stack(page: &mut Page<'_>, id: u32, frames: &[Frame]) -> io::Result<()> {
    page.space(INDENT)?;
    page.word(Role::Title, &format!("[{id}]"))?;
    if frames.is_empty() {
        page.word(Role::Faint, " no frames")?;
    }
    page.end_line()?;
    for frame in frames {
        page.space(INDENT + 4)?;
        match frame {
            Frame::Address { ip, symbol } => {
                page.word(Role::Address, &format!("{ip:#018x}"))?;
                if let Some(symbol) = symbol {
                    page.plain(&format!("  {symbol}"))?;
                }
            }
            Frame::BuildId { build_id, offset } => {
                page.word(Role::Text, &Hex(build_id).to_string())?;
                page.plain(&format!("+{offset:#x}"))?;
            }
            Frame::NoBuildId { ip } => {
                page.word(Role::Address, &format!("{ip:#018x}"))?;
                page.word(Role::Problem, "  no build id")?;
            }
        }
        page.end_line()?;
    }
    Ok(())
}
