//! What each witness says, read and parsed.

use std::collections::BTreeMap;

use crate::documents::{About, Dump, Maps, ToolMap, Truth, TruthMap};
use crate::guest::{Guest, parse};

/// Values up to this length are short enough for bpftool in every guest.
const SHORT: usize = 1_000_000;

/// A map of bpfreeze in the guest, used by a program that may sleep. It has ended, but the kernel
/// frees such things when no program that may sleep runs any more, and some of the map maker's
/// run for ever: they hold records of rings busy.
pub(crate) const LEFT_BEHIND: &str = "bpfreeze";

pub(crate) fn by_id<T>(maps: Vec<T>, id: impl Fn(&T) -> u32) -> BTreeMap<u32, T> {
    let count = maps.len();
    let maps: BTreeMap<u32, T> = maps.into_iter().map(|map| (id(&map), map)).collect();
    assert_eq!(maps.len(), count, "an id is told twice");
    maps
}

pub(crate) fn truth(guest: &Guest) -> (usize, BTreeMap<u32, TruthMap>) {
    let truth: Truth = guest.document("truth.json");
    (truth.possible_cpus, by_id(truth.maps, |map| map.id))
}

/// A way to the maps of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// From its memory alone.
    Guest,
    /// By bpf(2), in the guest while it ran.
    Live,
    /// From the running kernel's memory alone, in the guest.
    Kcore,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Live => "live",
            Self::Kcore => "kcore",
        }
    }

    /// Whether it sees what bpf(2) does not tell.
    pub(crate) fn sees_memory(self) -> bool {
        self != Self::Live
    }

    /// What a command of bpfreeze says, run by this way.
    pub(crate) fn witness(self, command: &str) -> String {
        format!("{}-{command}", self.name())
    }

    /// All maps with their contents.
    pub(crate) fn dump(self, guest: &Guest) -> Dump {
        let output = match self {
            Self::Guest => guest.bpfreeze_of_gaps(&["dump", "RAM", "--format", "json"]),
            Self::Live | Self::Kcore => guest.witness_of_gaps(&self.witness("dump")),
        };
        let mut dump: Dump = parse(&output, "bpfreeze dump");
        dump.maps.retain(|map| map.about.name != LEFT_BEHIND);
        dump
    }

    /// All maps without contents.
    pub(crate) fn maps(self, guest: &Guest) -> Vec<About> {
        let output = match self {
            Self::Guest => guest.bpfreeze(&["maps", "RAM", "--format", "json"]),
            Self::Live | Self::Kcore => guest.witness(&self.witness("maps")),
        };
        let mut maps: Maps = parse(&output, "bpfreeze maps");
        maps.maps.retain(|map| map.name != LEFT_BEHIND);
        maps.maps
    }

    /// Why it has no way to a map's entries, if so.
    pub(crate) fn unread(self, map: &TruthMap) -> Option<&str> {
        match self.sees_memory() {
            true => map.unread_frozen.as_deref(),
            false => map.unread_live.as_deref(),
        }
    }
}

pub(crate) fn bpftool_maps(guest: &Guest) -> BTreeMap<u32, ToolMap> {
    let maps = parse(&guest.witness("bpftool-maps"), "bpftool map show");
    by_id(maps, |map: &ToolMap| map.id)
}

/// The ids that bpftool dumped in this guest: all but maps of very long values, which it is
/// asked for in one guest only because it takes long over them.
pub(crate) fn bpftool_ids(guest: &Guest) -> Vec<u32> {
    let witnesses = guest.text("witnesses.txt");
    let names = witnesses.lines().filter_map(|line| line.split(' ').next());
    let ids = names.filter_map(|name| name.strip_prefix("bpftool-dump-"));
    let ids: Vec<u32> = ids.map(|id| id.parse().expect("an id")).collect();
    let (_, truth) = truth(guest);
    let silent = |map: &&TruthMap| map.value_size <= SHORT && !ids.contains(&map.id);
    let silent: Vec<u32> = truth.values().filter(silent).map(|map| map.id).collect();
    assert!(silent.is_empty(), "bpftool dumped no maps {silent:?}");
    ids
}
