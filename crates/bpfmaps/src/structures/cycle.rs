//! Chains of pointers that come back to where they were, or are shared by so
//! many that following each of them would not end in reasonable time.

use std::cell::Cell;

use super::place::POINTER;

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

/// How many steps all chains of one kind may have that are followed in a walk:
/// as many as there can be pointers in memory. Entries each have a chain of
/// their own, of which corrupt ones could all lead into the same long one.
#[derive(Debug)]
pub(crate) struct Budget {
    all: u64,
    left: Cell<u64>,
}

impl Budget {
    pub(crate) fn of_memory(memory_size: u64) -> Self {
        let all = memory_size / POINTER;
        let left = Cell::new(all);
        Self { all, left }
    }

    /// Takes a step; or says how many there were, when they are used up.
    pub(crate) fn step(&self) -> Result<(), u64> {
        let left = self.left.get().checked_sub(1).ok_or(self.all)?;
        self.left.set(left);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends() {
        let budget = Budget::of_memory(16);
        let steps = [budget.step(), budget.step(), budget.step(), budget.step()];
        assert_eq!(steps, [Ok(()), Ok(()), Err(2), Err(2)]);
    }

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
