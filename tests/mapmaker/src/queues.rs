//! Queues, stacks and Bloom filters.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle};
use libbpf_sys::{
    BPF_F_ZERO_SEED, BPF_MAP_TYPE_BLOOM_FILTER, BPF_MAP_TYPE_QUEUE, BPF_MAP_TYPE_STACK,
};
use serde_json::json;

use crate::make::Maker;
use crate::rng::Rng;
use crate::sys::MapSpec;
use crate::truth::{Told, bytes};

/// Something that is done to a queue or a stack, so many times.
#[derive(Debug, Clone, Copy)]
enum Step {
    Push(u32),
    /// Pushes that drop the oldest element when there is no room.
    Force(u32),
    Pop(u32),
}
use Step::{Force, Pop, Push};

/// A queue, and a stack that is treated alike: name, value size, capacity, steps.
type Row = (&'static str, u32, u32, &'static [Step]);

const ROWS: &[Row] = &[
    ("plain", 8, 16, &[Push(9), Pop(2)]),
    ("empty", 4, 8, &[]),
    ("emptied", 4, 8, &[Push(5), Pop(5)]),
    ("full", 4, 10, &[Push(10)]),
    ("wrapped", 8, 8, &[Push(8), Pop(6), Push(5)]),
    ("wrapped_full", 8, 7, &[Push(7), Pop(4), Push(4)]),
    ("odd", 13, 33, &[Push(30), Pop(20), Push(12), Pop(1)]),
    ("pages", 1200, 20, &[Push(20), Pop(11), Push(6)]),
    ("forced", 5, 6, &[Push(4), Force(9), Pop(1)]),
    ("one", 1, 1, &[Push(1), Pop(1), Push(1)]),
];

/// What a queue or a stack is to hold.
struct Model {
    held: VecDeque<Vec<u8>>,
    head: u32,
    tail: u32,
    /// The elements that there is room for; one more, which head and tail use to tell full from
    /// empty.
    size: u32,
}

impl Model {
    fn next(&self, at: u32) -> u32 {
        if at + 1 >= self.size { 0 } else { at + 1 }
    }

    fn step(&mut self, map: &MapHandle, step: Step, stack: bool, rng: &mut Rng) -> Result<()> {
        let (count, flags) = match step {
            Push(count) => (count, Some(MapFlags::ANY)),
            Force(count) => (count, Some(MapFlags::EXIST)),
            Pop(count) => (count, None),
        };
        for _ in 0..count {
            if let Some(flags) = flags {
                let value = rng.bytes(usize::try_from(map.value_size())?);
                map.update(&[], &value, flags)?;
                self.held.push_back(value);
                self.head = self.next(self.head);
                if self.held.len() >= usize::try_from(self.size)? {
                    self.held.pop_front();
                    self.tail = self.next(self.tail);
                }
                continue;
            }
            let popped = map.lookup_and_delete(&[])?;
            let expected = if stack {
                self.head = self.head.checked_sub(1).unwrap_or(self.size - 1);
                self.held.pop_back()
            } else {
                self.tail = self.next(self.tail);
                self.held.pop_front()
            };
            ensure!(popped == expected, "the kernel popped {popped:02x?}");
        }
        Ok(())
    }
}

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    for (prefix, kind) in [("q", BPF_MAP_TYPE_QUEUE), ("st", BPF_MAP_TYPE_STACK)] {
        for row in ROWS {
            queue(maker, prefix, kind, row)?;
        }
    }
    for row in FILTERS {
        filter(maker, row)?;
    }
    Ok(())
}

fn queue(maker: &mut Maker, prefix: &str, kind: u32, row: &Row) -> Result<()> {
    let &(name, value_size, max_entries, steps) = row;
    let name = format!("{prefix}_{name}");
    let stack = kind == BPF_MAP_TYPE_STACK;
    let map = maker.create(&MapSpec {
        kind,
        name: &name,
        value_size,
        max_entries,
        ..MapSpec::default()
    })?;
    let mut model = Model {
        held: VecDeque::new(),
        head: 0,
        tail: 0,
        size: max_entries + 1,
    };
    let mut rng = maker.rng(&name);
    for &step in steps {
        model.step(&map, step, stack, &mut rng)?;
    }
    let len = model.held.len();
    let mut values: Vec<_> = model.held.iter().map(|value| bytes(value)).collect();
    if stack {
        values.reverse();
    }
    let elements = values.into_iter().enumerate();
    let expect = elements.map(|(at, value)| json!({"element": at, "value": value}));
    let state = json!({"queue": {
        "head": model.head, "tail": model.tail, "capacity": max_entries, "len": len,
    }});
    let told = Told::ordered(expect.collect())
        .state(state)
        .not_live("bpf(2) shows one element only");
    maker.tell(map, told)
}

/// A filter: name, value size, capacity, hash functions (0: the kernel's choice), flags, how many
/// values are put in.
type Filter = (&'static str, u32, u32, u32, u32, u32);

const FILTERS: &[Filter] = &[
    ("bloom", 8, 100, 0, BPF_F_ZERO_SEED, 60),
    ("bloom_seeded", 8, 100, 3, 0, 100),
    ("bloom_odd", 13, 1000, 7, BPF_F_ZERO_SEED, 400),
    ("bloom_three", 3, 50, 1, BPF_F_ZERO_SEED, 20),
    ("bloom_pages", 1200, 500, 15, BPF_F_ZERO_SEED, 100),
    ("bloom_over", 4, 20, 5, BPF_F_ZERO_SEED, 600),
    ("bloom_large", 16, 1_000_000, 4, BPF_F_ZERO_SEED, 5000),
    ("bloom_empty", 4, 500, 2, 0, 0),
];

fn filter(maker: &mut Maker, row: &Filter) -> Result<()> {
    let &(name, value_size, max_entries, functions, flags, count) = row;
    let map = maker.create(&MapSpec {
        kind: BPF_MAP_TYPE_BLOOM_FILTER,
        name,
        value_size,
        max_entries,
        flags,
        extra: u64::from(functions),
        ..MapSpec::default()
    })?;
    let functions = if functions == 0 { 5 } else { functions };
    let bits = (max_entries * functions / 5 * 7)
        .max(64)
        .next_power_of_two();
    let mut set = vec![false; usize::try_from(bits)?];
    let mut rng = maker.rng(name);
    for _ in 0..count {
        let value = rng.bytes(usize::try_from(value_size)?);
        map.update(&[], &value, MapFlags::ANY)?;
        for seed in 0..functions {
            let at = usize::try_from(jhash(&value, seed) % bits)?;
            if let Some(bit) = set.get_mut(at) {
                *bit = true;
            }
        }
    }
    let bits_set = set.iter().filter(|&&bit| bit).count();
    let mut state = json!({"bits": bits, "hash_functions": functions});
    // A filter with a seed of its own has set bits that only the kernel knows.
    if (flags & BPF_F_ZERO_SEED != 0 || count == 0)
        && let Some(state) = state.as_object_mut()
    {
        let fill = f64::from(u32::try_from(bits_set)?) / f64::from(bits);
        state.insert("bits_set".to_owned(), json!(bits_set));
        state.insert("fill".to_owned(), json!(fill));
    }
    let told = Told::ordered(Vec::new())
        .state(json!({"bloom": state}))
        .not_live("bpf(2) only tests for values");
    maker.tell(map, told)
}

/// Bob Jenkins' hash as the kernel has it (include/linux/jhash.h); for lengths that are multiples
/// of four `jhash2` is the same.
fn jhash(key: &[u8], seed: u32) -> u32 {
    let len = u32::try_from(key.len()).unwrap_or(0);
    let start = 0xdead_beef_u32.wrapping_add(len).wrapping_add(seed);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = key;
    loop {
        let (block, more) = rest.split_at(rest.len().min(12));
        let word = |at: usize| {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(block.iter().skip(at)) {
                *to = *from;
            }
            u32::from_le_bytes(word)
        };
        a = a.wrapping_add(word(0));
        b = b.wrapping_add(word(4));
        c = c.wrapping_add(word(8));
        if more.is_empty() {
            break;
        }
        let mix = |x: &mut u32, y: &mut u32, z: &mut u32, by: u32| {
            *x = x.wrapping_sub(*z) ^ z.rotate_left(by);
            *z = z.wrapping_add(*y);
        };
        mix(&mut a, &mut b, &mut c, 4);
        mix(&mut b, &mut c, &mut a, 6);
        mix(&mut c, &mut a, &mut b, 8);
        mix(&mut a, &mut b, &mut c, 16);
        mix(&mut b, &mut c, &mut a, 19);
        mix(&mut c, &mut a, &mut b, 4);
        rest = more;
    }
    if key.is_empty() {
        return c;
    }
    for (x, y, by) in [
        (2, 1, 14),
        (0, 2, 11),
        (1, 0, 25),
        (2, 1, 16),
        (0, 2, 4),
        (1, 0, 14),
        (2, 1, 24),
    ] {
        let words = [a, b, c];
        let pick = |at: usize| words.get(at).copied().unwrap_or(0);
        let mixed = (pick(x) ^ pick(y)).wrapping_sub(pick(y).rotate_left(by));
        match x {
            0 => a = mixed,
            1 => b = mixed,
            _ => c = mixed,
        }
    }
    c
}

#[cfg(test)]
mod tests {
    use super::jhash;

    #[test]
    fn the_hash_is_the_kernels() {
        // By the text of include/linux/jhash.h, compiled as C.
        let key: Vec<u8> = (0..40).collect();
        for (len, seed, expected) in CASES {
            assert_eq!(jhash(&key[..len], seed), expected, "{len} {seed}");
        }
    }

    const CASES: [(usize, u32, u32); 7] = [
        (3, 0, 0x6b12_f277),
        (8, 1, 0x925b_8c35),
        (12, 0, 0x5e4a_a593),
        (13, 2, 0x638b_705b),
        (16, 0, 0x5e84_eafc),
        (24, 9, 0x5a2e_721d),
        (40, 4, 0xa1e9_c155),
    ];
}
