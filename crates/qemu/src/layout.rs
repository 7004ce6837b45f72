//! What QEMU's monitor for people says of memory and CPUs.

use guestmem::{Address, Gpa};

/// A run of guest-physical memory with RAM behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its first address.
    pub(crate) gpa: Gpa,
    /// Its last address, which may be the last of all.
    pub(crate) last: Gpa,
}

/// The runs of the address space `memory` of `info mtree -f`, ascending; `None`
/// if it is not there.
///
/// RAM is `ram` or `rom` (RAM that the guest may only read, firmware's shadow
/// among it), both with `nv-` before where it is a persistent memory device's.
/// What is behind `romd` and `ramd` is a device, and may notice being read.
pub(crate) fn runs(mtree: &str) -> Option<Vec<Run>> {
    let mut lines = mtree.lines().map(str::trim);
    // The names of the address spaces come first, then what all of them see.
    lines.find(|line| {
        let name = line.strip_prefix("AS \"memory\"");
        name.is_some_and(|rest| rest.starts_with(','))
    })?;
    let view = lines.take_while(|line| !line.is_empty() && !line.starts_with("FlatView"));
    let mut runs: Vec<Run> = Vec::new();
    for line in view {
        let Some((run, kind)) = range(line) else {
            continue;
        };
        if !matches!(kind.strip_prefix("nv-").unwrap_or(kind), "ram" | "rom") {
            continue;
        }
        let free = runs.last().is_none_or(|before| before.last < run.gpa);
        if !free || run.last < run.gpa {
            return None;
        }
        runs.push(run);
    }
    Some(runs)
}

/// `START-LAST (prio N, KIND): NAME…`; the kind may be followed by a comma and
/// the accelerator that knows of it.
fn range(line: &str) -> Option<(Run, &str)> {
    let (addresses, rest) = line.split_once(" (prio ")?;
    let (first, last) = addresses.split_once('-')?;
    let address = |text: &str| u64::from_str_radix(text.trim(), 16).ok().map(Gpa::new);
    let run = Run {
        gpa: address(first)?,
        last: address(last)?,
    };
    let (_priority, rest) = rest.split_once(',')?;
    let (kinds, _name) = rest.split_once(')')?;
    Some((run, kinds.split(',').next()?.trim()))
}

/// The host address in the answer to `gpa2hva`: `Host virtual address for
/// 0x… (NAME) is 0x…`; `None` if it says that there is none.
pub(crate) fn host_address(answer: &str) -> Option<u64> {
    let (said, address) = answer.trim().rsplit_once(" is ")?;
    if !said.starts_with("Host virtual address") {
        return None;
    }
    u64::from_str_radix(address.trim().strip_prefix("0x")?, 16).ok()
}

/// The root tables in `info registers -a` of x86 CPUs, each once, in the CPUs'
/// order.
pub(crate) fn roots(registers: &str) -> Vec<Gpa> {
    /// The bits of CR3 that are an address.
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    /// With page-table isolation a process's own table is the second of two
    /// pages, the kernel's the first.
    const USER_TABLE: u64 = 1 << 12;
    let mut roots = Vec::new();
    let values = registers
        .split_whitespace()
        .filter_map(|word| u64::from_str_radix(word.strip_prefix("CR3=")?, 16).ok());
    for value in values {
        let root = value & ADDRESS;
        for root in [root, root & !USER_TABLE].map(Gpa::new) {
            // Before paging is on it is 0.
            if root.get() != 0 && !roots.contains(&root) {
                roots.push(root);
            }
        }
    }
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    const Q35: &str = "\
FlatView #0\r
 AS \"I/O\", root: io\r
 Root memory region: io\r
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan\r
\r
FlatView #1\r
 AS \"memory-region\", root: x\r
 Root memory region: x\r
  0000000000000000-00000000ffffffff (prio 0, ram): not this one\r
\r
FlatView #2\r
 AS \"memory\", root: system\r
 AS \"cpu-memory-0\", root: system\r
 Root memory region: system\r
";

    fn check(view: &str, expected: &[(u64, u64)]) {
        let after = "\r\nFlatView #3\r\n AS \"cpu-smm-0\", root: memory\r\n  \
                     0000000000000000-00000000000c2fff (prio 0, ram): pc.ram\r\n";
        let runs = runs(&format!("{Q35}{view}{after}")).unwrap();
        let runs: Vec<_> = runs
            .iter()
            .map(|run| (run.gpa.get(), run.last.get()))
            .collect();
        assert_eq!(runs, expected, "{view}");
    }

    #[test]
    fn memory_is_told_from_devices() {
        check(
            "  0000000000000000-000000000009ffff (prio 0, ram): pc.ram\r
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem\r
  00000000000c0000-00000000000e7fff (prio 0, rom): pc.ram @00000000000c0000\r
  0000000000100000-000000007fffffff (prio 0, ram): pc.ram @0000000000100000 KVM\r
  00000000c0000000-00000000c0ffffff (prio 0, ramd): 0000:00:02.0 BAR 0 mmaps[0]\r
  00000000ff800000-00000000ff9fffff (prio 0, romd): system.flash1\r
  0000000100000000-000000017fffffff (prio 0, nv-ram): /objects/nv (a name)\r
",
            &[
                (0, 0x9_ffff),
                (0xc_0000, 0xe_7fff),
                (0x10_0000, 0x7fff_ffff),
                (0x1_0000_0000, 0x1_7fff_ffff),
            ],
        );
        check(
            "    0000000000000000-0000000000000fff (prio -1, ram, KVM): mach-virt.ram\n  \
             fffffffffffff000-ffffffffffffffff (prio 0, nv-rom, KVM): x\n",
            &[(0, 0xfff), (u64::MAX - 0xfff, u64::MAX)],
        );
        check("  No rendered FlatView\r\n", &[]);
    }

    #[test]
    fn contradictions_are_no_layout() {
        let check = |view: &str| assert_eq!(runs(&format!("{Q35}{view}")), None, "{view}");
        check("  0000-1fff (prio 0, ram): a\n  1000-2fff (prio 0, ram): b\n");
        check("  2000-1fff (prio 0, ram): a\n");
        assert_eq!(runs("unknown command: 'info mtree -f'\r\n"), None);
    }

    #[test]
    fn host_addresses_are_read() {
        let check = |answer: &str, expected| assert_eq!(host_address(answer), expected);
        let said = "Host virtual address for 0x1000 (a is b) is 0x7f059fe01000\r\n";
        check(said, Some(0x7f05_9fe0_1000));
        check("No memory is mapped at address 0x23fffffff\r\n", None);
        check("Memory at address 0xfee00000 is not RAM\r\n", None);
        check("", None);
    }

    #[test]
    fn root_tables_are_read_once_each() {
        let registers = "\r\nCPU#0\r\nCR0=80050033 CR2=00007f3c CR3=0000000002a11805 CR4=000006f0\r\n\
                         CPU#1\r\nCR0=00000010 CR2=00000000 CR3=00000000 CR4=00000000\r\n\
                         CPU#2\r\nCR3=8000000002a10000 CR3=no CR3=\r\n";
        let expected = [0x2a1_1000, 0x2a1_0000].map(Gpa::new);
        assert_eq!(roots(registers), expected);
        assert_eq!(roots("x0=0000000000000000 ttbr=1\n"), []);
    }
}
