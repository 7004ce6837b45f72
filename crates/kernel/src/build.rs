//! A machine made by hand: page tables, VMCOREINFO, symbols and BTF of a
//! kernel that never ran, for tests of whatever reads kernels.

use std::fmt::Write as _;

use guestmem::{Address, Fake, Gpa, Kva};
use pagewalk::build::Tables;
use pagewalk::{AddressSpace, Format};

use crate::kallsyms::Encoding;

/// Where the root table is, to the kernel.
const ROOT: Kva = Kva::at(0xffff_ffff_8100_0000);

/// Where the parts of the kernel image begin; each has room for what tests
/// put there.
const STEXT: Kva = Kva::at(0xffff_ffff_8200_0000);
const UTS: Kva = Kva::at(0xffff_ffff_8300_0000);
const KALLSYMS: Kva = Kva::at(0xffff_ffff_8400_0000);
const BTF: Kva = Kva::at(0xffff_ffff_8500_0000);
const DATA: Kva = Kva::at(0xffff_ffff_8600_0000);

/// Distance between the parts of the symbol table.
const PART: u64 = 0x10_0000;

/// Where the note and the data page of VMCOREINFO lie, from the first
/// physical address.
const VMCOREINFO_DATA: u64 = 0x3000;
const VMCOREINFO_NOTE: u64 = 0x5000;

/// Bytes reserved for page tables.
const TABLES: u64 = 0x10_0000;

const PAGE: u64 = 0x1000;
const EMPTY_PAGE: [u8; 0x1000] = [0; 0x1000];

/// A machine with one x86-64 kernel in it.
#[derive(Debug)]
pub struct Machine {
    tables: Tables,
    format: Format,
    first: Gpa,
    next_page: u64,
    next_data: u64,
    release: String,
    symbols: Vec<(String, Kva)>,
    lines: String,
}

impl Machine {
    /// A kernel of this release whose memory begins at the physical address
    /// `first`, in `ram`, under `levels` of page tables (4 or 5).
    ///
    /// # Panics
    ///
    /// If x86-64 has no tables of so many levels.
    #[must_use]
    #[expect(clippy::panic, reason = "a builder for tests, documented to panic")]
    pub fn new(ram: Fake<Gpa>, first: Gpa, levels: u8, release: &str) -> Self {
        let Ok(format) = Format::x86_64(levels, 0) else {
            panic!("{levels} levels");
        };
        let root = Gpa::new(first.get() + TABLES);
        let mut machine = Self {
            tables: Tables::new(ram, root, format),
            format,
            first,
            next_page: root.get() + TABLES,
            next_data: DATA.get(),
            release: release.to_owned(),
            symbols: Vec::new(),
            lines: String::new(),
        };
        machine.place(STEXT, &[0xcc; 16]);
        machine.symbol("_stext", STEXT);
        let mut names = [0; 6 * 65];
        for (string, text) in names
            .chunks_exact_mut(65)
            .zip(["Linux", "guest", release, "#1 SMP"])
        {
            for (to, from) in string.iter_mut().zip(text.bytes()) {
                *to = from;
            }
        }
        machine.place(UTS, &names);
        machine
    }

    /// Puts bytes at a kernel address, mapping new pages where there are none.
    pub fn place(&mut self, at: Kva, bytes: &[u8]) {
        let mut done = 0u64;
        for page in bytes.chunk_by_pages(at) {
            let va = Kva::new(at.get() + done);
            let gpa = self.page_of(va);
            self.tables.ram.write(gpa, page);
            done += page.len() as u64;
        }
    }

    /// Puts bytes into fresh kernel memory, aligned to 8, and gives their
    /// address. Each has pages of its own.
    pub fn allocate(&mut self, bytes: &[u8]) -> Kva {
        let at = Kva::new(self.next_data);
        self.next_data += (bytes.len() as u64).next_multiple_of(PAGE) + PAGE;
        self.place(at, bytes);
        at
    }

    /// Puts a `u64` at a kernel address.
    pub fn place_u64(&mut self, at: Kva, value: u64) {
        self.place(at, &value.to_le_bytes());
    }

    /// Names an address in the kernel's symbol table.
    pub fn symbol(&mut self, name: &str, at: Kva) {
        self.symbols.push((name.to_owned(), at));
    }

    /// Adds a line to VMCOREINFO. Lines that come first are the ones read.
    pub fn line(&mut self, line: &str) {
        self.lines.push_str(line);
        self.lines.push('\n');
    }

    /// Gives the kernel BTF, and the symbols that frame it.
    pub fn btf(&mut self, btf: &[u8]) {
        self.place(BTF, btf);
        self.symbol("__start_BTF", BTF);
        self.symbol("__stop_BTF", Kva::new(BTF.get() + btf.len() as u64));
    }

    /// Gives the kernel these possible CPUs, with per-CPU data at an offset
    /// each.
    pub fn cpus(&mut self, offsets: &[(u32, u64)]) {
        let last = offsets.iter().map(|(cpu, _)| *cpu).max().unwrap_or(0);
        let mut mask = vec![0u64; (last / 64 + 1) as usize];
        let mut table = vec![0u64; last as usize + 1];
        for &(cpu, offset) in offsets {
            if let Some(word) = mask.get_mut((cpu / 64) as usize) {
                *word |= 1 << (cpu % 64);
            }
            if let Some(slot) = table.get_mut(cpu as usize) {
                *slot = offset;
            }
        }
        let bytes = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let mask = self.allocate(&bytes(&mask));
        self.symbol("__cpu_possible_mask", mask);
        let table = self.allocate(&bytes(&table));
        self.symbol("__per_cpu_offset", table);
        let count = self.allocate(&(last + 1).to_le_bytes());
        self.symbol("nr_cpu_ids", count);
    }

    fn page_of(&mut self, va: Kva) -> Gpa {
        let root = Gpa::new(self.first.get() + TABLES);
        let space = AddressSpace::new(&self.tables.ram, root, self.format);
        if let Ok(found) = space.translate(va) {
            return found.gpa;
        }
        let page = Gpa::new(self.next_page);
        self.next_page += PAGE;
        self.tables.ram.write(page, &EMPTY_PAGE);
        self.tables.map(va, 1, page);
        Gpa::new(page.get() + va.get() % PAGE)
    }

    /// The machine's memory, with its symbols in this encoding and both
    /// copies of VMCOREINFO in place.
    #[must_use]
    pub fn finish(mut self, encoding: Encoding) -> Fake<Gpa> {
        self.place_symbols(encoding);
        let phys_base = (self.first.get() + TABLES)
            .wrapping_sub(ROOT.get() - 0xffff_ffff_8000_0000)
            .cast_signed();
        let mut text = format!("OSRELEASE={}\n", self.release);
        text.push_str(&self.lines);
        let _ = write!(
            text,
            "PAGESIZE=4096\nSYMBOL(init_uts_ns)={:x}\nOFFSET(uts_namespace.name)=0\n\
             SYMBOL(swapper_pg_dir)={:x}\nSYMBOL(_stext)={:x}\nNUMBER(phys_base)={phys_base}\n\
             NUMBER(pgtable_l5_enabled)={}\nKERNELOFFSET=1000000\n",
            UTS.get(),
            ROOT.get(),
            STEXT.get(),
            u8::from(self.format.levels() == 5),
        );
        let mut page = text.clone().into_bytes();
        page.resize(EMPTY_PAGE.len(), 0);
        let data = Gpa::new(self.first.get() + VMCOREINFO_DATA);
        self.tables.ram.write(data, &page);
        let mut note = Vec::new();
        note.extend(11u32.to_le_bytes());
        note.extend(u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
        note.extend(0u32.to_le_bytes());
        note.extend(b"VMCOREINFO\0\0");
        note.extend(text.as_bytes());
        note.resize(EMPTY_PAGE.len(), 0);
        let at = Gpa::new(self.first.get() + VMCOREINFO_NOTE);
        self.tables.ram.write(at, &note);
        self.tables.ram
    }

    /// Writes the symbol table, sorted by address: each letter is its own
    /// token.
    fn place_symbols(&mut self, encoding: Encoding) {
        let part = |index: u64| Kva::new(KALLSYMS.get() + index * PART);
        let mut symbols = std::mem::take(&mut self.symbols);
        symbols.sort_by_key(|(_, at)| *at);
        let count = u32::try_from(symbols.len()).unwrap_or(0);
        let mut names = Vec::new();
        for (name, _) in &symbols {
            let len = name.len() + 1;
            let [low, high, ..] = (len & 0x7f | len << 1 & 0x7f00).to_le_bytes();
            match len {
                ..0x80 => names.push(low),
                _ => names.extend([low | 0x80, high]),
            }
            names.push(b'T');
            names.extend(name.bytes());
        }
        let mut table = Vec::new();
        let mut index = Vec::new();
        for token in 0..=255u8 {
            index.extend(u16::try_from(table.len()).unwrap_or(0).to_le_bytes());
            table.extend([token.max(1), 0]);
        }
        let base = STEXT.get();
        let offsets = part(4);
        let addresses = symbols.iter().zip(0u64..).flat_map(|((_, at), index)| {
            let word = match encoding {
                Encoding::Absolute => return at.get().to_le_bytes().to_vec(),
                Encoding::BaseRelative => at.get().wrapping_sub(base),
                // What is not in the kernel's half is a per-CPU offset.
                Encoding::AbsolutePercpu if at.get() >> 63 == 0 => at.get(),
                Encoding::AbsolutePercpu => base.wrapping_sub(1).wrapping_sub(at.get()),
                Encoding::PlaceRelative => at.get().wrapping_sub(offsets.get() + index * 4),
            };
            word.to_le_bytes().into_iter().take(4).collect()
        });
        let addresses: Vec<u8> = addresses.collect();
        self.place(part(0), &count.to_le_bytes());
        self.place(part(1), &names);
        self.place(part(2), &table);
        self.place(part(3), &index);
        self.place(offsets, &addresses);
        self.place(part(5), &base.to_le_bytes());
        let mut noted = vec![
            ("kallsyms_num_syms", part(0)),
            ("kallsyms_names", part(1)),
            ("kallsyms_token_table", part(2)),
            ("kallsyms_token_index", part(3)),
        ];
        match encoding {
            Encoding::Absolute => noted.push(("kallsyms_addresses", offsets)),
            Encoding::BaseRelative | Encoding::AbsolutePercpu => {
                noted.push(("kallsyms_offsets", offsets));
                noted.push(("kallsyms_relative_base", part(5)));
            }
            Encoding::PlaceRelative => noted.push(("kallsyms_offsets", offsets)),
        }
        for (name, at) in noted {
            self.line(&format!("SYMBOL({name})={:x}", at.get()));
        }
    }
}

/// Bytes cut where the pages of their addresses end.
trait ChunkByPages {
    fn chunk_by_pages(&self, at: Kva) -> impl Iterator<Item = &[u8]>;
}

impl ChunkByPages for [u8] {
    fn chunk_by_pages(&self, at: Kva) -> impl Iterator<Item = &[u8]> {
        let first = usize::try_from(PAGE - at.get() % PAGE).unwrap_or(0);
        let (head, rest) = self.split_at(first.min(self.len()));
        std::iter::once(head).chain(rest.chunks(EMPTY_PAGE.len()))
    }
}
