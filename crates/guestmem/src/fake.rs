//! Memory made by hand, for tests.

use std::collections::BTreeMap;

use crate::{Address, Cause, Fault, Gpa, Memory, PhysicalMemory, Span};

/// Memory that holds exactly what a test put into it. Everything else is
/// [`Cause::Unbacked`].
#[derive(Clone, Debug, Default)]
pub struct Fake<A: Address> {
    /// Disjoint, non-adjacent segments by their start.
    segments: BTreeMap<u64, Vec<u8>>,
    space: std::marker::PhantomData<A>,
}

impl<A: Address> Fake<A> {
    /// Memory with nothing in it.
    #[must_use]
    pub fn new() -> Self {
        Self {
            segments: BTreeMap::new(),
            space: std::marker::PhantomData,
        }
    }

    /// The same memory with `bytes` at `addr`, over what was there.
    #[must_use]
    pub fn with(mut self, addr: A, bytes: &[u8]) -> Self {
        self.write(addr, bytes);
        self
    }

    /// Puts `bytes` at `addr`, over what was there.
    pub fn write(&mut self, addr: A, bytes: &[u8]) {
        let mut start = addr.get();
        let mut merged = bytes.to_vec();
        let end = start.saturating_add(bytes.len() as u64);
        let touching: Vec<u64> = self
            .segments
            .range(..=end)
            .filter(|(at, old)| **at + old.len() as u64 >= start)
            .map(|(at, _)| *at)
            .collect();
        for at in touching {
            let Some(old) = self.segments.remove(&at) else {
                continue;
            };
            if at < start {
                let keep = usize::try_from(start - at).unwrap_or(usize::MAX);
                let mut joined = old.get(..keep).unwrap_or(&old).to_vec();
                joined.extend_from_slice(&merged);
                merged = joined;
            }
            let old_end = at + old.len() as u64;
            if old_end > end {
                let tail = usize::try_from(end.saturating_sub(at)).unwrap_or(0);
                merged.extend_from_slice(old.get(tail..).unwrap_or_default());
            }
            start = start.min(at);
        }
        self.segments.insert(start, merged);
    }

    /// Puts a little-endian `u64` at `addr`.
    pub fn write_u64(&mut self, addr: A, value: u64) {
        self.write(addr, &value.to_le_bytes());
    }

    /// Puts a little-endian `u32` at `addr`.
    pub fn write_u32(&mut self, addr: A, value: u32) {
        self.write(addr, &value.to_le_bytes());
    }
}

impl<A: Address> Memory<A> for Fake<A> {
    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), Fault<A>> {
        if buf.is_empty() {
            return Ok(());
        }
        // Segments never touch, so one segment serves all that is readable.
        let segment = self.segments.range(..=addr.get()).next_back();
        let present = segment
            .and_then(|(start, bytes)| {
                let skip = usize::try_from(addr.get() - start).ok()?;
                bytes.get(skip..)
            })
            .unwrap_or_default();
        let served = present.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(present) {
            *to = *from;
        }
        if served == buf.len() {
            return Ok(());
        }
        match addr.checked_add(served as u64) {
            Some(at) => Err(Fault::new(
                at,
                Cause::Unbacked {
                    gpa: Gpa::new(at.get()),
                },
            )),
            None => Err(Fault::new(addr, Cause::EndOfSpace)),
        }
    }
}

impl PhysicalMemory for Fake<Gpa> {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.segments.iter().find_map(|(&start, bytes)| {
            let end = start + bytes.len() as u64;
            let first = start.max(from.get());
            (first < end).then(|| Span {
                start: Gpa::new(first),
                len: end - first,
            })
        })
    }

    fn size(&self) -> u64 {
        self.segments.values().map(|bytes| bytes.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_overlap_and_join() {
        let ram = Fake::new()
            .with(Gpa::at(4), b"aaaa")
            .with(Gpa::at(8), b"bbbb")
            .with(Gpa::at(6), b"cc")
            .with(Gpa::at(20), b"z");
        let mut buf = [0; 8];
        ram.read(Gpa::at(4), &mut buf).unwrap();
        assert_eq!(&buf, b"aaccbbbb");
        assert_eq!(ram.size(), 9);
        let run = ram.next_data(Gpa::at(5)).unwrap();
        assert_eq!((run.start, run.len), (Gpa::at(5), 7));
        assert_eq!(ram.next_data(Gpa::at(21)), None);
    }
}
