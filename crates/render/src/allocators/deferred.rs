//! Slots that their owners have let go of, and that wait for a grace period.

use guestmem::ArenaPtr;
use rustc_hash::FxHashSet;

use super::sections::Section;
use super::slots::is_in_use;
use super::{Survey, size};

impl Survey<'_> {
    /// Marks them, by the lists that the programs keep of them.
    pub(super) fn mark_deferred(&mut self, sections: &[Section]) {
        for section in sections {
            for (instance, bytes) in section.deferred() {
                for id in &section.arenas {
                    let Some(surveyed) = self.arenas.get_mut(id) else {
                        continue;
                    };
                    let mut ids: FxHashSet<ArenaPtr> = FxHashSet::default();
                    let mut failed = None;
                    let (arena, btf) = (&surveyed.arena, &section.btf);
                    let read = sdt_alloc::deferred(
                        arena,
                        btf,
                        instance,
                        bytes,
                        size(arena),
                        &mut |found| match found {
                            Ok(id) => {
                                ids.insert(id);
                            }
                            Err(problem) => failed = Some(problem.to_string()),
                        },
                    );
                    let failed = failed.or_else(|| read.err().map(|error| error.to_string()));
                    if let Some(why) = failed {
                        let text = format!("{}: {why}", instance.symbol);
                        self.failed.push((section.map, text));
                    }
                    for of in &mut surveyed.slots {
                        let waits = of.slot.id.is_some_and(|id| ids.contains(&id));
                        if waits && is_in_use(&of.slot) && !of.deferred {
                            of.deferred = true;
                            if let Some(found) = self.allocators.get_mut(of.allocator) {
                                found.counts.deferred += 1;
                            }
                        }
                    }
                }
            }
        }
    }
}
