//! A ring buffer by the kernel's rules: what it holds after which steps.

use anyhow::{Context, Result};
use serde_json::json;

use crate::make::Maker;
use crate::truth::{Told, bytes};

/// What positions are mapped by.
pub(crate) const PAGE: usize = 4096;
const HEADER: u64 = 8;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Discarded,
    Busy,
}
pub(crate) use State::{Busy, Discarded, Ready};

/// What is done to a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// A record of so many bytes.
    Push(u32, State),
    /// The consumer takes so many records.
    Take(u32),
    /// Records of so many bytes, for as long as there is room.
    Fill(u32),
}
pub(crate) use Step::{Fill, Push, Take};

/// A ring: name, size, steps.
pub(crate) type Row = (&'static str, u32, &'static [Step]);

/// A record that a ring holds.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) position: u64,
    pub(crate) state: State,
    pub(crate) value: Vec<u8>,
}

impl Record {
    fn end(&self) -> u64 {
        self.position + room(self.value.len())
    }
}

/// What a record takes, its header included.
pub(crate) fn room(len: usize) -> u64 {
    (u64::try_from(len).unwrap_or(0) + HEADER).next_multiple_of(8)
}

/// What a ring is to hold, by the kernel's rules.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) size: u64,
    pub(crate) overwrite: bool,
    /// All that was ever written.
    pub(crate) records: Vec<Record>,
    pub(crate) consumer: u64,
    pub(crate) producer: u64,
    pending: u64,
    overwritten: u64,
}

impl Model {
    /// Nothing has been written yet.
    pub(crate) fn new(size: u32, overwrite: bool) -> Self {
        Self {
            size: u64::from(size),
            overwrite,
            records: Vec::new(),
            consumer: 0,
            producer: 0,
            pending: 0,
            overwritten: 0,
        }
    }

    /// Whether a record overwrites no other one.
    pub(crate) fn is_free(&self, len: u32) -> bool {
        self.producer + (u64::from(len) + HEADER).next_multiple_of(8) - self.overwritten < self.size
    }

    /// Takes note of a record, unless there is no room for it.
    pub(crate) fn push(&mut self, value: Vec<u8>, state: State) -> bool {
        let end = self.producer + room(value.len());
        // Whoever reserves looks how far everything is submitted.
        let busy = self.records.iter().find(|record| record.state == Busy);
        let pending = busy.map_or(self.producer, |record| record.position);
        let held = if self.overwrite {
            pending
        } else {
            pending.min(self.consumer)
        };
        self.pending = pending;
        if end - held > self.size - 1 {
            return false;
        }
        let mut overwritten = self.overwritten;
        for record in &self.records {
            let oldest = record.position == overwritten;
            if self.overwrite && oldest && end - overwritten > self.size - 1 {
                overwritten = record.end();
            }
        }
        self.overwritten = overwritten;
        self.records.push(Record {
            position: self.producer,
            state,
            value,
        });
        self.producer = end;
        true
    }

    /// Where the consumer is when it has taken so many records.
    ///
    /// # Errors
    /// Fails if there are not so many.
    pub(crate) fn take(&mut self, count: u32) -> Result<u64> {
        for _ in 0..count {
            let next = self.held().next().context("nothing to take")?;
            self.consumer = next.end();
        }
        Ok(self.consumer)
    }

    /// What is not consumed, oldest first.
    pub(crate) fn held(&self) -> impl Iterator<Item = &Record> {
        let from = self.consumer.max(self.overwritten);
        self.records
            .iter()
            .filter(move |record| record.position >= from)
    }

    /// The truth about the ring.
    pub(crate) fn told(&self, maker: &Maker) -> Told {
        let expect = self.held().map(|record| {
            let state = match record.state {
                Ready => "ready",
                Discarded => "discarded",
                Busy => "busy",
            };
            json!({"record": record.position, "state": state, "value": bytes(&record.value)})
        });
        let mut state = json!({
            "size": self.size, "consumer_pos": self.consumer, "producer_pos": self.producer,
            "overwrite": self.overwrite,
        });
        let mut frozen = json!({});
        if let (Some(state), Some(frozen)) = (state.as_object_mut(), frozen.as_object_mut()) {
            if maker.kernel.member("bpf_ringbuf", "pending_pos") {
                frozen.insert("pending_pos".to_owned(), json!(self.pending));
            }
            if self.overwrite {
                state.insert("overwrite_pos".to_owned(), json!(self.overwritten));
            }
        }
        Told::ordered(expect.collect())
            .state(json!({"ringbuf": state}))
            .state_frozen(json!({"ringbuf": frozen}))
    }
}

/// Bytes that count up, as the program writes them.
pub(crate) fn counting(first: u32, len: u32) -> Vec<u8> {
    let byte = |n: u32| u8::try_from((first + n) % 251).unwrap_or(0);
    (0..len).map(byte).collect()
}
