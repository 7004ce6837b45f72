//! The library's types, as the BTF of a program has them.

use btf_layout::{Btf, Kind, Record, Type};
use guestmem::{Address, ArenaPtr};

use crate::Error;

/// The names that an allocator's struct has had, the present one first.
pub const ALLOCATORS: [&str; 2] = ["scx_allocator", "sdt_allocator"];

/// Bytes of what a slot carries behind its payload in scx 1.1.4, where a
/// program's BTF does not say: its id, and a link for deferred frees.
const USUAL_TRAILER: u64 = 16;

/// The largest index that an id can hold has this many bits.
const INDEX_BITS: u32 = 31;

/// Where a slot carries its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataLayout {
    /// Before the payload: chunks point at the id.
    Header {
        /// Bytes from the id to the payload.
        size: u64,
    },
    /// Behind the payload: chunks point at the payload.
    Trailer {
        /// Bytes from the id to the slot's end.
        size: u64,
    },
}

/// The layout of the library's structs in one program.
#[derive(Clone, Debug)]
pub struct Types {
    pub(crate) desc: Desc,
    pub(crate) id: Id,
    /// What the BTF says of the slots; published schedulers lack it.
    pub(crate) data: Option<DataLayout>,
    /// Bytes of either, where the BTF does not say.
    pub(crate) header_size: u64,
    pub(crate) trailer_size: u64,
    /// What the BTF says of the number of levels.
    pub(crate) levels: Option<u32>,
}

/// `struct sdt_desc`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Desc {
    pub(crate) size: u64,
    pub(crate) allocated: u64,
    /// How many slots or children a chunk has: the bits of the bitmap.
    pub(crate) entries: u64,
    pub(crate) nr_free: u64,
    pub(crate) chunk: u64,
}

/// `union sdt_id`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Id {
    pub(crate) idx: u64,
    pub(crate) generation: u64,
}

/// Where an allocator's memory comes from (`struct sdt_pool`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The pages that slots are cut from now; null before the first.
    pub slab: ArenaPtr,
    /// Further such pages, linked by their first words; null without.
    pub reserve: ArenaPtr,
    /// Bytes of a slot, with its id.
    pub elem_size: u64,
    /// How many slots the pages hold.
    pub max_elems: u64,
    /// How many of them were cut.
    pub idx: u64,
}

/// One allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocator {
    /// Its memory.
    pub pool: Pool,
    /// The descriptor at the tree's root; null before the allocator is set
    /// up.
    pub root: ArenaPtr,
}

impl Types {
    /// The types of a program that has allocators.
    ///
    /// # Errors
    ///
    /// BTF without the types of the tree, or with impossible ones.
    pub fn new(btf: &Btf) -> Result<Self, Error> {
        let record = btf.record("sdt_desc")?;
        let allocated = record.member("allocated")?;
        let shape = |what| Error::Shape {
            name: "sdt_desc",
            what,
        };
        let entries = allocated.size.saturating_mul(8);
        if !entries.is_power_of_two() || allocated.size % 8 != 0 || allocated.size > 1 << 12 {
            return Err(shape("a bitmap of an odd size"));
        }
        let desc = Desc {
            size: record.size(),
            allocated: allocated.offset,
            entries,
            nr_free: record.member("nr_free")?.offset,
            chunk: record.member("chunk")?.offset,
        };
        let id = btf.record("sdt_id")?;
        // `genn` since scx 1.0.12.
        let generation = id.member_any(&["genn", "gen"])?.offset;
        let idx = id.member("idx")?.offset;
        let data = data(btf)?;
        Ok(Self {
            desc,
            id: Id { idx, generation },
            data,
            header_size: match data {
                Some(DataLayout::Header { size }) => size,
                _ => id.size(),
            },
            trailer_size: match data {
                Some(DataLayout::Trailer { size }) => size,
                _ => USUAL_TRAILER,
            },
            levels: levels(btf)?,
        })
    }

    /// Reads an allocator's variable; `record` is the type of the variable.
    ///
    /// # Errors
    ///
    /// BTF without a member that is needed, or too few bytes.
    pub fn allocator(record: &Record<'_>, bytes: &[u8]) -> Result<Allocator, Error> {
        let pool = record.member("pool")?;
        let root = record.member("root")?.offset;
        let pool_record = record.btf().record_by_id(pool.ty)?;
        Ok(Allocator {
            pool: Pool::read(&pool_record, bytes, pool.offset)?,
            root: pointer(bytes, root).ok_or(Error::Short {
                name: "scx_allocator",
                len: bytes.len(),
            })?,
        })
    }

    /// What the BTF says of where a slot carries its id; `None` if nothing.
    #[must_use]
    pub fn data_layout(&self) -> Option<DataLayout> {
        self.data
    }

    /// How many slots, or children, a chunk has.
    #[must_use]
    pub fn entries_per_chunk(&self) -> u64 {
        self.desc.entries
    }

    /// How many levels the tree has, if the BTF says it.
    #[must_use]
    pub fn levels(&self) -> Option<u32> {
        self.levels
            .filter(|levels| self.possible_levels().contains(levels))
    }

    /// How many it can have at all: an id holds the index.
    pub(crate) fn possible_levels(&self) -> std::ops::RangeInclusive<u32> {
        1..=INDEX_BITS / self.desc.entries.trailing_zeros().max(1)
    }
}

impl Pool {
    /// Reads a `struct sdt_pool` at an offset of a variable.
    ///
    /// # Errors
    ///
    /// BTF without a member that is needed, or too few bytes.
    pub fn read(record: &Record<'_>, bytes: &[u8], at: u64) -> Result<Self, Error> {
        let word = |name: &str| -> Result<u64, Error> {
            let offset = at.saturating_add(record.member(name)?.offset);
            word(bytes, offset).ok_or(Error::Short {
                name: "sdt_pool",
                len: bytes.len(),
            })
        };
        // scx 1.1.4 keeps pages of allocations that lost a race.
        let reserve = match record.find("reserve") {
            Some(_) => word("reserve")?,
            None => 0,
        };
        Ok(Self {
            slab: ArenaPtr::new(word("slab")?),
            reserve: ArenaPtr::new(reserve),
            elem_size: word("elem_size")?,
            max_elems: word("max_elems")?,
            idx: word("idx")?,
        })
    }
}

fn data(btf: &Btf) -> Result<Option<DataLayout>, Error> {
    if btf.find(Kind::Struct, "sdt_data").is_none() {
        return Ok(None);
    }
    let record = btf.record("sdt_data")?;
    Ok(match record.find("payload") {
        Some(payload) => Some(DataLayout::Header {
            size: payload.offset,
        }),
        None => record.find("urcu_link").map(|_| DataLayout::Trailer {
            size: record.size(),
        }),
    })
}

fn levels(btf: &Btf) -> Result<Option<u32>, Error> {
    let Some(id) = btf.find(Kind::Enum, "sdt_consts") else {
        return Ok(None);
    };
    let Type::Enum { values, .. } = btf.get(id)? else {
        return Ok(None);
    };
    for value in values {
        let value = value?;
        if value.name == "SDT_TASK_LEVELS" {
            return Ok(u32::try_from(value.value).ok());
        }
    }
    Ok(None)
}

/// A little-endian word of a variable.
pub(crate) fn word(bytes: &[u8], offset: u64) -> Option<u64> {
    let at = usize::try_from(offset).ok()?;
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u64::from_le_bytes)
}

/// A pointer into the arena.
pub(crate) fn pointer(bytes: &[u8], offset: u64) -> Option<ArenaPtr> {
    word(bytes, offset).map(ArenaPtr::new)
}
