//! What is known of registers and of the stack.

use super::insn::{ARGUMENTS, FRAME, REGISTERS};

/// What is known of 64 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Value {
    /// Nothing.
    #[default]
    Unknown,
    /// A number.
    Number(i32),
    /// One of several numbers.
    Integer,
    /// An address in the frame, from its end on.
    Frame(i32),
    /// An address in a map itself.
    Map { map: u32, offset: i32 },
    /// An address where something is kept.
    At(Place),
}

/// Where something is kept besides the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In the value of a data section's map.
    Section { map: u32, offset: i32 },
    /// In one of the values of a map.
    Element { map: u32, offset: i32 },
    /// In a slot of an allocator, from its payload's start on.
    Slot { site: usize, offset: i32 },
}

impl Place {
    /// The place so many bytes on.
    pub(crate) fn on(self, by: i32) -> Option<Self> {
        let mut moved = self;
        let (Self::Section { offset, .. }
        | Self::Element { offset, .. }
        | Self::Slot { offset, .. }) = &mut moved;
        *offset = offset.checked_add(by)?;
        Some(moved)
    }
}

impl Value {
    /// What holds of both. A number beside a pointer is a null pointer, or
    /// where one leads to on a way that is never gone.
    pub(crate) fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (a, b) if a.is_number() && b.is_number() => Self::Integer,
            (number, other) | (other, number) if number.is_number() => other,
            _ => Self::Unknown,
        }
    }

    /// Whether it is no pointer that leads anywhere.
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Self::Number(_) | Self::Integer)
    }

    /// The value so many bytes on.
    pub(crate) fn on(self, by: i32) -> Self {
        let moved = match self {
            Self::Unknown => None,
            Self::Number(number) => number.checked_add(by).map(Self::Number),
            Self::Integer => Some(self),
            Self::Frame(offset) => offset.checked_add(by).map(Self::Frame),
            Self::Map { map, offset } => {
                let offset = offset.checked_add(by);
                offset.map(|offset| Self::Map { map, offset })
            }
            Self::At(place) => place.on(by).map(Self::At),
        };
        moved.unwrap_or_default()
    }

    /// The sum of two values.
    pub(crate) fn add(self, other: Self) -> Self {
        match (self, other) {
            (value, Self::Number(by)) | (Self::Number(by), value) => value.on(by),
            // The elements of an array are in the map itself.
            (Self::Map { map, offset }, _) | (_, Self::Map { map, offset }) if offset > 0 => {
                Self::At(Place::Element { map, offset: 0 })
            }
            (Self::Integer, Self::Integer) => Self::Integer,
            _ => Self::Unknown,
        }
    }

    /// Its lower half, zeros before it. That is how the kernel's address of
    /// what an arena holds is kept.
    pub(crate) fn lower_half(self) -> Self {
        match self {
            Self::At(Place::Slot { .. }) | Self::Number(0..) => self,
            Self::Number(_) | Self::Integer => Self::Integer,
            _ => Self::Unknown,
        }
    }
}

/// What is known before an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    registers: [Value; REGISTERS],
    /// Words of the frame of which something is known, by ascending offset.
    frame: Vec<(i32, Value)>,
}

impl State {
    /// At the start of a function with these arguments.
    pub(crate) fn entry(arguments: [Value; ARGUMENTS]) -> Self {
        let mut state = Self {
            registers: [Value::Unknown; REGISTERS],
            frame: Vec::new(),
        };
        for (register, value) in (1..).zip(arguments) {
            state.set(register, value);
        }
        state.set(FRAME, Value::Frame(0));
        state
    }

    pub(crate) fn get(&self, register: u8) -> Value {
        let value = self.registers.get(usize::from(register));
        value.copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, register: u8, value: Value) {
        if let Some(to) = self.registers.get_mut(usize::from(register)) {
            *to = value;
        }
    }

    /// What the arguments of a call are.
    pub(crate) fn arguments(&self) -> [Value; ARGUMENTS] {
        [1, 2, 3, 4, 5].map(|register| self.get(register))
    }

    /// What the word at an offset of the frame is.
    pub(crate) fn word(&self, offset: i32) -> Value {
        let found = self.frame.binary_search_by_key(&offset, |word| word.0);
        let found = found.ok().and_then(|at| self.frame.get(at));
        found.map_or(Value::Unknown, |word| word.1)
    }

    /// Writes to the frame.
    pub(crate) fn write(&mut self, offset: i32, size: u8, value: Value) {
        let end = offset.saturating_add(size.into());
        self.frame
            .retain(|(at, _)| at.saturating_add(8) <= offset || *at >= end);
        // The kernel's frames have 512 bytes.
        if size == 8 && value != Value::Unknown && (-512..0).contains(&offset) {
            let at = self.frame.partition_point(|(at, _)| *at < offset);
            self.frame.insert(at, (offset, value));
        }
    }

    /// Forgets the frame from an offset on, which somebody else may write to.
    pub(crate) fn forget(&mut self, offset: i32) {
        self.frame.retain(|(at, _)| at.saturating_add(8) <= offset);
    }

    /// The words of the frame from an offset on.
    pub(crate) fn words(&self, from: i32) -> impl Iterator<Item = (i32, Value)> {
        let known = self.frame.iter().copied();
        known.filter(move |(at, _)| *at >= from)
    }

    /// Forgets what a call does not keep.
    pub(crate) fn clobber(&mut self) {
        for register in 0..=5 {
            self.set(register, Value::Unknown);
        }
    }

    /// Takes in what is known on another way to the same instruction;
    /// whether that changes anything.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (here, there) in self.registers.iter_mut().zip(other.registers) {
            let joined = here.join(there);
            changed |= joined != *here;
            *here = joined;
        }
        let before = self.frame.len();
        self.frame.retain_mut(|(at, value)| {
            let joined = value.join(other.word(*at));
            changed |= joined != *value;
            *value = joined;
            joined != Value::Unknown
        });
        changed || self.frame.len() != before
    }
}
