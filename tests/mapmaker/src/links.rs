//! `linked.bpf.c`: objects in an arena that point at each other, and arenas without much in them.

use std::os::fd::AsFd;

use anyhow::{Context, Result, ensure};
use libbpf_rs::{MapCore, MapInfo};
use libbpf_sys::{BPF_F_MMAPABLE, BPF_MAP_TYPE_ARENA};

use crate::arena::{PAGE, state};
use crate::make::Maker;
use crate::memory::Mapping;
use crate::objects::find;
use crate::programs::Input;
use crate::sys::MapSpec;
use crate::truth::Told;

/// Makes them all.
///
/// # Errors
/// Fails if the kernel does.
pub(crate) fn make(maker: &mut Maker) -> Result<()> {
    linked(maker)?;
    edges(maker)
}

fn linked(maker: &mut Maker) -> Result<()> {
    /// Where the program looks for something and finds nothing.
    const NOWHERE: u64 = 40;
    let object = maker.load(maker.open("linked")?)?;
    let arena = find(&object, "arena")?;
    let start = MapInfo::new(arena.as_fd())?.info.map_extra;
    let rows = [("build", start), ("touch", start + NOWHERE * PAGE)];
    for (program, address) in rows {
        let result =
            maker
                .programs
                .run(&object, program, Input::Context(&address.to_le_bytes()))?;
        ensure!(result == 0, "{program} returned {result}");
    }
    let scratch = maker.kernel.member("bpf_arena", "scratch_page");
    let faulted: &[u64] = if scratch { &[NOWHERE] } else { &[] };
    let state = state(arena.max_entries(), &[(1, 2), (4, 6)], faulted);
    maker.tell(arena, Told::nothing().state(state))?;
    maker.hold(object);
    Ok(())
}

/// Arenas at the edges of what there can be.
fn edges(maker: &mut Maker) -> Result<()> {
    const PAGES: u32 = 16;
    let spec = |name, extra| MapSpec {
        kind: BPF_MAP_TYPE_ARENA,
        name,
        max_entries: PAGES,
        flags: BPF_F_MMAPABLE,
        extra,
        ..MapSpec::default()
    };
    // Nobody has mapped it, so that it has no addresses yet.
    let map = maker.create(&spec("arena_nowhere", 0))?;
    maker.tell(map, Told::nothing().state(state(PAGES, &[], &[])))?;

    // The last page ends where the lower half of an address does. None can go beyond.
    const TOP: u64 = (1 << 46) + (1 << 32);
    let len = u64::from(PAGES) * PAGE;
    let start = TOP - len;
    ensure!(
        maker.create(&spec("arena_beyond", start + PAGE)).is_err(),
        "an arena crosses 4 GiB"
    );
    let map = maker.create(&spec("arena_top", start))?;
    let mut memory = Mapping::arena(map.as_fd(), start, usize::try_from(len)?)?;
    memory.write(0, b"bottom")?;
    let last = usize::try_from(len - 3)?;
    memory.write(last, b"top").context("the last page")?;
    maker.hold(memory);
    let last = u64::from(PAGES) - 1;
    let state = state(PAGES, &[(0, 1), (last, 1)], &[]);
    maker.tell(map, Told::nothing().state(state))
}
