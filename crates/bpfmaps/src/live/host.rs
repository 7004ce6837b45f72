//! What the running kernel says of itself.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};

use guestmem::{Address, Gpa};
use nix::errno::Errno;
use nix::sys::sysinfo::sysinfo;
use nix::sys::utsname::uname;
use nix::unistd::{SysconfVar, sysconf};

use crate::{Arch, Cpus, Error, KernelInfo};

const POSSIBLE_CPUS: &str = "/sys/devices/system/cpu/possible";

/// The running kernel.
pub(super) fn kernel() -> Result<KernelInfo, Error> {
    let failed = |operation| move |source| Error::System { operation, source };
    // The kernel that runs this program runs programs of its architecture.
    let arch = match std::env::consts::ARCH {
        "x86_64" => Arch::X86_64,
        "aarch64" => Arch::Arm64,
        machine => return Err(Error::Machine { machine }),
    };
    let names = uname()
        .map_err(io::Error::from)
        .map_err(failed("uname(2)"))?;
    let page_size = sysconf(SysconfVar::PAGE_SIZE)
        .and_then(|size| size.ok_or(Errno::EINVAL))
        .map_err(io::Error::from)
        .map_err(failed("sysconf(_SC_PAGESIZE)"))?;
    let possible_cpus = fs::read_to_string(POSSIBLE_CPUS)
        .and_then(|list| cpu_list(&list).ok_or_else(|| io::ErrorKind::InvalidData.into()))
        .map_err(failed("reading /sys/devices/system/cpu/possible"))?;
    Ok(KernelInfo {
        release: names.release().to_string_lossy().into_owned(),
        arch,
        page_size: page_size.unsigned_abs(),
        paging_levels: match arch {
            Arch::X86_64 => File::open("/proc/cpuinfo")
                .ok()
                .and_then(|file| levels(BufReader::new(file))),
            Arch::Arm64 => None,
        },
        possible_cpus,
    })
}

/// Bytes of memory that the kernel has.
pub(super) fn memory_size() -> Result<u64, Errno> {
    Ok(sysinfo()?.ram_total())
}

/// Behind the last byte of memory as the machine numbers it; more than any
/// machine has where `/proc/iomem` does not show it.
pub(super) fn physical_end() -> u64 {
    let iomem = fs::read_to_string("/proc/iomem").unwrap_or_default();
    last_ram(&iomem).map_or(u64::MAX, |last| last.saturating_add(1))
}

fn last_ram(iomem: &str) -> Option<u64> {
    iomem
        .lines()
        .filter_map(|line| line.strip_suffix(" : System RAM")?.split_once('-'))
        .filter_map(|(_, last)| u64::from_str_radix(last, 16).ok())
        .max()
        // Without the right to see them, all addresses are zeros.
        .filter(|&last| last > 0)
}

/// Where the kernel keeps its note on how to read its memory.
pub(super) fn vmcoreinfo() -> Option<Gpa> {
    let text = fs::read_to_string("/sys/kernel/vmcoreinfo").ok()?;
    let address = text.split_whitespace().next()?.strip_prefix("0x")?;
    let address = u64::from_str_radix(address, 16).ok()?;
    (address != 0).then_some(Gpa::new(address))
}

/// The levels of an x86-64 kernel by `/proc/cpuinfo`. A kernel that runs with
/// four levels takes `la57` off the flags, whatever the CPU can do
/// (`early_identify_cpu()` in arch/x86/kernel/cpu/common.c).
fn levels(cpuinfo: impl BufRead) -> Option<u8> {
    let flags = cpuinfo
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("flags"))?;
    let five = flags.split_whitespace().any(|flag| flag == "la57");
    Some(if five { 5 } else { 4 })
}

/// A CPU list as the kernel prints it, such as `0-3,8`.
fn cpu_list(text: &str) -> Option<Cpus> {
    let mut cpus: Vec<u32> = Vec::new();
    for range in text.trim_end().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        let ascending = cpus.last().is_none_or(|&before| before < first);
        if !ascending || last < first {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(Cpus(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_may_have_holes() {
        let check = |text, cpus: Option<&[u32]>| {
            assert_eq!(
                cpu_list(text),
                cpus.map(|cpus| Cpus(cpus.to_vec())),
                "{text:?}"
            );
        };
        check("0\n", Some(&[0]));
        check("0-3,8\n", Some(&[0, 1, 2, 3, 8]));
        check("0,2-3\n", Some(&[0, 2, 3]));
        check("\n", None);
        check("3-1\n", None);
        check("0-2,2\n", None);
        check("0-\n", None);
    }

    #[test]
    fn memory_ends_behind_the_last_of_it() {
        let check = |text, expected| assert_eq!(last_ram(text), expected, "{text:?}");
        check("", None);
        check("00000000-00000000 : System RAM\n", None);
        check(
            "00001000-0009fbff : System RAM\n100000000-63fffffff : System RAM\n  \
             2000000-3000000 : Kernel code\n7000000000-7fffffffff : PCI Bus\n",
            Some(0x6_3fff_ffff),
        );
    }

    #[test]
    fn levels_are_the_flag_that_the_kernel_leaves() {
        let check = |text: &str, expected| assert_eq!(levels(text.as_bytes()), expected);
        check(
            "processor\t: 0\nflags\t\t: fpu lm la57 \nflags\t: fpu\n",
            Some(5),
        );
        check("processor\t: 0\nflags\t\t: fpu lm la57x\n", Some(4));
        check("processor\t: 0\nFeatures\t: fp asimd\n", None);
    }
}
