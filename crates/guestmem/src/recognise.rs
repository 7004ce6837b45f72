//! What a file is, by its first bytes.
//!
//! Raw memory cannot be recognised: it is whatever is left.

use std::fmt;

/// How many of a file's first bytes are looked at.
pub(crate) const HEAD: usize = 4096;

/// What a file's first bytes say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An ELF core.
    Elf,
    /// A kdump file.
    Kdump,
    /// Compressed.
    Packed(Packing),
    /// What cannot be read.
    Foreign(Foreign),
    /// Nothing that has a name.
    Raw,
}

/// A compression that can be undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip's.
    Gzip,
    /// zstd's.
    Zstd,
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// A file that holds no memory, or holds it in a form that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Foreign {
    /// A program, a kernel module, a vmlinux.
    ElfObject,
    /// A qcow2 disk image.
    Qcow2,
    /// A QEMU migration stream.
    Migration,
    /// A libvirt save file.
    Libvirt,
    /// Compressed by xz.
    Xz,
    /// Compressed by lz4.
    Lz4,
    /// Compressed by bzip2.
    Bzip2,
    /// A kdump file, to a build that cannot unpack its pages.
    Kdump,
    /// Letters.
    Text,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ElfObject => "an ELF object, not memory",
            Self::Qcow2 => "a qcow2 disk image, not memory",
            Self::Migration => "a QEMU migration stream, which is not read",
            Self::Libvirt => "a libvirt save file, which is not read",
            Self::Xz => "compressed (xz), which is not unpacked",
            Self::Lz4 => "compressed (lz4), which is not unpacked",
            Self::Bzip2 => "compressed (bzip2), which is not unpacked",
            Self::Kdump => "a kdump file, which this build without `compression` does not read",
            Self::Text => "text, not memory",
        })
    }
}

/// First bytes that raw memory never has, and what they are.
const MAGICS: &[(&[u8], Kind)] = &[
    (b"KDUMP   ", Kind::Kdump),
    (b"DISKDUMP", Kind::Kdump),
    (b"makedumpfile", Kind::Kdump),
    (b"\x1f\x8b", Kind::Packed(Packing::Gzip)),
    (b"\x28\xb5\x2f\xfd", Kind::Packed(Packing::Zstd)),
    (b"QFI\xfb", Kind::Foreign(Foreign::Qcow2)),
    (b"QEVM", Kind::Foreign(Foreign::Migration)),
    (b"LibvirtQemudSave", Kind::Foreign(Foreign::Libvirt)),
    (b"\xfd7zXZ\0", Kind::Foreign(Foreign::Xz)),
    (b"\x04\x22\x4d\x18", Kind::Foreign(Foreign::Lz4)),
    (b"BZh", Kind::Foreign(Foreign::Bzip2)),
];

/// What a file with these first bytes is.
pub(crate) fn recognise(head: &[u8]) -> Kind {
    let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic));
    if let Some(&(_, kind)) = known {
        return kind;
    }
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if !head.is_empty() && head.iter().all(is_text) {
        return Kind::Foreign(Foreign::Text);
    }
    elf(head).unwrap_or(Kind::Raw)
}

fn elf(head: &[u8]) -> Option<Kind> {
    const ET_CORE: u16 = 4;
    const BIG_ENDIAN: u8 = 2;
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let order = *head.get(5)?;
    let kind = head.get(16..18)?.try_into().ok()?;
    let kind = match order {
        BIG_ENDIAN => u16::from_be_bytes(kind),
        _ => u16::from_le_bytes(kind),
    };
    Some(match kind {
        ET_CORE => Kind::Elf,
        _ => Kind::Foreign(Foreign::ElfObject),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_their_first_bytes() {
        let check = |head: &[u8], expected| assert_eq!(recognise(head), expected);
        let foreign = Kind::Foreign;
        let elf = |order, kind: [u8; 2]| {
            let mut header = b"\x7fELF\x02".to_vec();
            header.push(order);
            header.extend([0; 10]);
            header.extend(kind);
            header
        };
        check(&elf(1, [4, 0]), Kind::Elf);
        check(&elf(2, [0, 4]), Kind::Elf);
        check(&elf(1, [2, 0]), foreign(Foreign::ElfObject));
        check(b"\x7fELF", Kind::Raw);
        check(b"KDUMP   \x06\0\0\0", Kind::Kdump);
        check(b"makedumpfile\0\0\0\0", Kind::Kdump);
        check(b"\x1f\x8b\x08\0", Kind::Packed(Packing::Gzip));
        check(b"BZh91AY&SY\0", foreign(Foreign::Bzip2));
        check(b"hello, world\n", foreign(Foreign::Text));
        check(b"\x53\xff\0\xf0\x53\xff\0\xf0", Kind::Raw);
        check(&[0; 4096], Kind::Raw);
        check(b"", Kind::Raw);
    }
}
