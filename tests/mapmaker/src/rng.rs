//! The source of every random byte: splitmix64, so that one seed always makes the same maps.

/// A stream of random numbers that depends on nothing but its seed and its label.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The stream for `label`. Streams are independent, so a map added to the plan
    /// does not change what the others hold.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        // FNV-1a over the label keeps equal seeds apart.
        let hash = label.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed ^ hash)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 if `bound` is 0).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next().checked_rem(bound).unwrap_or(0)
    }

    /// `len` bytes without structure.
    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }

    /// `len` bytes for a map's value. Large ones differ from page to page, so that a page
    /// out of its place shows, but compress well within each.
    pub(crate) fn value(&mut self, len: usize) -> Vec<u8> {
        const LARGE: usize = 64 << 10;
        const PAGE: usize = 4096;
        const UNIT: usize = 16;
        if len < LARGE {
            return self.bytes(len);
        }
        let mut out = Vec::with_capacity(len + PAGE);
        while out.len() < len {
            let unit = self.bytes(UNIT);
            for _ in 0..PAGE / UNIT {
                out.extend_from_slice(&unit);
            }
        }
        out.truncate(len);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn streams_repeat_and_differ() {
        assert_eq!(Rng::new(1, "a").bytes(20), Rng::new(1, "a").bytes(20));
        assert_ne!(Rng::new(1, "a").bytes(20), Rng::new(1, "b").bytes(20));
        assert_ne!(Rng::new(1, "a").bytes(20), Rng::new(2, "a").bytes(20));
    }

    #[test]
    fn values_have_the_length_asked_for() {
        for len in [0, 1, 13, 65_535, 65_536, 100_003] {
            assert_eq!(Rng::new(7, "x").value(len).len(), len);
        }
    }
}
