//! The state of a map as a whole, in a line.

use bpfmaps::arena::Run;
use bpfmaps::{MapState, PagesFrom};

use super::count;
use crate::state::{fill, pages, queue_len};

/// The line.
pub(super) fn text(state: &MapState) -> String {
    match state {
        MapState::RingBuffer {
            size,
            consumer_pos,
            producer_pos,
            overwrite_pos,
            overwrite,
            ..
        } => {
            // What was overwritten cannot be read any more.
            let lost = overwrite_pos.filter(|_| *overwrite).unwrap_or(0);
            let unread = producer_pos.saturating_sub(lost.max(*consumer_pos));
            let overwrites = match overwrite {
                true => ", the oldest overwritten",
                false => "",
            };
            format!(
                "ring of {size} bytes, {unread} unread: consumer at {consumer_pos}, producer at \
                 {producer_pos}{overwrites}"
            )
        }
        MapState::Bloom {
            bits,
            bits_set,
            hash_functions,
        } => {
            let (fill, estimate) = fill(*bits, *bits_set, *hash_functions);
            let functions = count(
                u64::from(*hash_functions),
                "hash function",
                "hash functions",
            );
            let holds = match estimate {
                Some(estimate) => format!("about {estimate:.0} elements"),
                None => "too full to tell of how many elements".to_owned(),
            };
            format!(
                "Bloom filter of {bits} bits, {:.1} % set by {functions}: {holds}",
                fill * 100.0
            )
        }
        MapState::Queue { head, tail, slots } => {
            let capacity = slots.saturating_sub(1);
            let len = queue_len(*head, *tail, *slots);
            format!("{len} of {capacity} elements: head {head}, tail {tail}")
        }
        MapState::StructOps {
            state,
            refcount,
            name,
        } => {
            let name = name.as_deref().unwrap_or("struct_ops");
            format!(
                "{name} {state}, {}",
                count(*refcount, "reference", "references")
            )
        }
        MapState::Arena {
            user_start,
            declared_pages,
            runs,
            faulted,
            complete,
            pages_from,
            ..
        } => {
            let place = match user_start {
                Some(at) => format!("at {at}"),
                None => "that nobody has mapped".to_owned(),
            };
            let unknown = if *complete {
                ""
            } else {
                "; others are unknown"
            };
            let source = match pages_from {
                PagesFrom::PageTables => String::new(),
                other => format!(", by {other}"),
            };
            format!(
                "{} of {declared_pages} {place}{source}{}{}{unknown}",
                count(pages(runs), "page", "pages"),
                list(": ", runs),
                list("; touched, not allocated: ", faulted),
            )
        }
        _ => "a state of a kind that is not rendered".to_owned(),
    }
}

/// How many runs of pages a line names.
const NAMED_RUNS: usize = 8;

/// Pages by number, as ranges.
fn list(before: &str, runs: &[Run]) -> String {
    let named = runs.iter().take(NAMED_RUNS).map(|run| match run.pages {
        1 => run.pgoff.to_string(),
        pages => format!("{}-{}", run.pgoff, run.pgoff + pages - 1),
    });
    let named: Vec<String> = named.collect();
    let more = match runs.len().saturating_sub(NAMED_RUNS) {
        0 => String::new(),
        more => format!(" and {}", count(more as u64, "further run", "further runs")),
    };
    match runs {
        [] => String::new(),
        _ => format!("{before}{}{more}", named.join(",")),
    }
}
