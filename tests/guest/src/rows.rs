//! The rows of `bpfreeze maps` against bpftool's and against what was made.

use std::collections::BTreeSet;

use crate::checks::{about, agree};
use crate::documents::{About, ToolKind, ToolMap, TruthMap};
use crate::guest::Guest;
use crate::witnesses::{Backend, bpftool_maps, by_id, truth};

/// What some kernels count of a hash for each possible CPU, in bytes: locks that it has no more.
/// The locks went with 6.15 (4fa8d68aa53e), the counting before 7.1; no structure tells the
/// kernels in between from others.
const LOCKS_OF_A_HASH: u64 = 32;

/// The kinds of map whose memory is reckoned from an image.
const HASHES: [&str; 4] = ["hash", "lru_hash", "percpu_hash", "lru_percpu_hash"];
const ARRAYS: [&str; 2] = ["array", "percpu_array"];

/// The rows against both witnesses.
pub(crate) fn are_true(guest: &Guest, backend: Backend) {
    let (cpus, truth) = truth(guest);
    let tool = bpftool_maps(guest);
    let maps = by_id(backend.maps(guest), |map| map.id);
    let ids = |ids: Vec<&u32>| -> Vec<u32> { ids.into_iter().copied().collect() };
    let ours = ids(maps.keys().collect());
    assert_eq!(ours, ids(tool.keys().collect()), "ids, by bpftool");
    assert_eq!(ours, ids(truth.keys().collect()), "ids, by the maker");
    let mut lines = Vec::new();
    let mut of_locks = BTreeSet::new();
    let mut last_btf = None;
    for (id, map) in &maps {
        let (told, made) = (&tool[id], &truth[id]);
        let mut by_tool = by_tool(map, told);
        if backend == Backend::Guest && HASHES.contains(&map.kind.as_str()) {
            of_locks.insert(uncounted(map, &by_tool));
            by_tool.memory = map.memory;
        } else if backend == Backend::Guest && !ARRAYS.contains(&map.kind.as_str()) {
            // What is not reckoned is absent; what is reckoned is right.
            by_tool.memory = by_tool.memory.filter(|_| map.memory.is_some());
        }
        // Since 6.18, bpf(2) leaves the field as it was for maps without types, and bpftool
        // shows again what it had from the map before.
        if map.btf_id.is_none() && !made.btf && told.btf_id == last_btf {
            by_tool.btf_id = None;
        }
        last_btf = told.btf_id;
        let mut differ = |who: &str, other: &About| {
            if map != other {
                lines.extend(about(map, [format!("{map:?}, {who}: {other:?}")]));
            }
        };
        differ("bpftool", &by_tool);
        differ("the map maker", &by_maker(map, made));
        if map.btf_id.is_some() != made.btf {
            lines.extend(about(map, [format!("types: {:?}", map.btf_id)]));
        }
    }
    agree(lines);
    // All hashes of a kernel are counted alike.
    let locks = i128::from(LOCKS_OF_A_HASH) * i128::try_from(cpus).expect("a count of CPUs");
    let alike = [vec![], vec![Some(0)], vec![Some(locks)]];
    let of_locks: Vec<_> = of_locks.into_iter().collect();
    assert!(
        alike.contains(&of_locks),
        "memory of hashes: off by {of_locks:?}"
    );
}

/// How much more memory bpftool tells.
fn uncounted(map: &About, by_tool: &About) -> Option<i128> {
    Some(i128::from(by_tool.memory?) - i128::from(map.memory?))
}

fn by_tool(map: &About, told: &ToolMap) -> About {
    About {
        id: told.id,
        name: told.name.clone(),
        kind: match &told.kind {
            ToolKind::Name(name) => name.clone(),
            ToolKind::Number(_) => map.kind.clone(),
        },
        type_id: match told.kind {
            ToolKind::Name(_) => map.type_id,
            ToolKind::Number(number) => number,
        },
        key_size: told.bytes_key,
        value_size: told.bytes_value,
        max_entries: told.max_entries,
        flags: told.flags,
        btf_id: told.btf_id,
        frozen: told.frozen != 0,
        memory: told.bytes_memlock,
    }
}

fn by_maker(map: &About, made: &TruthMap) -> About {
    About {
        id: made.id,
        name: made.name.clone(),
        kind: made.kind.clone(),
        type_id: map.type_id,
        key_size: made.key_size,
        value_size: u32::try_from(made.value_size).expect("a value's size"),
        max_entries: made.max_entries,
        flags: made.flags,
        btf_id: map.btf_id,
        frozen: made.frozen,
        memory: map.memory,
    }
}
