//! The memory of another process, by its files in `/proc`, which stay those of
//! this process and no other: a number is given out again, an open file is not.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use nix::sys::stat::{major, minor};
use nix::unistd::{SysconfVar, sysconf};

use crate::Error;
use crate::maps::{self, FileId, Mapping};

/// Pages in a block of the memo, a bit each.
const BLOCK: usize = 64;

/// How many pages are asked for when some are searched for: at first, as runs
/// may be short, and at most.
const ASKED: (usize, usize) = (64, 16 << 10);

/// Bits of an entry of `pagemap`: the page is in memory, or swapped out.
const EXISTS: u64 = 1 << 63 | 1 << 62;

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    memory: io::Result<File>,
    pagemap: io::Result<File>,
    page: u64,
    /// By the first page of a block, a bit for each page that is known to exist. Pages come while
    /// the process runs, so what does not exist is asked for again.
    known: RefCell<HashMap<u64, u64>>,
}

/// Why memory of a process was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The process is gone, and its memory with it.
    Process,
    /// It has nothing there that can be read.
    Here,
}

impl Process {
    /// The process `pid`, of which it is not yet known whether it can be read.
    pub(crate) fn open(pid: i32) -> Self {
        let open = |name| File::open(format!("/proc/{pid}/{name}"));
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        Self {
            pid,
            memory: open("mem"),
            pagemap: open("pagemap"),
            page: page
                .and_then(|page| u64::try_from(page).ok())
                .unwrap_or(4096),
            known: RefCell::default(),
        }
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// What it has mapped.
    pub(crate) fn mappings(&self) -> Result<Vec<Mapping>, Error> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid));
        let maps = maps.map_err(|source| self.error("list the mappings", source))?;
        Ok(maps::parse(&maps))
    }

    /// What the process is called.
    pub(crate) fn name(&self) -> String {
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid));
        name.unwrap_or_default().trim_end().to_owned()
    }

    /// Whether its memory can be read.
    pub(crate) fn readable(&self) -> Result<(), Error> {
        let refused = |error: &io::Error| match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        };
        match &self.memory {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error("read the memory", refused(error))),
        }
    }

    fn error(&self, operation: &'static str, source: io::Error) -> Error {
        Error::Process {
            operation,
            pid: self.pid,
            source,
        }
    }

    /// The file behind `mapping`, opened for reading, if there is a way to it.
    pub(crate) fn file(&self, mapping: &Mapping, id: FileId, path: &str) -> Option<File> {
        let pid = self.pid;
        // By its address, which takes rights that root has.
        let exact = format!(
            "/proc/{pid}/map_files/{:x}-{:x}",
            mapping.start, mapping.end
        );
        if let Ok(file) = File::open(exact) {
            return Some(file);
        }
        let is_it = |metadata: &fs::Metadata| {
            let (dev, inode) = (metadata.dev(), metadata.ino());
            (major(dev), minor(dev), inode) == (id.major, id.minor, id.inode)
        };
        let held = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let held = held.filter_map(|entry| Some(entry.ok()?.path()));
        held.chain([PathBuf::from(path)])
            .filter(|path| fs::metadata(path).is_ok_and(|metadata| is_it(&metadata)))
            .filter_map(|path| File::open(path).ok())
            .find(|file| file.metadata().is_ok_and(|metadata| is_it(&metadata)))
    }

    /// Reads its memory at `hva`; `Err` also counts the bytes before the first
    /// one that was lost.
    pub(crate) fn copy(&self, hva: u64, buf: &mut [u8]) -> Result<(), (usize, Lost)> {
        let Ok(memory) = &self.memory else {
            return Err((0, Lost::Here));
        };
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match memory.read_at(rest, hva.saturating_add(done as u64)) {
                // So a process that is gone reads; where it has nothing is an error.
                Ok(0) => return Err((done, Lost::Process)),
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_nothing) => return Err((done, Lost::Here)),
            }
        }
        Ok(())
    }

    /// Whether the page at `hva` exists, and up to where, at most `end`, the
    /// answer holds. One that the process has not touched does not; where it
    /// is not told, all do.
    pub(crate) fn exists(&self, hva: u64, end: u64) -> (bool, u64) {
        let exists = self.page_exists(hva);
        let mut until = self.next_page(hva);
        while until < end && self.page_exists(until) == exists {
            until = self.next_page(until);
        }
        (exists, until.min(end))
    }

    fn next_page(&self, hva: u64) -> u64 {
        (hva / self.page)
            .saturating_add(1)
            .saturating_mul(self.page)
    }

    fn page_exists(&self, hva: u64) -> bool {
        let page = hva / self.page;
        let inside = page % BLOCK as u64;
        let is_in = |bits: &u64| bits >> inside & 1 == 1;
        let mut known = self.known.borrow_mut();
        if known.get(&(page - inside)).is_some_and(is_in) {
            return true;
        }
        let mut entries = [0; BLOCK];
        // What cannot be told is there: then a read shows whether it is.
        if self.entries(page - inside, &mut entries).is_err() {
            return true;
        }
        let bits = entries
            .iter()
            .rev()
            .fold(0, |bits, entry| bits << 1 | u64::from(entry & EXISTS != 0));
        if bits != 0 {
            known.insert(page - inside, bits);
        }
        is_in(&bits)
    }

    /// The first run of pages that exist, in the sense of
    /// [`exists`](Self::exists), at or behind `hva` and below `end`.
    pub(crate) fn next_run(&self, hva: u64, end: u64) -> Option<(u64, u64)> {
        let mut entries = vec![0; ASKED.0];
        let mut start = None;
        let mut page = hva / self.page;
        while page.saturating_mul(self.page) < end {
            if self.entries(page, &mut entries).is_err() {
                // As above.
                return Some((start.unwrap_or(page * self.page).max(hva), end));
            }
            for entry in &entries {
                let at = page.saturating_mul(self.page);
                match (start, entry & EXISTS != 0) {
                    _ if at >= end => break,
                    (None, true) => start = Some(at),
                    (Some(start), false) => return Some((start.max(hva), at)),
                    _ => {}
                }
                page += 1;
            }
            entries.resize((entries.len() * 2).min(ASKED.1), 0);
        }
        start.map(|start| (start.max(hva), end))
    }

    /// The entries of `pagemap` from `page` on.
    fn entries(&self, page: u64, entries: &mut [u64]) -> io::Result<()> {
        let Ok(pagemap) = &self.pagemap else {
            return Err(io::ErrorKind::PermissionDenied.into());
        };
        let mut bytes = vec![0; entries.len() * 8];
        let mut done = 0;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match pagemap.read_at(rest, page * 8 + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // It ends behind the last address, where there is no page, and
        // everywhere when the process has gone.
        if done < bytes.len() && pagemap.read_at(&mut [0; 8], page * 8)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (entry, bytes) in entries.iter_mut().zip(bytes.chunks_exact(8)) {
            *entry = bytes.try_into().map_or(0, u64::from_ne_bytes);
        }
        Ok(())
    }
}
