//! The structs behind slots and storages in the made-up kernel.

use super::table::Table;
use super::table::Ty::{Bytes, To, Word};

/// Members that have another name in newer kernels: the new one is there where
/// the old one is missing.
pub(crate) const RENAMED: &[(&str, &str)] = &[
    ("kernfs_node.parent", "kernfs_node.__parent"),
    ("dentry.d_u.d_alias", "dentry.d_alias"),
    ("bpf_hrtimer.timer.is_queued", "bpf_hrtimer.timer.state"),
    ("bpf_hrtimer.cb.prog", "bpf_hrtimer.prog"),
    ("bpf_hrtimer.cb.callback_fn", "bpf_hrtimer.callback_fn"),
];

/// Each struct stands behind those that it points at. Offsets differ from
/// those of all real kernels.
pub(crate) const RECORDS: &[Table] = &[
    (
        "task_struct",
        96,
        &[
            ("tgid", 8, Word(4)),
            ("comm", 16, Bytes(16)),
            ("pid", 80, Word(4)),
        ],
    ),
    (
        "inode",
        64,
        &[
            ("i_sb", 8, Word(8)),
            ("i_ino", 24, Word(8)),
            ("i_dentry.first", 40, Word(8)),
        ],
    ),
    (
        "super_block",
        96,
        &[
            ("s_root", 8, Word(8)),
            ("s_type", 16, Word(8)),
            ("s_id", 40, Bytes(32)),
        ],
    ),
    ("file_system_type", 24, &[("name", 16, Word(8))]),
    (
        "dentry",
        96,
        &[
            ("d_hash.pprev", 8, Word(8)),
            ("d_parent", 24, Word(8)),
            ("d_name.len", 36, Word(4)),
            ("d_name.name", 40, Word(8)),
            ("d_u.d_alias", 64, Bytes(16)),
            ("d_alias", 72, Bytes(16)),
        ],
    ),
    (
        "kernfs_node",
        72,
        &[
            ("parent", 16, Word(8)),
            ("__parent", 64, Word(8)),
            ("name", 32, Word(8)),
            ("id", 40, Word(8)),
            ("priv", 56, Word(8)),
        ],
    ),
    (
        "cgroup",
        128,
        &[
            ("self.flags", 12, Word(4)),
            ("kn", 24, Word(8)),
            ("bpf.storages", 88, Bytes(16)),
        ],
    ),
    (
        "net_device",
        48,
        &[("name", 8, Bytes(16)), ("ifindex", 32, Word(4))],
    ),
    (
        "perf_event",
        96,
        &[
            ("cpu", 4, Word(4)),
            ("pmu", 8, Word(8)),
            ("attr.type", 16, Word(4)),
            ("attr.config", 24, Word(8)),
            ("hw.target", 72, Word(8)),
        ],
    ),
    ("pmu", 24, &[("name", 16, Word(8))]),
    ("bpf_event_entry", 24, &[("event", 8, Word(8))]),
    (
        "sock",
        128,
        &[
            ("__sk_common.skc_rcv_saddr", 8, Bytes(4)),
            ("__sk_common.skc_daddr", 12, Bytes(4)),
            ("__sk_common.skc_family", 16, Word(2)),
            ("__sk_common.skc_state", 19, Word(1)),
            ("__sk_common.skc_dport", 20, Bytes(2)),
            ("__sk_common.skc_num", 22, Word(2)),
            ("__sk_common.skc_v6_daddr", 24, Bytes(16)),
            ("__sk_common.skc_v6_rcv_saddr", 40, Bytes(16)),
            ("__sk_common.skc_cookie", 64, Word(8)),
            ("sk_type", 100, Word(2)),
            ("sk_protocol", 104, Word(2)),
        ],
    ),
    (
        "unix_sock",
        160,
        &[("addr", 136, Word(8)), ("peer", 144, Word(8))],
    ),
    (
        "unix_address",
        16,
        &[("len", 4, Word(4)), ("name", 16, Bytes(0))],
    ),
    (
        "xdp_sock",
        160,
        &[
            ("dev", 128, Word(8)),
            ("queue_id", 142, Word(2)),
            ("state", 144, Word(4)),
        ],
    ),
    (
        "bpf_dtab_netdev",
        64,
        &[
            ("dev", 8, Word(8)),
            ("index_hlist.next", 16, Word(8)),
            ("xdp_prog", 32, Word(8)),
            ("idx", 44, Word(4)),
            ("val", 48, Bytes(8)),
        ],
    ),
    ("hlist_head", 8, &[("first", 0, Word(8))]),
    (
        "bpf_dtab",
        208,
        &[
            ("netdev_map", 168, To("bpf_dtab_netdev")),
            ("dev_index_head", 176, To("hlist_head")),
            ("n_buckets", 188, Word(4)),
        ],
    ),
    (
        "bpf_cpu_map_entry",
        48,
        &[
            ("cpu", 4, Word(4)),
            ("value", 16, Bytes(8)),
            ("value.qsize", 16, Word(4)),
            ("prog", 32, Word(8)),
        ],
    ),
    (
        "bpf_cpu_map",
        184,
        &[("cpu_map", 176, To("bpf_cpu_map_entry"))],
    ),
    ("xsk_map", 192, &[("xsk_map", 192, Bytes(0))]),
    ("bpf_stab", 184, &[("sks", 168, To("sock"))]),
    ("reuseport_array", 168, &[("ptrs", 168, Bytes(0))]),
    ("bpf_shtab_bucket", 24, &[("head.first", 8, Word(8))]),
    (
        "bpf_shtab",
        192,
        &[
            ("buckets", 168, To("bpf_shtab_bucket")),
            ("buckets_num", 180, Word(4)),
        ],
    ),
    (
        "bpf_shtab_elem",
        40,
        &[
            ("hash", 4, Word(4)),
            ("sk", 8, Word(8)),
            ("node.next", 24, Word(8)),
            ("key", 40, Bytes(0)),
        ],
    ),
    (
        "bpf_local_storage_map_bucket",
        24,
        &[("list.first", 8, Word(8))],
    ),
    (
        "bpf_local_storage_map",
        192,
        &[
            ("buckets", 168, To("bpf_local_storage_map_bucket")),
            ("bucket_log", 180, Word(4)),
        ],
    ),
    ("bpf_local_storage", 48, &[("owner", 32, Word(8))]),
    (
        "bpf_local_storage_elem",
        56,
        &[
            ("map_node.next", 8, Word(8)),
            ("local_storage", 32, Word(8)),
            ("sdata.smap", 48, Word(8)),
            ("sdata.data", 56, Bytes(0)),
        ],
    ),
    (
        "bpf_cgroup_storage_map",
        192,
        &[("list.next", 176, Word(8))],
    ),
    (
        "bpf_cgroup_storage",
        96,
        &[
            ("buf", 8, Word(8)),
            ("percpu_buf", 8, Word(8)),
            ("map", 16, Word(8)),
            ("key", 24, Bytes(16)),
            ("key.cgroup_inode_id", 24, Word(8)),
            ("list_map.next", 48, Word(8)),
            ("list_cg.next", 72, Word(8)),
        ],
    ),
    ("bpf_storage_buffer", 24, &[("data", 24, Bytes(0))]),
];
