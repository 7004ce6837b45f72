//! Code that came into the kernel after its boot: modules
//! (`kernel/module/kallsyms.c`) and what BPF has compiled
//! (`kernel/bpf/core.c`), with the symbols that the kernel itself prints.

#[cfg(test)]
mod tests;

use std::cell::OnceCell;

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, Memory, MemoryExt};

use crate::Symbol;

/// No module has a larger symbol table.
const LARGEST_TABLE: u64 = 16 << 20;

/// No symbol has a longer name (`KSYM_NAME_LEN`).
const LONGEST_NAME: usize = 512;

/// How many symbols without a usable name are passed over.
const MOST_UNNAMED: usize = 1000;

/// Bytes of an `Elf64_Sym`, and where in it name, section and value are: the
/// ELF format's numbers, not the kernel's.
const SYMBOL_SIZE: usize = 24;
const SYMBOL_SECTION: u64 = 6;
const SYMBOL_VALUE: u64 = 8;

/// What of the kernel's code is not in its own image. What cannot be read of
/// it has no symbols.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    modules: Vec<Module>,
    /// By ascending start.
    compiled: Vec<Compiled>,
}

#[derive(Debug)]
struct Module {
    name: String,
    /// (start, bytes) of its parts.
    parts: Vec<(u64, u64)>,
    /// `struct mod_kallsyms`.
    kallsyms: Kva,
    symbols: OnceCell<Table>,
}

/// The symbols of a module: (value, offset of the name), by ascending value.
#[derive(Debug, Default)]
struct Table {
    symbols: Vec<(u64, u32)>,
    names: Kva,
}

/// What a `struct bpf_ksym` names: a program, a trampoline, …
#[derive(Debug)]
struct Compiled {
    start: u64,
    end: u64,
    name: Kva,
}

impl Loaded {
    /// The symbols that name the lists.
    pub(crate) const SYMBOLS: [&str; 2] = ["modules", "bpf_kallsyms"];

    /// Reads both lists, whose heads are at `lists`, as far as they go.
    pub(crate) fn load(
        memory: &dyn Memory<Kva>,
        btf: &Btf,
        lists: [Option<Kva>; 2],
        memory_size: u64,
    ) -> Self {
        let [modules, compiled] = lists;
        let modules = modules.and_then(|head| load_modules(memory, btf, head, memory_size).ok());
        let compiled = compiled.and_then(|head| load_compiled(memory, btf, head, memory_size).ok());
        Self {
            modules: modules.unwrap_or_default(),
            compiled: compiled.unwrap_or_default(),
        }
    }

    /// The symbol that `at` lies in.
    pub(crate) fn symbol_at(&self, memory: &dyn Memory<Kva>, btf: &Btf, at: Kva) -> Option<Symbol> {
        let module = self.modules.iter().find_map(|module| {
            let part = module.parts.iter();
            let mut part = part.filter(|&&(start, len)| at.get().wrapping_sub(start) < len);
            Some((module, part.next()?.0))
        });
        match module {
            Some((module, start)) => module.symbol_at(memory, btf, start, at),
            None => self.compiled_at(memory, at),
        }
    }

    fn compiled_at(&self, memory: &dyn Memory<Kva>, at: Kva) -> Option<Symbol> {
        let behind = self.compiled.partition_point(|code| code.start <= at.get());
        let code = self.compiled.get(behind.checked_sub(1)?)?;
        // The end is still inside: a call that comes last returns there.
        if at.get() > code.end {
            return None;
        }
        Some(Symbol {
            name: name_at(memory, code.name)?,
            offset: at.get() - code.start,
            module: Some("bpf".to_owned()),
        })
    }
}

impl Module {
    /// The symbol nearest before `at`, in the part that begins at `start`.
    fn symbol_at(
        &self,
        memory: &dyn Memory<Kva>,
        btf: &Btf,
        start: u64,
        at: Kva,
    ) -> Option<Symbol> {
        let table = self
            .symbols
            .get_or_init(|| Table::load(memory, btf, self.kallsyms).unwrap_or_default());
        let behind = |at| table.symbols.partition_point(|&(value, _)| value <= at);
        let mut rest = table.symbols.get(..behind(at.get()))?;
        let mut tried = 0;
        while let Some(&(value, _)) = rest.last()
            && value >= start
            && tried < MOST_UNNAMED
        {
            let (before, here) = rest.split_at(rest.partition_point(|other| other.0 < value));
            let mut names = here
                .iter()
                .take(MOST_UNNAMED - tried)
                .filter_map(|&(_, name)| {
                    let name = table.names.checked_add(name.into())?;
                    name_at(memory, name).filter(|name| !is_mark(name))
                });
            if let Some(name) = names.next() {
                return Some(Symbol {
                    name,
                    offset: at.get() - value,
                    module: Some(self.name.clone()),
                });
            }
            tried += here.len();
            rest = before;
        }
        None
    }
}

/// Marks between code and data that compilers and assemblers leave
/// (`is_mapping_symbol`).
fn is_mark(name: &str) -> bool {
    name.starts_with(".L") || name.starts_with("L0") || name.starts_with('$')
}

impl Table {
    fn load(memory: &dyn Memory<Kva>, btf: &Btf, at: Kva) -> Option<Self> {
        let layout = btf.record("mod_kallsyms").ok()?;
        let place = |member| at.checked_add(layout.find(member)?.offset);
        let count = u64::from(memory.load_u32(place("num_symtab")?).ok()?);
        let table = Kva::new(memory.load_u64(place("symtab")?).ok()?);
        let names = Kva::new(memory.load_u64(place("strtab")?).ok()?);
        let size = count * SYMBOL_SIZE as u64;
        if size > LARGEST_TABLE {
            return None;
        }
        let read = memory.read_up_to(table, size);
        if read.fault.is_some() {
            return None;
        }
        // The first is no symbol, and those without a section are of others.
        let defined = read
            .bytes
            .chunks_exact(SYMBOL_SIZE)
            .skip(1)
            .filter_map(|raw| {
                let section = u16::from_le_bytes(*part(raw, SYMBOL_SECTION)?);
                let name = u32::from_le_bytes(*part(raw, 0)?);
                let value = u64::from_le_bytes(*part(raw, SYMBOL_VALUE)?);
                (section != 0).then_some((value, name))
            });
        let mut symbols: Vec<_> = defined.collect();
        symbols.sort_by_key(|&(value, _)| value);
        Some(Self { symbols, names })
    }
}

fn load_modules(
    memory: &dyn Memory<Kva>,
    btf: &Btf,
    head: Kva,
    memory_size: u64,
) -> Result<Vec<Module>, btf_layout::Error> {
    let module = btf.record("module")?;
    let (link, name) = (module.member("list")?, module.member("name")?);
    let kallsyms = module.member("kallsyms")?;
    let parts: Vec<(u64, u64)> = match module.find("mem") {
        // Since 6.4 (ac3b43283923).
        Some(all) => {
            let part = btf.record("module_memory")?;
            let (base, size) = (part.member("base")?, part.member("size")?);
            let starts = (0..all.size / part.size().max(1)).map(|index| index * part.size());
            let starts = starts.map(|start| all.offset + start);
            starts
                .map(|start| (start + base.offset, start + size.offset))
                .collect()
        }
        None => vec![
            (
                module.member("core_layout.base")?.offset,
                module.member("core_layout.size")?.offset,
            ),
            (
                module.member("init_layout.base")?.offset,
                module.member("init_layout.size")?.offset,
            ),
        ],
    };
    let most = memory_size / module.size().max(1);
    let found = list(memory, head, &link, most).filter_map(|at| {
        let bytes = memory.read_up_to(at, module.size()).bytes;
        let parts = parts.iter().filter_map(|&(base, size)| {
            let base = u64::from_le_bytes(*part(&bytes, base)?);
            let size = u32::from_le_bytes(*part(&bytes, size)?);
            (base != 0).then_some((base, size.into()))
        });
        Some(Module {
            parts: parts.collect(),
            name: text(bytes.get(usize::try_from(name.offset).ok()?..)?),
            kallsyms: Kva::at(u64::from_le_bytes(*part(&bytes, kallsyms.offset)?)),
            symbols: OnceCell::new(),
        })
    });
    Ok(found.collect())
}

fn load_compiled(
    memory: &dyn Memory<Kva>,
    btf: &Btf,
    head: Kva,
    memory_size: u64,
) -> Result<Vec<Compiled>, btf_layout::Error> {
    let code = btf.record("bpf_ksym")?;
    let (start, end) = (code.member("start")?, code.member("end")?);
    let (link, name) = (code.member("lnode")?, code.member("name")?);
    let most = memory_size / code.size().max(1);
    let found = list(memory, head, &link, most).filter_map(|at| {
        let place = |member: &Member| at.checked_add(member.offset);
        Some(Compiled {
            start: memory.load_u64(place(&start)?).ok()?,
            end: memory.load_u64(place(&end)?).ok()?,
            name: place(&name)?,
        })
    });
    let mut found: Vec<Compiled> = found.collect();
    found.sort_by_key(|code| code.start);
    Ok(found)
}

/// The objects in a list that are linked by their member `link`: until the
/// list ends, comes back to where it was, or cannot be read; at most `most`.
fn list(
    memory: &dyn Memory<Kva>,
    head: Kva,
    link: &Member,
    most: u64,
) -> impl Iterator<Item = Kva> {
    let next = move |at: Kva| memory.load_u64(at).ok().map(Kva::new);
    let (mut at, mut milestone, mut passed) = (head, head, 0u64);
    std::iter::from_fn(move || {
        at = next(at).filter(|&next| next != milestone && next != head && passed < most)?;
        passed += 1;
        // The milestone moves on at each power of two: it is met on a cycle.
        if passed.is_power_of_two() {
            milestone = at;
        }
        Some(Kva::new(at.get().wrapping_sub(link.offset)))
    })
}

/// The `N` bytes at `at`.
fn part<const N: usize>(bytes: &[u8], at: u64) -> Option<&[u8; N]> {
    bytes.get(usize::try_from(at).ok()?..)?.first_chunk()
}

/// The name at `at`; `None` for one that is empty or not there.
fn name_at(memory: &dyn Memory<Kva>, at: Kva) -> Option<String> {
    let name = text(&memory.read_cstr(at, LONGEST_NAME).ok()?);
    (!name.is_empty()).then_some(name)
}

fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|&byte| byte == 0).next();
    let text = String::from_utf8_lossy(bytes.unwrap_or_default());
    text.replace(char::is_control, "\u{fffd}")
}
