//! BPF programs, as far as they explain maps.

use std::fmt;

use guestmem::Kva;

use crate::Walk;

/// A program's type. Numbers that this list does not know are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgType(pub u32);

/// The names of `enum bpf_prog_type` as bpftool has them, by number.
const NAMES: &[&str] = &[
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];

impl ProgType {
    /// The name that bpftool gives the type, or `None` for a number that
    /// this list does not know.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES.get(usize::try_from(self.0).ok()?).copied()
    }
}

impl fmt::Display for ProgType {
    /// The name, or `type N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("type {}", self.0)),
        }
    }
}

/// A program's description, as `bpf_prog_info` and `struct bpf_prog` have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProgInfo {
    /// The id, unique in its kernel.
    pub id: u32,
    /// The name as the kernel keeps it: up to 15 bytes, not unique.
    pub name: String,
    /// The whole name of its function, where its BTF tells it.
    pub full_name: Option<String>,
    /// The type.
    pub prog_type: ProgType,
    /// The kernel's digest of its instructions.
    pub tag: [u8; 8],
    /// Whether it may call what the kernel keeps for GPL programs.
    pub gpl: bool,
    /// What it was loaded to be attached to.
    pub attach: Attach,
    /// How often it ran, and for how long, in nanoseconds; counted while
    /// `kernel.bpf_stats_enabled` is on.
    pub runs: Option<(u64, u64)>,
    /// How often it was not run since it was running already.
    pub recursion_misses: Option<u64>,
    /// How many instructions the verifier went through.
    pub verified_insns: Option<u32>,
    /// How many instructions it has.
    pub insns: Option<u32>,
    /// Bytes of its machine code; 0 for a program that is interpreted.
    pub jited_bytes: Option<u32>,
    /// When it was loaded, in nanoseconds since boot.
    pub loaded_ns: Option<u64>,
    /// Who loaded it.
    pub uid: Option<u32>,
    /// The maps that it uses, as its instructions name them first.
    pub map_ids: Vec<u32>,
    /// Id of its BTF; `None` without BTF.
    pub btf_id: Option<u32>,
    /// Where `struct bpf_prog` is, where known.
    pub kva: Option<Kva>,
}

/// What a program was loaded to be attached to, as far as it said so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attach {
    /// The expected attach type (`enum bpf_attach_type`) as bpftool names
    /// it, or `type N`; `None` for types of program that have none.
    pub attach_type: Option<String>,
    /// The function of the kernel or of a program that it traces or
    /// replaces; for `struct_ops`, struct and member.
    pub function: Option<String>,
}

/// The programs of a kernel, and the account of looking for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progs {
    /// Every program that could be described, by ascending id.
    pub progs: Vec<ProgInfo>,
    /// What is missing from the list.
    pub walk: Walk,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_print_by_name_or_number() {
        assert_eq!(ProgType(6).to_string(), "xdp");
        assert_eq!(ProgType(31).to_string(), "syscall");
        assert_eq!(ProgType(99).to_string(), "type 99");
    }
}
