//! Which maps `--map` means.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bpfmaps::MapInfo;
use freeze::Listed;

use crate::failure::Refusal;

/// Bytes of a map's name that the kernel keeps (`BPF_OBJ_NAME_LEN` less its
/// NUL).
const NAME_LEN: usize = 15;

/// Leaves those of `maps` that `wanted` names; all without `wanted`.
pub(crate) fn select(maps: &mut Vec<MapInfo>, wanted: &[String], source: &str) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut chosen = BTreeSet::new();
    for text in wanted {
        let found = find(maps, text);
        if found.is_empty() {
            return Err(unknown(maps, text, source).into());
        }
        chosen.extend(found);
    }
    maps.retain(|map| chosen.contains(&map.id));
    Ok(())
}

/// The id `text` if a map has it, else the ids of the maps of that name.
fn find(maps: &[MapInfo], text: &str) -> Vec<u32> {
    if let Ok(id) = text.parse()
        && maps.iter().any(|map| map.id == id)
    {
        return vec![id];
    }
    let kept = text.as_bytes().get(..NAME_LEN).unwrap_or(text.as_bytes());
    let named = maps.iter().filter(|map| map.name.as_bytes() == kept);
    named.map(|map| map.id).collect()
}

fn unknown(maps: &[MapInfo], text: &str, source: &str) -> Refusal {
    let what = match text.parse::<u32>() {
        Ok(id) => format!("{source} has no map with id {id}"),
        Err(_) => format!("{source} has no map named `{text}`"),
    };
    if maps.is_empty() {
        return Refusal::new(what, "it has no maps at all");
    }
    let mut ids: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for map in maps {
        ids.entry(&map.name).or_default().push(map.id.to_string());
    }
    let Listed { names, more } = Listed::nearest(text, ids.keys().map(ToString::to_string));
    let listed = names.iter().map(|name| {
        let ids = ids
            .get(name.as_str())
            .map_or(String::new(), |ids| ids.join(", "));
        match name.as_str() {
            "" => format!("nameless ones ({ids})"),
            name => format!("{name} ({ids})"),
        }
    });
    let listed: Vec<_> = listed.collect();
    let more = match more {
        0 => String::new(),
        more => format!(" and {more} more: see `bpfreeze maps {source}`"),
    };
    Refusal::new(what, format!("there are {}{more}", listed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(id: u32, name: &str) -> MapInfo {
        MapInfo {
            id,
            name: name.to_owned(),
            ..MapInfo::default()
        }
    }

    fn maps() -> Vec<MapInfo> {
        vec![
            map(2, "stats"),
            map(5, "task_storage_ma"),
            map(7, "stats"),
            map(9, "5"),
            map(11, "bpf_bpf.bss"),
        ]
    }

    #[test]
    fn ids_come_before_names_and_names_mean_all_of_that_name() {
        let check = |wanted: &[&str], expected: &[u32]| {
            let wanted: Vec<_> = wanted.iter().map(|&text| text.to_owned()).collect();
            let mut maps = maps();
            select(&mut maps, &wanted, "vm").unwrap();
            let ids: Vec<_> = maps.iter().map(|map| map.id).collect();
            assert_eq!(ids, expected, "{wanted:?}");
        };
        check(&[], &[2, 5, 7, 9, 11]);
        check(&["stats"], &[2, 7]);
        check(&["7", "2", "stats"], &[2, 7]);
        check(&["5"], &[5]);
        check(&["task_storage_map"], &[5]);
    }

    #[test]
    fn an_unknown_map_lists_the_nearest_first() {
        let check = |text: &str, expected: &str| {
            let error = select(&mut maps(), &[text.to_owned()], "vm").unwrap_err();
            let hint = error.downcast_ref::<Refusal>().unwrap().hint();
            assert_eq!(format!("{error}; {hint}"), expected);
        };
        check(
            "stast",
            "vm has no map named `stast`; there are stats (2, 7), 5 (9), bpf_bpf.bss (11), \
             task_storage_ma (5)",
        );
        check(
            ".bss",
            "vm has no map named `.bss`; there are bpf_bpf.bss (11), 5 (9), stats (2, 7), \
             task_storage_ma (5)",
        );
        check(
            "77",
            "vm has no map with id 77; there are 5 (9), bpf_bpf.bss (11), stats (2, 7), \
             task_storage_ma (5)",
        );
    }
}
