//! Files that are compressed as a whole, unpacked once.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::recognise::Packing;

/// What is in `file`, in a file without a name, and how long it is. Zeros
/// become holes. `told` hears how many bytes of `file` are done.
#[cfg(feature = "compression")]
pub(crate) fn unpack(
    file: &File,
    packing: Packing,
    told: &mut dyn FnMut(u64),
) -> io::Result<(File, u64)> {
    let into = tempfile::tempfile_in(folder())?;
    io::Seek::rewind(&mut &*file)?;
    let done = 0;
    let file = io::BufReader::with_capacity(READ, Telling { file, done, told });
    let len = match packing {
        Packing::Gzip => pour(flate2::bufread::MultiGzDecoder::new(file), &into)?,
        Packing::Zstd => pour(zstd::Decoder::with_buffer(file)?, &into)?,
    };
    into.set_len(len)?;
    Ok((into, len))
}

/// Refuses, as this build has nothing to unpack by.
#[cfg(not(feature = "compression"))]
pub(crate) fn unpack(_: &File, _: Packing, _: &mut dyn FnMut(u64)) -> io::Result<(File, u64)> {
    let why = "built without the feature `compression`";
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Where large temporary files go: `TMPDIR`, else `/var/tmp`, as `/tmp` is
/// often memory.
pub(crate) fn folder() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|named| !named.is_empty());
    named.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// A file of which it is told how far it was read.
#[cfg(feature = "compression")]
struct Telling<'f> {
    file: &'f File,
    done: u64,
    told: &'f mut dyn FnMut(u64),
}

#[cfg(feature = "compression")]
impl io::Read for Telling<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buf)?;
        self.done += read as u64;
        (self.told)(self.done);
        Ok(read)
    }
}

/// How much of a packed file is read at a time.
#[cfg(feature = "compression")]
const READ: usize = 1 << 18;

/// How finely zeros become holes: as finely as file systems can.
#[cfg(feature = "compression")]
const GRAIN: usize = 4096;

/// Copies everything but grains of zeros; returns how much there was.
#[cfg(feature = "compression")]
fn pour(mut from: impl io::Read, into: &File) -> io::Result<u64> {
    use std::io::Read;
    use std::os::unix::fs::FileExt;

    let mut at = 0;
    let mut buffer = Vec::with_capacity(256 * GRAIN);
    loop {
        buffer.clear();
        let most = buffer.capacity() as u64;
        let read = from.by_ref().take(most).read_to_end(&mut buffer)?;
        if read == 0 {
            return Ok(at);
        }
        // Runs of grains that are alike are written at once.
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let zeros = is_zero(rest);
            let alike = rest
                .chunks(GRAIN)
                .take_while(|grain| is_zero(grain) == zeros);
            let (run, behind) = rest.split_at(alike.map(<[u8]>::len).sum());
            if !zeros {
                into.write_all_at(run, at)?;
            }
            at += run.len() as u64;
            rest = behind;
        }
    }
}

/// Whether the first grain is all zeros.
#[cfg(feature = "compression")]
fn is_zero(bytes: &[u8]) -> bool {
    let grain = bytes.get(..GRAIN).unwrap_or(bytes);
    grain.iter().fold(0, |all, byte| all | byte) == 0
}
