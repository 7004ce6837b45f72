//! Symbols by address, of kernels made by hand.

use std::rc::Rc;

use btf_layout::TypeId;
use btf_layout::build::Builder;
use guestmem::{Address, Fake, Gpa, Kva, Physical};

use crate::build::Machine;
use crate::{Encoding, Finder, Kernel};

const TEXT: u64 = 0xffff_ffff_8200_0000;
const END: u64 = 0xffff_ffff_8700_0000;
const MODULE_TEXT: u64 = 0xffff_ffff_c000_0000;
const MODULE_DATA: u64 = 0xffff_ffff_c000_8000;
const COMPILED: u64 = 0xffff_ffff_c010_0000;

/// Of `struct module`.
const LIST: u64 = 8;
const NAME: u64 = 24;
const PARTS: u64 = 48;
const KALLSYMS: u64 = 96;

/// Of `struct bpf_ksym`.
const START: u64 = 0;
const STOP: u64 = 8;
const KSYM_NAME: u64 = 16;
const KSYM_LINK: u64 = 48;

fn on(at: Kva, offset: u64) -> Kva {
    at.checked_add(offset).unwrap()
}

fn record(types: &mut Builder, name: &str, size: u32, members: &[(&str, TypeId, u32)]) -> TypeId {
    let members: Vec<_> = members
        .iter()
        .map(|&(name, ty, offset)| (name, ty, offset * 8))
        .collect();
    types.record(name, size, &members)
}

/// Modules with `mem[]`, or as they were before 6.4.
fn types(recent: bool) -> Vec<u8> {
    let mut types = Builder::new();
    let b = &mut types;
    let (u8_, u32_, u64_) = (b.int("u8", 1), b.int("u32", 4), b.int("u64", 8));
    let name = b.array(u8_, 24);
    let link = record(b, "list_head", 16, &[("next", u64_, 0), ("prev", u64_, 8)]);
    let part = [("base", u64_, 0), ("size", u32_, 8)];
    let mut module = vec![
        ("list", link, 8),
        ("name", name, 24),
        ("kallsyms", u64_, 96),
    ];
    if recent {
        let part = record(b, "module_memory", 16, &part);
        let parts = b.array(part, 3);
        module.push(("mem", parts, 48));
    } else {
        let part = record(b, "module_layout", 16, &part);
        module.push(("core_layout", part, 48));
        module.push(("init_layout", part, 64));
    }
    record(b, "module", 112, &module);
    let kallsyms = [
        ("symtab", u64_, 0),
        ("num_symtab", u32_, 8),
        ("strtab", u64_, 16),
    ];
    record(b, "mod_kallsyms", 24, &kallsyms);
    let name = b.array(u8_, 32);
    let ksym = [
        ("start", u64_, 0),
        ("end", u64_, 8),
        ("name", name, 16),
        ("lnode", link, 48),
    ];
    record(b, "bpf_ksym", 64, &ksym);
    types.finish()
}

struct Made {
    machine: Machine,
    modules: Kva,
    compiled: Kva,
}

impl Made {
    fn new(recent: bool) -> Self {
        let mut machine = Machine::new(Fake::new(), Gpa::at(0), 4, "6.66.0-made");
        machine.btf(&types(recent));
        let [modules, compiled] = ["modules", "bpf_kallsyms"].map(|name| {
            let head = machine.allocate(&[0; 16]);
            machine.symbol(name, head);
            machine.place_u64(head, head.get());
            head
        });
        machine.symbol("schedule", Kva::at(TEXT + 0x100));
        machine.symbol("schedule_alias", Kva::at(TEXT + 0x100));
        machine.symbol("schedule_idle", Kva::at(TEXT + 0x180));
        machine.symbol("_end", Kva::at(END));
        Self {
            machine,
            modules,
            compiled,
        }
    }

    /// Puts an object, whose link is at `link` in it, behind the list's head.
    fn list(&mut self, head: Kva, object: Kva, link: u64, next: Kva) {
        self.machine.place_u64(head, on(object, link).get());
        self.machine.place_u64(on(object, link), next.get());
    }

    /// A module of these symbols: value, section, name.
    fn module(&mut self, symbols: &[(u64, u16, &str)]) -> (Kva, Kva) {
        let mut table = vec![0; 24];
        let mut names = vec![0];
        for &(value, section, name) in symbols {
            table.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
            table.extend([0, 0]);
            table.extend(section.to_le_bytes());
            table.extend(value.to_le_bytes());
            table.extend([0; 8]);
            names.extend(name.bytes());
            names.push(0);
        }
        let count = u32::try_from(symbols.len() + 1).unwrap();
        let machine = &mut self.machine;
        let (table, names) = (machine.allocate(&table), machine.allocate(&names));
        let kallsyms = machine.allocate(&[0; 24]);
        machine.place_u64(kallsyms, table.get());
        machine.place(on(kallsyms, 8), &count.to_le_bytes());
        machine.place_u64(on(kallsyms, 16), names.get());
        let module = machine.allocate(&[0; 112]);
        machine.place(on(module, NAME), b"veth");
        machine.place_u64(on(module, PARTS), MODULE_TEXT);
        machine.place(on(module, PARTS + 8), &0x1000u32.to_le_bytes());
        machine.place_u64(on(module, PARTS + 16), MODULE_DATA);
        machine.place(on(module, PARTS + 24), &0x1000u32.to_le_bytes());
        machine.place_u64(on(module, KALLSYMS), kallsyms.get());
        self.list(self.modules, module, LIST, self.modules);
        (module, kallsyms)
    }

    /// Adds what BPF compiled: start, end, name. Gives their links.
    fn compiled(&mut self, code: &[(u64, u64, &str)]) -> Vec<Kva> {
        let mut next = self.compiled;
        let mut links = Vec::new();
        for &(start, end, name) in code {
            let ksym = self.machine.allocate(&[0; 64]);
            self.machine.place_u64(on(ksym, START), start);
            self.machine.place_u64(on(ksym, STOP), end);
            self.machine.place(on(ksym, KSYM_NAME), name.as_bytes());
            self.list(self.compiled, ksym, KSYM_LINK, next);
            next = on(ksym, KSYM_LINK);
            links.push(next);
        }
        links
    }

    fn kernel(self, encoding: Encoding) -> Kernel {
        let ram = self.machine.finish(encoding);
        Finder::new().find(&[Rc::new(ram) as Physical]).unwrap()
    }
}

/// Compares what `at` is called; `-` for no name.
#[track_caller]
fn check(kernel: &Kernel, at: u64, expected: &str) {
    let found = kernel.symbol_at(Kva::new(at));
    let found = found.map_or("-".to_owned(), |symbol| symbol.to_string());
    assert_eq!(found, expected, "{at:#x}");
}

#[test]
fn the_kernels_own_symbols_are_found_in_every_encoding() {
    for encoding in [
        Encoding::Absolute,
        Encoding::BaseRelative,
        Encoding::AbsolutePercpu,
        Encoding::PlaceRelative,
    ] {
        let mut made = Made::new(true);
        // The others cannot say what is not near the kernel.
        if matches!(encoding, Encoding::Absolute | Encoding::AbsolutePercpu) {
            made.machine.symbol("pcpu_hot", Kva::at(0x1000));
        }
        let kernel = made.kernel(encoding);
        check(&kernel, TEXT, "_stext+0x0");
        check(&kernel, TEXT + 0xff, "_stext+0xff");
        // Of two names for one place, the first.
        check(&kernel, TEXT + 0x100, "schedule+0x0");
        check(&kernel, TEXT + 0x17f, "schedule+0x7f");
        check(&kernel, TEXT + 0x180, "schedule_idle+0x0");
        for outside in [0, 0x1000, 0x1010, TEXT - 1, END, u64::MAX] {
            check(&kernel, outside, "-");
        }
    }
}

#[test]
fn without_all_symbols_only_text_is_covered() {
    let mut machine = Machine::new(Fake::new(), Gpa::at(0), 4, "6.66.0-made");
    machine.btf(&types(true));
    for (name, offset) in [
        ("schedule", 0x100),
        ("_etext", 0x1000),
        ("_sinittext", 0x9000),
        ("setup", 0x9100),
        ("_einittext", 0xa000),
    ] {
        machine.symbol(name, Kva::at(TEXT + offset));
    }
    let ram = machine.finish(Encoding::BaseRelative);
    let kernel = Finder::new().find(&[Rc::new(ram) as Physical]).unwrap();
    check(&kernel, TEXT + 0xfff, "schedule+0xeff");
    check(&kernel, TEXT + 0x1000, "-");
    check(&kernel, TEXT + 0x9101, "setup+0x1");
    check(&kernel, TEXT + 0xa000, "-");
    // Nothing names the lists of modules and programs.
    check(&kernel, MODULE_TEXT, "-");
}

const SYMBOLS: [(u64, u16, &str); 6] = [
    (MODULE_TEXT + 0x200, 1, "veth_xmit"),
    (MODULE_TEXT + 0x100, 1, ""),
    (MODULE_TEXT + 0x100, 1, "veth_open"),
    (MODULE_TEXT + 0x180, 0, "imported"),
    (MODULE_TEXT + 0x1a0, 1, "$x"),
    (MODULE_DATA + 0x10, 2, "veth_ops"),
];

#[test]
fn modules_have_symbols_of_their_own() {
    for recent in [false, true] {
        let mut made = Made::new(recent);
        made.module(&SYMBOLS);
        let kernel = made.kernel(Encoding::AbsolutePercpu);
        check(&kernel, MODULE_TEXT, "-");
        check(&kernel, MODULE_TEXT + 0x100, "veth_open+0x0 [veth]");
        check(&kernel, MODULE_TEXT + 0x1b0, "veth_open+0xb0 [veth]");
        check(&kernel, MODULE_TEXT + 0xfff, "veth_xmit+0xdff [veth]");
        check(&kernel, MODULE_TEXT + 0x1000, "-");
        // Not by the other part's last symbol.
        check(&kernel, MODULE_DATA + 0xf, "-");
        check(&kernel, MODULE_DATA + 0x11, "veth_ops+0x1 [veth]");
        check(&kernel, TEXT + 0x100, "schedule+0x0");
    }
}

#[test]
fn tables_of_modules_that_lie_name_nothing() {
    let corrupt = |change: &dyn Fn(&mut Machine, Kva, Kva)| {
        let mut made = Made::new(true);
        let (module, kallsyms) = made.module(&SYMBOLS);
        change(&mut made.machine, module, kallsyms);
        made.kernel(Encoding::AbsolutePercpu)
    };
    let at = MODULE_TEXT + 0x100;
    let huge = u32::MAX.to_le_bytes();
    check(
        &corrupt(&|m, _, kallsyms| m.place(on(kallsyms, 8), &huge)),
        at,
        "-",
    );
    check(
        &corrupt(&|m, _, kallsyms| m.place_u64(kallsyms, TEXT)),
        at,
        "-",
    );
    check(
        &corrupt(&|m, _, kallsyms| m.place_u64(on(kallsyms, 16), 8)),
        at,
        "-",
    );
    check(
        &corrupt(&|m, module, _| m.place_u64(on(module, KALLSYMS), 8)),
        at,
        "-",
    );
    // A list that comes back to its first module, and one that is lost.
    let cycle = corrupt(&|m, module, _| m.place_u64(on(module, LIST), on(module, LIST).get()));
    check(&cycle, at, "veth_open+0x0 [veth]");
    let lost = corrupt(&|m, module, _| m.place_u64(on(module, LIST), 0xdead_0000));
    check(&lost, at, "veth_open+0x0 [veth]");
}

#[test]
fn what_bpf_compiled_has_its_own_names() {
    let mut made = Made::new(true);
    made.compiled(&[
        (COMPILED + 0x100, COMPILED + 0x180, "bpf_prog_1234_second"),
        (COMPILED, COMPILED + 0x80, "bpf_prog_0123_first"),
        (COMPILED + 0x80, COMPILED + 0xc0, "bpf_trampoline_7"),
    ]);
    let kernel = made.kernel(Encoding::AbsolutePercpu);
    let first = kernel.symbol_at(Kva::at(COMPILED)).unwrap();
    assert_eq!(first.module.as_deref(), Some("bpf"));
    check(&kernel, COMPILED - 1, "-");
    check(&kernel, COMPILED + 0x10, "bpf_prog_0123_first+0x10");
    check(&kernel, COMPILED + 0x80, "bpf_trampoline_7+0x0");
    // Where a call that comes last returns to.
    check(&kernel, COMPILED + 0xc0, "bpf_trampoline_7+0x40");
    check(&kernel, COMPILED + 0xc1, "-");
    check(&kernel, COMPILED + 0x101, "bpf_prog_1234_second+0x1");

    // A cycle that leaves the head out.
    let mut made = Made::new(true);
    let links = made.compiled(&[
        (COMPILED, COMPILED + 0x80, "bpf_prog_0123_first"),
        (COMPILED + 0x100, COMPILED + 0x180, "bpf_prog_1234_second"),
    ]);
    made.machine.place_u64(links[0], links[1].get());
    let kernel = made.kernel(Encoding::AbsolutePercpu);
    check(&kernel, COMPILED + 0x10, "bpf_prog_0123_first+0x10");
    check(&kernel, COMPILED + 0x110, "bpf_prog_1234_second+0x10");
}
