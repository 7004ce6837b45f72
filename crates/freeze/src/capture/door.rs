//! Memory that can be exchanged beneath its reader.

use std::cell::RefCell;

use guestmem::{Fault, Gpa, Memory, Physical, PhysicalMemory, Span};

/// Physical memory that is whatever it was set to last: a kernel that was
/// found in it once is read out of another copy without finding it anew.
pub(super) struct Door(RefCell<Physical>);

impl Door {
    pub(super) fn new(memory: Physical) -> Self {
        Self(RefCell::new(memory))
    }

    pub(super) fn set(&self, memory: Physical) {
        self.0.replace(memory);
    }
}

impl Memory<Gpa> for Door {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        self.0.borrow().read(addr, buf)
    }
}

impl PhysicalMemory for Door {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.0.borrow().next_data(from)
    }

    fn size(&self) -> u64 {
        self.0.borrow().size()
    }
}
