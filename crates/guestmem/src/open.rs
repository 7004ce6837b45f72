//! Opens a file as whatever it is.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::elf::{self, ElfError};
use crate::packed;
use crate::recognise::{Foreign, HEAD, Kind, Packing, recognise};
use crate::{Image, RawImage, RegionError};

/// How many times over a file may be packed.
const MOST_PACKINGS: usize = 2;

/// Why a file could not be opened as an image.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The operating system refused an operation on the file.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It is a directory, a socket or the like.
    #[error("{} is {what}", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It has no bytes.
    #[error("{} is empty", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// It holds no memory, or in a form that is not read.
    #[error("{} is {what}", path.display())]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// What it is.
        what: Foreign,
    },
    /// It cannot be unpacked.
    #[error("cannot unpack {} ({packing}) into a file in {}", path.display(), folder.display())]
    Unpack {
        /// Which file.
        path: PathBuf,
        /// How it is packed.
        packing: Packing,
        /// Where the unpacked file would be.
        folder: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// It is packed in something packed, and so on.
    #[error("{} is packed more than {MOST_PACKINGS} times over", path.display())]
    PackedTooOften {
        /// Which file.
        path: PathBuf,
    },
    /// It is an ELF core that cannot be read.
    #[error("{} cannot be read as an ELF core", path.display())]
    Elf {
        /// Which file.
        path: PathBuf,
        /// What is the matter with it.
        source: ElfError,
    },
    /// It is a kdump file that cannot be read.
    #[cfg(feature = "compression")]
    #[error("{} cannot be read as a kdump file", path.display())]
    Kdump {
        /// Which file.
        path: PathBuf,
        /// What is the matter with it.
        source: crate::KdumpError,
    },
    /// Regions were given for what says itself where its memory lies.
    #[error("{} is no raw memory: it says itself where its parts lie", path.display())]
    NotRaw {
        /// Which file.
        path: PathBuf,
    },
    /// The given regions contradict each other or the file.
    #[error("{} cannot have these regions", path.display())]
    Regions {
        /// Which file.
        path: PathBuf,
        /// The contradiction.
        source: RegionError,
    },
}

impl OpenError {
    /// For `map_err`: the failure of `operation` on the file at `path`.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }
}

impl Image {
    /// Opens the file at `path` as what its first bytes say that it is: an ELF
    /// core, a kdump file, or else raw memory.
    ///
    /// What is compressed by gzip or zstd is first unpacked, into a temporary
    /// file without a name in `TMPDIR` or `/var/tmp`.
    ///
    /// # Errors
    ///
    /// What the operating system says, that it holds no memory, or that its
    /// headers make no sense.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_telling(path, &mut |_, _| ())
    }

    /// Like [`open`](Self::open). While a file is unpacked, `told` hears how
    /// many of its bytes are done, and how many there are.
    ///
    /// # Errors
    ///
    /// See [`open`](Self::open).
    pub fn open_telling(path: &Path, told: &mut dyn FnMut(u64, u64)) -> Result<Self, OpenError> {
        let (mut file, mut len) = open_file(path)?;
        let mut packed = Vec::new();
        let kind = loop {
            let kind = recognise(&head(&file, len).map_err(OpenError::io("read", path))?);
            let Kind::Packed(packing) = kind else {
                break kind;
            };
            if packed.len() >= MOST_PACKINGS {
                let path = path.to_owned();
                return Err(OpenError::PackedTooOften { path });
            }
            packed.push(format!("{packing}, {}", mib(len)));
            (file, len) = unpacked(&file, packing, path, &mut |done| told(done, len))?;
        };
        let image = match kind {
            Kind::Elf => elf::open(file, len, path)?,
            #[cfg(feature = "compression")]
            Kind::Kdump => crate::kdump::open(file, len, path)?,
            #[cfg(not(feature = "compression"))]
            Kind::Kdump => {
                let (path, what) = (path.to_owned(), Foreign::Kdump);
                return Err(OpenError::Foreign { path, what });
            }
            Kind::Raw | Kind::Packed(_) => Self::raw(&RawImage::new(file, len, path)?),
            Kind::Foreign(what) => {
                let path = path.to_owned();
                return Err(OpenError::Foreign { path, what });
            }
        };
        Ok(match packed.as_slice() {
            [] => image,
            packed => image.with_fact("packed", packed.join("; ")),
        })
    }
}

/// Bytes as people say them.
pub(crate) fn mib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// The first bytes of `file`.
fn head(file: &File, len: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; usize::try_from(len).map_or(HEAD, |len| len.min(HEAD))];
    file.read_exact_at(&mut head, 0)?;
    Ok(head)
}

/// What is packed in `file`, which is, or came out of, the one at `path`.
fn unpacked(
    file: &File,
    packing: Packing,
    path: &Path,
    told: &mut dyn FnMut(u64),
) -> Result<(File, u64), OpenError> {
    let path = || path.to_owned();
    match packed::unpack(file, packing, told) {
        Ok((_, 0)) => Err(OpenError::Empty { path: path() }),
        Ok(unpacked) => Ok(unpacked),
        Err(source) => Err(OpenError::Unpack {
            path: path(),
            packing,
            folder: packed::folder(),
            source,
        }),
    }
}

/// Opens a regular file or block device that is not empty, and measures it.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64), OpenError> {
    let not_a_file = |what| OpenError::NotAFile {
        path: path.to_owned(),
        what,
    };
    // Asked by name: opening a pipe would wait for its writer.
    let kind = fs::metadata(path).map_err(OpenError::io("open", path))?;
    let kind = kind.file_type();
    if kind.is_dir() {
        return Err(not_a_file("a directory, not a memory image"));
    }
    if !kind.is_file() && !kind.is_block_device() {
        return Err(not_a_file("no regular file or block device"));
    }
    let file = File::open(path).map_err(OpenError::io("open", path))?;
    // A block device's metadata has no length, its end has.
    let len = io::Seek::seek(&mut &file, io::SeekFrom::End(0));
    match len.map_err(OpenError::io("measure", path))? {
        0 => Err(OpenError::Empty {
            path: path.to_owned(),
        }),
        len => Ok((file, len)),
    }
}
