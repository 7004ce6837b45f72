//! Enumerators by value, and flags.

use std::fmt;

/// The enumerators of an enum, ready to be looked up by value.
#[derive(Debug)]
pub(crate) struct EnumTable {
    /// By ascending bits, and in order of declaration where they are equal.
    /// The bits are those that memory has, without sign extension.
    names: Vec<(u64, Box<str>)>,
    /// The single bits, ascending, if values are sets of flags.
    flags: Vec<(u64, Box<str>)>,
    pub(crate) signed: bool,
    /// Which bits the enum's size has.
    mask: u64,
}

/// What an enum's value is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnumText<'a> {
    Name(&'a str),
    Flags(FlagSet<'a>),
    /// The value has no name.
    Number,
}

/// A set of flags, which prints as `A|B`, what has no name in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlagSet<'a> {
    flags: &'a [(u64, Box<str>)],
    bits: u64,
}

impl EnumTable {
    /// `values` in order of declaration, for an enum of `size` bytes.
    pub(crate) fn new(values: &[(&str, i128)], size: u32, signed: bool) -> Self {
        let mask = match size {
            0..8 => (1 << (size * 8)) - 1,
            _ => u64::MAX,
        };
        let mut names: Vec<(u64, Box<str>)> = values
            .iter()
            // What has no name is a number.
            .filter(|(name, _)| !name.is_empty())
            .map(|&(name, value)| (low_bits(value) & mask, name.into()))
            .collect();
        names.sort_by_key(|&(bits, _)| bits);
        Self {
            flags: flags(&names),
            names,
            signed,
            mask,
        }
    }

    /// The value's bits as memory of the enum's size would have them; a
    /// bit-field has fewer.
    pub(crate) fn extend(&self, bits: u64, len: u32) -> u64 {
        let extended = match (self.signed, len) {
            (true, 1..64) => {
                let shift = 64 - len;
                ((bits << shift).cast_signed() >> shift).cast_unsigned()
            }
            _ => bits,
        };
        extended & self.mask
    }

    /// The name of a value, as [`extend`](EnumTable::extend) gives it.
    pub(crate) fn text(&self, bits: u64) -> EnumText<'_> {
        if let Some(name) = self.exact(bits) {
            return EnumText::Name(name);
        }
        match self.flags.iter().any(|&(flag, _)| bits & flag != 0) {
            true => EnumText::Flags(FlagSet {
                flags: &self.flags,
                bits,
            }),
            false => EnumText::Number,
        }
    }

    /// The value as a number.
    pub(crate) fn number(&self, bits: u64) -> i128 {
        let sign = self.mask ^ (self.mask >> 1);
        match self.signed && bits & sign != 0 {
            true => i128::from(bits) - i128::from(self.mask) - 1,
            false => i128::from(bits),
        }
    }

    /// The first enumerator with this value.
    pub(crate) fn exact(&self, bits: u64) -> Option<&str> {
        let at = self.names.partition_point(|&(known, _)| known < bits);
        let (known, name) = self.names.get(at)?;
        (*known == bits).then_some(name)
    }

    /// The longest name, in characters.
    pub(crate) fn longest(&self) -> usize {
        let lengths = self.names.iter().map(|(_, name)| name.chars().count());
        lengths.max().unwrap_or(0)
    }
}

/// The single bits among the enumerators, if the enum looks like a set of
/// flags: every enumerator is made of single bits that are enumerators too,
/// there are two of these or more, and the values are no sequence.
fn flags(names: &[(u64, Box<str>)]) -> Vec<(u64, Box<str>)> {
    let mut single: Vec<(u64, Box<str>)> = names
        .iter()
        .filter(|(bits, _)| bits.is_power_of_two())
        .cloned()
        .collect();
    single.dedup_by_key(|&mut (bits, _)| bits);
    let covered = single.iter().fold(0, |all, &(bits, _)| all | bits);
    let sequence = names
        .windows(2)
        .all(|pair| matches!(pair, [(a, _), (b, _)] if b - a <= 1));
    let flags =
        single.len() >= 2 && !sequence && names.iter().all(|&(bits, _)| bits & !covered == 0);
    if flags { single } else { Vec::new() }
}

fn low_bits(value: i128) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = value.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

impl fmt::Display for FlagSet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.bits;
        let mut separator = "";
        for (flag, name) in self.flags {
            if rest & flag != 0 {
                write!(f, "{separator}{name}")?;
                rest &= !flag;
                separator = "|";
            }
        }
        match rest {
            0 => Ok(()),
            rest => write!(f, "{separator}{rest:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(values: &[(&str, i128)], size: u32, signed: bool, bits: u64) -> String {
        let table = EnumTable::new(values, size, signed);
        match table.text(bits) {
            EnumText::Name(name) => name.to_owned(),
            EnumText::Flags(flags) => flags.to_string(),
            EnumText::Number => bits.to_string(),
        }
    }

    #[test]
    fn values_have_names() {
        let color = [
            ("RED", 0),
            ("GREEN", 1),
            ("LIME", 1),
            ("BLUE", 2),
            ("NONE", -1),
        ];
        let check = |bits, name| assert_eq!(text(&color, 4, true, bits), name);
        check(1, "GREEN");
        check(0xffff_ffff, "NONE");
        check(3, "3");
        assert_eq!(text(&[("TOP", 1 << 63)], 8, false, 1 << 63), "TOP");
        assert_eq!(text(&[], 4, false, 9), "9");
    }

    #[test]
    fn sets_of_flags_are_told_from_sequences() {
        let flags = [("A", 1), ("B", 2), ("C", 4), ("AB", 3)];
        assert_eq!(text(&flags, 4, false, 5), "5", "1 to 4 without a hole");
        let flags = [("NONE", 0), ("A", 1), ("B", 2), ("D", 8), ("AD", 9)];
        let check = |bits, name| assert_eq!(text(&flags, 4, false, bits), name);
        check(0, "NONE");
        check(9, "AD");
        check(11, "A|B|D");
        check(0x1a, "B|D|0x10");
        check(0x30, "48");
        assert_eq!(text(&[("A", 1), ("B", 2), ("X", 20)], 4, false, 3), "3");
    }

    #[test]
    fn a_bit_field_of_a_signed_enum_is_extended() {
        let table = EnumTable::new(&[("MINUS", -3)], 4, true);
        assert_eq!(table.exact(table.extend(0b101, 3)), Some("MINUS"));
        let table = EnumTable::new(&[("FIVE", 5)], 4, false);
        assert_eq!(table.exact(table.extend(0b101, 3)), Some("FIVE"));
    }
}
