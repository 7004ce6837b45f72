//! Where output goes: standard output, or a file that appears when it is
//! whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Seek, SeekFrom, StdoutLock, Write};
use std::path::{Path, PathBuf};

use anstream::{AutoStream, ColorChoice};
use anyhow::{Context, Result};

use crate::Outcome;
use crate::args::{Color, OutputArgs};
use crate::failure::Refusal;
use crate::partial::Partial;

const BUFFER: usize = 256 << 10;

/// An open output. What was written is only there for good after
/// [`finish`](Output::finish).
#[derive(Debug)]
pub(crate) struct Output {
    sink: Sink,
    /// The first failure of a write, whatever the writer made of it.
    failed: Option<io::Error>,
    color: bool,
}

#[derive(Debug)]
enum Sink {
    Stdout(BufWriter<StdoutLock<'static>>),
    /// A device, pipe or the like, which cannot be replaced by renaming.
    Special(BufWriter<File>, PathBuf),
    File(BufWriter<File>, Partial),
}

impl Sink {
    fn stdout() -> Self {
        Self::Stdout(BufWriter::with_capacity(BUFFER, io::stdout().lock()))
    }
}

impl Output {
    /// Standard output, without colour.
    pub(crate) fn stdout() -> Self {
        Self {
            sink: Sink::stdout(),
            failed: None,
            color: false,
        }
    }

    /// Opens what `args` names.
    pub(crate) fn open(args: &OutputArgs) -> Result<Self> {
        let path = args
            .output
            .as_deref()
            .filter(|path| *path != Path::new("-"));
        let sink = match path {
            None => Sink::stdout(),
            Some(path) => open(path).with_context(|| cannot_write(path))?,
        };
        let color = match args.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => path.is_none() && terminal_wants_color(),
        };
        Ok(Self {
            sink,
            failed: None,
            color,
        })
    }

    /// Whether text is to be coloured.
    pub(crate) fn color(&self) -> bool {
        self.color
    }

    /// How wide the terminal is, if this goes to one.
    pub(crate) fn terminal_width(&self) -> Option<usize> {
        let Sink::Stdout(_) = self.sink else {
            return None;
        };
        let (width, _height) = terminal_size::terminal_size_of(io::stdout())?;
        Some(width.0.into())
    }

    /// Ends the output after `result`: keeps it if that is good, says which
    /// write failed if that is what went wrong.
    pub(crate) fn finish(mut self, result: Result<Outcome>) -> Result<Outcome> {
        let flushed = self.flush();
        if let Some(error) = self.failed.take().or(flushed.err()) {
            let piped = !matches!(self.sink, Sink::File(..));
            if piped && error.kind() == io::ErrorKind::BrokenPipe {
                return Ok(Outcome::ReaderGone);
            }
            return Err(error).with_context(|| self.cannot_write());
        }
        let outcome = result?;
        if let Sink::File(writer, partial) = &mut self.sink {
            let finished = partial.finish(writer.get_ref());
            finished.with_context(|| cannot_write(partial.target()))?;
        }
        Ok(outcome)
    }

    fn cannot_write(&self) -> String {
        match &self.sink {
            Sink::Stdout(_) => "cannot write to standard output".to_owned(),
            Sink::Special(_, path) => cannot_write(path),
            Sink::File(_, partial) => cannot_write(partial.target()),
        }
    }

    fn writer(&mut self) -> &mut dyn Write {
        match &mut self.sink {
            Sink::Stdout(writer) => writer,
            Sink::Special(writer, _) | Sink::File(writer, _) => writer,
        }
    }

    /// Keeps the first failure, and hands the caller a copy.
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let copy = match error.raw_os_error() {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::from(error.kind()),
            };
            if error.kind() != io::ErrorKind::Interrupted {
                self.failed.get_or_insert(error);
            }
            copy
        })
    }

    /// Whether it is a file in which what is not written is a hole.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self.sink, Sink::File(..))
    }

    /// Whether it is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        matches!(self.sink, Sink::Stdout(_)) && io::stdout().is_terminal()
    }
}

impl Seek for Output {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let result = match &mut self.sink {
            Sink::File(writer, _) => writer.seek(to),
            _ => Err(io::ErrorKind::NotSeekable.into()),
        };
        self.note(result)
    }
}

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let result = self.writer().write(buf);
        self.note(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.writer().flush();
        self.note(result)
    }
}

fn cannot_write(path: &Path) -> String {
    format!("cannot write {}", path.display())
}

/// `NO_COLOR`, `CLICOLOR_FORCE`, a dumb terminal: as everybody else reads them.
fn terminal_wants_color() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

fn open(path: &Path) -> Result<Sink> {
    let target = followed(path);
    let existing = match OpenOptions::new().write(true).open(&target) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let permissions = match existing {
        Some(file) => {
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Ok(Sink::Special(
                    BufWriter::with_capacity(BUFFER, file),
                    target,
                ));
            }
            Some(metadata.permissions())
        }
        None => None,
    };
    let (file, partial) = create_beside(target)?;
    if let Some(permissions) = permissions {
        file.set_permissions(permissions)?;
    }
    Ok(Sink::File(BufWriter::with_capacity(BUFFER, file), partial))
}

/// What `path` points at if it is a link, so that this is replaced and not the
/// link. A link may point at what is not there yet.
fn followed(path: &Path) -> PathBuf {
    if let Ok(target) = fs::canonicalize(path) {
        return target;
    }
    match fs::read_link(path) {
        // What /dev/fd has is there, but under no name.
        Ok(target) if !path.exists() => path.with_file_name(target),
        _ => path.to_owned(),
    }
}

/// A new file in the folder of `target`.
fn create_beside(target: PathBuf) -> Result<(File, Partial)> {
    if target.file_name().is_none() {
        return Err(Refusal::new("it names no file", "give a file name after -o").into());
    }
    let folder = target.parent().unwrap_or(Path::new("."));
    let missing = format!("no folder {}", folder.display());
    match Partial::beside(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error).context(missing),
        created => Ok(created?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::symlink;

    use super::*;

    fn output(path: &Path) -> Output {
        let args = OutputArgs {
            output: Some(path.to_owned()),
            color: Color::Never,
        };
        Output::open(&args).unwrap()
    }

    #[test]
    fn links_are_followed_and_stay() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        symlink("target", &link).unwrap();
        for text in ["new", "replaced"] {
            let mut out = output(&link);
            out.write_all(text.as_bytes()).unwrap();
            out.finish(Ok(Outcome::Complete)).unwrap();
            assert!(link.is_symlink());
            assert_eq!(
                fs::read_to_string(folder.path().join("target")).unwrap(),
                text
            );
        }
    }

    #[test]
    fn the_reader_of_a_named_pipe_may_go_away_too() {
        let (reader, writer) = io::pipe().unwrap();
        let mut out = output(Path::new(&format!("/dev/fd/{}", writer.as_raw_fd())));
        drop(reader);
        out.write_all(b"lost").unwrap();
        let outcome = out.finish(Ok(Outcome::Complete)).unwrap();
        assert_eq!(outcome, Outcome::ReaderGone);
    }
}
