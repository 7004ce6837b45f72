//! The kernel's symbol table as it lies in its memory (`kernel/kallsyms.c`,
//! `scripts/kallsyms.c`).
//!
//! Names are compressed: each is a length and that many tokens, and a token
//! stands for a short string; the first character is the symbol's type as
//! `nm` gives it. Addresses come in four encodings, of which the one that
//! gives `_stext` its known address is the right one.

mod addresses;
mod names;
mod places;
#[cfg(test)]
mod tests;

use guestmem::{Fault, Kva, Memory, MemoryExt};
use thiserror::Error;

use crate::Vmcoreinfo;
use addresses::Addresses;
pub use addresses::Encoding;
use names::{MARK_EVERY, Names, Tokens, load_names};

/// Why a symbol table could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KallsymsError {
    /// VMCOREINFO does not say where it is (kernels before 6.0).
    #[error("VMCOREINFO has no {key}")]
    NotNoted {
        /// The missing line.
        key: &'static str,
    },
    /// A part of it is unreadable.
    #[error("{part} is unreadable at {fault}")]
    Unreadable {
        /// Which part.
        part: &'static str,
        /// Where, and why.
        fault: Fault<Kva>,
    },
    /// The names end before the number of symbols is reached.
    #[error("{count} symbols are announced, but the names end after {decoded}")]
    NamesEnd {
        /// The number of symbols announced.
        count: u32,
        /// How many names there are.
        decoded: u32,
    },
    /// The names are longer than those of any kernel.
    #[error("{count} symbols are announced, and the first {decoded} have impossibly long names")]
    NamesTooLong {
        /// The number of symbols announced.
        count: u32,
        /// How many names were read.
        decoded: u32,
    },
    /// No encoding gives `_stext` the address that VMCOREINFO gives it.
    #[error("no known encoding puts _stext at {stext}; the nearest puts it at {found:?}")]
    NoEncoding {
        /// The address that VMCOREINFO gives.
        stext: Kva,
        /// What the encodings give.
        found: Vec<(Encoding, Kva)>,
    },
}

/// The symbols that every kernel is asked for, found in one pass.
const USUAL: [&str; 14] = [
    "_stext",
    "_etext",
    "_sinittext",
    "_einittext",
    "_end",
    "__start_BTF",
    "__stop_BTF",
    "__cpu_possible_mask",
    "__per_cpu_offset",
    "nr_cpu_ids",
    "map_idr",
    "prog_idr",
    "modules",
    "bpf_kallsyms",
];

/// A kernel's symbols. The names stay compressed: a look-up of any but the
/// usual ones is one pass.
#[derive(Debug)]
pub struct Kallsyms {
    names: Vec<u8>,
    /// Where every `MARK_EVERY`th name begins in `names`.
    marks: Vec<usize>,
    tokens: Tokens,
    /// The usual symbols by (position in `USUAL`, index in the table).
    usual: Vec<(usize, u32)>,
    count: u32,
    addresses: Addresses,
}

impl Kallsyms {
    /// Reads the table that `note` points at, through the kernel's memory.
    ///
    /// # Errors
    ///
    /// If a part is unreadable or contradicts another, or if no encoding
    /// puts `_stext` where the note says it is.
    pub fn load(memory: &dyn Memory<Kva>, note: &Vmcoreinfo) -> Result<Self, KallsymsError> {
        fn required(note: &Vmcoreinfo, key: &'static str) -> Result<Kva, KallsymsError> {
            note.symbol(key).ok_or(KallsymsError::NotNoted { key })
        }
        let stext = required(note, "_stext")?;
        let count = memory
            .load_u32(required(note, "kallsyms_num_syms")?)
            .map_err(unreadable("kallsyms_num_syms"))?;
        let tokens = Tokens::load(
            memory,
            required(note, "kallsyms_token_table")?,
            required(note, "kallsyms_token_index")?,
        )?;
        let (names, marks) = load_names(memory, required(note, "kallsyms_names")?, count)?;
        let mut table = Self {
            names,
            marks,
            tokens,
            usual: Vec::new(),
            count,
            addresses: Addresses::none(),
        };
        table.usual = table.search(&USUAL);
        let stext_index = table.indices(&["_stext"]);
        let stext_index = stext_index.first().map_or(0, |&(_, index)| index);
        let mut found = Vec::new();
        for addresses in Addresses::load(memory, note, count)? {
            match addresses.get(stext_index) {
                Some(address) if address == stext => {
                    table.addresses = addresses;
                    return Ok(table);
                }
                Some(address) => found.push((addresses.encoding, address)),
                None => {}
            }
        }
        Err(KallsymsError::NoEncoding { stext, found })
    }

    /// How many symbols there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How the addresses are written.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.addresses.encoding
    }

    /// The addresses of the symbols of these names, as (position in `names`,
    /// address). Static symbols may share a name.
    ///
    /// At most one pass over the table, whatever the number of names.
    #[must_use]
    pub fn lookup(&self, names: &[&str]) -> Vec<(usize, Kva)> {
        self.indices(names)
            .into_iter()
            .filter_map(|(position, index)| Some((position, self.addresses.get(index)?)))
            .collect()
    }

    /// The usual symbols and their addresses. Of several that share a name,
    /// only the first.
    pub(crate) fn usual(&self) -> impl Iterator<Item = (&str, Kva)> {
        USUAL.iter().enumerate().filter_map(|(place, name)| {
            let mut of_name = self.usual.iter().filter(|(usual, _)| *usual == place);
            let (_, index) = of_name.next()?;
            Some((*name, self.addresses.get(*index)?))
        })
    }

    /// Symbols by (position in `wanted`, index in the table).
    fn indices(&self, wanted: &[&str]) -> Vec<(usize, u32)> {
        let usual = |name: &&str| USUAL.iter().position(|usual| usual == name);
        let Some(places) = wanted.iter().map(usual).collect::<Option<Vec<_>>>() else {
            return self.search(wanted);
        };
        let mut found = Vec::new();
        for (position, place) in places.into_iter().enumerate() {
            let of_name = self.usual.iter().filter(|(usual, _)| *usual == place);
            found.extend(of_name.map(|&(_, index)| (position, index)));
        }
        found
    }

    /// Looks through the whole table.
    fn search(&self, wanted: &[&str]) -> Vec<(usize, u32)> {
        let longest = wanted.iter().map(|name| name.len()).max().unwrap_or(0);
        // With the character of the type in front.
        let mut lengths = vec![false; longest + 2];
        for name in wanted {
            if let Some(slot) = lengths.get_mut(name.len() + 1) {
                *slot = true;
            }
        }
        let mut found = Vec::new();
        let mut text = Vec::new();
        for (index, compressed) in (0u32..).zip(Names::new(&self.names)) {
            // Most names are told apart by their length, without expansion.
            let len = self.tokens.expanded_len(compressed);
            if !lengths.get(len).copied().unwrap_or(false) {
                continue;
            }
            text.clear();
            self.tokens.expand(compressed, &mut text);
            let name = text.get(1..).unwrap_or_default();
            let position = wanted.iter().position(|wanted| wanted.as_bytes() == name);
            found.extend(position.map(|position| (position, index)));
        }
        found
    }

    /// The name of the symbol at `index` of the table.
    #[must_use]
    pub fn name(&self, index: u32) -> Option<String> {
        let index = usize::try_from(index).ok()?;
        let mark = *self.marks.get(index / MARK_EVERY)?;
        let compressed = Names::new(self.names.get(mark..)?).nth(index % MARK_EVERY)?;
        let mut text = Vec::new();
        self.tokens.expand(compressed, &mut text);
        Some(String::from_utf8_lossy(text.get(1..)?).into_owned())
    }
}

fn unreadable(part: &'static str) -> impl Fn(Fault<Kva>) -> KallsymsError {
    move |fault| KallsymsError::Unreadable { part, fault }
}
