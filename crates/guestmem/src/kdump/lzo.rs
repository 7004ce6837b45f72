//! LZO1X, as the kernel's `Documentation/staging/lzo.rst` describes it.
//!
//! A page is a list of instructions: each copies bytes that were unpacked
//! before (a match), then a few bytes that follow it (literals). How an
//! instruction below 16 is meant depends on how many literals came before it.

/// In place of a number of literals before an instruction: four or more.
const MANY: usize = 4;

/// Unpacks `packed`, which must fill `page` exactly.
pub(super) fn unpack(packed: &[u8], page: &mut [u8]) -> Option<()> {
    let mut input = Input(packed);
    let mut output = Output { page, len: 0 };
    let mut before = 0;
    if let Some(&first) = packed.first().filter(|&&first| first > 17) {
        input.byte()?;
        let count = usize::from(first - 17);
        output.literals(&mut input, count)?;
        before = count.min(MANY);
    }
    loop {
        let instruction = input.byte()?;
        let (distance, len, literals) = match instruction {
            0x40.. => {
                let distance = (input.byte()? << 3) + (instruction >> 2 & 7) + 1;
                (distance, (instruction >> 5) + 1, instruction & 3)
            }
            0x20.. => {
                let len = input.length(instruction & 31, 31)? + 2;
                let word = input.byte()? | input.byte()? << 8;
                ((word >> 2) + 1, len, word & 3)
            }
            0x10.. => {
                let len = input.length(instruction & 7, 7)? + 2;
                let word = input.byte()? | input.byte()? << 8;
                let distance = ((instruction & 8) << 11) + (word >> 2);
                if distance == 0 {
                    let is_end = input.0.is_empty() && output.is_full();
                    return is_end.then_some(());
                }
                (distance + 0x4000, len, word & 3)
            }
            _ if before == 0 => {
                let count = input.length(instruction, 15)? + 3;
                output.literals(&mut input, count)?;
                before = MANY;
                continue;
            }
            _ => {
                let distance = (input.byte()? << 2) + (instruction >> 2) + 1;
                match before {
                    MANY => (distance + 0x800, 3, instruction & 3),
                    _ => (distance, 2, instruction & 3),
                }
            }
        };
        output.repeat(distance, len)?;
        output.literals(&mut input, literals)?;
        before = literals;
    }
}

/// What is not read yet.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<usize> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(usize::from(byte))
    }

    /// The length `short` of an instruction; 0 means that it is more than
    /// `most` and follows, in bytes of 0 for 255 each and a last one.
    fn length(&mut self, short: usize, most: usize) -> Option<usize> {
        if short > 0 {
            return Some(short);
        }
        let mut len = most;
        loop {
            match self.byte()? {
                0 => len = len.checked_add(255)?,
                last => return len.checked_add(last),
            }
        }
    }
}

/// What is unpacked so far.
struct Output<'a> {
    page: &'a mut [u8],
    len: usize,
}

impl Output<'_> {
    fn is_full(&self) -> bool {
        self.len == self.page.len()
    }

    fn literals(&mut self, input: &mut Input<'_>, count: usize) -> Option<()> {
        let (bytes, rest) = input.0.split_at_checked(count)?;
        let end = self.len.checked_add(count)?;
        self.page.get_mut(self.len..end)?.copy_from_slice(bytes);
        input.0 = rest;
        self.len = end;
        Some(())
    }

    fn repeat(&mut self, distance: usize, len: usize) -> Option<()> {
        let from = self.len.checked_sub(distance)?;
        let end = self.len.checked_add(len)?;
        let known = self.page.get_mut(from..end)?;
        if distance >= len {
            known.copy_within(..len, distance);
        } else {
            // The match reaches into what it makes.
            for at in distance..known.len() {
                let byte = known.get(at - distance).copied()?;
                *known.get_mut(at)? = byte;
            }
        }
        self.len = end;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(packed: &[u8], expected: Option<&[u8]>) {
        let mut page = vec![0; expected.map_or(64, <[u8]>::len)];
        let done = unpack(packed, &mut page);
        assert_eq!(done.map(|()| page.as_slice()), expected, "{packed:x?}");
    }

    #[test]
    fn instructions() {
        const END: [u8; 3] = [0x11, 0, 0];
        let with = |bytes: &[u8]| [bytes, &END].concat();
        check(&END, Some(b""));
        // Literals: short, as a first byte, and long.
        check(&with(b"\x15abcd"), Some(b"abcd"));
        check(&with(b"\x01abcd"), Some(b"abcd"));
        check(
            &with(&[b"\0\x01".as_slice(), &[7; 19]].concat()),
            Some(&[7; 19]),
        );
        // Matches of each kind, and one that reaches into itself.
        check(&with(b"\x15abcd\x6c\0"), Some(b"abcdabcd"));
        check(&with(b"\x15abcd\x22\x0c\0"), Some(b"abcdabcd"));
        check(&with(b"\x13ab\x04\0\x13xy"), None);
        check(&with(b"\x13ab\x04\0"), Some(b"abab"));
        check(&with(b"\x14abc\x09\0z"), Some(b"abcabz"));
        check(&with(b"\x12a\x20\x01\0\0"), Some(&[b'a'; 35]));
        // What goes out of bounds, on either side.
        check(&with(b"\x15abcd\x6c\x01"), None);
        check(&with(b"\x15abcd\x01\0"), None);
        check(b"\x15abcd", None);
        check(b"\x15ab", None);
        check(&[0; 4096], None);
        check(&with(b"\x12a\x20\0\0\0\x01\0\0"), None);
        check(&[END.as_slice(), b"more"].concat(), None);
        check(b"", None);
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            runs in prop::collection::vec((any::<u8>(), 1usize..600, 0u8..4), 1..12),
        ) {
            let mut page = Vec::new();
            for (byte, len, step) in runs {
                page.extend((0..len).map(|at| {
                    byte.wrapping_add(step.wrapping_mul(u8::try_from(at % 256).unwrap()))
                }));
            }
            let packed = lzokay_native::compress(&page).unwrap();
            let mut unpacked = vec![0; page.len()];
            prop_assert_eq!(unpack(&packed, &mut unpacked), Some(()));
            prop_assert_eq!(unpacked, page);
        }

        #[test]
        fn noise_does_no_harm(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = unpack(&noise, &mut [0; 4096]);
        }
    }
}
