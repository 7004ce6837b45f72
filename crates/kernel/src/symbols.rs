//! Symbols of one kernel, from its own memory or from a file.

use goblin::elf::Elf;
use guestmem::{Address, Kva};
use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::kallsyms::Kallsyms;
use crate::vmcoreinfo::Vmcoreinfo;

/// Why a file's symbols cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SymbolFileError {
    /// It is neither an ELF file nor a list of symbols.
    #[error("line {line} is not `ADDRESS TYPE NAME`, and the file is no ELF")]
    NotSymbols {
        /// The first line that is none.
        line: usize,
    },
    /// It is an ELF file that cannot be read.
    #[error("{what}")]
    Elf {
        /// The parser's words.
        what: String,
    },
    /// It has no symbols, or only hidden ones.
    #[error("it has no symbols with addresses (a /proc/kallsyms read without rights has none)")]
    Empty,
    /// It does not name `_stext`, by which its addresses are matched.
    #[error("it has no symbol _stext")]
    NoStext,
    /// Its symbols are not where the kernel says they are.
    #[error("it is of another kernel: it puts {name} at {found}, the kernel itself at {expected}")]
    OtherKernel {
        /// The symbol.
        name: String,
        /// Where the kernel says it is.
        expected: Kva,
        /// Where the file puts it, moved by the kernel's slide.
        found: Kva,
    },
}

/// The symbols of a `System.map`, a copy of `/proc/kallsyms` or a `vmlinux`,
/// as the file gives them.
#[derive(Clone, Debug, Default)]
pub struct GivenSymbols {
    by_name: FxHashMap<String, u64>,
}

impl GivenSymbols {
    /// Takes the symbols out of a file's bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are neither an ELF file with symbols nor a list of them.
    pub fn parse(bytes: &[u8]) -> Result<Self, SymbolFileError> {
        let by_name = if bytes.starts_with(b"\x7fELF") {
            from_elf(bytes)?
        } else {
            from_list(bytes)?
        };
        if by_name.values().all(|&address| address == 0) {
            return Err(SymbolFileError::Empty);
        }
        if !by_name.contains_key("_stext") {
            return Err(SymbolFileError::NoStext);
        }
        Ok(Self { by_name })
    }

    /// How many symbols there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_name.len()
    }

    /// The same symbols for the kernel that wrote `note`.
    ///
    /// They are compared with what the note and the table in memory say.
    pub(crate) fn moved_to(
        mut self,
        note: &Vmcoreinfo,
        kallsyms: Option<&Kallsyms>,
    ) -> Result<Self, SymbolFileError> {
        let linked = self.by_name.get("_stext").copied().unwrap_or(0);
        let stext = note.symbol("_stext").ok_or(SymbolFileError::NoStext)?;
        let slide = stext.get().wrapping_sub(linked);
        for address in self.by_name.values_mut() {
            // What is not in the kernel's half is an offset or a constant.
            if *address >> 63 == 1 {
                *address = address.wrapping_add(slide);
            }
        }
        let mut known: Vec<(&str, Kva)> = note.symbols().collect();
        known.extend(kallsyms.into_iter().flat_map(Kallsyms::usual));
        for (name, expected) in known {
            let found = self.by_name.get(name).copied().map(Kva::new);
            if let Some(found) = found.filter(|found| *found != expected) {
                return Err(SymbolFileError::OtherKernel {
                    name: name.to_owned(),
                    expected,
                    found,
                });
            }
        }
        Ok(self)
    }
}

fn from_elf(bytes: &[u8]) -> Result<FxHashMap<String, u64>, SymbolFileError> {
    let elf = Elf::parse(bytes).map_err(|error| SymbolFileError::Elf {
        what: error.to_string(),
    })?;
    let named = elf.syms.iter().filter_map(|symbol| {
        let name = elf.strtab.get_at(symbol.st_name)?;
        (!name.is_empty() && symbol.st_shndx != 0).then(|| (name.to_owned(), symbol.st_value))
    });
    Ok(named.collect())
}

fn from_list(bytes: &[u8]) -> Result<FxHashMap<String, u64>, SymbolFileError> {
    let text = String::from_utf8_lossy(bytes);
    let mut by_name = FxHashMap::default();
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        let symbol = (|| {
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = words.next()?;
            let name = words.next()?;
            // A fourth word is the module.
            (kind.len() == 1).then_some((address, name, words.next().is_some()))
        })();
        match symbol {
            Some((address, name, false)) => {
                by_name.entry(name.to_owned()).or_insert(address);
            }
            Some((_, _, true)) => {}
            None => return Err(SymbolFileError::NotSymbols { line: number + 1 }),
        }
    }
    Ok(by_name)
}

/// The symbols of one kernel: those given go before those in its memory.
#[derive(Debug, Default)]
pub struct Symbols {
    given: Option<GivenSymbols>,
    kallsyms: Option<Kallsyms>,
}

impl Symbols {
    pub(crate) fn new(given: Option<GivenSymbols>, kallsyms: Option<Kallsyms>) -> Self {
        Self { given, kallsyms }
    }

    /// The addresses of `names`, in their order; `None` for one that is not
    /// there. One pass over the table, however many names there are.
    #[must_use]
    pub fn lookup<const N: usize>(&self, names: [&str; N]) -> [Option<Kva>; N] {
        let mut found = [None; N];
        if let Some(given) = &self.given {
            for (slot, name) in found.iter_mut().zip(names) {
                *slot = given.by_name.get(name).copied().map(Kva::new);
            }
        }
        if let (Some(kallsyms), true) = (&self.kallsyms, found.contains(&None)) {
            for (position, address) in kallsyms.lookup(&names) {
                if let Some(slot) = found.get_mut(position) {
                    slot.get_or_insert(address);
                }
            }
        }
        found
    }

    /// The symbols in the kernel's own memory.
    #[must_use]
    pub fn kallsyms(&self) -> Option<&Kallsyms> {
        self.kallsyms.as_ref()
    }

    /// The symbols that were given.
    #[must_use]
    pub fn given(&self) -> Option<&GivenSymbols> {
        self.given.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_moved_to_where_the_kernel_is() {
        let list = b"ffffffff81000000 T _stext\nffffffff82000000 b map_idr\n\
            0000000000012340 D pcpu_hot\nffffffffc0000000 t init_module\t[veth]\n";
        let note = Vmcoreinfo::parse(
            b"OSRELEASE=6\nSYMBOL(_stext)=ffffffff9a000000\nSYMBOL(map_idr)=ffffffff9b000000\n",
        )
        .unwrap();
        let given = GivenSymbols::parse(list).unwrap();
        assert_eq!(given.count(), 3);
        let symbols = Symbols::new(Some(given.moved_to(&note, None).unwrap()), None);
        assert_eq!(
            symbols.lookup(["map_idr", "pcpu_hot", "absent"]),
            [
                Some(Kva::at(0xffff_ffff_9b00_0000)),
                Some(Kva::at(0x12340)),
                None
            ]
        );
        let other = b"ffffffff81000000 T _stext\nffffffff82000040 b map_idr\n";
        let refused = GivenSymbols::parse(other).unwrap().moved_to(&note, None);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "it is of another kernel: it puts map_idr at 0xffffffff9b000040, the kernel itself at 0xffffffff9b000000"
        );
    }

    #[test]
    fn what_is_no_symbol_file_says_so() {
        let check = |bytes: &[u8]| GivenSymbols::parse(bytes).unwrap_err();
        assert_eq!(check(b""), SymbolFileError::Empty);
        assert_eq!(check(b"0000 T _stext\n"), SymbolFileError::Empty);
        assert_eq!(check(b"1000 T main\n"), SymbolFileError::NoStext);
        assert_eq!(
            check(b"1000 T _stext\nhello\n"),
            SymbolFileError::NotSymbols { line: 2 }
        );
        assert!(matches!(check(b"\x7fELF"), SymbolFileError::Elf { .. }));
    }
}
