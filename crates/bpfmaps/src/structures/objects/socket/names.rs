//! The names of the numbers in a socket.

/// Families (`AF_*` of `include/linux/socket.h`).
const FAMILIES: &[(u64, &str)] = &[
    (UNIX, "unix"),
    (INET, "inet"),
    (INET6, "inet6"),
    (15, "key"),
    (16, "netlink"),
    (17, "packet"),
    (21, "rds"),
    (29, "can"),
    (30, "tipc"),
    (31, "bluetooth"),
    (38, "alg"),
    (40, "vsock"),
    (41, "kcm"),
    (42, "qipcrtr"),
    (43, "smc"),
    (XDP, "xdp"),
    (45, "mctp"),
];

/// `AF_UNIX`.
pub(super) const UNIX: u64 = 1;

/// `AF_INET`.
pub(super) const INET: u64 = 2;

/// `AF_INET6`.
pub(super) const INET6: u64 = 10;

/// `AF_XDP`.
pub(super) const XDP: u64 = 44;

/// Types (`enum sock_type`).
const TYPES: &[(u64, &str)] = &[
    (1, "stream"),
    (2, "dgram"),
    (3, "raw"),
    (4, "rdm"),
    (5, "seqpacket"),
    (6, "dccp"),
    (10, "packet"),
];

/// Protocols of the families `inet` and `inet6` (`IPPROTO_*`).
const PROTOCOLS: &[(u64, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (TCP, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "icmpv6"),
    (115, "l2tp"),
    (132, "sctp"),
    (136, "udplite"),
    (255, "raw"),
    (256, "smc"),
    (262, "mptcp"),
];

/// `IPPROTO_TCP`.
const TCP: u64 = 6;

/// States (`TCP_*` of `include/net/tcp_states.h`).
const STATES: &[(u64, &str)] = &[
    (1, "established"),
    (2, "syn_sent"),
    (3, "syn_recv"),
    (4, "fin_wait1"),
    (5, "fin_wait2"),
    (6, "time_wait"),
    (7, "close"),
    (8, "close_wait"),
    (9, "last_ack"),
    (10, "listen"),
    (11, "closing"),
    (12, "new_syn_recv"),
];

/// The name of a number, or the number.
fn name(names: &[(u64, &str)], number: u64) -> String {
    match names.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => (*name).to_owned(),
        None => number.to_string(),
    }
}

pub(super) fn family(number: u64) -> String {
    name(FAMILIES, number)
}

pub(super) fn socket_type(number: u64) -> String {
    name(TYPES, number)
}

/// Protocols have names in the internet's families only: others number theirs
/// as they like.
pub(super) fn protocol(family: u64, number: u64) -> String {
    match family {
        INET | INET6 => name(PROTOCOLS, number),
        _ => number.to_string(),
    }
}

/// The state of a TCP connection; others have none that these names fit.
pub(super) fn state(family: u64, protocol: u64, number: u64) -> Option<String> {
    let tcp = matches!(family, INET | INET6) && protocol == TCP;
    tcp.then(|| name(STATES, number))
}
