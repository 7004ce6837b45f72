//! Bytes in hexadecimal, without allocation.

use std::fmt;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// For each byte, `0x` and its two digits.
const PREFIXED: [[u8; 4]; 256] = {
    let mut table = [*b"0x00"; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(
            clippy::indexing_slicing,
            reason = "both are in bounds, or this would not compile"
        )]
        {
            table[byte][2] = DIGITS[byte >> 4];
            table[byte][3] = DIGITS[byte & 0xf];
        }
        byte += 1;
    }
    table
};

/// How a byte is spelled in C: `0x1f`.
pub(crate) fn prefixed(byte: u8) -> [u8; 4] {
    PREFIXED.get(usize::from(byte)).copied().unwrap_or_default()
}

/// Prints bytes as one run of digits: `01ff`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Digits are handed on by the block: whoever takes them may have to
        // look at each call, but hardly at each byte.
        let mut block = [0; 512];
        for bytes in self.0.chunks(block.len() / 2) {
            let (pairs, _) = block.as_chunks_mut::<2>();
            for (pair, &byte) in pairs.iter_mut().zip(bytes) {
                let [.., high, low] = PREFIXED.get(usize::from(byte)).copied().unwrap_or_default();
                *pair = [high, low];
            }
            let digits = block.get(..bytes.len() * 2).unwrap_or_default();
            f.write_str(std::str::from_utf8(digits).unwrap_or_default())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_digits() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        let want: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(Hex(&bytes).to_string(), want);
        assert_eq!(Hex(&[]).to_string(), "");
        assert_eq!(&prefixed(0xa5), b"0xa5");
        assert_eq!(&prefixed(0), b"0x00");
    }
}
