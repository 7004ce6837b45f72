//! Slots whose freeing waits for a grace period.

use btf_layout::{Btf, Kind};
use guestmem::{Address, ArenaPtr, Memory, MemoryExt};
use rustc_hash::FxHashSet;

use crate::error::{Error, Problem};
use crate::instances::Instance;
use crate::types::pointer;

/// The struct of lists of slots that wait for being freed.
pub const DEFERRED: &str = "scx_urcu";

/// Bytes from a slot's id to its link, where the BTF does not say.
const USUAL_LINK: u64 = 8;

/// Visits the ids of the slots in the lists of a [`DEFERRED`] struct: they are
/// still given out, though their users have let go of them. Of the arena,
/// `size` bytes exist.
///
/// # Errors
///
/// BTF without a member that is needed.
pub fn deferred(
    memory: &dyn Memory<ArenaPtr>,
    btf: &Btf,
    instance: &Instance,
    bytes: &[u8],
    size: u64,
    visit: &mut dyn FnMut(Result<ArenaPtr, Problem>),
) -> Result<(), Error> {
    let what = "slots that wait for being freed";
    let heads = btf.record_by_id(instance.ty)?.member("head")?;
    let link = match btf.find(Kind::Struct, "sdt_data") {
        Some(_) => btf.record("sdt_data")?.member("urcu_link")?.offset,
        None => USUAL_LINK,
    };
    let mut seen = FxHashSet::default();
    for head in 0..heads.size / 8 {
        let first = pointer(bytes, heads.offset.saturating_add(head * 8));
        let mut at = first.unwrap_or(ArenaPtr::new(0));
        while at.get() != 0 {
            if seen.len() as u64 > size / 8 || !seen.insert(at) {
                visit(Err(Problem::Twice { what, at }));
                break;
            }
            visit(Ok(at));
            match memory.load_u64(at.checked_add(link).unwrap_or(at)) {
                Ok(next) => at = ArenaPtr::new(next),
                Err(fault) => {
                    visit(Err(Problem::Unreadable { what, fault }));
                    break;
                }
            }
        }
    }
    Ok(())
}
