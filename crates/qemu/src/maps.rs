//! What a process has mapped, out of `/proc/PID/maps`.

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) kind: Kind,
}

/// What is behind a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Memory of the process alone.
    Anonymous,
    /// A file, `offset` bytes into which it starts.
    File {
        offset: u64,
        /// Whether what is written to memory goes to the file.
        shared: bool,
        id: FileId,
        path: String,
    },
}

/// What tells one file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) inode: u64,
}

/// The mappings, ascending, as the kernel lists them.
pub(crate) fn parse(maps: &str) -> Vec<Mapping> {
    maps.lines().filter_map(mapping).collect()
}

/// `START-END rwxs OFFSET MAJOR:MINOR INODE PATH`.
fn mapping(line: &str) -> Option<Mapping> {
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let mut words = line.splitn(6, ' ');
    let (start, end) = words.next()?.split_once('-')?;
    let shared = words.next()?.ends_with('s');
    let offset = hex(words.next()?)?;
    let (major, minor) = words.next()?.split_once(':')?;
    let inode = words.next()?.parse().ok()?;
    let kind = match inode {
        0 => Kind::Anonymous,
        inode => Kind::File {
            offset,
            shared,
            id: FileId {
                major: hex(major)?,
                minor: hex(minor)?,
                inode,
            },
            path: words.next().unwrap_or_default().trim_start().to_owned(),
        },
    };
    Some(Mapping {
        start: hex(start)?,
        end: hex(end)?,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read() {
        let check = |line: &str, start, end, kind| {
            let expected = Mapping { start, end, kind };
            assert_eq!(parse(line), [expected], "{line}");
        };
        check(
            "7f059fe00000-7f06dfe00000 rw-p 00000000 00:00 0 ",
            0x7f05_9fe0_0000,
            0x7f06_dfe0_0000,
            Kind::Anonymous,
        );
        check(
            "1000-2000 rw-p 00000000 00:00 0                          [heap]\n",
            0x1000,
            0x2000,
            Kind::Anonymous,
        );
        let file = |offset, shared, minor, inode, path: &str| Kind::File {
            offset,
            shared,
            id: FileId {
                major: if minor == 1 { 0 } else { 0xfe },
                minor,
                inode,
            },
            path: path.to_owned(),
        };
        check(
            "7f0b1ffff000-7f0b5ffff000 rw-s 00100000 00:01 11542587                   /memfd:m (deleted)",
            0x7f0b_1fff_f000,
            0x7f0b_5fff_f000,
            file(0x10_0000, true, 1, 11_542_587, "/memfd:m (deleted)"),
        );
        check(
            "5000-6000 r--p 00000000 fe:1a 10199185   /a path  with spaces",
            0x5000,
            0x6000,
            file(0, false, 0x1a, 10_199_185, "/a path  with spaces"),
        );
        assert_eq!(parse("no mapping\n\n1000 rw-p 0 0:0 0\n"), []);
    }
}
