//! One type for each address space, so that the compiler keeps them apart.

use std::fmt;

/// An address in one particular address space.
///
/// There is no `+`: sums come from a hostile guest and may overflow, so they
/// are [`checked_add`](Address::checked_add)ed.
pub trait Address: Copy + Eq + Ord + fmt::Debug + fmt::Display + 'static {
    /// The address with this numeric value.
    fn new(raw: u64) -> Self;

    /// The numeric value.
    fn get(self) -> u64;

    /// The address `offset` bytes on, or `None` past the end of the space.
    fn checked_add(self, offset: u64) -> Option<Self> {
        self.get().checked_add(offset).map(Self::new)
    }

    /// How many bytes `self` lies behind `start`, or `None` if it lies before.
    fn checked_offset_from(self, start: Self) -> Option<u64> {
        self.get().checked_sub(start.get())
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this numeric value (usable in constants).
            #[must_use]
            pub const fn at(raw: u64) -> Self {
                Self(raw)
            }
        }

        impl Address for $name {
            fn new(raw: u64) -> Self {
                Self(raw)
            }

            fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }
    };
}

address! {
    /// A guest-physical address: an index into the machine's RAM as the
    /// machine itself numbers it, holes included.
    Gpa
}

address! {
    /// A kernel-virtual address, to be translated by the kernel's page tables.
    Kva
}

address! {
    /// A user address inside a BPF arena, as arena pointers are stored.
    ArenaPtr
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_wrap() {
        assert_eq!(Kva::new(u64::MAX).checked_add(1), None);
        assert_eq!(Gpa::new(1).checked_offset_from(Gpa::new(2)), None);
        assert_eq!(Gpa::new(3).checked_offset_from(Gpa::new(2)), Some(1));
        assert_eq!(Kva::at(0xffff).to_string(), "0xffff");
        assert_eq!(format!("{:?}", Gpa::at(16)), "Gpa(0x10)");
    }
}
