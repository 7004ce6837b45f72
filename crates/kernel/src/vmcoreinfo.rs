//! VMCOREINFO: the kernel's own note on how to read its memory.
//!
//! Two copies lie in RAM from boot on, both page-aligned: the text itself,
//! which starts with `OSRELEASE=`, and an ELF note of it
//! (`kernel/vmcore_info.c`; `kernel/crash_core.c` up to 6.8).

use std::fmt;

use guestmem::{Address, Gpa, Kva, MemoryExt, PhysicalMemory, Span};
use rustc_hash::FxHashMap;

/// No page of any kernel is smaller.
const SMALLEST_PAGE: u64 = 0x1000;

/// The text has one page, and no page of any kernel is larger.
const LONGEST_TEXT: u64 = 0x1_0000;

/// The first bytes of the text.
const TEXT_START: &[u8] = b"OSRELEASE=";

/// Bytes of the longest release (`__NEW_UTS_LEN`).
const LONGEST_RELEASE: usize = 64;

/// `n_namesz` of the note: the length of `VMCOREINFO` with its NUL.
const NOTE_NAME: &[u8; 11] = b"VMCOREINFO\0";

/// Bytes before the text in the note: three words, and the name padded to 4.
const NOTE_HEADER: u64 = 24;

/// Which copy a VMCOREINFO is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// `vmcoreinfo_data`, the text.
    Data,
    /// `vmcoreinfo_note`, the text in an ELF note.
    Note,
    /// What the maker of a dump put into its head.
    Carried,
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Data => "data page",
            Self::Note => "note page",
            Self::Carried => "head of the dump",
        })
    }
}

/// The lines of one VMCOREINFO, by what stands before the `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vmcoreinfo {
    text: String,
    lines: FxHashMap<String, String>,
}

impl Vmcoreinfo {
    /// Takes the lines out of a text. Anything after a NUL is not part of it.
    ///
    /// `None` if it does not begin as every VMCOREINFO does, with a release
    /// that `uname -r` could print.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let rest = text.strip_prefix(TEXT_START)?;
        let release = rest.split(|&byte| byte == b'\n' || byte == 0).next()?;
        if release.len() > LONGEST_RELEASE || !release.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let text = text.split(|&byte| byte == 0).next()?;
        let text = String::from_utf8_lossy(text).into_owned();
        let mut lines = FxHashMap::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            lines
                .entry(key.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        Some(Self { text, lines })
    }

    /// Reads the copy at `gpa`, whichever of the two it is.
    pub fn load(physical: &dyn PhysicalMemory, gpa: Gpa) -> Option<(Copy, Self)> {
        let copy = copy_in(&physical.load::<HEAD>(gpa).ok()?)?;
        let start = match copy {
            Copy::Note => gpa.checked_add(NOTE_HEADER)?,
            Copy::Data | Copy::Carried => gpa,
        };
        // One page of that kernel, which its third line says the size of.
        let text = physical.read_up_to(start, SMALLEST_PAGE).bytes;
        let note = Self::parse(&text)?;
        let page_size = note.page_size().unwrap_or(SMALLEST_PAGE).min(LONGEST_TEXT);
        if text.contains(&0) || page_size <= SMALLEST_PAGE {
            return Some((copy, note));
        }
        let text = physical.read_up_to(start, page_size).bytes;
        Some((copy, Self::parse(&text)?))
    }

    /// The release of the kernel, as `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> &str {
        self.text("OSRELEASE").unwrap_or_default()
    }

    /// The whole of it, as the kernel wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A line as it stands.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.lines.get(key).map(String::as_str)
    }

    /// `SYMBOL(name)`, an address.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Kva> {
        let value = self.text(&format!("SYMBOL({name})"))?;
        u64::from_str_radix(value, 16).ok().map(Kva::new)
    }

    /// `NUMBER(name)`: signed decimal, or hexadecimal with `0x`, in which
    /// values above `i64::MAX` stand for negative ones.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        let value = self.text(&format!("NUMBER({name})"))?;
        match value.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok().map(u64::cast_signed),
            None => value.parse().ok(),
        }
    }

    /// `OFFSET(record.member)`, in bytes.
    #[must_use]
    pub fn offset(&self, member: &str) -> Option<u64> {
        self.text(&format!("OFFSET({member})"))?.parse().ok()
    }

    /// Every `SYMBOL(name)`, in no order.
    pub fn symbols(&self) -> impl Iterator<Item = (&str, Kva)> {
        self.keyed("SYMBOL").filter_map(|(name, value)| {
            let value = u64::from_str_radix(value, 16).ok()?;
            Some((name, Kva::new(value)))
        })
    }

    /// Every `OFFSET(record.member)` and `SIZE(record)`, in bytes, in no order.
    pub fn layouts(&self) -> impl Iterator<Item = (&str, u64)> {
        let lines = self.keyed("OFFSET").chain(self.keyed("SIZE"));
        lines.filter_map(|(name, value)| Some((name, value.parse().ok()?)))
    }

    /// What stands in the parentheses of lines such as `SYMBOL(name)=value`.
    fn keyed(&self, kind: &str) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(move |(key, value)| {
            let name = key.strip_prefix(kind)?;
            let name = name.strip_prefix('(')?.strip_suffix(')')?;
            Some((name, value.as_str()))
        })
    }

    /// `PAGESIZE`, in bytes.
    #[must_use]
    pub fn page_size(&self) -> Option<u64> {
        self.text("PAGESIZE")?.parse().ok()
    }

    /// `KERNELOFFSET`: how far the kernel was moved from its link address.
    #[must_use]
    pub fn slide(&self) -> Option<u64> {
        u64::from_str_radix(self.text("KERNELOFFSET")?, 16).ok()
    }
}

/// As many bytes as tell whether a page begins with a VMCOREINFO.
const HEAD: usize = 23;

/// Which copy a page begins with, by its first bytes.
fn copy_in(page: &[u8]) -> Option<Copy> {
    if page.starts_with(TEXT_START) {
        return Some(Copy::Data);
    }
    let (words, name) = page.split_first_chunk::<12>()?;
    let namesz = words.first_chunk::<4>()?;
    (u32::from_le_bytes(*namesz) == 11 && name.starts_with(NOTE_NAME)).then_some(Copy::Note)
}

/// How much is searched between two reports of progress.
const STRETCH: u64 = 32 << 20;

/// The page starts at which a VMCOREINFO begins, ascending.
///
/// Only data that the image really has is touched, one cache line a page.
/// `progress` hears the addresses passed so far, now and then.
pub(crate) fn search(physical: &dyn PhysicalMemory, progress: &mut dyn FnMut(u64)) -> Vec<Gpa> {
    let mut found = Vec::new();
    let mut searched = 0;
    let mut from = Gpa::at(0);
    while let Some(Span { start, len }) = physical.next_data(from) {
        let end = start.get().saturating_add(len);
        let mut page = start.get().checked_next_multiple_of(SMALLEST_PAGE);
        while let Some(here) = page.filter(|&here| here < end) {
            let head = physical.load::<HEAD>(Gpa::new(here));
            if head.is_ok_and(|head| copy_in(&head).is_some()) {
                found.push(Gpa::new(here));
            }
            page = here.checked_add(SMALLEST_PAGE);
            searched += SMALLEST_PAGE;
            if searched >= STRETCH {
                searched = 0;
                progress(here);
            }
        }
        match start.checked_add(len) {
            Some(next) => from = next,
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use guestmem::Fake;

    use super::*;

    const TEXT: &str = "OSRELEASE=6.12.1\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff9a000000\n\
        OFFSET(uts_namespace.name)=0\nNUMBER(phys_base)=-35651584\n\
        NUMBER(kimage_voffset)=0xffff800040000000\nKERNELOFFSET=19000000\nBROKEN\n";

    fn note() -> Vec<u8> {
        let mut note = Vec::new();
        for word in [11, u32::try_from(TEXT.len()).unwrap(), 0] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"VMCOREINFO\0\0");
        note.extend(TEXT.as_bytes());
        note
    }

    #[test]
    fn lines_are_read_by_their_kind() {
        let info = Vmcoreinfo::parse(TEXT.as_bytes()).unwrap();
        assert_eq!(info.release(), "6.12.1");
        assert_eq!(info.page_size(), Some(4096));
        assert_eq!(info.symbol("_stext"), Some(Kva::at(0xffff_ffff_9a00_0000)));
        assert_eq!(info.symbol("nothing"), None);
        assert_eq!(info.number("phys_base"), Some(-35_651_584));
        assert_eq!(
            info.number("kimage_voffset"),
            Some(0xffff_8000_4000_0000u64.cast_signed())
        );
        assert_eq!(info.offset("uts_namespace.name"), Some(0));
        assert_eq!(info.slide(), Some(0x1900_0000));
        assert_eq!(Vmcoreinfo::parse(b"PAGESIZE=4096\n"), None);
        let with_release =
            |release: &str| Vmcoreinfo::parse(format!("OSRELEASE={release}").as_bytes());
        assert!(with_release(&"6".repeat(64)).is_some());
        assert_eq!(with_release(&"6".repeat(65)), None);
        assert_eq!(with_release("6.1\x1b[2J"), None);
    }

    #[test]
    fn a_text_has_one_page() {
        let check = |page_size: u64, line_is_there| {
            let mut text = format!("OSRELEASE=6\nPAGESIZE={page_size}\nFILL=");
            text.push_str(&"x".repeat(0x1800));
            text.push_str("\nLAST=1\n");
            let ram = Fake::new().with(Gpa::at(0), text.as_bytes());
            let (_, note) = Vmcoreinfo::load(&ram, Gpa::at(0)).unwrap();
            assert_eq!(note.text("LAST").is_some(), line_is_there, "{page_size:#x}");
        };
        check(0x1000, false);
        check(0x4000, true);
        check(u64::MAX, true);
    }

    #[test]
    fn memory_may_end_where_addresses_do() {
        let ram = Fake::new().with(Gpa::at(u64::MAX - 0x10), &[1; 8]);
        assert_eq!(search(&ram, &mut |_| {}), []);
        let ram = Fake::new().with(Gpa::at(u64::MAX - 0xfff), &[1; 0xfff]);
        assert_eq!(search(&ram, &mut |_| {}), []);
    }

    #[test]
    fn both_copies_are_found_at_page_starts_only() {
        let mut page = TEXT.as_bytes().to_vec();
        page.resize(0x1000, 0);
        let ram = Fake::new()
            .with(Gpa::at(0x3000), &page)
            .with(Gpa::at(0x5008), TEXT.as_bytes())
            .with(Gpa::at(0x8000), &note());
        let found = search(&ram, &mut |_| {});
        assert_eq!(found, [Gpa::at(0x3000), Gpa::at(0x8000)]);
        let (data, from_data) = Vmcoreinfo::load(&ram, found[0]).unwrap();
        let (copy, from_note) = Vmcoreinfo::load(&ram, found[1]).unwrap();
        assert_eq!((data, copy), (Copy::Data, Copy::Note));
        assert_eq!(from_data, from_note);
        assert_eq!(Vmcoreinfo::load(&ram, Gpa::at(0x5000)), None);
    }
}
