//! Recognises files that are not raw memory by their first bytes, and says
//! what to do with them instead.
//!
//! Raw memory itself cannot be recognised: it is whatever is left.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::failure::Refusal;

const TAKE_RAW: &str = "save the machine's memory raw instead: QEMU's monitor command `pmemsave 0 \
                        SIZE FILE`, or memory-backend-file with share=on";

/// First bytes that raw memory never has, and what they are.
const MAGICS: &[(&[u8], Format)] = &[
    (b"KDUMP   ", Format::Other("a kdump dump")),
    (b"DISKDUMP", Format::Other("a diskdump dump")),
    (b"makedumpfile", Format::Other("a flattened kdump dump")),
    (b"QFI\xfb", Format::Other("a qcow2 disk image")),
    (b"QEVM", Format::Other("a QEMU migration stream")),
    (b"LibvirtQemudSave", Format::Other("a libvirt save file")),
    (b"\x1f\x8b", Format::Packed("gzip")),
    (b"\x28\xb5\x2f\xfd", Format::Packed("zstd")),
    (b"\xfd7zXZ\0", Format::Packed("xz")),
    (b"\x04\x22\x4d\x18", Format::Packed("lz4")),
];

/// What a file is that is no raw memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// A program, a kernel module, a vmlinux.
    ElfObject,
    /// Compressed by the program of this name.
    Packed(&'static str),
    /// Something else that has a name.
    Other(&'static str),
}

impl Format {
    fn refusal(self, path: &Path) -> Refusal {
        let shown = path.display();
        let unread = |what: &str| format!("{shown} is {what}, which this version does not read");
        match self {
            Self::ElfObject => Refusal::new(
                format!("{shown} is an ELF object, not memory"),
                "pass the machine's memory; a vmlinux goes with --symbols or --btf",
            ),
            Self::Packed(by) => Refusal::new(
                unread(&format!("compressed ({by})")),
                format!("unpack it first: {by} -dc {shown} > {shown}.ram"),
            ),
            Self::Other(what) => Refusal::new(unread(what), TAKE_RAW),
        }
    }
}

/// Refuses what cannot be a raw image, with what to do instead.
pub(crate) fn refuse_other_formats(path: &Path) -> Result<()> {
    let shown = path.display();
    let kind = fs::metadata(path)
        .with_context(|| format!("cannot open {shown}"))?
        .file_type();
    let refuse = |what: &str, hint: &str| -> Result<()> {
        Err(Refusal::new(format!("{shown} is {what}"), hint).into())
    };
    if kind.is_dir() {
        return refuse(
            "a directory, not a memory image",
            "name the file with the memory in it",
        );
    }
    if kind.is_socket() {
        return Err(qmp(path).into());
    }
    if ["/proc/kcore", "/dev/mem"].map(Path::new).contains(&path) {
        return refuse(
            "the running kernel's memory",
            "the running kernel is the source `live`",
        );
    }
    if !kind.is_file() && !kind.is_block_device() {
        return refuse(
            "no regular file or block device",
            "name a file with the memory in it",
        );
    }
    let mut start = Vec::new();
    File::open(path)
        .with_context(|| format!("cannot open {shown}"))?
        .take(4096)
        .read_to_end(&mut start)
        .with_context(|| format!("cannot read {shown}"))?;
    match recognise(&start) {
        Some(format) => Err(format.refusal(path).into()),
        None => Ok(()),
    }
}

/// The refusal of a machine behind a QMP socket.
pub(crate) fn qmp(path: &Path) -> Refusal {
    Refusal::new(
        format!(
            "{} is a QMP socket, which this version does not read",
            path.display()
        ),
        "pause the machine (`stop`) and pass the file behind its memory-backend-file, or save it: \
         `pmemsave 0 SIZE FILE`",
    )
}

/// What a file that starts with these bytes is, if it is no raw memory.
fn recognise(start: &[u8]) -> Option<Format> {
    let known = MAGICS.iter().find(|(magic, _)| start.starts_with(magic));
    if let Some(&(_, format)) = known {
        return Some(format);
    }
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if !start.is_empty() && start.iter().all(is_text) {
        return Some(Format::Other("text"));
    }
    elf(start)
}

fn elf(start: &[u8]) -> Option<Format> {
    const ET_CORE: u16 = 4;
    const BIG_ENDIAN: u8 = 2;
    if !start.starts_with(b"\x7fELF") {
        return None;
    }
    let order = *start.get(5)?;
    let kind = start.get(16..18)?.try_into().ok()?;
    let kind = match order {
        BIG_ENDIAN => u16::from_be_bytes(kind),
        _ => u16::from_le_bytes(kind),
    };
    Some(match kind {
        ET_CORE => Format::Other("an ELF core"),
        _ => Format::ElfObject,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_their_first_bytes() {
        let check = |start: &[u8], expected| assert_eq!(recognise(start), expected);
        let other = |what| Some(Format::Other(what));
        let elf = |order, kind: [u8; 2]| {
            let mut header = b"\x7fELF\x02".to_vec();
            header.push(order);
            header.extend([0; 10]);
            header.extend(kind);
            header
        };
        check(&elf(1, [4, 0]), other("an ELF core"));
        check(&elf(2, [0, 4]), other("an ELF core"));
        check(&elf(1, [2, 0]), Some(Format::ElfObject));
        check(b"\x7fELF", None);
        check(b"KDUMP   \x06\0\0\0", other("a kdump dump"));
        check(b"makedumpfile\0\0\0\0", other("a flattened kdump dump"));
        check(b"\x1f\x8b\x08\0", Some(Format::Packed("gzip")));
        check(b"hello, world\n", other("text"));
        check(b"\x53\xff\0\xf0\x53\xff\0\xf0", None);
        check(&[0; 4096], None);
        check(b"", None);
    }
}
