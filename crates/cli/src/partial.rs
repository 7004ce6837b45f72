//! A file that appears under its name when it is whole.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

/// A file that takes its name at the end, or goes away.
///
/// Where the file system can, it has no name until then: however the program
/// ends, nothing of it is left.
#[derive(Debug)]
pub(crate) struct Partial {
    /// The name that it has meanwhile.
    path: Option<PathBuf>,
    target: PathBuf,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl Partial {
    /// A new file in the folder of `target`.
    pub(crate) fn beside(target: PathBuf) -> io::Result<(File, Self)> {
        let folder = match target.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let unnamed = OpenOptions::new()
            .write(true)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .mode(0o666)
            .open(folder);
        if let Ok(file) = unnamed {
            return Ok((file, Self { path: None, target }));
        }
        let (path, file) = with_new_name(&target, |path| {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o666).open(path)
        })?;
        let path = Some(path);
        Ok((file, Self { path, target }))
    }

    /// The name that it is to have.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Gives `file`, which is this one and is whole, its name.
    pub(crate) fn finish(&mut self, file: &File) -> io::Result<()> {
        let path = match self.path.take() {
            Some(path) => path,
            // A link cannot take the place of a file, a name can.
            None => with_new_name(&self.target, |path| link(file, path))?.0,
        };
        let renamed = fs::rename(&path, &self.target);
        if renamed.is_err() {
            self.path = Some(path);
        }
        renamed
    }
}

/// Gives a file without a name one.
fn link(file: &File, path: &Path) -> io::Result<()> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    Ok(linkat(AT_FDCWD, open.as_str(), AT_FDCWD, path, flags)?)
}

/// Makes something beside `target`, under a name that nothing has.
fn with_new_name<T>(
    target: &Path,
    make: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    for attempt in 0u32.. {
        let mut name = OsString::from(".");
        name.push(target.file_name().unwrap_or_default());
        name.push(format!(".{}-{attempt}.partial", std::process::id()));
        let path = target.with_file_name(name);
        match make(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|made| (path, made)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_appears_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dump");
        for text in ["new", "replaced"] {
            let (mut file, mut partial) = Partial::beside(target.clone()).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            partial.finish(&file).unwrap();
            drop(partial);
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            assert_eq!(names(folder.path()), ["dump"]);
        }
    }

    #[test]
    fn one_that_fails_goes_away() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("dump");
        fs::create_dir(&target).unwrap();
        let (file, mut partial) = Partial::beside(target).unwrap();
        partial.finish(&file).unwrap_err();
        drop(partial);
        assert_eq!(names(folder.path()), ["dump"]);
    }
}
