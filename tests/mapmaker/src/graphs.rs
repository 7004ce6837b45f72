//! Values that lead to objects: lists, trees, per-CPU objects, memory of user space.

use std::os::fd::AsRawFd;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::make::Maker;
use crate::memory::Mapping;
use crate::objects::find;
use crate::programs::Input;
use crate::special::{Entry, ask, tell, this_task};
use crate::sys;
use crate::truth::Told;

/// The objects of a list or a tree.
fn nodes(kind: &str, numbers: &[u32]) -> Value {
    let nodes = numbers.iter();
    let nodes = nodes.map(|&n| json!({"typed": {"number": n, "twice": n * 2}}));
    json!({kind: nodes.collect::<Vec<_>>(), "complete": true})
}

/// Makes lists, trees, and objects that are in both.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    const FRONT: u64 = 0;
    const BACK: u64 = 1;
    const TREE: u64 = 2;
    const NOTHING: u64 = 3;
    let object = maker.load(maker.open("graphs")?)?;
    for (map, program) in [("graphs", "put_key"), ("graph_slots", "put_slot")] {
        ask(maker, &object, program, (0, 0, NOTHING))?;
        for number in [30, 20, 10] {
            ask(maker, &object, program, (1, number, FRONT))?;
        }
        for number in [40, 50] {
            ask(maker, &object, program, (1, number, BACK))?;
        }
        for number in [7, 3, 9, 1, 8, 5, 2, 6, 4] {
            ask(maker, &object, program, (2, number, TREE))?;
        }
        ask(maker, &object, program, (2, 77, BACK))?;
        let rows: [(&[u32], &[u32]); 3] = [
            (&[], &[]),
            (&[10, 20, 30, 40, 50], &[]),
            (&[77], &[1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ];
        let entries = (0_u32..).zip(rows).map(|(key, (list, tree))| {
            (
                key,
                json!({"id": key}),
                json!({
                    "guard": {"spin_lock": {"held": false}},
                    "list": nodes("list", list),
                    "tree": nodes("rbtree", tree),
                }),
            )
        });
        let entries: Vec<Entry> = entries.collect();
        tell(maker, &object, map, &entries)?;
    }
    for number in [5, 11, 2] {
        ask(maker, &object, "put_pair", (1, number, 0))?;
    }
    let both = |kind: &str, numbers: &[u32]| {
        let nodes = numbers.iter();
        let nodes = nodes.map(|&n| json!({"typed": {"number": n, "references": {"refcount": 2}}}));
        json!({kind: nodes.collect::<Vec<_>>(), "complete": true})
    };
    let pairs = [
        (
            0,
            json!({"id": 0}),
            json!({"list": both("list", &[]), "tree": both("rbtree", &[])}),
        ),
        (
            1,
            json!({"id": 1}),
            json!({"list": both("list", &[5, 11, 2]), "tree": both("rbtree", &[2, 5, 11])}),
        ),
    ];
    tell(maker, &object, "pairs", &pairs)?;
    let mut stashes = Vec::new();
    for key in 0..5_u32 {
        let (number, argument) = (key + 100, u64::from(key % 3) << 33);
        ask(maker, &object, "put_stash", (key, number, argument))?;
        let thing = match argument {
            0 => json!({"kptr": "0x0"}),
            _ => json!({"typed": {"number": argument, "words": [number, key, 77]}}),
        };
        stashes.push((key, json!({"id": number}), json!({"thing": thing})));
    }
    tell(maker, &object, "stashes", &stashes)?;
    maker.hold(object);
    Ok(())
}

/// Makes objects that each CPU has one of.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn percpu(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("percpu")?)?;
    let cpus = u32::try_from(libbpf_rs::num_possible_cpus()?)?;
    for (map, program) in [("shelves", "fill_key"), ("shelf_slots", "fill_slot")] {
        let mut entries = Vec::new();
        for (key, number) in (0_u32..).zip([0, 1001, 44, 0]) {
            ask(maker, &object, program, (key, number, u64::from(cpus)))?;
            let cells = (0..cpus).map(|cpu| {
                let wide = u64::from(number) << 32 | u64::from(cpu);
                let cell = json!({"number": wide, "cpu": cpu, "half": number / 2});
                json!({"cpu": cpu, "typed": cell})
            });
            let cells = match number {
                0 => json!({"percpu_kptr": "0x0"}),
                _ => json!({"percpu": cells.collect::<Vec<_>>()}),
            };
            entries.push((key, json!({"id": number}), json!({"cells": cells})));
        }
        tell(maker, &object, map, &entries)?;
    }
    maker.hold(object);
    Ok(())
}

/// Makes pointers to memory of user space.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn uptrs(maker: &mut Maker) -> Result<()> {
    let object = maker.load(maker.open("uptrs")?)?;
    let map = find(&object, "loans")?;
    let mut memory = Mapping::anonymous(8192)?;
    let mut shared = 0x1234_5678_9abc_u64.to_le_bytes().to_vec();
    shared.extend(b"from user space\0");
    for word in [1_u32, 2, 3, 4] {
        shared.extend(word.to_le_bytes());
    }
    // In the midst of the second page.
    const AT: usize = 4096 + 1000;
    memory.write(AT, &shared)?;
    let me = i32::try_from(std::process::id())?;
    let owner = sys::open_pidfd(me, 0)?;
    let mut value = 17_u64.to_le_bytes().to_vec();
    value.extend((memory.address() + u64::try_from(AT)?).to_le_bytes());
    value.extend(18_u32.to_le_bytes());
    value.extend([0; 4]);
    sys::update(&map, &owner.as_raw_fd().to_le_bytes(), &value, 0)?;
    let last = maker
        .programs
        .run(&object, "last_word", Input::Context(&shared))?;
    ensure!(last == 4, "the program sees {last} in the memory");
    let expect = json!({
        "owner": this_task(), "value": {"typed": {"before": 17, "after": 18}},
    });
    let shared = json!({
        "number": 0x1234_5678_9abc_u64, "text": "from user space", "more": [1, 2, 3, 4],
    });
    let frozen = json!({"value": {"typed": {"shared": {"typed": shared}}}});
    let told = Told::unordered(vec![expect]).frozen(vec![frozen]);
    maker.tell(map, told)?;
    maker.hold((object, memory, owner));
    Ok(())
}
