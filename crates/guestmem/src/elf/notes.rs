//! The notes of an ELF core.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::ElfError;
use super::headers::{Segment, field};
use crate::{Address, CaptureNote, Gpa};

/// More than the notes of a thousand CPUs need, or of a capture with many
/// gaps.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

/// How many names of notes are told, and how many bytes of each.
const SHOWN: usize = 8;
const LONGEST_NAME: usize = 16;

/// VMCOREINFO has one page, and no page of any kernel is larger.
const LONGEST_TEXT: usize = 1 << 16;

/// More root tables than are worth trying.
const MOST_ROOTS: usize = 256;

/// In QEMU's `struct QEMUCPUState` (`target/i386/arch_dump.c`): version 1,
/// the size of the whole, and where CR3 is.
const QEMU_VERSION: u32 = 1;
const QEMU_CR3: usize = 416;

/// What the notes tell.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// How many there are of each of the first names.
    names: BTreeMap<String, usize>,
    /// How many have other names.
    others: usize,
    /// What is wrong with them.
    problem: Option<&'static str>,
    /// The text of the VMCOREINFO.
    pub(crate) vmcoreinfo: Option<Vec<u8>>,
    /// CR3 of each CPU.
    pub(crate) roots: Vec<Gpa>,
    /// What a capture says of itself.
    pub(super) capture: Option<CaptureNote>,
}

impl Notes {
    /// Reads those in `segments` of `file`, which has `len` bytes.
    ///
    /// What cannot be read of them is a fact to tell, and no error: the memory
    /// is there without them. Only a capture's own note must make sense.
    pub(crate) fn read(file: &File, len: u64, segments: &[Segment]) -> Result<Self, ElfError> {
        let mut notes = Self::default();
        let mut left = MOST_BYTES;
        for segment in segments {
            let held = segment.in_file.min(len.saturating_sub(segment.offset));
            if held < segment.in_file {
                notes.problem = Some("the file ends before they do");
            }
            let wanted = held.min(left);
            if wanted < held {
                notes.problem = Some("there is more than 16 MiB of them");
            }
            left -= wanted;
            let mut bytes = vec![0; usize::try_from(wanted).unwrap_or(0)];
            if file.read_exact_at(&mut bytes, segment.offset).is_err() {
                notes.problem = Some("the file ends before they do");
                continue;
            }
            notes.parse(&bytes)?;
        }
        Ok(notes)
    }

    /// Adds the notes in `bytes`.
    pub(crate) fn parse(&mut self, mut bytes: &[u8]) -> Result<(), ElfError> {
        while !bytes.is_empty() {
            let Some((note, rest)) = Note::split(bytes) else {
                // What is too short for a note's header pads the segment.
                if bytes.iter().any(|&byte| byte != 0) {
                    self.problem = Some("one is longer than all of them");
                }
                return Ok(());
            };
            bytes = rest;
            self.take(&note)?;
        }
        Ok(())
    }

    fn take(&mut self, note: &Note<'_>) -> Result<(), ElfError> {
        const VMCOREINFO: &[u8] = b"VMCOREINFO";
        const CAPTURE: &[u8] = CaptureNote::NAME.as_bytes();
        match (note.name, note.kind) {
            (VMCOREINFO, 0) if note.content.len() > LONGEST_TEXT => {
                self.problem = Some("VMCOREINFO is longer than a page");
            }
            (VMCOREINFO, 0) if self.vmcoreinfo.is_none() => {
                self.vmcoreinfo = Some(note.content.to_vec());
            }
            (b"QEMU", 0) if self.roots.len() < MOST_ROOTS => {
                let root = cr3(note.content).filter(|root| !self.roots.contains(root));
                self.roots.extend(root);
            }
            (CAPTURE, CaptureNote::TYPE) if self.capture.is_none() => {
                let capture = CaptureNote::parse(note.content)?;
                self.roots.extend(capture.root());
                self.capture = Some(capture);
            }
            _ => {}
        }
        self.count(note.name);
        Ok(())
    }

    fn count(&mut self, name: &[u8]) {
        let shown = name.get(..LONGEST_NAME).unwrap_or(name);
        let shown = shown.escape_ascii().to_string();
        let room = self.names.len() < SHOWN;
        match self.names.get_mut(&shown) {
            Some(count) => *count += 1,
            None if room => {
                self.names.insert(shown, 1);
            }
            None => self.others += 1,
        }
    }

    /// What is worth telling of them.
    pub(crate) fn facts(&self) -> Vec<(&'static str, String)> {
        let named = self.names.iter().map(|(name, count)| match count {
            1 => name.clone(),
            count => format!("{count} {name}"),
        });
        let mut parts: Vec<_> = named.collect();
        if self.others > 0 {
            parts.push(format!("{} others", self.others));
        }
        parts.extend(self.problem.map(|problem| format!("incomplete: {problem}")));
        let mut facts = Vec::new();
        if !parts.is_empty() {
            facts.push(("notes", parts.join(", ")));
        }
        if let Some(capture) = &self.capture {
            let mut text = format!("from {}", capture.source());
            if let Some(paused) = capture.paused() {
                let ms = paused.as_secs_f64() * 1000.0;
                let _ = write!(text, ", paused for {ms:.1} ms");
            }
            facts.push(("captured", text));
        }
        facts
    }
}

/// CR3, if this is the state of an x86 CPU that has set it.
fn cr3(content: &[u8]) -> Option<Gpa> {
    let version = field(content, 0).map(u32::from_le_bytes)?;
    let cr3 = field(content, QEMU_CR3).map(u64::from_le_bytes)?;
    (version == QEMU_VERSION && cr3 != 0).then(|| Gpa::new(cr3))
}

/// One note.
struct Note<'n> {
    name: &'n [u8],
    kind: u32,
    content: &'n [u8],
}

impl<'n> Note<'n> {
    /// The first note, and what is behind it.
    fn split(bytes: &'n [u8]) -> Option<(Self, &'n [u8])> {
        let word = |at| field(bytes, at).map(u32::from_le_bytes);
        let (name_len, len, kind) = (word(0)?, word(4)?, word(8)?);
        let (name, rest) = part(bytes.get(12..)?, name_len)?;
        let (content, rest) = part(rest, len)?;
        let name = name.strip_suffix(b"\0").unwrap_or(name);
        Some((
            Self {
                name,
                kind,
                content,
            },
            rest,
        ))
    }
}

/// The first `len` bytes, and what is behind them and what pads them to 4.
fn part(bytes: &[u8], len: u32) -> Option<(&[u8], &[u8])> {
    let len = usize::try_from(len).ok()?;
    let (part, _) = bytes.split_at_checked(len)?;
    let padded = len.checked_next_multiple_of(4)?.min(bytes.len());
    Some((part, bytes.get(padded..)?))
}
