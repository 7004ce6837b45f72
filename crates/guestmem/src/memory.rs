//! The trait that every address space is read through.

use std::rc::Rc;
use std::sync::Arc;

use crate::{Address, Fault, Gpa};

/// Readable memory, addressed by `A`.
///
/// # Contract
///
/// [`read`](Memory::read) either fills the whole buffer, or returns the fault
/// of the *first* address that is unreadable. Every byte before that address
/// has then been written to the buffer; the rest of the buffer is unchanged.
/// An unreadable byte is never presented as a zero. An empty buffer always
/// succeeds. A read of any length may cross pages and regions.
pub trait Memory<A: Address> {
    /// Fills `buf` from `addr` on.
    ///
    /// # Errors
    ///
    /// The first unreadable address, and why.
    fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), Fault<A>>;
}

/// What a read of unknown extent brought: the bytes that were there, and the
/// fault that ended it, if one did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial<A: Address> {
    /// The readable bytes, from the start of the read.
    pub bytes: Vec<u8>,
    /// What ended the read early.
    pub fault: Option<Fault<A>>,
}

/// How much a growing read asks for at a time.
const GROWTH: usize = 1 << 20;

/// Convenience reads, for every [`Memory`]. Numbers are little-endian, as on
/// every architecture that this project reads.
pub trait MemoryExt<A: Address>: Memory<A> {
    /// Reads `N` bytes.
    ///
    /// # Errors
    ///
    /// The first unreadable address, and why.
    fn load<const N: usize>(&self, addr: A) -> Result<[u8; N], Fault<A>> {
        let mut buf = [0; N];
        self.read(addr, &mut buf)?;
        Ok(buf)
    }

    /// Reads one byte.
    ///
    /// # Errors
    ///
    /// The unreadable address, and why.
    fn load_u8(&self, addr: A) -> Result<u8, Fault<A>> {
        self.load(addr).map(u8::from_le_bytes)
    }

    /// Reads a little-endian `u32`.
    ///
    /// # Errors
    ///
    /// The first unreadable address, and why.
    fn load_u32(&self, addr: A) -> Result<u32, Fault<A>> {
        self.load(addr).map(u32::from_le_bytes)
    }

    /// Reads a little-endian `u64`.
    ///
    /// # Errors
    ///
    /// The first unreadable address, and why.
    fn load_u64(&self, addr: A) -> Result<u64, Fault<A>> {
        self.load(addr).map(u64::from_le_bytes)
    }

    /// Reads `len` bytes, as far as they are readable.
    ///
    /// The buffer grows with what is read: an absurd `len` over unreadable
    /// memory costs nothing.
    fn read_up_to(&self, addr: A, len: u64) -> Partial<A> {
        let mut bytes = Vec::new();
        let fault = self.read_more(addr, len, &mut bytes).err();
        Partial { bytes, fault }
    }

    /// Like [`read_up_to`](MemoryExt::read_up_to), into a buffer whose
    /// contents are replaced and whose allocation is kept.
    ///
    /// # Errors
    ///
    /// The first unreadable address, and why; the buffer then holds what
    /// precedes it.
    fn read_more(&self, addr: A, len: u64, bytes: &mut Vec<u8>) -> Result<(), Fault<A>> {
        let mut at = addr;
        let mut done = 0;
        let total = usize::try_from(len).unwrap_or(usize::MAX);
        loop {
            let step = (total - done).min(GROWTH);
            // The usual short read finds its buffer in the right size.
            if bytes.len() < done + step || total <= GROWTH {
                bytes.resize(done + step, 0);
            }
            let part = bytes.get_mut(done..done + step).unwrap_or_default();
            if let Err(fault) = self.read(at, part) {
                let good = fault.addr.checked_offset_from(addr).unwrap_or(0);
                bytes.truncate(usize::try_from(good).unwrap_or(0));
                return Err(fault);
            }
            done += step;
            if done == total {
                bytes.truncate(total);
                return Ok(());
            }
            match at.checked_add(step as u64) {
                Some(next) => at = next,
                None => {
                    bytes.truncate(done);
                    return Err(Fault::new(at, crate::Cause::EndOfSpace));
                }
            }
        }
    }

    /// Reads up to `max` bytes of a NUL-terminated string, without its NUL.
    ///
    /// # Errors
    ///
    /// The first unreadable address, if no NUL comes before it.
    fn read_cstr(&self, addr: A, max: usize) -> Result<Vec<u8>, Fault<A>> {
        let mut bytes = Vec::new();
        let read = self.read_more(addr, max as u64, &mut bytes);
        match bytes.iter().position(|&byte| byte == 0) {
            Some(nul) => bytes.truncate(nul),
            None => read?,
        }
        Ok(bytes)
    }
}

impl<A: Address, M: Memory<A> + ?Sized> MemoryExt<A> for M {}

/// A run of physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first address.
    pub start: Gpa,
    /// How many bytes; never 0.
    pub len: u64,
}

/// Physical memory that can be searched.
pub trait PhysicalMemory: Memory<Gpa> {
    /// The first run at or after `from` that may hold anything but zeros, or
    /// `None` if there is none.
    ///
    /// Holes of a sparse image are readable as zeros but are not part of a
    /// run, so that a search never touches them. Runs do not overlap, their
    /// bytes are backed, and each call returns a run that ends after `from`.
    fn next_data(&self, from: Gpa) -> Option<Span>;

    /// How many bytes of RAM the image stands for, holes included.
    fn size(&self) -> u64;

    /// The offset of the byte at `gpa` in the image's file, for images that
    /// may have several layouts.
    fn offset_of(&self, _gpa: Gpa) -> Option<u64> {
        None
    }

    /// The address of the byte at this offset of the image's file.
    fn gpa_of(&self, _offset: u64) -> Option<Gpa> {
        None
    }

    /// Whether the machine goes on while it is read.
    fn is_running(&self) -> bool {
        false
    }
}

/// Physical memory that several layers share.
pub type Physical = Rc<dyn PhysicalMemory>;

/// Whatever points at memory is memory.
macro_rules! forwarded {
    ($($pointer:ty),*) => {
        $(
            impl<A: Address, M: Memory<A> + ?Sized> Memory<A> for $pointer {
                fn read(&self, addr: A, buf: &mut [u8]) -> Result<(), Fault<A>> {
                    (**self).read(addr, buf)
                }
            }

            impl<M: PhysicalMemory + ?Sized> PhysicalMemory for $pointer {
                fn next_data(&self, from: Gpa) -> Option<Span> {
                    (**self).next_data(from)
                }

                fn size(&self) -> u64 {
                    (**self).size()
                }

                fn offset_of(&self, gpa: Gpa) -> Option<u64> {
                    (**self).offset_of(gpa)
                }

                fn gpa_of(&self, offset: u64) -> Option<Gpa> {
                    (**self).gpa_of(offset)
                }

                fn is_running(&self) -> bool {
                    (**self).is_running()
                }
            }
        )*
    };
}

forwarded!(&M, Box<M>, Rc<M>, Arc<M>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Cause, Fake};

    fn ram() -> Fake<Gpa> {
        Fake::new().with(Gpa::at(0x10), b"kernel\0rest")
    }

    #[test]
    fn strings_end_at_nul_max_or_fault() {
        assert_eq!(ram().read_cstr(Gpa::at(0x10), 64).unwrap(), b"kernel");
        assert_eq!(ram().read_cstr(Gpa::at(0x10), 3).unwrap(), b"ker");
        let fault = ram().read_cstr(Gpa::at(0x17), 64).unwrap_err();
        assert_eq!(fault.addr, Gpa::at(0x1b));
    }

    #[test]
    fn an_absurd_length_costs_what_is_there() {
        let partial = ram().read_up_to(Gpa::at(0x10), u64::MAX);
        assert_eq!(partial.bytes, b"kernel\0rest");
        let fault = partial.fault.unwrap();
        assert_eq!(fault.addr, Gpa::at(0x1b));
        assert_eq!(fault.cause, Cause::Unbacked { gpa: Gpa::at(0x1b) });
    }

    #[test]
    fn a_read_past_the_end_of_the_space_faults() {
        let top = Fake::new().with(Gpa::at(u64::MAX - 3), &[1, 2, 3]);
        let mut buf = [9; 8];
        let fault = top.read(Gpa::at(u64::MAX - 3), &mut buf).unwrap_err();
        assert_eq!(fault.addr, Gpa::at(u64::MAX));
        assert_eq!(buf, [1, 2, 3, 9, 9, 9, 9, 9]);
    }
}
