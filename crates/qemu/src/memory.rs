//! A guest's memory where QEMU keeps it.

use std::fs::File;
use std::rc::Rc;

use guestmem::{Address, Cause, Contents, Fault, Gpa, MappedFile, Memory, PhysicalMemory, Span};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};

use crate::Error;
use crate::maps::{FileId, Kind, Mapping};
use crate::process::{Lost, Process};

/// A run of guest memory, and where it is in QEMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) gpa: Gpa,
    pub(crate) hva: u64,
    pub(crate) len: u64,
}

/// The memory of a guest: parts, ascending and disjoint.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    process: Process,
    parts: Vec<Part>,
}

/// A part of guest memory that is in one mapping of the process.
#[derive(Debug)]
struct Part {
    gpa: u64,
    len: u64,
    place: Place,
}

/// Where a part's bytes are.
#[derive(Debug)]
enum Place {
    /// In a file, at this offset.
    File(Rc<MappedFile>, u64),
    /// In memory of the process, from this address on.
    Process(u64, Untouched),
}

/// What stands on pages that the process has not touched.
#[derive(Debug)]
enum Untouched {
    Zeros,
    /// What stands in this file, from this offset on.
    File(Rc<MappedFile>, u64),
    /// It is not known without touching them: they are shared, but not
    /// through a file that can be read here. A search leaves them out, as it
    /// would take memory for each.
    Ask,
}

/// Of memory that cannot be read as the process's, so much may be missing: it
/// is firmware and the memory of displays then, a fraction of the guest's RAM.
const MISSING: u64 = 16;

impl GuestMemory {
    /// The `blocks` of guest memory that are in `process`.
    pub(crate) fn new(process: Process, blocks: &[Block]) -> Result<Self, Error> {
        let mappings = process.mappings()?;
        let mut parts = Vec::new();
        let mut files = Files::default();
        for block in blocks {
            let mut done = 0;
            while done < block.len {
                let hva = block.hva.saturating_add(done);
                let index = mappings.partition_point(|mapping| mapping.end <= hva);
                let found = mappings.get(index).filter(|mapping| mapping.start <= hva);
                let Some(mapping) = found else {
                    return Err(Error::NotQemu {
                        pid: process.pid(),
                        name: process.name(),
                        hva,
                    });
                };
                let len = (mapping.end - hva).min(block.len - done);
                parts.push(Part {
                    gpa: block.gpa.get().saturating_add(done),
                    len,
                    place: files.place(&process, mapping, hva, len),
                });
                done += len;
            }
        }
        let needs_process = |part: &&Part| matches!(part.place, Place::Process(..));
        let sum = |parts: &mut dyn Iterator<Item = &Part>| parts.map(|part| part.len).sum::<u64>();
        let of_process = sum(&mut parts.iter().filter(needs_process));
        if of_process > sum(&mut parts.iter()) / MISSING {
            process.readable()?;
        }
        Ok(Self { process, parts })
    }

    fn find(&self, gpa: u64) -> Option<(&Part, u64)> {
        let index = self
            .parts
            .partition_point(|part| part.gpa.saturating_add(part.len - 1) < gpa);
        let part = self.parts.get(index)?;
        Some((part, gpa.checked_sub(part.gpa)?))
    }

    /// Reads `buf.len()` bytes that are in `place`, `inside` from its start.
    fn copy(&self, place: &Place, inside: u64, buf: &mut [u8]) -> Result<(), (usize, Lost)> {
        let (hva, untouched) = match place {
            Place::File(file, offset) => {
                let copied = file.copy(offset + inside, buf);
                return copied.map_err(|good| (good, Lost::Process));
            }
            Place::Process(hva, untouched) => (hva + inside, untouched),
        };
        if matches!(untouched, Untouched::Ask) {
            return self.process.copy(hva, buf);
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = hva + done as u64;
            let (exists, until) = self.process.exists(at, at + rest.len() as u64);
            let step = usize::try_from(until - at).unwrap_or(rest.len());
            let Some(into) = rest.get_mut(..step) else {
                return Err((done, Lost::Here));
            };
            match untouched {
                Untouched::Zeros if !exists => {
                    into.fill(0);
                    Ok(())
                }
                Untouched::File(file, offset) if !exists => file
                    .copy(offset + inside + done as u64, into)
                    .map_err(|good| (good, Lost::Process)),
                _ => self.process.copy(at, into),
            }
            .map_err(|(good, lost)| (done + good, lost))?;
            done += step;
        }
        Ok(())
    }
}

impl Memory<Gpa> for GuestMemory {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut buf = buf;
        while !buf.is_empty() {
            let Some((part, inside)) = self.find(at.get()) else {
                return Err(Fault::new(at, Cause::Unbacked { gpa: at }));
            };
            let step = usize::try_from(part.len - inside)
                .unwrap_or(usize::MAX)
                .min(buf.len());
            let (now, later) = buf.split_at_mut(step);
            if let Err((good, lost)) = self.copy(&part.place, inside, now) {
                let gpa = at.checked_add(good as u64).unwrap_or(at);
                let cause = match lost {
                    Lost::Process => Cause::Vanished { gpa },
                    Lost::Here => Cause::Unbacked { gpa },
                };
                return Err(Fault::new(gpa, cause));
            }
            buf = later;
            if !buf.is_empty() {
                at = at
                    .checked_add(step as u64)
                    .ok_or(Fault::new(at, Cause::EndOfSpace))?;
            }
        }
        Ok(())
    }
}

impl PhysicalMemory for GuestMemory {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.parts.iter().find_map(|part| {
            let skip = from.get().saturating_sub(part.gpa);
            if skip >= part.len {
                return None;
            }
            let (start, end) = self.next_in(&part.place, skip, part.len)?;
            Some(Span {
                start: Gpa::new(part.gpa + start),
                len: end - start,
            })
        })
    }

    fn size(&self) -> u64 {
        self.parts.iter().map(|part| part.len).sum()
    }
}

impl GuestMemory {
    /// The first run with data in `place`, at or behind `from` and before
    /// `end`, all counted from its start.
    fn next_in(&self, place: &Place, from: u64, end: u64) -> Option<(u64, u64)> {
        let in_file = |file: &MappedFile, offset: u64| {
            let (start, stop) = file.next_data(offset + from)?;
            let (start, stop) = (start - offset, (stop - offset).min(end));
            (start < stop).then_some((start, stop))
        };
        let in_process = |hva: u64, end: u64| {
            let (start, stop) = self.process.next_run(hva + from, hva + end)?;
            Some((start - hva, stop - hva))
        };
        match place {
            Place::File(file, offset) => in_file(file, *offset),
            Place::Process(hva, Untouched::Zeros | Untouched::Ask) => in_process(*hva, end),
            Place::Process(hva, Untouched::File(file, offset)) => {
                // What one of both has. Behind what the file has it is looked for next time.
                let in_file = in_file(file, *offset);
                let first = in_process(*hva, in_file.map_or(end, |(_, stop)| stop));
                match (first, in_file) {
                    (Some(one), Some(other)) if one.0 <= other.0 => {
                        Some((one.0, before(one, other)))
                    }
                    (Some(one), Some(other)) => Some((other.0, before(other, one))),
                    (one, other) => one.or(other),
                }
            }
        }
    }
}

/// Where two runs end of which `first` starts first, if they are one, else
/// where `first` does.
fn before(first: (u64, u64), second: (u64, u64)) -> u64 {
    if second.0 <= first.1 {
        first.1.max(second.1)
    } else {
        first.1
    }
}

/// The files of a process, each once, and open where they can be read.
#[derive(Default)]
struct Files(Vec<(FileId, Option<Rc<MappedFile>>)>);

impl Files {
    /// Where the `len` bytes at `hva` are, which are in `mapping`.
    fn place(&mut self, process: &Process, mapping: &Mapping, hva: u64, len: u64) -> Place {
        let Kind::File {
            offset,
            shared,
            id,
            ref path,
        } = mapping.kind
        else {
            return Place::Process(hva, Untouched::Zeros);
        };
        let offset = offset.saturating_add(hva - mapping.start);
        let file = self.open(id, || process.file(mapping, id, path));
        let whole = |file: &Rc<MappedFile>| {
            let end = offset.checked_add(len);
            end.is_some_and(|end| end <= file.len())
        };
        match file.filter(whole) {
            Some(file) if shared => Place::File(file, offset),
            Some(file) => Place::Process(hva, Untouched::File(file, offset)),
            None => Place::Process(hva, Untouched::Ask),
        }
    }

    fn open(&mut self, id: FileId, find: impl FnOnce() -> Option<File>) -> Option<Rc<MappedFile>> {
        if let Some((_, file)) = self.0.iter().find(|(known, _)| *known == id) {
            return file.clone();
        }
        // To map a hole of a file of huge pages would take a huge page.
        let fits = |file: &File| {
            let huge = fstatfs(file).map(|fs| fs.filesystem_type() == HUGETLBFS_MAGIC);
            huge.is_ok_and(|huge| !huge)
        };
        let file = find().filter(fits).and_then(|file| {
            let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
            MappedFile::new(file, metadata.len(), Contents::Changing).ok()
        });
        self.0.push((id, file.map(Rc::new)));
        self.0.last()?.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_are_one() {
        let check = |first, second, end| assert_eq!(before(first, second), end);
        check((0, 4), (8, 9), 4);
        check((0, 4), (4, 9), 9);
        check((0, 8), (4, 6), 8);
        check((0, 8), (4, 9), 9);
    }
}
