//! Ring buffers (`kernel/bpf/ringbuf.c`): records between two positions that
//! only ever grow.
//!
//! The data pages are mapped twice in a row, so that a record that wraps is
//! in one piece. Who writes what depends on the type: the consumer's position
//! of a `ringbuf` is a process' to write, as are the producer's position and
//! all data of a `user_ringbuf`.

use btf_layout::{Btf, Member};
use guestmem::{Address, Cause, Fault, Kva, MemoryExt};

use super::bytes;
use crate::entry::{Entry, RecordState};
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo, MapState, MapType};

/// `BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`.
const BUSY: u32 = 1 << 31;
const DISCARD: u32 = 1 << 30;

/// `BPF_RINGBUF_HDR_SZ`: the record's length and two flags, and how many
/// pages behind the start of the buffer the header is.
const HEADER: u64 = 8;

/// Where the members of `struct bpf_ringbuf` are. It is larger than a page,
/// as each side's position has its own.
struct Layout {
    ring: Member,
    mask: Member,
    consumer_pos: Member,
    producer_pos: Member,
    /// Since 6.10 (cfa1a2329a69), and in later kernels of older series.
    pending_pos: Option<Member>,
    /// Both since 6.19 (feeaf1346f80).
    overwrite: Option<(Member, Member)>,
    data: Member,
}

impl Layout {
    fn new(btf: &Btf) -> Result<Self, btf_layout::Error> {
        let ring = btf.record("bpf_ringbuf")?;
        Ok(Self {
            ring: btf.record("bpf_ringbuf_map")?.member("rb")?,
            mask: ring.member("mask")?,
            consumer_pos: ring.member("consumer_pos")?,
            producer_pos: ring.member("producer_pos")?,
            pending_pos: ring.find("pending_pos"),
            overwrite: ring.find("overwrite_mode").zip(ring.find("overwrite_pos")),
            data: ring.member("data")?,
        })
    }
}

/// The numbers of one ring buffer.
struct Ring {
    at: Kva,
    /// Where the data are, in bytes behind `at`.
    data: u64,
    mask: u64,
    consumer_pos: u64,
    producer_pos: u64,
    pending_pos: Option<u64>,
    overwrite_pos: Option<u64>,
    overwrite: bool,
}

impl Ring {
    fn load(target: &dyn Target, at: Kva) -> Result<Self, Error> {
        let layout = Layout::new(target.btf())?;
        let word = |what, at: Kva, member: &Member| {
            at.checked_add(member.offset)
                .ok_or(Fault::new(at, Cause::EndOfSpace))
                .and_then(|at| target.load_u64(at))
                .map_err(|source| Error::Unreadable { what, source })
        };
        let at = Kva::new(word("bpf_ringbuf_map.rb", at, &layout.ring)?);
        // The consumer's first: it follows the producer's.
        let consumer_pos = word("bpf_ringbuf.consumer_pos", at, &layout.consumer_pos)?;
        let overwrite_pos = match &layout.overwrite {
            Some((_, pos)) => Some(word("bpf_ringbuf.overwrite_pos", at, pos)?),
            None => None,
        };
        let overwrite = match &layout.overwrite {
            Some((mode, _)) => word("bpf_ringbuf.overwrite_mode", at, mode)? & 0xff != 0,
            None => false,
        };
        let pending_pos = match &layout.pending_pos {
            Some(pos) => Some(word("bpf_ringbuf.pending_pos", at, pos)?),
            None => None,
        };
        Ok(Self {
            data: layout.data.offset,
            mask: word("bpf_ringbuf.mask", at, &layout.mask)?,
            consumer_pos,
            producer_pos: word("bpf_ringbuf.producer_pos", at, &layout.producer_pos)?,
            pending_pos,
            overwrite_pos,
            overwrite,
            at,
        })
    }

    /// Where the first record is that can still be consumed.
    fn start(&self) -> u64 {
        match self.overwrite_pos {
            Some(overwritten) if self.overwrite => self.consumer_pos.max(overwritten),
            _ => self.consumer_pos,
        }
    }

    /// The header of the record at `pos`, in bytes behind the buffer.
    fn offset(&self, pos: u64) -> u64 {
        self.data.saturating_add(pos & self.mask)
    }

    /// What contradicts what, if anything does.
    fn contradiction(&self, map: &MapInfo) -> Option<Reason> {
        let contradiction = |what, expected, found| {
            (expected != found).then_some(Reason::Contradiction {
                what,
                expected,
                found,
            })
        };
        let size = u64::from(map.max_entries);
        let (start, end) = (self.start(), self.producer_pos);
        contradiction("bpf_ringbuf.mask", size.wrapping_sub(1), self.mask)
            .or(contradiction(
                "bpf_map.max_entries of a ring buffer",
                size.next_power_of_two(),
                size,
            ))
            .or(contradiction(
                "bpf_ringbuf.producer_pos",
                end & !(HEADER - 1),
                end,
            ))
            .or(contradiction(
                "bpf_ringbuf.consumer_pos",
                start & !(HEADER - 1),
                start,
            ))
            .or(contradiction(
                "bpf_ringbuf.consumer_pos, by the producer's",
                start.clamp(end.saturating_sub(size), end),
                start,
            ))
    }
}

/// Where the users of the ring buffer at `at` are.
pub(crate) fn state(target: &dyn Target, at: Kva) -> Result<MapState, Error> {
    let ring = Ring::load(target, at)?;
    Ok(MapState::RingBuffer {
        size: ring.mask.saturating_add(1),
        consumer_pos: ring.consumer_pos,
        producer_pos: ring.producer_pos,
        pending_pos: ring.pending_pos,
        overwrite_pos: ring.overwrite_pos,
        overwrite: ring.overwrite,
    })
}

/// Visits the records of `map` at `at` that are not consumed, from the oldest
/// on.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let ring = match Ring::load(target, at) {
        Err(Error::Unreadable { source, .. }) => {
            walker.walk.fault(source);
            return Ok(());
        }
        ring => ring?,
    };
    if let Some(reason) = ring.contradiction(map) {
        walker.walk.gap(ring.at, reason);
        return Ok(());
    }
    if ring.mask >= target.memory_size() {
        let (what, value) = ("size of a ring buffer", ring.mask.saturating_add(1));
        walker.walk.gap(GapAt::Map, Reason::Absurd { what, value });
        return Ok(());
    }
    let mut buf = Vec::new();
    let (mut pos, end) = (ring.start(), ring.producer_pos);
    while pos < end {
        let offset = ring.offset(pos);
        let at = ring.at.checked_add(offset).unwrap_or(Kva::at(u64::MAX));
        let header = match target.load_u64(at) {
            Ok(header) => header.to_le_bytes(),
            Err(fault) => {
                walker.walk.fault(fault);
                return Ok(());
            }
        };
        let word = bytes::u32_at(&header, 0).unwrap_or(0);
        let pages = u64::from(bytes::u32_at(&header, 4).unwrap_or(0));
        let len = u64::from(word & !(BUSY | DISCARD));
        let whole = (len + HEADER).next_multiple_of(8);
        let left = end - pos;
        let wrong = if map.map_type == MapType::RINGBUF && pages != offset / target.page_size() {
            Some(("bpf_ringbuf_hdr.pg_off", offset / target.page_size(), pages))
        } else if whole > left {
            Some(("bytes of the records that are left", left, whole))
        } else {
            None
        };
        if let Some((what, expected, found)) = wrong {
            let reason = Reason::Contradiction {
                what,
                expected,
                found,
            };
            walker.walk.gap(at, reason);
            return Ok(());
        }
        // The kernel looks at the discard bit first.
        let state = match (word & DISCARD != 0, word & BUSY != 0) {
            (true, _) => RecordState::Discarded,
            (false, true) => RecordState::Busy,
            (false, false) => RecordState::Ready,
        };
        let value_at = at.checked_add(HEADER).unwrap_or(at);
        let entry = Entry::Record {
            position: pos,
            state,
            value: bytes::value(target, value_at, len, &mut buf, &mut walker.walk),
        };
        if walker.visit(entry).is_break() {
            return Ok(());
        }
        pos += whole;
    }
    Ok(())
}
