//! The physical memory that an ELF core's segments hold.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::headers::Segment;
use crate::absence::{Absence, AbsentRun, absence_at};
use crate::{Address, CaptureNote, Cause, Fault, Gpa, Memory, PhysicalMemory, RawImage};
use crate::{Region, Regions, Span};

/// The memory of an ELF core.
#[derive(Debug)]
pub(super) struct ElfCore {
    /// The parts that the file has; none if it has none at all.
    held: Option<RawImage>,
    /// Parts that the headers name and the file has not.
    absent: Vec<AbsentRun>,
    /// What is known of all other parts, if a capture made it.
    capture: Option<CaptureNote>,
    size: u64,
}

impl ElfCore {
    /// The memory that `segments` make of `file`.
    pub(super) fn new(
        file: &RawImage,
        segments: Vec<Segment>,
        capture: Option<CaptureNote>,
    ) -> Self {
        let len = file.file_len();
        let runs = segments.iter().flat_map(|segment| Run::of(segment, len));
        let pieces = disjoint(runs.collect());
        drop(segments);
        let (mut regions, mut absent, mut size) = (Vec::new(), Vec::new(), 0);
        for Run { start, end, part } in pieces {
            size += end - start;
            match part {
                Part::Held { offset } => regions.push(Region {
                    file_offset: offset,
                    gpa: Gpa::new(start),
                    len: end - start,
                }),
                Part::Absent(why) => absent.push(AbsentRun {
                    start: Gpa::new(start),
                    end: Gpa::new(end),
                    why,
                }),
            }
        }
        // They are in the file and disjoint: nothing but their absence is
        // refused.
        let held = Regions::new(regions, len).ok();
        Self {
            held: held.map(|regions| file.laid_out(regions)),
            absent,
            size: capture.as_ref().map_or(size, CaptureNote::size),
            capture,
        }
    }

    /// How many bytes of it the file has.
    pub(super) fn held(&self) -> u64 {
        self.held.as_ref().map_or(0, PhysicalMemory::size)
    }

    /// Why `gpa`, which the file has not, is not there.
    fn cause(&self, gpa: Gpa) -> Cause {
        match (absence_at(&self.absent, gpa), &self.capture) {
            (Some(why), _) => why.cause(gpa),
            (None, Some(capture)) => capture.cause(gpa),
            (None, None) => Cause::Unbacked { gpa },
        }
    }
}

impl Memory<Gpa> for ElfCore {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let read = match &self.held {
            Some(held) => held.read(addr, buf),
            None if buf.is_empty() => Ok(()),
            None => Err(Fault::new(addr, Cause::Unbacked { gpa: addr })),
        };
        read.map_err(|fault| match fault.cause {
            Cause::Unbacked { gpa } => Fault::new(gpa, self.cause(gpa)),
            _ => fault,
        })
    }
}

impl PhysicalMemory for ElfCore {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.held.as_ref()?.next_data(from)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Physical addresses that have the same to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    start: u64,
    /// The first address behind it, above `start`.
    end: u64,
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// It is in the file from here on.
    Held { offset: u64 },
    /// It is not in the file.
    Absent(Absence),
}

impl Run {
    /// The parts of `segment` in a file of `len` bytes: what the file has,
    /// what it had when it was whole, what the dumper left out.
    fn of(segment: &Segment, len: u64) -> impl Iterator<Item = Self> + use<> {
        let Segment { offset, start, .. } = *segment;
        let (held, promised) = (segment.held(len), segment.promised());
        let parts = [
            (0, held, Part::Held { offset }),
            (held, promised, Part::Absent(Absence::Vanished)),
            (promised, segment.in_memory, Part::Absent(Absence::Excluded)),
        ];
        parts
            .into_iter()
            .filter(|(from, until, _)| from < until)
            .map(move |(from, until, part)| Self {
                start: start + from,
                end: start + until,
                part,
            })
    }

    /// Which of two that overlap is believed: the one that the file has, then
    /// the larger one, as `/proc/vmcore` has the kernel's image twice.
    fn weight(&self) -> (bool, u64) {
        let held = matches!(self.part, Part::Held { .. });
        (held, self.end - self.start)
    }

    /// The part of it from `start` to `end`, which lie in it.
    fn cut(self, start: u64, end: u64) -> Self {
        let part = match self.part {
            Part::Held { offset } => Part::Held {
                offset: offset + (start - self.start),
            },
            absent @ Part::Absent(_) => absent,
        };
        Self { start, end, part }
    }
}

/// The same addresses, each once, by address.
fn disjoint(mut runs: Vec<Run>) -> Vec<Run> {
    runs.sort_by_key(|run| run.start);
    let mut pieces: Vec<Run> = Vec::new();
    // The runs that hold `at`, the one to believe first; of equals the first.
    let mut open: BinaryHeap<((bool, u64), Reverse<usize>)> = BinaryHeap::new();
    let mut coming = runs.iter().enumerate().peekable();
    // The run that the last piece is of.
    let mut last = None;
    let mut at = 0;
    loop {
        while let Some((index, run)) = coming.next_if(|(_, run)| run.start <= at) {
            open.push((run.weight(), Reverse(index)));
        }
        let next = coming.peek().map(|(_, run)| run.start);
        let Some(&(_, Reverse(index))) = open.peek() else {
            match next {
                Some(start) => at = start,
                None => return pieces,
            }
            continue;
        };
        let Some(run) = runs.get(index).filter(|run| run.end > at) else {
            open.pop();
            continue;
        };
        let until = next.map_or(run.end, |next| next.min(run.end));
        match pieces.last_mut() {
            Some(piece) if last == Some(index) && piece.end == at => piece.end = until,
            _ => pieces.push(run.cut(at, until)),
        }
        last = Some(index);
        at = until;
    }
}
