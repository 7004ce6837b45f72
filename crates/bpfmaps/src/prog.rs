//! BPF programs, as far as they explain maps.

use std::fmt;

use btf_layout::{Btf, Type, TypeId};
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
    /// `BPF_PROG_TYPE_CGROUP_SKB`.
    pub const CGROUP_SKB: Self = Self(8);
    /// `BPF_PROG_TYPE_STRUCT_OPS`.
    pub const STRUCT_OPS: Self = Self(27);

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

/// The names of `enum bpf_attach_type` as bpftool has them, by number.
const ATTACH_NAMES: &[&str] = &[
    "cgroup_inet_ingress",
    "cgroup_inet_egress",
    "cgroup_inet_sock_create",
    "cgroup_sock_ops",
    "sk_skb_stream_parser",
    "sk_skb_stream_verdict",
    "cgroup_device",
    "sk_msg_verdict",
    "cgroup_inet4_bind",
    "cgroup_inet6_bind",
    "cgroup_inet4_connect",
    "cgroup_inet6_connect",
    "cgroup_inet4_post_bind",
    "cgroup_inet6_post_bind",
    "cgroup_udp4_sendmsg",
    "cgroup_udp6_sendmsg",
    "lirc_mode2",
    "flow_dissector",
    "cgroup_sysctl",
    "cgroup_udp4_recvmsg",
    "cgroup_udp6_recvmsg",
    "cgroup_getsockopt",
    "cgroup_setsockopt",
    "trace_raw_tp",
    "trace_fentry",
    "trace_fexit",
    "modify_return",
    "lsm_mac",
    "trace_iter",
    "cgroup_inet4_getpeername",
    "cgroup_inet6_getpeername",
    "cgroup_inet4_getsockname",
    "cgroup_inet6_getsockname",
    "xdp_devmap",
    "cgroup_inet_sock_release",
    "xdp_cpumap",
    "sk_lookup",
    "xdp",
    "sk_skb_verdict",
    "sk_reuseport_select",
    "sk_reuseport_select_or_migrate",
    "perf_event",
    "trace_kprobe_multi",
    "lsm_cgroup",
    "struct_ops",
    "netfilter",
    "tcx_ingress",
    "tcx_egress",
    "trace_uprobe_multi",
    "cgroup_unix_connect",
    "cgroup_unix_sendmsg",
    "cgroup_unix_recvmsg",
    "cgroup_unix_getpeername",
    "cgroup_unix_getsockname",
    "netkit_primary",
    "netkit_peer",
    "trace_kprobe_session",
    "trace_uprobe_session",
    "trace_fsession",
    "trace_fentry_multi",
    "trace_fexit_multi",
    "trace_fsession_multi",
];

/// What precedes a tracepoint's name in the name of its type.
const TRACEPOINT_TYPE: &str = "btf_trace_";

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
    /// How many instructions it has, subprograms included, after the
    /// verifier's rewriting.
    pub insns: Option<u32>,
    /// Bytes of its machine code, subprograms included; 0 for a program that
    /// is interpreted.
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
    /// it, or `type N`; `None` for types of program that have none, and where
    /// it is not known: bpf(2) does not tell it.
    pub attach_type: Option<String>,
    /// The function of the kernel or of a program that it traces or replaces,
    /// or the tracepoint.
    pub function: Option<String>,
    /// The struct of the kernel that it is a function of (`struct_ops`), and
    /// the member behind a dot, where known: `tcp_congestion_ops.init`.
    pub struct_ops: Option<String>,
}

impl Attach {
    /// What a program of `prog_type` with this `expected_attach_type` may be
    /// attached to. Most types have 0 for none; for some it is the number of
    /// a member, or the first of several.
    pub(crate) fn type_name(prog_type: ProgType, number: u32) -> Option<String> {
        match (prog_type, number) {
            (ProgType::STRUCT_OPS, _) => return None,
            (ProgType::CGROUP_SKB, 0) => {}
            (_, 0) => return None,
            _ => {}
        }
        let known = usize::try_from(number).ok();
        let known = known.and_then(|number| ATTACH_NAMES.get(number));
        Some(known.map_or_else(|| format!("type {number}"), ToString::to_string))
    }

    /// Notes that the program was loaded for the type `target` of `btf`
    /// (`attach_btf_id`): a function, a tracepoint's type, or the struct that
    /// it is the `member`th function of, counted from 0.
    ///
    /// # Errors
    ///
    /// Malformed BTF.
    pub(crate) fn note_target(
        &mut self,
        btf: &Btf,
        target: TypeId,
        member: Option<u32>,
    ) -> Result<(), btf_layout::Error> {
        match btf.get(target)? {
            Type::Func { name, .. } => self.function = Some(name.to_owned()),
            Type::Typedef { name, .. } => {
                let name = name.strip_prefix(TRACEPOINT_TYPE).unwrap_or(name);
                self.function = Some(name.to_owned());
            }
            Type::Record { name, members, .. } => {
                let index = member.and_then(|member| usize::try_from(member).ok());
                let member = index.and_then(|index| { members }.nth(index)).transpose()?;
                self.struct_ops = Some(match member {
                    Some(member) => format!("{name}.{}", member.name),
                    None => name.to_owned(),
                });
            }
            _ => {}
        }
        Ok(())
    }
}

/// The name of a function of a program (`bpf_func_info.type_id`) in the
/// program's BTF.
///
/// # Errors
///
/// Malformed BTF.
pub(crate) fn function_name(btf: &Btf, id: TypeId) -> Result<Option<String>, btf_layout::Error> {
    match btf.get(id)? {
        Type::Func { name, .. } => Ok(Some(name.to_owned())),
        _ => Ok(None),
    }
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
    fn attach_types_have_names_where_a_program_has_one() {
        for (prog_type, number, expected) in [
            (26, 24, Some("trace_fentry")),
            (8, 0, Some("cgroup_inet_ingress")),
            (6, 37, Some("xdp")),
            (6, 0, None),
            (27, 3, None),
            (26, 61, Some("trace_fsession_multi")),
            (26, 62, Some("type 62")),
        ] {
            let found = Attach::type_name(ProgType(prog_type), number);
            assert_eq!(found.as_deref(), expected, "{prog_type} {number}");
        }
    }

    #[test]
    fn types_print_by_name_or_number() {
        assert_eq!(ProgType(6).to_string(), "xdp");
        assert_eq!(ProgType(31).to_string(), "syscall");
        assert_eq!(ProgType(99).to_string(), "type 99");
    }
}
