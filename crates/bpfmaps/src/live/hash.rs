//! The entries of hashes, in batches of whole buckets.
//!
//! The kernel copies each bucket under its lock and says which bucket comes
//! next. Elements never change their bucket, so whatever happens to others
//! meanwhile, an element that stays is delivered once. Neither this nor a
//! look-up of one key marks an element of an LRU hash as used.

use nix::errno::Errno;

use super::shape::{Shape, grow};
use super::sys::{End, OpenMap};
use crate::walk::Walker;
use crate::{GapAt, Reason};

/// How often a bucket that is locked by somebody else is tried again.
const ATTEMPTS: u32 = 100;

const OPERATION: &str = "BPF_MAP_LOOKUP_BATCH";

/// A hash that gives whole buckets.
pub(super) trait Buckets {
    /// As many buckets from `bucket` on as `keys` and `values` have room for:
    /// how many elements that are, the bucket that comes next or that stopped
    /// the batch, and how it ended.
    fn batch(&self, bucket: u32, keys: &mut [u8], values: &mut [u8]) -> (u32, u32, End);
}

/// Visits every element. `false` says that the kernel does not give this map
/// in batches, and that nothing was visited.
pub(super) fn walk(
    map: &impl Buckets,
    shape: &Shape<'_>,
    max_entries: u32,
    walker: &mut Walker<'_, '_>,
) -> bool {
    let mut room = shape.room(max_entries);
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let mut bucket = 0u32;
    let mut attempts = 0;
    loop {
        let sizes = room
            .checked_mul(shape.key_size())
            .zip(room.checked_mul(shape.value_len()));
        if !sizes.is_some_and(|(key, value)| grow(&mut keys, key) && grow(&mut values, value)) {
            walker.walk.gap(GapAt::Index(bucket.into()), shape.absurd());
            return true;
        }
        let (count, next, end) = map.batch(bucket, &mut keys, &mut values);
        let count = count as usize;
        let keys = keys.get(..count * shape.key_size()).unwrap_or_default();
        let values = values.get(..count * shape.value_len()).unwrap_or_default();
        if shape.visit_all(keys, values, walker).is_break() {
            return true;
        }
        if count > 0 || next > bucket {
            attempts = 0;
        }
        let first = walker.walk.visited == 0 && next == 0;
        match end {
            End::More if next > bucket => bucket = next,
            End::Last => return true,
            End::Refused(Errno::EINVAL | Errno::EOPNOTSUPP) if first => return false,
            // The kernel wants room for five elements, whatever is asked for.
            End::Stopped(Errno::ENOMEM) if first => return false,
            End::Refused(errno) if !is_passing(errno) || attempts == ATTEMPTS => {
                walker.walk.gap(GapAt::Map, refused(errno));
                return true;
            }
            // The bucket holds more than there is room for.
            End::Stopped(Errno::ENOSPC) if room <= max_entries as usize => {
                room = room.saturating_mul(2);
                bucket = next;
            }
            End::Stopped(errno) if !is_passing(errno) || attempts == ATTEMPTS => {
                walker.walk.gap(GapAt::Index(next.into()), refused(errno));
                bucket = next.saturating_add(1);
                attempts = 0;
            }
            End::Refused(_) | End::Stopped(_) => {
                attempts += 1;
                bucket = next;
                std::thread::yield_now();
            }
            // It says that there is more, but not where.
            End::More => {
                let (what, expected, found) = (OPERATION, bucket.into(), next.into());
                let reason = Reason::Contradiction {
                    what,
                    expected,
                    found,
                };
                walker.walk.gap(GapAt::Index(bucket.into()), reason);
                return true;
            }
        }
    }
}

impl Buckets for OpenMap {
    fn batch(&self, bucket: u32, keys: &mut [u8], values: &mut [u8]) -> (u32, u32, End) {
        let mut cursor = vec![0; self.cursor_len()];
        if let Some(number) = cursor.first_chunk_mut() {
            *number = bucket.to_ne_bytes();
        }
        let mut next = cursor.clone();
        let (count, end) = self.lookup_batch(Some(&cursor), &mut next, keys, values);
        // A batch that is not taken for done is asked for again.
        let next = match (end, next.first_chunk()) {
            (End::Refused(_), _) | (_, None) => bucket,
            (_, Some(&number)) => u32::from_ne_bytes(number),
        };
        (count, next, end)
    }
}

/// Whether it may be better the next time: a signal, or a bucket whose lock
/// is held, which kernels say in different ways.
fn is_passing(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINTR | Errno::EAGAIN | Errno::EBUSY | Errno::EDEADLK | Errno::ETIMEDOUT
    )
}

fn refused(errno: Errno) -> Reason {
    Reason::Refused {
        operation: OPERATION,
        errno,
    }
}

#[cfg(test)]
mod tests;
