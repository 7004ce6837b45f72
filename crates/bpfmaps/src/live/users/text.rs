//! What `/proc/PID` says of the arenas that a process holds and maps.

use crate::MapType;

/// How the files of maps are called.
pub(super) const MAP_FILE: &str = "anon_inode:bpf-map";

/// An arena that a process has a descriptor of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Held {
    pub(super) id: u32,
    /// Bytes of its window.
    pub(super) len: u64,
    /// Where it was made to begin; 0 if that is its first user's choice.
    pub(super) map_extra: u64,
}

/// A mapping that may be of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Held {
    /// What `/proc/PID/fdinfo/N` says of a map's descriptor; `None` if it is
    /// no arena's.
    pub(super) fn parse(fdinfo: &str, page_size: u64) -> Option<Self> {
        let value = |name: &str| {
            let mut fields = fdinfo.lines().filter_map(|line| line.split_once(':'));
            fields.find_map(|(key, value)| (key == name).then_some(value.trim()))
        };
        let number = |name| value(name)?.parse::<u32>().ok();
        let map_extra = value("map_extra")?.strip_prefix("0x")?;
        (number("map_type")? == MapType::ARENA.0).then_some(Self {
            id: number("map_id")?,
            len: u64::from(number("max_entries")?).checked_mul(page_size)?,
            map_extra: u64::from_str_radix(map_extra, 16).ok()?,
        })
    }

    /// Whether the arena may be what is mapped there.
    fn fits(&self, mapping: &Mapping) -> bool {
        mapping.len == self.len && (self.map_extra == 0 || self.map_extra == mapping.start)
    }

    /// The mapping of this arena among `mappings`, in a process that holds
    /// `others` too; `Err` counts those that may be it, and arenas that they
    /// may be.
    pub(super) fn mapping(
        &self,
        mappings: &[Mapping],
        others: &[Self],
    ) -> Result<Option<Mapping>, (usize, usize)> {
        let placed = |mapping: &&Mapping| {
            let elsewhere = |other: &Self| other.map_extra != 0 && other.fits(mapping);
            self.map_extra != 0 || !others.iter().any(elsewhere)
        };
        let fitting = mappings.iter().filter(|mapping| self.fits(mapping));
        let fitting: Vec<&Mapping> = fitting.filter(placed).collect();
        let alike = |other: &&Self| (other.len, other.map_extra) == (self.len, self.map_extra);
        match (fitting.as_slice(), others.iter().filter(alike).count()) {
            ([], _) => Ok(None),
            ([one], 0) => Ok(Some(**one)),
            (several, others) => Err((several.len(), others + 1)),
        }
    }
}

/// Mappings of maps in a `/proc/PID/smaps` that arenas may have: those of
/// other maps are never dumped (`remap_vmalloc_range()` in mm/vmalloc.c), and
/// no process can change that.
pub(super) fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut current = None;
    for line in smaps.lines() {
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            let dumped = !flags.split_whitespace().any(|flag| flag == "dd");
            found.extend(current.take().filter(|_| dumped));
        } else if let Some(head) = line.strip_suffix(MAP_FILE) {
            current = range(head);
        }
    }
    found
}

/// The range that a line of `/proc/PID/maps` begins with.
fn range(line: &str) -> Option<Mapping> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).ok());
    let (start, end) = start.zip(end)?;
    let len = end.checked_sub(start)?;
    Some(Mapping { start, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = 4096;

    #[test]
    fn descriptors_of_arenas_are_told_from_others() {
        let fdinfo = |map_type, extra: &str| {
            format!(
                "pos:\t0\nflags:\t02000002\nmap_type:\t{map_type}\nkey_size:\t0\nmax_entries:\t256\n\
                 map_flags:\t0x400\nmap_extra:\t{extra}\nmemlock:\t0\nmap_id:\t8454\nfrozen:\t0\n"
            )
        };
        let check = |text: &str, map_extra: Option<u64>| {
            let expected = map_extra.map(|map_extra| Held {
                id: 8454,
                len: 256 * PAGE,
                map_extra,
            });
            assert_eq!(Held::parse(text, PAGE), expected, "{text}");
        };
        check(&fdinfo(33, "0x0"), Some(0));
        check(&fdinfo(33, "0x100000000000"), Some(1 << 44));
        check(&fdinfo(2, "0x0"), None);
        check(&fdinfo(33, "x"), None);
        check("pos:\t0\n", None);
        check("", None);
    }

    #[test]
    fn mappings_of_arenas_are_told_from_those_of_other_maps() {
        let smaps = "\
            7fe6610e1000-7fe6611e1000 rw-s 00000000 00:10 1038   anon_inode:bpf-map\n\
            Rss:                   8 kB\n\
            VmFlags: rd wr sh mr mw ms dc de \n\
            7fe6611e1000-7fe6612e1000 rw-s 00000000 00:10 1038   anon_inode:bpf-map\n\
            VmFlags: rd wr sh mr mw ms de dd mm \n\
            7fe6612e1000-7fe6612e2000 r--p 00000000 fe:00 32   /usr/lib/libc.so.6\n\
            VmFlags: rd mr mw me \n\
            100000000000-100000004000 r--s 00000000 00:10 1038   anon_inode:bpf-map\n\
            VmFlags: rd sh mr mw ms dc de\n\
            x-7fe6612e2000 r--s 00000000 00:10 1038   anon_inode:bpf-map\n\
            VmFlags: rd\n";
        let expected = [(0x7fe6_610e_1000, 0x10_0000), (1 << 44, 0x4000)];
        let expected = expected.map(|(start, len)| Mapping { start, len });
        assert_eq!(mappings(smaps), expected);
    }

    #[test]
    fn a_mapping_is_matched_only_where_nothing_else_can_be_meant() {
        let held = |id, pages, map_extra| Held {
            id,
            len: pages * PAGE,
            map_extra,
        };
        let mapping = |start, pages| Mapping {
            start,
            len: pages * PAGE,
        };
        let check = |arena: Held, mappings: &[Mapping], others: &[Held], expected| {
            let found = arena.mapping(mappings, others);
            let found = found.map(|found| found.map(|mapping| mapping.start));
            assert_eq!(found, expected, "{arena:x?} {mappings:x?} {others:x?}");
        };
        let free = held(1, 4, 0);
        let at_8000 = held(2, 4, 0x8000);
        let [low, middle] = [mapping(0x1000, 4), mapping(0x8000, 4)];
        let large = mapping(0x2_0000, 5);
        check(free, &[], &[], Ok(None));
        check(free, &[large], &[], Ok(None));
        check(free, &[low, large], &[held(3, 5, 0)], Ok(Some(0x1000)));
        check(free, &[low, middle], &[], Err((2, 1)));
        check(free, &[low], &[held(3, 4, 0)], Err((1, 2)));
        check(free, &[low, middle], &[at_8000], Ok(Some(0x1000)));
        check(free, &[middle], &[at_8000], Ok(None));
        check(at_8000, &[low, middle], &[free], Ok(Some(0x8000)));
        check(at_8000, &[low, large], &[free], Ok(None));
        check(at_8000, &[middle], &[held(3, 4, 0x8000)], Err((1, 2)));
    }
}
