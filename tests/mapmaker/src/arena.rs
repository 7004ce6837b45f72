//! The memory of an arena, handed out page by page.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapHandle, MapInfo, Object};
use serde_json::{Value, json};

use crate::memory::Mapping;
use crate::objects::find;
use crate::truth::Told;

/// A page of an arena.
pub(crate) const PAGE: u64 = 4096;

/// What pages are for, as bpfreeze's account calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Index,
    Slots,
    Static,
    Stack,
    Pointed,
    Unknown,
}

impl Purpose {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Index, "index"),
        (Self::Slots, "slots"),
        (Self::Static, "static"),
        (Self::Stack, "stack"),
        (Self::Pointed, "pointed"),
        (Self::Unknown, "unknown"),
    ];
}

/// An arena that this process has mapped at the address that its pointers have.
#[derive(Debug)]
pub(crate) struct Arena {
    pub(crate) map: MapHandle,
    pub(crate) id: u32,
    memory: Mapping,
    start: u64,
    /// The first page that nobody has got yet.
    next: u64,
    /// The pages that are there: the first and how many.
    runs: Vec<(u64, u64)>,
    /// How many pages are for what.
    purposes: Vec<(Purpose, u64)>,
}

impl Arena {
    /// The arena of an object.
    ///
    /// # Errors
    /// Fails if it has none, or if the kernel does not let it be mapped.
    pub(crate) fn of(object: &Object) -> Result<Self> {
        let map = find(object, "arena")?;
        let info = MapInfo::new(map.as_fd())?.info;
        let len = PAGE * u64::from(map.max_entries());
        Ok(Self {
            memory: Mapping::arena(map.as_fd(), info.map_extra, usize::try_from(len)?)?,
            map,
            id: info.id,
            start: info.map_extra,
            next: 0,
            runs: Vec::new(),
            purposes: Vec::new(),
        })
    }

    /// Pages in a row that nobody has got yet, each of which is there then.
    ///
    /// # Errors
    /// Fails if there are none left.
    pub(crate) fn pages(&mut self, count: u64, purpose: Purpose) -> Result<u64> {
        self.purposes.push((purpose, count));
        let address = self.start + self.next * PAGE;
        for page in 0..count {
            self.write(address + page * PAGE, &[0])?;
        }
        match self.runs.last_mut() {
            Some((first, pages)) if *first + *pages == self.next => *pages += count,
            _ => self.runs.push((self.next, count)),
        }
        self.next += count;
        Ok(address)
    }

    /// Leaves pages out: they are not there.
    pub(crate) fn skip(&mut self, pages: u64) {
        self.next += pages;
    }

    /// What is known of it.
    pub(crate) fn told(&self) -> Told {
        let state = state(self.map.max_entries(), &self.runs, &self.purposes);
        Told::nothing().state(state)
    }

    /// Writes bytes at an address.
    ///
    /// # Errors
    /// Fails if it is not the arena's.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let offset = address.checked_sub(self.start).context("below the arena")?;
        self.memory.write(usize::try_from(offset)?, bytes)
    }

    /// Writes numbers of 64 bits at an address.
    ///
    /// # Errors
    /// Fails if it is not the arena's.
    pub(crate) fn write_words(&mut self, address: u64, words: &[u64]) -> Result<()> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.write(address, &bytes)
    }
}

/// The state of an arena: how many pages are declared, which are there (the first of a run and how
/// many), and what they are for.
pub(crate) fn state(declared: u32, runs: &[(u64, u64)], purposes: &[(Purpose, u64)]) -> Value {
    let pages: u64 = runs.iter().map(|(_, pages)| pages).sum();
    let runs: Vec<Value> = runs
        .iter()
        .map(|(pgoff, pages)| json!({"pgoff": pgoff, "pages": pages}))
        .collect();
    let account = Purpose::ALL.map(|(purpose, name)| {
        let of_it = purposes.iter().filter(|(other, _)| *other == purpose);
        let pages: u64 = of_it.map(|(_, pages)| pages).sum();
        (name.to_owned(), json!(pages))
    });
    json!({"arena": {
        "page_size": PAGE,
        "declared_pages": declared,
        "mapped_pages": pages,
        "runs": runs,
        "faulted_pages": [],
        "account": Value::Object(account.into_iter().collect()),
        "complete": true,
    }})
}

/// Memory that is handed out in elements of one size, from slabs of some pages.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) slab: u64,
    pub(crate) elem_size: u64,
    pub(crate) max_elems: u64,
    pub(crate) idx: u64,
    pages: u64,
    purpose: Purpose,
}

impl Pool {
    /// One whose slabs have as many pages as `least` elements need.
    ///
    /// # Errors
    /// Fails if the elements have no size.
    pub(crate) fn new(elem_size: u64, least: u64, purpose: Purpose) -> Result<Self> {
        ensure!(elem_size > 0, "elements of no size");
        let pages = (least * elem_size).div_ceil(PAGE);
        let max_elems = pages * PAGE / elem_size;
        Ok(Self {
            slab: 0,
            elem_size,
            max_elems,
            // Full, so that the first element brings a slab.
            idx: max_elems,
            pages,
            purpose,
        })
    }

    /// A new element, all zero.
    ///
    /// # Errors
    /// Fails if the arena is full.
    pub(crate) fn take(&mut self, arena: &mut Arena) -> Result<u64> {
        if self.idx >= self.max_elems {
            self.slab = arena.pages(self.pages, self.purpose)?;
            self.idx = 0;
        }
        let address = self.slab + self.elem_size * self.idx;
        self.idx += 1;
        Ok(address)
    }
}
