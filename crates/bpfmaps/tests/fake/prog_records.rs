//! The structs of programs and of special fields in the made-up kernel.

use super::table::Table;
use super::table::Ty::{Bytes, Word};

/// Offsets differ from those of all real kernels.
pub(crate) const PROG_RECORDS: &[Table] = &[
    (
        "bpf_prog_aux",
        192,
        &[
            ("id", 20, Word(4)),
            ("used_map_cnt", 24, Word(4)),
            ("func_cnt", 28, Word(4)),
            ("name", 32, Bytes(16)),
            ("used_maps", 48, Word(8)),
            ("func", 56, Word(8)),
            ("attach_btf_id", 64, Word(4)),
            ("verified_insns", 68, Word(4)),
            ("attach_btf", 72, Word(8)),
            ("attach_func_name", 80, Word(8)),
            ("dst_prog", 88, Word(8)),
            ("user", 96, Word(8)),
            ("load_time", 104, Word(8)),
            ("btf", 112, Word(8)),
            ("func_info", 120, Word(8)),
            ("func_info_cnt", 184, Word(4)),
        ],
    ),
    (
        "bpf_prog",
        80,
        &[
            ("gpl_compatible", 4, Word(2)),
            ("type", 12, Word(4)),
            ("expected_attach_type", 16, Word(4)),
            ("aux", 24, Word(8)),
            ("len", 36, Word(4)),
            ("jited_len", 40, Word(4)),
            ("tag", 48, Bytes(8)),
            ("stats", 64, Word(8)),
            ("insnsi", 80, Bytes(0)),
        ],
    ),
    (
        "bpf_prog_stats",
        40,
        &[
            ("misses", 0, Word(8)),
            ("cnt", 8, Word(8)),
            ("nsecs", 24, Word(8)),
        ],
    ),
    ("user_struct", 24, &[("uid", 12, Word(4))]),
    (
        "bpf_func_info",
        12,
        &[("insn_off", 4, Word(4)), ("type_id", 8, Word(4))],
    ),
    (
        "list_head",
        16,
        &[("prev", 0, Word(8)), ("next", 8, Word(8))],
    ),
    ("bpf_list_node_kern", 24, &[("owner", 16, Word(8))]),
    (
        "rb_node",
        24,
        &[
            ("rb_left", 0, Word(8)),
            ("__rb_parent_color", 8, Word(8)),
            ("rb_right", 16, Word(8)),
        ],
    ),
    ("bpf_rb_node_kern", 32, &[("owner", 24, Word(8))]),
    ("rb_root_cached", 16, &[("rb_root.rb_node", 8, Word(8))]),
    (
        "bpf_async_kern",
        16,
        &[("timer", 8, Word(8)), ("work", 8, Word(8))],
    ),
    ("bpf_timer_kern", 16, &[("timer", 8, Word(8))]),
    (
        "bpf_hrtimer",
        96,
        &[
            ("cb", 8, Bytes(32)),
            ("cb.prog", 16, Word(8)),
            ("cb.callback_fn", 24, Word(8)),
            ("prog", 16, Word(8)),
            ("callback_fn", 24, Word(8)),
            ("timer", 48, Bytes(48)),
            ("timer.base", 56, Word(8)),
            ("timer.node.expires", 64, Word(8)),
            ("timer.is_queued", 80, Word(1)),
            ("timer.state", 80, Word(1)),
        ],
    ),
    ("hrtimer_clock_base", 24, &[("clockid", 20, Word(4))]),
    (
        "bpf_work",
        64,
        &[
            ("cb", 8, Bytes(32)),
            ("cb.callback_fn", 16, Word(8)),
            ("cb.prog", 24, Word(8)),
            ("work", 48, Bytes(16)),
            ("work.data", 56, Word(8)),
        ],
    ),
    ("bpf_task_work_kern", 8, &[("ctx", 0, Word(8))]),
    (
        "bpf_task_work_ctx",
        48,
        &[
            ("callback_fn", 8, Word(8)),
            ("state", 20, Word(4)),
            ("task", 24, Word(8)),
            ("prog", 40, Word(8)),
        ],
    ),
];
