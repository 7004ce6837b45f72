//! Stack traces (`kernel/bpf/stackmap.c`): buckets that point to a trace each.

use std::ops::ControlFlow;

use btf_layout::{Btf, Member};
use guestmem::{Address, Kva, MemoryExt};

use super::bytes::{part, u32_at, u64_at};
use super::copied::Copied;
use super::place::POINTER;
use super::words;
use crate::entry::{Entry, Frame};
use crate::target::Target;
use crate::walk::{GapAt, Reason, Walker};
use crate::{Error, MapInfo};

/// `BPF_F_STACK_BUILD_ID`.
const BUILD_IDS: u32 = 1 << 5;

/// `enum bpf_stack_build_id_status`.
const STATUS_VALID: u32 = 1;
const STATUS_IP: u32 = 2;

/// Where the members of `struct bpf_stack_map` and of its traces are.
struct Layout {
    size: u64,
    n_buckets: Member,
    buckets: Member,
    nr: Member,
    data: Member,
    frames: Frames,
}

/// What a frame looks like.
enum Frames {
    Addresses,
    BuildIds {
        size: u64,
        status: Member,
        build_id: Member,
        /// An offset or an address.
        offset: Member,
    },
}

impl Layout {
    fn new(btf: &Btf, map: &MapInfo) -> Result<Self, btf_layout::Error> {
        let stacks = btf.record("bpf_stack_map")?;
        let bucket = btf.record("stack_map_bucket")?;
        let frames = if map.flags & BUILD_IDS == 0 {
            Frames::Addresses
        } else {
            let frame = btf.record("bpf_stack_build_id")?;
            Frames::BuildIds {
                size: frame.size(),
                status: frame.member("status")?,
                build_id: frame.member("build_id")?,
                offset: frame.member("offset")?,
            }
        };
        Ok(Self {
            size: stacks.size(),
            n_buckets: stacks.member("n_buckets")?,
            buckets: stacks.member("buckets")?,
            nr: bucket.member("nr")?,
            data: bucket.member("data")?,
            frames,
        })
    }

    fn frame_size(&self) -> u64 {
        match &self.frames {
            Frames::Addresses => 8,
            Frames::BuildIds { size, .. } => (*size).max(1),
        }
    }
}

/// Visits the traces of `map` at `at`.
pub(crate) fn walk(
    target: &dyn Target,
    map: &MapInfo,
    at: Kva,
    walker: &mut Walker<'_, '_>,
) -> Result<(), Error> {
    let layout = Layout::new(target.btf(), map)?;
    let object = Copied::object(target, at, layout.size, "struct bpf_stack_map")?;
    let count = object.uint(&layout.n_buckets);
    let expected = u64::from(map.max_entries).next_power_of_two();
    if count != expected {
        let reason = Reason::Contradiction {
            what: "bpf_stack_map.n_buckets",
            expected,
            found: count,
        };
        walker.walk.gap(at, reason);
        return Ok(());
    }
    let most = target.memory_size() / POINTER;
    if count > most {
        let (what, value) = ("bpf_stack_map.n_buckets", count);
        walker.walk.gap(at, Reason::Absurd { what, value });
    }
    let mut traces = Traces {
        target,
        deepest: u64::from(map.value_size) / layout.frame_size(),
        layout: &layout,
        buf: Vec::new(),
        frames: Vec::new(),
    };
    let buckets = at.checked_add(layout.buckets.offset).unwrap_or(at);
    let each: &mut words::Each<'_> = &mut |id, _, pointer, walker| match pointer {
        0 => ControlFlow::Continue(()),
        pointer => traces.visit(id, Kva::new(pointer), walker),
    };
    // Whether the visitor ended the walk is noted in the walk.
    let _ = words::walk(target, buckets, 0, count.min(most), walker, each);
    Ok(())
}

/// The traces of one map, and buffers that are kept from one to the next.
struct Traces<'t> {
    target: &'t dyn Target,
    layout: &'t Layout,
    /// How many frames a trace can have.
    deepest: u64,
    buf: Vec<u8>,
    frames: Vec<Frame>,
}

impl Traces<'_> {
    /// Visits the trace of the bucket `id`, which is at `at`.
    fn visit(&mut self, id: u64, at: Kva, walker: &mut Walker<'_, '_>) -> ControlFlow<()> {
        let layout = self.layout;
        let head = layout.data.offset;
        let nr = match self.target.read_more(at, head, &mut self.buf) {
            Ok(()) => u32_at(&self.buf, layout.nr.offset).unwrap_or(0),
            Err(fault) => {
                walker.walk.fault(fault);
                return ControlFlow::Continue(());
            }
        };
        if u64::from(nr) > self.deepest {
            let reason = Reason::Contradiction {
                what: "stack_map_bucket.nr",
                expected: self.deepest,
                found: nr.into(),
            };
            walker.walk.gap(at, reason);
            return ControlFlow::Continue(());
        }
        let data = at.checked_add(head).unwrap_or(Kva::at(u64::MAX));
        let size = layout.frame_size();
        let read = self
            .target
            .read_more(data, u64::from(nr) * size, &mut self.buf);
        if let Err(fault) = read {
            walker.walk.fault(fault);
            if self.buf.is_empty() {
                return ControlFlow::Continue(());
            }
        }
        self.frames.clear();
        let step = usize::try_from(size).unwrap_or(usize::MAX);
        for raw in self.buf.chunks_exact(step) {
            match self.frame(raw) {
                Ok(frame) => self.frames.push(frame),
                Err(reason) => walker.walk.gap(GapAt::Index(id), reason),
            }
        }
        walker.visit(Entry::Stack {
            id: u32::try_from(id).unwrap_or(u32::MAX),
            frames: &self.frames,
        })
    }

    fn frame(&self, raw: &[u8]) -> Result<Frame, Reason> {
        let Frames::BuildIds {
            status,
            build_id,
            offset,
            ..
        } = &self.layout.frames
        else {
            let ip = u64_at(raw, 0).unwrap_or(0);
            let symbol = self.target.symbol_at(Kva::new(ip));
            return Ok(Frame::Address { ip, symbol });
        };
        let place = u64_at(raw, offset.offset).unwrap_or(0);
        let build_id = part(raw, build_id.offset, build_id.size).and_then(<[u8]>::first_chunk);
        match (u32_at(raw, status.offset), build_id) {
            (Some(STATUS_VALID), Some(build_id)) => Ok(Frame::BuildId {
                build_id: *build_id,
                offset: place,
            }),
            (Some(STATUS_IP), _) => Ok(Frame::NoBuildId { ip: place }),
            (status, _) => Err(Reason::Contradiction {
                what: "bpf_stack_build_id.status",
                expected: STATUS_VALID.into(),
                found: status.unwrap_or(0).into(),
            }),
        }
    }
}
