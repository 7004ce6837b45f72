//! Writes the archive format of initial RAM disks ("newc"): a header of hexadecimal numbers, the
//! name, the contents, each padded to four bytes. See the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst.

use std::io::{self, Write};

/// An archive under construction.
#[derive(Debug)]
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
}

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DEVICE: u32 = 0o020_600;

/// The fields in which entries differ.
struct Header<'a> {
    name: &'a str,
    mode: u32,
    device: (u32, u32),
    data: &'a [u8],
}

impl<W: Write> Archive<W> {
    /// An archive without entries.
    pub(crate) fn new(out: W) -> Self {
        Self { out, inode: 0 }
    }

    /// Adds a folder. Its parent must be there.
    pub(crate) fn folder(&mut self, name: &str) -> io::Result<()> {
        self.entry(&Header {
            name,
            mode: FOLDER,
            device: (0, 0),
            data: &[],
        })
    }

    /// Adds a file that everybody may run.
    pub(crate) fn program(&mut self, name: &str, data: &[u8]) -> io::Result<()> {
        self.entry(&Header {
            name,
            mode: PROGRAM,
            device: (0, 0),
            data,
        })
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, name: &str, major: u32, minor: u32) -> io::Result<()> {
        self.entry(&Header {
            name,
            mode: DEVICE,
            device: (major, minor),
            data: &[],
        })
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.inode = 0;
        self.entry(&Header {
            name: "TRAILER!!!",
            mode: 0,
            device: (0, 0),
            data: &[],
        })?;
        Ok(self.out)
    }

    fn entry(&mut self, header: &Header<'_>) -> io::Result<()> {
        let too_long = |_| io::Error::other(format!("{} is too long for cpio", header.name));
        self.inode += 1;
        let size = u32::try_from(header.data.len()).map_err(too_long)?;
        let name_size = u32::try_from(header.name.len() + 1).map_err(too_long)?;
        let (major, minor) = header.device;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [
            self.inode,
            header.mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        let mut text = String::from("070701");
        for field in fields {
            text.push_str(&format!("{field:08x}"));
        }
        text.push_str(header.name);
        text.push('\0');
        self.padded(text.as_bytes())?;
        self.padded(header.data)
    }

    /// Every part starts at a multiple of four, so each part pads itself.
    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let gap = bytes.len().next_multiple_of(4) - bytes.len();
        self.out.write_all([0; 3].get(..gap).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn the_headers_of_a_file_and_the_end() {
        let mut archive = Archive::new(Vec::new());
        archive.program("ab", b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let zero = "00000000";
        let head = format!("07070100000001000081ed{zero}{zero}00000001{zero}00000005");
        assert!(bytes.starts_with(head.as_bytes()));
        // 110 bytes of header, "ab\0", padding to 116; then 5 bytes, padding to 124.
        assert_eq!(&bytes[110..124], b"ab\0\0\0\0hello\0\0\0"[..14].as_ref());
        assert_eq!(&bytes[124..130], b"070701");
        assert_eq!(bytes.len() % 4, 0);
    }
}
