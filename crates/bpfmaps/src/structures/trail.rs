//! Lists and chains that may come back to where they were.

/// A way along links that sees when it comes back to where it was: Brent's, a
/// milestone that moves on at each power of two of the steps.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    milestone: Option<u64>,
    steps: u64,
    limit: u64,
}

impl Trail {
    /// Whether `at` was passed before; at the latest on the third round.
    pub(crate) fn comes_back(&mut self, at: u64) -> bool {
        if self.milestone == Some(at) {
            return true;
        }
        if self.steps == self.limit {
            *self = Self {
                milestone: Some(at),
                steps: 0,
                limit: self.limit.saturating_mul(2).max(1),
            };
        }
        self.steps += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_seen_and_ways_are_not() {
        let mut trail = Trail::default();
        assert!((0..1000).all(|at| !trail.comes_back(at)));
        for (before, length) in [(0, 1), (0, 7), (5, 1), (100, 3), (3, 100)] {
            let mut trail = Trail::default();
            let way = (0..before).chain((0..).map(|step| before + step % length));
            let seen = way.take_while(|&at| !trail.comes_back(at)).count() as u64;
            let most = 3 * (before + length) + 1;
            assert!(seen > before && seen <= most, "{before}, {length}: {seen}");
        }
    }
}
