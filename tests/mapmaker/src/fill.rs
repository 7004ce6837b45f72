//! Puts contents into maps and remembers what they must hold in the end.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle};

use crate::plan::Fill;
use crate::rng::Rng;
use crate::truth::{EntryTruth, Hex, Knowledge};

/// How often to try again where memory may be there in a moment.
const PATIENCE: u32 = 200;

/// A value, or one for each CPU.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// The same for all CPUs.
    One(Vec<u8>),
    /// In the order of the possible CPUs.
    PerCpu(Vec<Vec<u8>>),
}

/// Makes contents that fit one map.
#[derive(Debug)]
struct Source {
    rng: Rng,
    key_size: usize,
    value_size: usize,
    /// `Some` if the map keeps one value for each CPU.
    cpus: Option<usize>,
}

impl Source {
    fn new(map: &MapHandle, rng: Rng) -> Result<Self> {
        Ok(Self {
            rng,
            key_size: usize::try_from(map.key_size())?,
            value_size: usize::try_from(map.value_size())?,
            cpus: match map.map_type().is_percpu() {
                true => Some(libbpf_rs::num_possible_cpus()?),
                false => None,
            },
        })
    }

    fn content(&mut self) -> Content {
        match self.cpus {
            None => Content::One(self.rng.value(self.value_size)),
            Some(cpus) => {
                Content::PerCpu((0..cpus).map(|_| self.rng.value(self.value_size)).collect())
            }
        }
    }

    /// A key that `taken` does not have.
    fn fresh_key(&mut self, taken: &BTreeMap<Vec<u8>, Content>) -> Vec<u8> {
        loop {
            let key = self.rng.bytes(self.key_size);
            if !taken.contains_key(&key) {
                return key;
            }
        }
    }
}

/// Fills `map` as `fill` says.
///
/// # Errors
/// Fails if the kernel refuses an update or a deletion.
pub(crate) fn fill(map: &MapHandle, fill: Fill, rng: Rng) -> Result<(Knowledge, Vec<EntryTruth>)> {
    let mut source = Source::new(map, rng)?;
    let (knowledge, model) = match fill {
        Fill::Nothing => (Knowledge::Sparse, BTreeMap::new()),
        Fill::Slots { step } => (Knowledge::Sparse, slots(map, step, &mut source)?),
        Fill::Keys { keep, churn } => (Knowledge::Exact, keys(map, keep, churn, &mut source)?),
        Fill::Overflow { inserted } => (Knowledge::Evicted, overflow(map, inserted, &mut source)?),
        Fill::Prefixes { keep, churn } => {
            (Knowledge::Exact, prefixes(map, keep, churn, &mut source)?)
        }
    };
    let entries = model
        .into_iter()
        .map(|(key, content)| entry(key, content))
        .collect();
    Ok((knowledge, entries))
}

/// Writes one entry.
///
/// # Errors
/// Fails if the kernel refuses it.
pub(crate) fn put(map: &MapHandle, key: &[u8], content: &Content) -> Result<()> {
    let put = || match content {
        Content::One(value) => map.update(key, value, MapFlags::ANY),
        Content::PerCpu(values) => map.update_percpu(key, values, MapFlags::ANY),
    };
    let mut result = put();
    // The kernel fills its caches of free elements in the background, and on a busy machine
    // that takes a while.
    for _ in 0..PATIENCE {
        match result {
            Err(error) if error.kind() == ErrorKind::OutOfMemory => {
                thread::sleep(Duration::from_millis(20));
                result = put();
            }
            _ => break,
        }
    }
    result.with_context(|| format!("update of key {key:02x?}"))
}

/// The truth about an entry whose types nobody asked for.
pub(crate) fn entry(key: Vec<u8>, content: Content) -> EntryTruth {
    let (value, percpu) = match content {
        Content::One(value) => (Some(Hex(value)), None),
        Content::PerCpu(values) => (None, Some(values.into_iter().map(Hex).collect())),
    };
    EntryTruth {
        key: Hex(key),
        value,
        percpu,
        ..EntryTruth::default()
    }
}

type Model = BTreeMap<Vec<u8>, Content>;

fn slots(map: &MapHandle, step: u32, source: &mut Source) -> Result<Model> {
    let mut model = Model::new();
    let mut index = 0;
    while index < map.max_entries() {
        let (key, content) = (index.to_le_bytes().to_vec(), source.content());
        put(map, &key, &content)?;
        model.insert(key, content);
        index = index.saturating_add(step.max(1));
    }
    Ok(model)
}

fn keys(map: &MapHandle, keep: u32, churn: u32, source: &mut Source) -> Result<Model> {
    let mut model = Model::new();
    let mut gone: Vec<Vec<u8>> = Vec::new();
    for _ in 0..keep {
        let (key, content) = (source.fresh_key(&model), source.content());
        put(map, &key, &content)?;
        model.insert(key, content);
    }
    // One passing key at a time, so that a full map takes part too.
    for round in 0..churn {
        let mut passing = source.fresh_key(&model);
        if round % 3 == 2 {
            // A key that was there before: its element comes back from the free list.
            passing = gone.pop().unwrap_or(passing);
        }
        put(map, &passing, &source.content())?;
        if round % 2 == 0
            && let Some((key, content)) = pick(&model, &mut source.rng)
        {
            // Take an old key out and put it in again, behind the passing one.
            map.delete(&key).context("deletion of a kept key")?;
            put(map, &key, &content)?;
        }
        if round % 5 == 1
            && let Some((key, _)) = pick(&model, &mut source.rng)
        {
            let content = source.content();
            put(map, &key, &content)?;
            model.insert(key, content);
        }
        map.delete(&passing).context("deletion of a passing key")?;
        gone.push(passing);
    }
    ensure!(model.len() == usize::try_from(keep)?, "keys were lost");
    Ok(model)
}

/// An entry of the model.
fn pick(model: &Model, rng: &mut Rng) -> Option<(Vec<u8>, Content)> {
    let from = rng.bytes(8);
    let next = model.range(from..).next();
    next.or_else(|| model.iter().next())
        .map(|(key, content)| (key.clone(), content.clone()))
}

fn overflow(map: &MapHandle, inserted: u32, source: &mut Source) -> Result<Model> {
    let mut model = Model::new();
    for _ in 0..inserted {
        let (key, content) = (source.fresh_key(&model), source.content());
        put(map, &key, &content)?;
        model.insert(key, content);
    }
    Ok(model)
}

/// A prefix as the kernel compares it: its length, and the bits that count.
type Prefix = (u32, Vec<u8>);

/// A trie's key: the length and the data, of which only so many bits count.
fn prefix_of(key: &[u8]) -> Prefix {
    let (len, data) = key.split_at(4);
    let len = u32::from_le_bytes(len.try_into().unwrap_or_default());
    let masked = data.iter().zip(0_u32..).map(|(&byte, at)| {
        let bits = len.saturating_sub(at * 8).min(8);
        byte & !0xff_u8.checked_shr(bits).unwrap_or(0)
    });
    (len, masked.collect())
}

fn prefixes(map: &MapHandle, keep: u32, churn: u32, source: &mut Source) -> Result<Model> {
    let data = source.key_size.saturating_sub(4);
    let bits = u64::try_from(data)? * 8;
    let mut held: BTreeMap<Prefix, (Vec<u8>, Content)> = BTreeMap::new();
    let mut order: Vec<Prefix> = Vec::new();
    let total = usize::try_from(keep + churn)?;
    while held.len() < total {
        // First the prefix of everything, then the longest, then others; data from a small
        // choice, so that prefixes have much in common.
        let len = match held.len() {
            0 => 0,
            1 => bits,
            _ => source.rng.below(bits + 1),
        };
        let mut key = u32::try_from(len)?.to_le_bytes().to_vec();
        for _ in 0..data {
            let choice = source.rng.bytes(2);
            let byte = match choice.as_slice() {
                [0..200, byte] if data > 1 => [0x0a, 0x0b, 0xc0, 0xff].get(usize::from(byte % 4)),
                [_, byte] => Some(byte),
                _ => None,
            };
            key.push(byte.copied().unwrap_or(0));
        }
        let prefix = prefix_of(&key);
        let room = u32::try_from(held.len())? < map.max_entries();
        if !room && !held.contains_key(&prefix) {
            break;
        }
        let content = source.content();
        // The same prefix again replaces key and value, the bits beyond the prefix too; a full
        // trie takes it no more.
        if held.contains_key(&prefix) && churn == 0 {
            continue;
        }
        put(map, &key, &content)?;
        if held.insert(prefix.clone(), (key, content)).is_none() {
            order.push(prefix);
        }
    }
    // From the start on, so that nodes with two children go too and become mere joints.
    for prefix in order.into_iter().skip(2).take(usize::try_from(churn)?) {
        if let Some((key, _)) = held.remove(&prefix) {
            map.delete(&key).context("deletion of a prefix")?;
        }
    }
    if keep == 0 {
        for (key, _) in held.values() {
            map.delete(key).context("deletion of a prefix")?;
        }
        held.clear();
    }
    Ok(held.into_values().collect())
}
