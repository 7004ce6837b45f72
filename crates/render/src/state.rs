//! What follows from the numbers in a map's state.

use bpfmaps::arena::Run;

/// How full a Bloom filter is, from 0 to 1, and how many elements that comes
/// to: an element sets `hash_functions` bits of its own or others' choice. A
/// full one does not tell.
pub(crate) fn fill(bits: u64, bits_set: u64, hash_functions: u32) -> (f64, Option<f64>) {
    if bits == 0 {
        return (0.0, None);
    }
    let fill = float(bits_set) / float(bits);
    let estimate = -(float(bits) / f64::from(hash_functions)) * (-fill).ln_1p();
    // No bit set gives a zero with a sign.
    (fill, estimate.is_finite().then_some(estimate.abs()))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a filter has no more bits than a float counts exactly"
)]
fn float(number: u64) -> f64 {
    number as f64
}

/// How many elements a queue or stack holds: its slots are a ring.
pub(crate) fn queue_len(head: u32, tail: u32, slots: u32) -> u64 {
    let (head, tail) = (u64::from(head), u64::from(tail));
    match head.checked_sub(tail) {
        Some(len) => len,
        None => head.saturating_add(u64::from(slots)).saturating_sub(tail),
    }
}

/// How many pages there are in runs of them.
pub(crate) fn pages(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.pages).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_tells_about_how_much_it_holds() {
        assert_eq!(fill(64, 0, 3), (0.0, Some(0.0)));
        let (fill_of_half, estimate) = fill(1024, 512, 2);
        assert_eq!(fill_of_half, 0.5);
        assert!((estimate.unwrap() - 512.0 * std::f64::consts::LN_2).abs() < 1e-9);
        assert_eq!(fill(64, 64, 3), (1.0, None));
        for hostile in [fill(0, 9, 1), fill(8, 9, 1), fill(8, 4, 0)] {
            assert_eq!(hostile.1, None);
        }
    }

    #[test]
    fn a_queue_goes_round() {
        assert_eq!(queue_len(3, 1, 5), 2);
        assert_eq!(queue_len(1, 3, 5), 3);
        assert_eq!(queue_len(2, 2, 5), 0);
        assert_eq!(queue_len(0, u32::MAX, 5), 0);
    }
}
