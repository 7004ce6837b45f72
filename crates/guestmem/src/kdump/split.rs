//! A dump in several files (`makedumpfile --split`).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::header::Header;
use super::memory::Part;
use super::stream::Stream;

/// The other files of the dump that `first` is a part of, out of the folder
/// that `path` is in. The names are up to who made the dump; what a file is
/// part of stands in its header.
pub(super) fn siblings(path: &Path, first: &Header) -> Vec<Part> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut found: Vec<Part> = Vec::new();
    for file in files.flatten() {
        let Some(part) = part(&file.path()) else {
            continue;
        };
        // A copy of a file that is known has the same pages.
        let is_new = |known: &Header| known.split != part.header.split;
        let is_new = is_new(first) && found.iter().all(|known| is_new(&known.header));
        if part.header.split.is_some() && part.header.is_of_same_dump(first) && is_new {
            found.push(part);
        }
    }
    found
}

/// The file at `path`, if it is a dump.
fn part(path: &Path) -> Option<Part> {
    // A pipe would be waited for.
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        return None;
    }
    let file = File::open(path).ok()?;
    let mut start = [0; 8];
    file.read_exact_at(&mut start, 0).ok()?;
    if ![*b"KDUMP   ", *b"DISKDUMP", *b"makedump"].contains(&start) {
        return None;
    }
    let stream = Stream::new(file, metadata.len()).ok()?.ok()?;
    let header = Header::read(&stream).ok()?;
    Some(Part { stream, header })
}
