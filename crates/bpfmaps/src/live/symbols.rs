//! The running kernel's symbols, from `/proc/kallsyms`.
//!
//! It has the kernel's own, those of modules, and those that BPF programs and
//! trampolines have for as long as they are loaded; here they are as they were
//! when the first one was asked for.

use std::cell::OnceCell;
use std::fs;

use guestmem::{Address, Kva};

use crate::Symbol;

/// How far a symbol may reach behind which another module begins, or nothing:
/// no end of it is known.
const LAST_REACHES: u64 = 64 << 10;

/// The first address that may be the kernel's.
const KERNEL_HALF: u64 = 1 << 63;

/// The symbols, read when one is asked for.
#[derive(Debug, Default)]
pub(super) struct Symbols(OnceCell<Table>);

impl Symbols {
    fn table(&self) -> &Table {
        self.0
            .get_or_init(|| Table::parse(&fs::read("/proc/kallsyms").unwrap_or_default()))
    }

    /// Whether there are none: without the right to see them, all addresses
    /// are zeros (`kernel.kptr_restrict`).
    pub(super) fn is_empty(&self) -> bool {
        self.table().entries.is_empty()
    }

    /// The address of a symbol of the kernel itself.
    pub(super) fn lookup(&self, name: &str) -> Option<Kva> {
        let table = self.table();
        let own = table.entries.iter().filter(|entry| entry.module == 0);
        own.map(|entry| (entry, table.name(entry)))
            .find(|(_, found)| *found == name.as_bytes())
            .map(|(entry, _)| Kva::new(entry.at))
    }

    /// The symbol that `at` lies in.
    pub(super) fn at(&self, at: Kva) -> Option<Symbol> {
        self.table().at(at.get())
    }
}

/// A symbol; its name is a part of the table's text.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    name: u32,
    name_len: u16,
    /// 0 for the kernel itself, else 1 + the position in the table's modules.
    module: u16,
}

#[derive(Debug, Default)]
struct Table {
    /// By address; of several at one address, the first is the one to name.
    entries: Vec<Entry>,
    text: Vec<u8>,
    modules: Vec<String>,
}

impl Table {
    fn parse(kallsyms: &[u8]) -> Self {
        let mut table = Self::default();
        for line in kallsyms.split(|&byte| byte == b'\n') {
            table.add(line);
        }
        table.entries.sort_by_key(|entry| entry.at);
        table
    }

    /// Takes a line: `ADDRESS TYPE NAME`, and `[MODULE]` behind a tab. `None`
    /// for one that is not of use.
    fn add(&mut self, line: &[u8]) -> Option<()> {
        let mut words = line
            .split(|byte| byte.is_ascii_whitespace())
            .filter(|word| !word.is_empty());
        let at = str::from_utf8(words.next()?).ok()?;
        let at = u64::from_str_radix(at, 16).ok()?;
        let name = words.nth(1)?;
        if at < KERNEL_HALF {
            return None;
        }
        let module = match words.next() {
            None => 0,
            Some(module) => self.module(module)?,
        };
        let entry = Entry {
            at,
            name: u32::try_from(self.text.len()).ok()?,
            name_len: u16::try_from(name.len()).ok()?,
            module,
        };
        self.text.extend_from_slice(name);
        self.entries.push(entry);
        Some(())
    }

    /// The number of a module, given in its brackets.
    fn module(&mut self, word: &[u8]) -> Option<u16> {
        let name = word.strip_prefix(b"[")?.strip_suffix(b"]")?;
        // They come module by module, so that the last one is it, or none.
        if self.modules.last().map(String::as_bytes) != Some(name) {
            self.modules
                .push(String::from_utf8_lossy(name).into_owned());
        }
        u16::try_from(self.modules.len()).ok()
    }

    fn name(&self, entry: &Entry) -> &[u8] {
        let start = entry.name as usize;
        let end = start + usize::from(entry.name_len);
        self.text.get(start..end).unwrap_or_default()
    }

    fn module_name(&self, entry: &Entry) -> Option<&String> {
        let position = usize::from(entry.module).checked_sub(1)?;
        self.modules.get(position)
    }

    fn at(&self, at: u64) -> Option<Symbol> {
        let behind = self.entries.partition_point(|entry| entry.at <= at);
        let last = self.entries.get(behind.checked_sub(1)?)?;
        let first = self.entries.partition_point(|entry| entry.at < last.at);
        let entry = self.entries.get(first)?;
        let offset = at.checked_sub(entry.at)?;
        let next = self.entries.get(behind);
        let same = next.is_some_and(|next| {
            next.module == entry.module || self.module_name(next) == self.module_name(entry)
        });
        (same || offset < LAST_REACHES).then(|| Symbol {
            name: String::from_utf8_lossy(self.name(entry)).into_owned(),
            offset,
            module: self.module_name(entry).cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KALLSYMS: &[u8] = b"0000000000000000 A fixed_percpu_data\n\
        ffffffff81000000 T srso_alias\nffffffff81000000 T _stext\n\
        ffffffff81000100 t do_it\nffffffff82000000 T _etext\n\
        ffffffffc0200000 t init\t[veth]\nffffffffc0200040 t veth_open\t[veth]\n\
        ffffffffc0100000 t bpf_prog_6deef7357e7b4530_fn\t[bpf]\n";

    #[test]
    fn addresses_have_the_symbol_before_them() {
        let table = Table::parse(KALLSYMS);
        let check = |at, expected: Option<&str>| {
            let found = table.at(at).map(|symbol| symbol.to_string());
            assert_eq!(found.as_deref(), expected, "{at:#x}");
        };
        check(0, None);
        check(0xffff_ffff_8000_0000, None);
        check(0xffff_ffff_8100_0000, Some("srso_alias+0x0"));
        check(0xffff_ffff_8100_0123, Some("do_it+0x23"));
        check(0xffff_ffff_8200_0010, Some("_etext+0x10"));
        // No symbol's end is known behind the last one of the kernel.
        check(0xffff_ffff_8300_0000, None);
        let prog = "bpf_prog_6deef7357e7b4530_fn+0x12";
        check(0xffff_ffff_c010_0012, Some(prog));
        check(0xffff_ffff_c020_0041, Some("veth_open+0x1 [veth]"));
        check(u64::MAX, None);
    }

    #[test]
    fn names_are_of_the_kernel_itself() {
        let symbols = Symbols(OnceCell::from(Table::parse(KALLSYMS)));
        let text = symbols.lookup("_stext");
        assert_eq!(text, Some(Kva::at(0xffff_ffff_8100_0000)));
        assert_eq!(symbols.lookup("veth_open"), None);
        assert_eq!(symbols.lookup("fixed_percpu_data"), None);
    }

    #[test]
    fn hidden_addresses_are_none() {
        let symbols = Symbols(OnceCell::from(Table::parse(
            b"0000000000000000 T _stext\n0000000000000000 t do_it\t[veth]\n",
        )));
        assert!(symbols.is_empty());
        assert_eq!(symbols.at(Kva::at(0x10)), None);
    }
}
