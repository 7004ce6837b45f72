//! Maps of maps.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapInfo};
use libbpf_sys::{
    BPF_F_INNER_MAP, BPF_F_NO_PREALLOC, BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS,
    BPF_MAP_TYPE_HASH, BPF_MAP_TYPE_HASH_OF_MAPS,
};
use serde_json::{Value, json};

use crate::make::Maker;
use crate::plan::Fill;
use crate::slots::id_slot;
use crate::sys::{self, MapSpec};
use crate::truth::{Told, bytes};
use crate::{fill, names, objects};

/// A map as an object of a slot.
///
/// # Errors
/// Fails if the kernel does not tell about it.
pub(crate) fn refer(map: BorrowedFd<'_>) -> Result<Value> {
    let info = MapInfo::new(map)?;
    Ok(json!({
        "kind": "map",
        "id": info.info.id,
        "name": info.name()?,
        "type": names::map_type(info.info.type_),
    }))
}

/// A map that is put into others, filled and told about, kept for its file descriptor.
fn inner(maker: &mut Maker, spec: &MapSpec<'_>, contents: Fill) -> Result<MapHandle> {
    let map = maker.create(spec)?;
    let rng = maker.rng(&format!("{}/{}", spec.name, spec.max_entries));
    let (knowledge, entries) = fill::fill(&map, contents, rng)?;
    let handle = MapHandle::from_map_id(MapInfo::new(map.as_fd())?.info.id)?;
    maker.keep(objects::Filled {
        map,
        frozen: false,
        told: Told::entries(knowledge, entries),
    })?;
    Ok(handle)
}

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    let array = MapSpec {
        kind: BPF_MAP_TYPE_ARRAY,
        name: "in_array",
        key_size: 4,
        value_size: 13,
        max_entries: 6,
        ..MapSpec::default()
    };
    let hash = MapSpec {
        kind: BPF_MAP_TYPE_HASH,
        name: "in_hash",
        key_size: 5,
        value_size: 8,
        max_entries: 40,
        ..MapSpec::default()
    };
    let few = |spec: MapSpec<'static>, name| MapSpec { name, ..spec };
    let arrays = [
        inner(maker, &array, Fill::Slots { step: 2 })?,
        inner(maker, &few(array, "in_array_too"), Fill::Slots { step: 1 })?,
    ];
    let hashes = [
        inner(maker, &hash, Fill::Keys { keep: 20, churn: 5 })?,
        // Hashes may differ in size from the model.
        inner(
            maker,
            &MapSpec {
                max_entries: 900,
                ..few(hash, "in_hash_large")
            },
            Fill::Keys {
                keep: 500,
                churn: 20,
            },
        )?,
        inner(maker, &few(hash, ""), Fill::Nothing)?,
    ];
    let sized = [
        inner(
            maker,
            &MapSpec {
                flags: BPF_F_INNER_MAP,
                ..few(array, "in_sized")
            },
            Fill::Slots { step: 3 },
        )?,
        inner(
            maker,
            &MapSpec {
                flags: BPF_F_INNER_MAP,
                max_entries: 60,
                ..few(array, "in_sized_long")
            },
            Fill::Slots { step: 7 },
        )?,
    ];
    let [array, array_too] = &arrays;
    let [hash, hash_large, hash_empty] = &hashes;
    let [short, long] = &sized;
    array_of_maps(
        maker,
        "arrays",
        7,
        &[(0, array), (2, array_too), (5, array), (6, array_too)],
    )?;
    array_of_maps(
        maker,
        "hashes",
        300,
        &[(1, hash), (256, hash_large), (299, hash_empty)],
    )?;
    array_of_maps(maker, "sized", 4, &[(1, long), (3, short)])?;
    let model = array.as_fd();
    let empty = outer(
        maker,
        "arrays_empty",
        BPF_MAP_TYPE_ARRAY_OF_MAPS,
        4,
        3,
        (0, model),
    )?;
    maker.tell(empty, Told::ordered(Vec::new()))?;
    for (name, key_size, max_entries, flags, members) in [
        ("by_key", 4, 20, 0, vec![array, array_too, array]),
        (
            "by_odd_key",
            5,
            300,
            BPF_F_NO_PREALLOC,
            vec![hash, hash_large, hash_empty, hash],
        ),
        ("by_long_key", 64, 8, 0, vec![long, short]),
        ("by_key_empty", 4, 8, 0, vec![]),
    ] {
        let model = members
            .first()
            .map_or(array.as_fd(), |member| member.as_fd());
        let kind = BPF_MAP_TYPE_HASH_OF_MAPS;
        let map = outer(maker, name, kind, key_size, max_entries, (flags, model))?;
        let mut rng = maker.rng(name);
        let mut expect = Vec::new();
        for member in members {
            let key = rng.bytes(usize::try_from(key_size)?);
            let fd = member.as_fd().as_raw_fd();
            sys::update(&map, &key, &fd.to_le_bytes(), 0)?;
            // A key that comes and goes.
            let passing = rng.bytes(usize::try_from(key_size)?);
            sys::update(&map, &passing, &fd.to_le_bytes(), 0)?;
            map.delete(&passing)?;
            let refers = refer(member.as_fd())?;
            let id = MapInfo::new(member.as_fd())?.info.id;
            expect.push(json!({
                "key": bytes(&key), "refers": refers, "value": bytes(&id.to_le_bytes()),
            }));
        }
        maker.tell(map, Told::unordered(expect))?;
    }
    maker.hold((arrays, hashes, sized));
    Ok(())
}

fn outer(
    maker: &Maker,
    name: &str,
    kind: u32,
    key_size: u32,
    max_entries: u32,
    (flags, model): (u32, BorrowedFd<'_>),
) -> Result<MapHandle> {
    maker.create(&MapSpec {
        kind,
        name,
        key_size,
        value_size: 4,
        max_entries,
        flags,
        inner: Some(model),
        ..MapSpec::default()
    })
}

fn array_of_maps(
    maker: &mut Maker,
    name: &str,
    max_entries: u32,
    slots: &[(u32, &MapHandle)],
) -> Result<()> {
    let model = slots.first().context("no inner map")?.1.as_fd();
    let kind = BPF_MAP_TYPE_ARRAY_OF_MAPS;
    let map = outer(maker, name, kind, 4, max_entries, (0, model))?;
    let mut expect = Vec::new();
    for &(index, member) in slots {
        map.update(
            &index.to_le_bytes(),
            &member.as_fd().as_raw_fd().to_le_bytes(),
            MapFlags::ANY,
        )?;
        expect.push(id_slot(index, refer(member.as_fd())?)?);
    }
    maker.tell(map, Told::ordered(expect))
}
