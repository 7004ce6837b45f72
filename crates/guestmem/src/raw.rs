//! A machine's RAM as a plain file, mapped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::mapped::{Contents, MappedFile};
use crate::open::open_file;
use crate::{Address, Cause, Fault, Gpa, Memory, OpenError, PhysicalMemory, Region, Regions, Span};

/// A raw RAM image: QEMU's memory backend file, Firecracker's `vm.mem`,
/// `pmemsave`'s output.
///
/// The file is mapped and only what is asked for is touched; holes of a
/// sparse file are answered with zeros and never touched. If the file becomes
/// shorter while it is read, the lost bytes are [`Cause::Vanished`].
#[derive(Clone, Debug)]
pub struct RawImage {
    file: Rc<MappedFile>,
    path: PathBuf,
    regions: Regions,
}

impl RawImage {
    /// Maps the file at `path`, taking offsets for physical addresses until
    /// [`with_regions`](Self::with_regions) says otherwise.
    ///
    /// # Errors
    ///
    /// What the operating system says, or that it is no file or has no bytes.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let (file, len) = open_file(path)?;
        Self::new(file, len, path)
    }

    /// The `len` bytes of `file`, which is, or came out of, the one at `path`.
    pub(crate) fn new(file: File, len: u64, path: &Path) -> Result<Self, OpenError> {
        let file =
            MappedFile::new(file, len, Contents::Still).map_err(OpenError::io("map", path))?;
        Ok(Self {
            regions: Regions::flat(len),
            file: Rc::new(file),
            path: path.to_owned(),
        })
    }

    /// The same file under another layout.
    ///
    /// # Errors
    ///
    /// A contradiction among the regions, or with the file's length.
    pub fn with_regions(&self, regions: Vec<Region>) -> Result<Self, OpenError> {
        let regions =
            Regions::new(regions, self.file_len()).map_err(|source| OpenError::Regions {
                path: self.path.clone(),
                source,
            })?;
        Ok(self.laid_out(regions))
    }

    /// The same file under each layout that it may have, likeliest first.
    #[must_use]
    pub fn candidates(&self) -> Vec<Self> {
        Regions::candidates(self.file_len())
            .into_iter()
            .map(|regions| self.laid_out(regions))
            .collect()
    }

    /// The same file under another layout, which fits it.
    pub(crate) fn laid_out(&self, regions: Regions) -> Self {
        Self {
            regions,
            ..self.clone()
        }
    }

    /// The file's length in bytes, when it was opened.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.file.len()
    }

    /// The layout in force.
    #[must_use]
    pub fn regions(&self) -> &Regions {
        &self.regions
    }

    /// The file that was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Memory<Gpa> for RawImage {
    fn read(&self, addr: Gpa, buf: &mut [u8]) -> Result<(), Fault<Gpa>> {
        let mut at = addr;
        let mut buf = buf;
        while !buf.is_empty() {
            let Some((region, inside)) = self.regions.find(at) else {
                return Err(Fault::new(at, Cause::Unbacked { gpa: at }));
            };
            let step = usize::try_from(region.len - inside)
                .unwrap_or(usize::MAX)
                .min(buf.len());
            let (now, later) = buf.split_at_mut(step);
            if let Err(good) = self.file.copy(region.file_offset + inside, now) {
                let gpa = at.checked_add(good as u64).unwrap_or(at);
                return Err(Fault::new(gpa, Cause::Vanished { gpa }));
            }
            buf = later;
            if !buf.is_empty() {
                at = at
                    .checked_add(step as u64)
                    .ok_or(Fault::new(at, Cause::EndOfSpace))?;
            }
        }
        Ok(())
    }
}

impl PhysicalMemory for RawImage {
    fn next_data(&self, from: Gpa) -> Option<Span> {
        self.regions.from(from).iter().find_map(|region| {
            let skip = from.get().saturating_sub(region.gpa.get());
            let offset = region.file_offset.checked_add(skip)?;
            let end = region.file_offset + region.len;
            let (start, stop) = self.file.next_data(offset)?;
            let stop = stop.min(end);
            (start < stop).then(|| Span {
                start: Gpa::new(region.gpa.get() + (start - region.file_offset)),
                len: stop - start,
            })
        })
    }

    fn size(&self) -> u64 {
        self.regions
            .as_slice()
            .iter()
            .map(|region| region.len)
            .sum()
    }

    fn offset_of(&self, gpa: Gpa) -> Option<u64> {
        self.regions.offset_of(gpa)
    }

    fn gpa_of(&self, offset: u64) -> Option<Gpa> {
        self.regions.gpa_of(offset)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn image(len: u64, parts: &[(u64, &[u8])]) -> (tempfile::NamedTempFile, RawImage) {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(len).unwrap();
        for (offset, bytes) in parts {
            file.as_file().write_all_at(bytes, *offset).unwrap();
        }
        let image = RawImage::open(file.path()).unwrap();
        (file, image)
    }

    #[test]
    fn reads_cross_holes_data_and_regions() {
        let (_file, image) = image(0x30_0000, &[(0xffffe, b"ab"), (0x10_0000, b"cd")]);
        let split = image
            .with_regions(vec![
                "0:0:0x100000".parse().unwrap(),
                "0x100000:0x100000:0x100000".parse().unwrap(),
                "0x200000:0x100000000:0x100000".parse().unwrap(),
            ])
            .unwrap();
        let mut buf = [1; 8];
        split.read(Gpa::at(0xffffc), &mut buf).unwrap();
        assert_eq!(&buf, b"\0\0abcd\0\0");
        let fault = split.read(Gpa::at(0x1f_fffe), &mut buf).unwrap_err();
        assert_eq!(fault.addr, Gpa::at(0x20_0000));
        split.read(Gpa::at(0x1_0000_0000), &mut buf).unwrap();
        assert_eq!(buf, [0; 8]);
        assert_eq!(split.size(), 0x30_0000);
    }

    #[test]
    fn search_skips_holes_and_respects_regions() {
        let (_file, image) = image(64 << 20, &[(0x10_0000, b"x"), (0x200_0000, b"y")]);
        let moved = image
            .with_regions(vec![
                "0:0:0x2000000".parse().unwrap(),
                "0x2000000:0x100000000:0x2000000".parse().unwrap(),
            ])
            .unwrap();
        let first = moved.next_data(Gpa::at(0)).unwrap();
        assert!(first.start <= Gpa::at(0x10_0000) && first.len < 1 << 20);
        let after = first.start.checked_add(first.len).unwrap();
        let second = moved.next_data(after).unwrap();
        assert_eq!(second.start, Gpa::at(0x1_0000_0000));
        let after = second.start.checked_add(second.len).unwrap();
        assert_eq!(moved.next_data(after), None);
    }

    #[test]
    fn an_image_that_shrinks_is_a_fault_not_a_death() {
        let bytes = vec![7u8; 4 << 20];
        let (file, image) = image(4 << 20, &[(0, &bytes)]);
        file.as_file().set_len(1 << 20).unwrap();
        let mut buf = vec![0; 2 << 20];
        let fault = image.read(Gpa::at(0), &mut buf).unwrap_err();
        assert_eq!(
            fault,
            Fault::new(
                Gpa::at(1 << 20),
                Cause::Vanished {
                    gpa: Gpa::at(1 << 20)
                }
            )
        );
        assert!(buf[..1 << 20].iter().all(|&byte| byte == 7));
        // What is left stays readable, what is gone stays gone.
        image.read(Gpa::at(0x1000), &mut buf[..0x1000]).unwrap();
        image.read(Gpa::at(3 << 20), &mut buf[..1]).unwrap_err();
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let check = |path: &Path| RawImage::open(path).unwrap_err().to_string();
        let dir = tempfile::tempdir().unwrap();
        assert!(check(dir.path()).ends_with("is a directory, not a memory image"));
        let empty = dir.path().join("empty");
        File::create(&empty).unwrap();
        assert!(check(&empty).ends_with("is empty"));
        assert!(check(&dir.path().join("absent")).starts_with("cannot open "));
    }
}
