//! Puts contents into maps and remembers what they must hold in the end.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::plan::Fill;
use crate::rng::Rng;
use crate::truth::{EntryTruth, Hex, Knowledge};

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
    match content {
        Content::One(value) => map.update(key, value, MapFlags::ANY),
        Content::PerCpu(values) => map.update_percpu(key, values, MapFlags::ANY),
    }
    .with_context(|| format!("update of key {key:02x?}"))
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
