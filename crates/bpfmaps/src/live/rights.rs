//! Why the kernel refuses to have its memory read.

use std::fs;

use nix::errno::Errno;

use crate::NoMemory;

const CAP_SYS_ADMIN: u64 = 1 << 21;
const CAP_PERFMON: u64 = 1 << 38;
const CAP_BPF: u64 = 1 << 39;

/// What the kernel's answer `errno` to `operation` says. A verifier that finds
/// a helper forbidden says no more than `EINVAL`, for whatever reason.
pub(super) fn refusal(operation: &'static str, errno: Errno) -> NoMemory {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    explain(operation, errno, &status, &lockdown)
}

fn explain(operation: &'static str, errno: Errno, status: &str, lockdown: &str) -> NoMemory {
    if errno == Errno::EPERM || lacks_rights(status) {
        NoMemory::NotPermitted {
            operation,
            needs: "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN",
        }
    } else if lockdown.contains("[confidentiality]") {
        NoMemory::LockedDown
    } else {
        NoMemory::Refused { operation, errno }
    }
}

/// Whether a thread with this `/proc/PID/status` lacks what reading takes.
fn lacks_rights(status: &str) -> bool {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    effective.is_some_and(|set| {
        let both = CAP_BPF | CAP_PERFMON;
        set & CAP_SYS_ADMIN == 0 && set & both != both
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_what_would_help() {
        let check = |errno, caps: u64, lockdown, expected: &str| {
            let status = format!("Name:\tx\nCapEff:\t{caps:016x}\n");
            let why = explain("BPF_PROG_LOAD", errno, &status, lockdown);
            assert_eq!(why.to_string(), expected);
        };
        let rights = "BPF_PROG_LOAD needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN";
        check(Errno::EPERM, 0, "", rights);
        check(Errno::EINVAL, CAP_BPF, "", rights);
        let both = CAP_BPF | CAP_PERFMON;
        let einval = "BPF_PROG_LOAD: EINVAL: Invalid argument";
        check(
            Errno::EINVAL,
            both,
            "[none] integrity confidentiality\n",
            einval,
        );
        check(Errno::EINVAL, CAP_SYS_ADMIN, "", einval);
        let locked = "the kernel is locked down for confidentiality";
        check(
            Errno::EINVAL,
            both,
            "none integrity [confidentiality]\n",
            locked,
        );
    }
}
