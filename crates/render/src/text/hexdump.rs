//! Bytes that no type describes.

use std::io;

use super::columns::spaced;
use super::page::{Page, Role};

const LINE: usize = 16;

/// Lines of offset, digits and characters. Lines equal to the one before are
/// one `*`. The last line is ended.
pub(super) fn write(page: &mut Page<'_>, indent: usize, bytes: &[u8]) -> io::Result<()> {
    let mut previous: &[u8] = &[];
    let mut folding = false;
    let mut at: usize = 0;
    for line in bytes.chunks(LINE) {
        // The last line is always shown, so that the end is seen.
        let is_last = at.saturating_add(line.len()) == bytes.len();
        if line == previous && !is_last {
            if !folding {
                page.line(indent, Role::Faint, "*")?;
            }
            folding = true;
        } else {
            folding = false;
            page.space(indent)?;
            page.word(Role::Faint, &format!("{at:04x}"))?;
            page.plain(&format!("  {:<47}  ", spaced(line)))?;
            page.word(Role::Text, &characters(line))?;
            page.end_line()?;
        }
        previous = line;
        at = at.saturating_add(line.len());
    }
    Ok(())
}

fn characters(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b' '..=b'~' => char::from(byte),
            _ => '.',
        })
        .collect()
}
