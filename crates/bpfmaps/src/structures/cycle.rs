//! Chains of pointers that come back to where they were.

/// Notices that a chain is a cycle, by Brent's way: it compares with a
/// milestone that moves on at each power of two of the steps. So a cycle is
/// left after a few rounds at most, and nothing is collected.
#[derive(Debug)]
pub(crate) struct Milestone {
    at: Option<u64>,
    steps: u64,
    limit: u64,
}

impl Milestone {
    pub(crate) fn new() -> Self {
        Self {
            at: None,
            steps: 0,
            limit: 1,
        }
    }

    /// Takes the next pointer of the chain; whether it was there before.
    pub(crate) fn repeats(&mut self, pointer: u64) -> bool {
        if self.at == Some(pointer) {
            return true;
        }
        self.steps += 1;
        if self.steps == self.limit {
            (self.at, self.steps) = (Some(pointer), 0);
            self.limit = self.limit.saturating_mul(2);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pointers of a chain are passed before it is seen to repeat.
    fn check(tail: u64, cycle: u64) -> u64 {
        let mut milestone = Milestone::new();
        let chain = (0..tail).chain((tail..tail + cycle).cycle());
        let passed = chain.take_while(|&at| !milestone.repeats(at)).count();
        u64::try_from(passed).unwrap()
    }

    #[test]
    fn a_cycle_is_left_after_a_few_rounds() {
        for (tail, cycle) in [(0, 1), (0, 7), (1, 1), (5, 3), (1000, 1), (3, 1000)] {
            let passed = check(tail, cycle);
            assert!(passed >= tail + cycle, "{tail} {cycle}: {passed}");
            assert!(passed <= 4 * (tail + cycle), "{tail} {cycle}: {passed}");
        }
    }

    #[test]
    fn a_chain_that_ends_is_passed_whole() {
        let mut milestone = Milestone::new();
        assert!((0..10_000).all(|at| !milestone.repeats(at)));
    }
}
