//! Some pages of a physical memory as an ELF core.

use std::io::{self, Seek, SeekFrom, Write};
use std::time::Duration;

use thiserror::Error;

use crate::page_set::{PAGE, PAGE_SHIFT};
use crate::{
    Address, CaptureNote, Cause, Fault, Faults, Format, Gpa, PageSet, PhysicalMemory, Span,
};

/// Bytes of the ELF header, of a program header, and of a section header.
const EHDR: u16 = 64;
const PHDR: u16 = 56;
const SHDR: u16 = 64;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;

/// In place of a number of program headers that has no room: the first section
/// header has it.
const PN_XNUM: u16 = 0xffff;

/// How much is copied at a time.
const STEP: u64 = 1 << 20;

/// Why a core could not be written.
#[derive(Debug, Error)]
pub enum CoreError {
    /// It could not be written.
    #[error("cannot write the capture")]
    Write(#[from] io::Error),
    /// A page that was there is not there any more.
    #[error("cannot read what is captured")]
    Read(#[from] Fault<Gpa>),
}

/// A capture that can be written: pages, where they are read from, and what is
/// known of them.
///
/// The file is an ELF core of little-endian 64-bit segments by physical
/// address, one for each run of pages, with the kernel's VMCOREINFO in a note
/// as in every crash dump, and a [`CaptureNote`].
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "memory has no such form")]
pub struct Core<'a> {
    /// What the pages are read from.
    pub memory: &'a dyn PhysicalMemory,
    /// Which pages, as far as they are not among `faults`.
    pub pages: &'a PageSet,
    /// What cannot be read.
    pub faults: &'a Faults,
    /// What the memory itself was read from.
    pub source: Format,
    /// ELF's number of the architecture.
    pub machine: u16,
    /// The text of the kernel's VMCOREINFO.
    pub vmcoreinfo: &'a [u8],
    /// The root table of the kernel.
    pub root: Gpa,
    /// How long the machine stood for it, if it did.
    pub paused: Option<Duration>,
}

/// Where a file's bytes go.
trait Sink {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Puts so many zeros.
    fn skip(&mut self, len: u64) -> io::Result<()>;
}

struct Stream<W>(W);

impl<W: Write> Sink for Stream<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn skip(&mut self, len: u64) -> io::Result<()> {
        io::copy(&mut io::Read::take(io::repeat(0), len), &mut self.0)?;
        Ok(())
    }
}

/// Zeros become holes: what comes behind them is written further on.
struct Sparse<W>(W);

impl<W: Write + Seek> Sink for Sparse<W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn skip(&mut self, len: u64) -> io::Result<()> {
        let len = i64::try_from(len).map_err(io::Error::other)?;
        self.0.seek(SeekFrom::Current(len))?;
        Ok(())
    }
}

impl Core<'_> {
    /// Writes it in one stream.
    ///
    /// # Errors
    ///
    /// Those of writing, and a page that cannot be read any more.
    pub fn write(&self, out: &mut dyn Write) -> Result<(), CoreError> {
        self.put(&mut Stream(out))
    }

    /// Writes it to a new file, of which pages of zeros become holes.
    ///
    /// # Errors
    ///
    /// Those of writing, and a page that cannot be read any more.
    pub fn write_sparse(&self, out: &mut (impl Write + Seek)) -> Result<(), CoreError> {
        self.put(&mut Sparse(out))
    }

    fn put(&self, out: &mut impl Sink) -> Result<(), CoreError> {
        let segments: Vec<Span> = self.segments().collect();
        let notes = self.notes();
        let count = segments.len() as u64 + 1;
        let has_section = count >= u64::from(PN_XNUM);
        let sections_at = u64::from(EHDR) + count * u64::from(PHDR);
        let notes_at = sections_at + if has_section { u64::from(SHDR) } else { 0 };
        let mut at = notes_at + notes.len() as u64;

        let mut head = self.ehdr(count, has_section.then_some(sections_at));
        phdr(&mut head, PT_NOTE, notes_at, Gpa::at(0), notes.len() as u64);
        let mut places = Vec::with_capacity(segments.len());
        for segment in &segments {
            // As the kernel's dumps have it: page by page the file is as memory.
            let gap = segment.start.get().wrapping_sub(at) % PAGE;
            at += gap;
            places.push(gap);
            phdr(&mut head, PT_LOAD, at, segment.start, segment.len);
            at += segment.len;
        }
        if has_section {
            let end = head.len() + usize::from(SHDR);
            head.resize(head.len() + 44, 0);
            head.extend(low_word(count).to_le_bytes()); // sh_info
            head.resize(end, 0);
        }
        head.extend(notes);
        out.put(&head)?;
        for (index, (segment, gap)) in segments.iter().zip(places).enumerate() {
            out.skip(gap)?;
            self.put_segment(out, *segment, index + 1 == segments.len())?;
        }
        Ok(())
    }

    fn segments(&self) -> impl Iterator<Item = Span> + '_ {
        let mut from = Some(Gpa::at(0));
        std::iter::from_fn(move || {
            let run = self.faults.next_good(self.pages, from?)?;
            from = run.start.checked_add(run.len);
            Some(run)
        })
    }

    /// Copies a segment. The last bytes of a file cannot be a hole.
    fn put_segment(&self, out: &mut impl Sink, segment: Span, last: bool) -> Result<(), CoreError> {
        let mut buf = Vec::new();
        let mut zeros = 0;
        let mut done = 0;
        while done < segment.len {
            let step = STEP.min(segment.len - done);
            buf.resize(usize::try_from(step).unwrap_or(0), 0);
            let at = segment.start.checked_add(done);
            let end = Fault::new(segment.start, Cause::EndOfSpace);
            self.memory.read(at.ok_or(end)?, &mut buf)?;
            done += step;
            let mut pages = buf.chunks(1 << PAGE_SHIFT).peekable();
            while let Some(page) = pages.next() {
                let is_end = last && done == segment.len && pages.peek().is_none();
                if !is_end && page.iter().all(|&byte| byte == 0) {
                    zeros += page.len() as u64;
                } else {
                    if zeros > 0 {
                        out.skip(zeros)?;
                        zeros = 0;
                    }
                    out.put(page)?;
                }
            }
        }
        out.skip(zeros)?;
        Ok(())
    }

    fn ehdr(&self, headers: u64, section: Option<u64>) -> Vec<u8> {
        let half = u16::to_le_bytes;
        let mut head = b"\x7fELF\x02\x01\x01".to_vec();
        head.resize(16, 0);
        head.extend(half(4)); // ET_CORE
        head.extend(half(self.machine));
        head.extend(1u32.to_le_bytes()); // EV_CURRENT
        head.extend(0u64.to_le_bytes()); // e_entry
        head.extend(u64::from(EHDR).to_le_bytes()); // e_phoff
        head.extend(section.unwrap_or(0).to_le_bytes()); // e_shoff
        head.extend(0u32.to_le_bytes()); // e_flags
        head.extend(half(EHDR));
        head.extend(half(PHDR));
        head.extend(half(u16::try_from(headers).unwrap_or(PN_XNUM))); // e_phnum
        head.extend(half(if section.is_some() { SHDR } else { 0 }));
        head.extend(half(u16::from(section.is_some()))); // e_shnum
        head.extend(half(0)); // e_shstrndx
        head
    }

    fn notes(&self) -> Vec<u8> {
        let mut notes = Vec::new();
        note(&mut notes, b"VMCOREINFO\0", 0, self.vmcoreinfo);
        let name = format!("{}\0", CaptureNote::NAME);
        let about = self.about();
        note(
            &mut notes,
            name.as_bytes(),
            CaptureNote::TYPE,
            about.as_bytes(),
        );
        notes
    }

    /// The text of the note: see [`CaptureNote`].
    fn about(&self) -> String {
        let note = CaptureNote::new(self.memory.size(), self.source.name(), self.paused);
        // Faults do not overlap.
        let note = note
            .with_root(Some(self.root))
            .with_absent(self.faults.absent());
        note.map(|note| note.to_text()).unwrap_or_default()
    }
}

fn low_word(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn phdr(head: &mut Vec<u8>, kind: u32, offset: u64, gpa: Gpa, len: u64) {
    const PF_R: u32 = 4;
    head.extend(kind.to_le_bytes());
    head.extend(PF_R.to_le_bytes());
    // Offset, virtual address, physical address, lengths in file and memory,
    // alignment.
    for value in [offset, 0, gpa.get(), len, len, 0] {
        head.extend(value.to_le_bytes());
    }
}

/// Adds a note; name and text are padded to words.
fn note(notes: &mut Vec<u8>, name: &[u8], kind: u32, text: &[u8]) {
    for word in [
        low_word(name.len() as u64),
        low_word(text.len() as u64),
        kind,
    ] {
        notes.extend(word.to_le_bytes());
    }
    for part in [name, text] {
        notes.extend(part);
        notes.resize(notes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::os::unix::fs::{FileExt, MetadataExt};

    use goblin::elf::{Elf, ProgramHeader};

    use super::*;
    use crate::{Fake, Memory};

    /// These pages of `ram`.
    fn core<'a>(ram: &'a dyn PhysicalMemory, pages: &'a PageSet, faults: &'a Faults) -> Core<'a> {
        Core {
            memory: ram,
            pages,
            faults,
            source: Format::Raw,
            machine: 62,
            vmcoreinfo: b"OSRELEASE=6.1\n",
            root: Gpa::at(0x5000),
            paused: Some(Duration::from_micros(3)),
        }
    }

    /// All pages below `end`.
    fn pages(end: u64) -> PageSet {
        let mut pages = PageSet::new();
        pages.insert_bytes(Gpa::at(0), end);
        pages
    }

    /// The file, which is the same by both ways of writing.
    fn written(core: Core<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        core.write(&mut bytes).unwrap();
        let mut sparse = Cursor::new(Vec::new());
        core.write_sparse(&mut sparse).unwrap();
        assert!(bytes == sparse.into_inner(), "a hole is zeros");
        bytes
    }

    #[test]
    fn segments_are_the_runs_and_notes_say_the_rest() {
        let mut ram = Fake::new()
            .with(Gpa::at(0x1000), &[1; 0x1800])
            .with(Gpa::at(0x4000), &[0; 0x4000]);
        ram.write(Gpa::at(0x5008), b"x");
        let mut pages = PageSet::new();
        pages.insert_bytes(Gpa::at(0x1000), 0x2000);
        pages.insert_bytes(Gpa::at(0x4000), 0x3000);
        let mut faults = Faults::default();
        faults.meet(ram.read(Gpa::at(0x2800), &mut [0]).unwrap_err(), &ram);
        let bytes = written(core(&ram, &pages, &faults));
        let elf = Elf::parse(&bytes).unwrap();
        let segment = |header: &ProgramHeader| {
            assert_eq!(header.p_filesz, header.p_memsz);
            assert_eq!(header.p_offset % PAGE, header.p_paddr % PAGE);
            let bytes = bytes[header.file_range()].to_vec();
            (header.p_type == PT_LOAD).then_some((header.p_paddr, bytes))
        };
        let segments = elf.program_headers[1..].iter().filter_map(segment);
        let mut second = vec![0; 0x3000];
        second[0x1008] = b'x';
        let expected = [(0x1000, vec![1; 0x1800]), (0x4000, second)];
        assert!(segments.eq(expected));
        let notes = elf.iter_note_headers(&bytes).unwrap().map(Result::unwrap);
        let text = |desc: &[u8]| String::from_utf8(desc.to_vec()).unwrap();
        let notes = notes.map(|note| format!("{} {} {}", note.name, note.n_type, text(note.desc)));
        let expected = [
            "VMCOREINFO 0 OSRELEASE=6.1\n",
            "BPFREEZE 1 VERSION=1\nSIZE=22528\nSOURCE=raw\nPAUSED_NS=3000\nROOT=5000\n\
             FAULT=2800-3000 unbacked\n",
        ];
        assert!(notes.eq(expected));
    }

    #[test]
    fn zeros_take_no_room_in_a_file() {
        let ram = Fake::new().with(Gpa::at(0), &vec![0; 8 << 20]);
        let (pages, faults) = (pages(8 << 20), Faults::default());
        let mut file = tempfile::tempfile().unwrap();
        core(&ram, &pages, &faults).write_sparse(&mut file).unwrap();
        let metadata = file.metadata().unwrap();
        assert!(metadata.size() > 8 << 20 && metadata.blocks() * 512 < 1 << 20);
        let mut end = [1; 8];
        file.read_exact_at(&mut end, metadata.size() - 8).unwrap();
        assert_eq!(end, [0; 8]);
    }

    #[test]
    fn more_segments_than_the_header_can_count() {
        /// Memory of which the first bytes of each page are there.
        struct Ends;
        impl Memory<Gpa> for Ends {
            fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
                let inside = addr.get() % PAGE;
                if inside + buf.len() as u64 <= 16 {
                    return Ok(());
                }
                let gpa = Gpa::new(addr.get() - inside + inside.max(16));
                Err(Fault::new(gpa, Cause::Unbacked { gpa }))
            }
        }
        impl PhysicalMemory for Ends {
            fn next_data(&self, _: Gpa) -> Option<Span> {
                None
            }
            fn size(&self) -> u64 {
                0
            }
        }
        let mut faults = Faults::default();
        for page in 0..70_000 {
            let behind = Gpa::at(page * PAGE + 16);
            faults.meet(Ends.read(behind, &mut [0]).unwrap_err(), &Ends);
        }
        let (pages, mut file) = (pages(70_000 * PAGE), tempfile::tempfile().unwrap());
        let core = core(&Ends, &pages, &faults);
        core.write_sparse(&mut file).unwrap();
        let number = |at: u64, len: usize| {
            let mut bytes = [0; 8];
            file.read_exact_at(&mut bytes[..len], at).unwrap();
            u64::from_le_bytes(bytes)
        };
        assert_eq!((number(56, 2), number(60, 2)), (0xffff, 1));
        let section = number(40, 8);
        assert_eq!(number(section + 44, 4), 70_001);
        assert_eq!(section, 64 + 70_001 * 56);
    }

    #[test]
    fn what_is_lost_meanwhile_is_an_error() {
        let ram = Fake::new().with(Gpa::at(0), &[1; 0x1000]);
        let (pages, faults) = (pages(0x2000), Faults::default());
        let error = core(&ram, &pages, &faults).write(&mut Vec::new());
        let fault = match error.unwrap_err() {
            CoreError::Read(fault) => fault.addr,
            CoreError::Write(error) => panic!("{error}"),
        };
        assert_eq!(fault, Gpa::at(0x1000));
    }
}
