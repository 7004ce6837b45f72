//! Programs.

use bpfmaps::{Attach, ProgInfo, ProgType};
use guestmem::Kva;

use super::text;

/// Programs: one that says all there is to say, and one that says nothing.
pub(super) fn progs() -> Vec<ProgInfo> {
    let named = |id, name: &str, map_ids: &[u32]| ProgInfo {
        id,
        name: name.to_owned(),
        map_ids: map_ids.to_vec(),
        ..ProgInfo::default()
    };
    vec![
        ProgInfo {
            full_name: text("tail_of_a_longer_name"),
            prog_type: ProgType(26),
            tag: [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77],
            gpl: true,
            attach: Attach {
                attach_type: text("trace_fentry"),
                function: text("tcp_connect"),
                struct_ops: None,
            },
            runs: Some((1000, 1_234_567)),
            recursion_misses: Some(1),
            verified_insns: Some(99),
            insns: Some(12),
            jited_bytes: Some(160),
            loaded_ns: Some(5_000_000_000),
            uid: Some(0),
            btf_id: Some(4),
            kva: Some(Kva::at(0xffff_c900_0000_0000)),
            ..named(5, "tail_of_a_longe", &[10, 1, 2, 3, 4, 5, 6, 7, 11, 12])
        },
        named(6, "jump", &[10, 11]),
        ProgInfo {
            prog_type: ProgType(27),
            attach: Attach {
                struct_ops: text("tcp_congestion_ops.init"),
                ..Attach::default()
            },
            ..named(12, "my_init", &[10])
        },
    ]
}
