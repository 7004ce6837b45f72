//! The inner maps of maps of maps.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::ops::ControlFlow;

use bpfmaps::{BpfMapAccessor, Entry, MapInfo, MapType, ObjectKind};

/// Puts behind each of `chosen` the maps that it refers to in its first
/// `limit` entries, each once, and says of which map they are inner ones.
/// `all` are the maps of the kernel.
pub(crate) fn add_inner(
    accessor: &dyn BpfMapAccessor,
    all: Vec<MapInfo>,
    chosen: &mut Vec<MapInfo>,
    limit: Option<u64>,
) -> BTreeMap<u32, u32> {
    let ids: BTreeSet<u32> = chosen.iter().map(|map| map.id).collect();
    let mut rest: BTreeMap<u32, MapInfo> = all
        .into_iter()
        .filter(|map| !ids.contains(&map.id))
        .map(|map| (map.id, map))
        .collect();
    let mut inner_of = BTreeMap::new();
    for outer in mem::take(chosen) {
        let (id, inner) = (outer.id, inner(accessor, &outer, limit));
        chosen.push(outer);
        for inner in inner {
            inner_of.entry(inner).or_insert(id);
            chosen.extend(rest.remove(&inner));
        }
    }
    inner_of
}

/// The maps that `outer` refers to, by ascending id. What cannot be read is
/// told when it is dumped.
fn inner(accessor: &dyn BpfMapAccessor, outer: &MapInfo, limit: Option<u64>) -> BTreeSet<u32> {
    let mut ids = BTreeSet::new();
    if !matches!(
        outer.map_type,
        MapType::ARRAY_OF_MAPS | MapType::HASH_OF_MAPS
    ) {
        return ids;
    }
    let mut left = limit.unwrap_or(u64::MAX);
    let walked = accessor.entries(outer, &mut |entry| {
        let Some(less) = left.checked_sub(1) else {
            return ControlFlow::Break(());
        };
        left = less;
        if let Entry::Slot { refers, .. } = entry
            && let ObjectKind::Map { id, .. } = refers.kind
        {
            ids.extend(id);
        }
        ControlFlow::Continue(())
    });
    drop(walked);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use bpfmaps::Object;
    use render::fake::{Fake, FakeMap};

    /// An outer map with two inner ones in three slots, which another one
    /// refers to as well, and a map that has nothing to do with them.
    fn kernel() -> Fake {
        let refers = |id| Object {
            kva: None,
            kind: ObjectKind::Map {
                id: Some(id),
                name: None,
                map_type: None,
            },
        };
        let map = |id, map_type| FakeMap::new(id, "", map_type, 4, 4);
        Fake::new(vec![
            map(1, MapType::HASH),
            map(2, MapType::ARRAY_OF_MAPS)
                .slot(0, refers(5), None)
                .slot(1, refers(3), None)
                .slot(2, refers(5), None),
            map(3, MapType::HASH),
            map(4, MapType::HASH_OF_MAPS)
                .keyed_slot(&[0; 4], refers(3), None)
                // That one is gone.
                .keyed_slot(&[1; 4], refers(9), None),
            map(5, MapType::HASH),
        ])
    }

    #[test]
    fn inner_maps_follow_their_outer_one_once() {
        let check = |chosen: &[u32], limit, expected: &[u32], of: &[(u32, u32)]| {
            let kernel = kernel();
            let all = kernel.maps().unwrap().maps;
            let mut maps = all.clone();
            maps.retain(|map| chosen.contains(&map.id));
            let inner_of = add_inner(&kernel, all, &mut maps, limit);
            let ids: Vec<_> = maps.iter().map(|map| map.id).collect();
            assert_eq!(ids, expected, "{chosen:?}");
            assert_eq!(inner_of, of.iter().copied().collect());
        };
        check(&[1], None, &[1], &[]);
        check(&[2], None, &[2, 3, 5], &[(3, 2), (5, 2)]);
        check(&[2], Some(1), &[2, 5], &[(5, 2)]);
        check(&[2, 4], None, &[2, 3, 5, 4], &[(3, 2), (5, 2), (9, 4)]);
        check(&[1, 3, 4], None, &[1, 3, 4], &[(3, 4), (9, 4)]);
    }
}
