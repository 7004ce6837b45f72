//! What typed pointers say of arenas: the types of payloads, and which pages
//! they lead to.

use std::collections::BTreeMap;

use bpfmaps::MapInfo;

use super::{Payload, Purpose, Survey};
use crate::context::Context;
use crate::follow::{SlotPointer, scan};
use crate::{Budget, Options};

impl Survey<'_> {
    /// Looks at all pointers, in maps and in what they lead to.
    pub(super) fn read_pointers(
        &mut self,
        context: &Context<'_>,
        maps: &[MapInfo],
        options: &Options,
    ) {
        if options.follow == Budget::NONE || options.follow.objects == 0 {
            return;
        }
        let scan = scan(context, self, maps, options.follow);
        for (id, runs) in &scan.reached {
            let Some(surveyed) = self.arenas.get_mut(id) else {
                continue;
            };
            let window = *surveyed.arena.window();
            for run in runs {
                let start = window.user_address(run.pgoff);
                let len = run.pages.saturating_mul(window.page_size());
                if let Some(start) = start {
                    surveyed.account.mark(start, len, Purpose::Pointed);
                }
            }
        }
        if let Some(arena) = self.arenas.keys().next().filter(|_| scan.is_cut) {
            let text = "not every pointer was looked at: the budget is spent";
            self.failed.push((*arena, text.to_owned()));
        }
        let mut by_allocator: BTreeMap<usize, Vec<&SlotPointer>> = BTreeMap::new();
        for pointer in scan.slots.iter().filter(|pointer| pointer.offset == 0) {
            by_allocator
                .entry(pointer.allocator)
                .or_default()
                .push(pointer);
        }
        for (at, pointers) in by_allocator {
            self.type_by_pointers(at, &pointers);
        }
    }

    /// What all pointers to the start of payloads agree on, where it is a
    /// struct that a slot has room for.
    fn type_by_pointers(&mut self, at: usize, pointers: &[&SlotPointer]) {
        let Some(found) = self.allocators.get_mut(at) else {
            return;
        };
        let fitting = pointers
            .iter()
            .filter(|pointer| pointer.ty.size <= found.payload_size && pointer.ty.is_record());
        let mut names: Vec<&str> = Vec::new();
        let mut first = None;
        for pointer in fitting {
            first.get_or_insert(pointer);
            let name = pointer.ty.shape.name.as_str();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let Some(first) = first else {
            return;
        };
        found.payload = match names.len() {
            1 => Payload {
                shape: Some(first.ty.shape.clone()),
                from: Some(match first.map {
                    Some(map) => format!("pointer {} of map {map}", first.place),
                    None => format!("pointer {}", first.place),
                }),
                candidates: Vec::new(),
            },
            _ => Payload {
                shape: None,
                from: None,
                candidates: names.into_iter().map(str::to_owned).collect(),
            },
        };
    }
}
