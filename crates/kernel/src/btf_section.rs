//! The kernel's own BTF, in its memory.

use std::rc::Rc;

use btf_layout::Btf;
use guestmem::{Address, Kva, Memory, MemoryExt, Physical};
use pagewalk::{AddressSpace, Mapping};

use crate::Error;
use crate::symbols::Symbols;
use crate::vmcoreinfo::Vmcoreinfo;

/// Where the BTF was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BtfSource {
    /// Between `__start_BTF` and `__stop_BTF`.
    Symbols {
        /// Its first byte.
        start: Kva,
    },
    /// By its header, in the mapping of the kernel image.
    Search {
        /// Its first byte.
        start: Kva,
    },
    /// It was given.
    Given,
}

/// The most that is believed of a size that comes from memory.
const LARGEST: u64 = 256 << 20;

/// `magic`, `version`, `flags` and `hdr_len` of kernel BTF.
const HEADER: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];

/// How far from `_stext` the kernel image may reach.
const IMAGE_SPAN: u64 = 1 << 30;

/// How much of the image is searched at a time.
const STEP: usize = 1 << 20;

/// Finds and parses the BTF of the kernel `origin` in its own memory.
pub(crate) fn load(
    space: &AddressSpace<Physical>,
    symbols: &Symbols,
    stext: Option<Kva>,
    origin: &str,
) -> Result<Option<(Rc<Btf>, u64, BtfSource)>, Error> {
    if let [Some(start), Some(stop)] = symbols.lookup(["__start_BTF", "__stop_BTF"]) {
        let len = stop.checked_offset_from(start).unwrap_or(0).min(LARGEST);
        let read = space.read_up_to(start, len);
        if let Some(fault) = read.fault {
            return Err(Error::unreadable("the kernel's BTF")(fault));
        }
        let btf = Rc::new(Btf::parse(read.bytes, origin)?);
        return Ok(Some((btf, len, BtfSource::Symbols { start })));
    }
    let Some(stext) = stext else {
        return Ok(None);
    };
    let found = search(space, stext).and_then(|(start, bytes)| {
        let len = bytes.len() as u64;
        let btf = Btf::parse(bytes, origin).ok()?;
        Some((Rc::new(btf), len, BtfSource::Search { start }))
    });
    Ok(found)
}

/// Parses BTF that was given for the kernel that wrote `note`, and compares
/// the layouts that both describe.
pub(crate) fn given(
    bytes: Vec<u8>,
    note: &Vmcoreinfo,
    origin: &str,
) -> Result<(Rc<Btf>, u64, BtfSource), Error> {
    let size = bytes.len() as u64;
    let btf = Btf::parse(bytes, origin)?;
    for (name, expected) in note.layouts() {
        let found = match name.split_once('.') {
            Some((record, member)) => member_offset(&btf, record, member),
            None => btf.record(name).ok().map(|record| record.size()),
        };
        if let Some(found) = found.filter(|found| *found != expected) {
            return Err(Error::OtherBtf {
                name: name.to_owned(),
                release: note.release().to_owned(),
                expected,
                found,
            });
        }
    }
    Ok((Rc::new(btf), size, BtfSource::Given))
}

fn member_offset(btf: &Btf, record: &str, member: &str) -> Option<u64> {
    let member = btf.record(record).ok()?.find(member)?;
    Some(member.offset)
}

/// Looks for a BTF header in the read-only data behind `_stext`.
fn search(space: &AddressSpace<Physical>, stext: Kva) -> Option<(Kva, Vec<u8>)> {
    let finder = memchr::memmem::Finder::new(&HEADER);
    let mut buf = vec![0; STEP];
    // What looks like a header must not cost a section's reading each time.
    let mut left = IMAGE_SPAN;
    for mapping in space.mappings(stext, IMAGE_SPAN) {
        let Mapping::Run { va, len, .. } = mapping else {
            continue;
        };
        let mut done = 0;
        // Steps overlap by a header, so that none is cut in two.
        while done + (HEADER.len() as u64) < len {
            let at = va.checked_add(done)?;
            let step = usize::try_from(len - done).unwrap_or(STEP).min(STEP);
            let part = buf.get_mut(..step)?;
            if space.read(at, part).is_ok() {
                for hit in finder.find_iter(part) {
                    let start = at.checked_add(hit as u64)?;
                    if let Some(bytes) = section_at(space, start, &mut left) {
                        return Some((start, bytes));
                    }
                }
            }
            done += (step - HEADER.len() + 1) as u64;
        }
    }
    None
}

/// The BTF at `start`, if its header makes sense and it has no more than
/// `left` bytes, which are then spent.
fn section_at(space: &AddressSpace<Physical>, start: Kva, left: &mut u64) -> Option<Vec<u8>> {
    let header: [u8; 24] = space.load(start).ok()?;
    let word = |at: usize| {
        let bytes = header.get(at..)?.first_chunk()?;
        Some(u64::from(u32::from_le_bytes(*bytes)))
    };
    let (type_off, type_len, str_off, str_len) = (word(8)?, word(12)?, word(16)?, word(20)?);
    let len = 24 + str_off + str_len;
    // A kernel's BTF is megabytes; a program's or module's is not.
    if type_off != 0 || str_off != type_len || len > LARGEST || type_len < 1 << 20 {
        return None;
    }
    *left = left.checked_sub(len)?;
    let read = space.read_up_to(start, len);
    read.fault.is_none().then_some(read.bytes)
}
