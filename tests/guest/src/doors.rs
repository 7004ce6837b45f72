//! The same guest through every door: QEMU's own dumps and what makedumpfile makes of them, packed
//! images, captures, and a QEMU that stands or runs. All must give the same document, byte for
//! byte, but for the record of where it came from.

mod document;
mod halted;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use crate::guest::{Guest, program};
use document::{Document, assert_left_out, assert_same};
use halted::{Backing, Halted, State};

/// The guest that QEMU dumped in every format, with the kernel's note.
const DUMPED: &str = "la48";

/// The size of an ELF core's header, and where some of its members are.
const EHDR: usize = 64;
const E_PHOFF: usize = 32;
const E_SHOFF: usize = 40;
const E_EHSIZE: usize = 52;
const E_PHNUM: usize = 56;
const E_SHNUM: usize = 60;
const E_SHSTRNDX: usize = 62;

/// A guest, what its memory gives, and a place for what is made of it.
struct Doors {
    guest: Guest,
    expected: Document,
    folder: TempDir,
}

impl Doors {
    fn of(name: &str) -> Self {
        let guest = Guest::open(name);
        // What a killed test leaves, `cargo xtask` finds by this name.
        let folder = TempDir::with_prefix_in("copy-", Guest::home());
        let expected = Document::of(guest.ram().as_os_str());
        assert_eq!(expected.source["kind"], "raw");
        Self {
            guest,
            expected,
            folder: folder.expect("a folder beside the guests"),
        }
    }

    /// A file that is yet to be made.
    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens `source` and compares; it must be taken for a `kind`.
    #[track_caller]
    fn same(&self, source: impl AsRef<OsStr>, kind: &str) -> Document {
        let document = Document::of(source.as_ref());
        let name = source.as_ref().to_string_lossy();
        assert_eq!(document.source["kind"], kind, "{name}");
        assert_same(&name, &self.expected, &document);
        document
    }

    /// The same of a file that is not needed any more.
    #[track_caller]
    fn same_once(&self, path: &Path, kind: &str) {
        self.same(path, kind);
        fs::remove_file(path).expect("a file to remove");
    }

    /// The guest's ELF core with its program headers behind the header, where makedumpfile looks
    /// for them; QEMU has section headers there.
    fn core(&self) -> PathBuf {
        let core = self.file("core");
        copy(&self.guest.door("elf"), &core);
        let file = open(&core);
        let mut head = [0; 4096];
        file.read_exact_at(&mut head, 0).expect("a head");
        let from = usize::from(head[E_PHOFF]);
        let len = usize::from(head[E_PHNUM]) * 56;
        head.copy_within(from..from + len, EHDR);
        head[E_PHOFF] = 64;
        head[E_EHSIZE] = 64;
        // No section headers.
        head[E_SHOFF] = 0;
        head[E_SHNUM] = 0;
        head[E_SHSTRNDX] = 0;
        file.write_all_at(&head[..EHDR + len], 0).expect("a head");
        core
    }

    /// Runs makedumpfile on that core.
    fn makedumpfile(&self, options: &[&str], core: &Path, files: &[&Path]) {
        let mut command = Command::new("makedumpfile");
        succeed(command.args(options).arg(core).args(files));
    }
}

/// What was captured through the monitor of the QEMU that booted it, once it stood.
pub(crate) fn captured_when_it_stood(guest: &Guest) {
    let expected = Document::of(guest.ram().as_os_str());
    let captured = Document::of(guest.door("paused.core.zst").as_os_str());
    assert_eq!(captured.source["kind"], "capture");
    assert_same(&guest.name(), &expected, &captured);
}

/// Runs a program that must succeed.
#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().expect("a program starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn copy(from: &Path, to: &Path) {
    succeed(
        Command::new("cp")
            .args(["--sparse=always", "--no-preserve=mode"])
            .args([from, to]),
    );
}

fn open(copy: &Path) -> File {
    let file = File::options().read(true).write(true).open(copy);
    file.expect("a copy to write to")
}

#[test]
fn qemus_dumps() {
    let doors = Doors::of(DUMPED);
    doors.same(doors.guest.door("elf"), "elf");
    doors.same(doors.guest.door("kdump"), "kdump");
    doors.same(doors.guest.door("raw"), "raw");
}

/// The kernel never told QEMU where its note is, and memory has a hole below 4 GiB.
#[test]
fn a_dump_without_the_kernels_note() {
    let doors = Doors::of("high");
    doors.same(doors.guest.door("kdump"), "kdump");
}

/// The note is there, but nobody knows its name.
#[test]
fn a_core_whose_note_is_unknown() {
    let doors = Doors::of(DUMPED);
    let path = doors.file("elf");
    copy(&doors.guest.door("elf"), &path);
    let file = open(&path);
    // The notes are before memory.
    let mut head = vec![0; 64 << 10];
    file.read_exact_at(&mut head, 0).expect("a head");
    let name = b"VMCOREINFO\0";
    let at = head.windows(name.len()).position(|bytes| bytes == name);
    let at = at.expect("the kernel's note");
    file.write_all_at(b"X", at as u64).expect("another name");
    doors.same_once(&path, "elf");
}

#[test]
fn makedumpfile_compresses() {
    let doors = Doors::of(DUMPED);
    let about = Command::new("makedumpfile").arg("-v").output();
    let about = about.expect("makedumpfile starts").stdout;
    let about = String::from_utf8_lossy(&about).into_owned();
    let (core, path) = (doors.core(), doors.file("kdump"));
    for (option, library) in [("-c", ""), ("-l", "lzo"), ("-p", "snappy"), ("-z", "zstd")] {
        // Debian's is built without some of them.
        let has = |line: &str| line.split_whitespace().eq([library, "enabled"]);
        if library.is_empty() || about.lines().any(has) {
            doors.makedumpfile(&[option], &core, &[&path]);
            doors.same_once(&path, "kdump");
        }
    }
}

#[test]
fn makedumpfile_splits() {
    let doors = Doors::of(DUMPED);
    let parts = [1, 2, 3].map(|at| doors.file(&format!("part-{at}")));
    let files = parts.each_ref().map(PathBuf::as_path);
    // By default, it does not split what is no longer than 1 GiB.
    let options = ["--split", "--splitblock-size", "64", "-l"];
    doors.makedumpfile(&options, &doors.core(), &files);
    for part in &parts {
        let bytes = fs::metadata(part).expect("a part").len();
        assert!(bytes > 1 << 20, "{bytes} bytes");
    }
    doors.same(&parts[0], "kdump");
    doors.same(&parts[2], "kdump");
}

#[test]
fn makedumpfile_flattens() {
    let doors = Doors::of(DUMPED);
    let (core, path) = (doors.core(), doors.file("flat"));
    let file = File::create(&path).expect("a new file");
    let mut flat = Command::new("makedumpfile");
    flat.args(["-F", "-l"]).arg(&core).stdout(file);
    let status = flat.stderr(Stdio::null()).status();
    assert!(status.expect("makedumpfile starts").success());
    doors.same_once(&path, "kdump");
    // And QEMU's the other way.
    let kdump = File::open(doors.guest.door("kdump")).expect("QEMU's kdump file");
    succeed(
        Command::new("makedumpfile")
            .arg("-R")
            .arg(&path)
            .stdin(kdump),
    );
    doors.same_once(&path, "kdump");
}

#[test]
fn makedumpfile_writes_elf() {
    let doors = Doors::of(DUMPED);
    let path = doors.file("elf");
    doors.makedumpfile(&["-E"], &doors.core(), &[&path]);
    doors.same_once(&path, "elf");
}

/// Pages that are zero, in caches, or free.
#[test]
fn makedumpfile_leaves_pages_out() {
    let doors = Doors::of(DUMPED);
    let (core, path) = (doors.core(), doors.file("kdump"));
    for level in ["1", "23"] {
        doors.makedumpfile(&["-l", "-d", level], &core, &[&path]);
        doors.same_once(&path, "kdump");
    }
    // Of processes, too. It takes pages of this kernel's for such.
    doors.makedumpfile(&["-l", "-d", "31"], &core, &[&path]);
    assert_left_out(&doors.expected, &Document::of(path.as_os_str()));
    fs::remove_file(&path).expect("a file to remove");
    // As ELF, it leaves out long runs of pages only.
    doors.makedumpfile(&["-E", "-d", "31"], &core, &[&path]);
    doors.same_once(&path, "elf");
}

#[test]
fn packed() {
    let doors = Doors::of(DUMPED);
    let ram = || File::open(doors.guest.ram()).expect("the guest's memory");
    // Names say nothing.
    let path = doors.file("packed");
    let file = File::create(&path).expect("a new file");
    let mut packer = GzEncoder::new(file, Compression::fast());
    io::copy(&mut ram(), &mut packer).expect("room");
    packer.finish().expect("room");
    doors.same_once(&path, "raw");
    let file = File::create(&path).expect("a new file");
    zstd::stream::copy_encode(ram(), file, 1).expect("room");
    doors.same_once(&path, "raw");
    let kdump = File::open(doors.guest.door("kdump")).expect("QEMU's kdump file");
    let file = File::create(&path).expect("a new file");
    zstd::stream::copy_encode(kdump, file, 1).expect("room");
    doors.same_once(&path, "kdump");
}

#[test]
fn captures() {
    let doors = Doors::of(DUMPED);
    let capture = |source: &Path, name: &str| {
        let path = doors.file(name);
        succeed(program().arg("capture").arg(source).arg("-o").arg(&path));
        doors.same(&path, "capture");
        path
    };
    let plain = capture(&doors.guest.ram(), "plain.core");
    let packed = capture(&doors.guest.door("elf"), "packed.core.zst");
    capture(&doors.guest.door("kdump"), "of-kdump.core.zst");
    capture(&plain, "again.core.zst");
    capture(&packed, "again.core");
    let file = File::create(doors.file("gz")).expect("a new file");
    let mut packer = GzEncoder::new(file, Compression::fast());
    let mut plain = File::open(plain).expect("the capture");
    io::copy(&mut plain, &mut packer).expect("room");
    packer.finish().expect("room");
    doors.same(doors.file("gz"), "capture");
}

/// A QEMU with the guest's memory, whatever that memory is to QEMU, and whether it stands or runs.
#[track_caller]
fn monitor(state: State) {
    let doors = Doors::of(DUMPED);
    for backing in Backing::ALL {
        let qemu = Halted::start(&doors.guest.ram(), doors.folder.path(), backing, state);
        let document = doors.same(qemu.source(), "qmp");
        let paused = document.source.get("paused_ms").and_then(|it| it.as_f64());
        let is_running = state == State::Running;
        assert_eq!(paused.is_some_and(|it| it > 0.0), is_running, "{backing:?}");
        let path = doors.file("qmp.core.zst");
        let mut capture = program();
        capture.args(["capture", &qemu.source(), "-o"]).arg(&path);
        succeed(&mut capture);
        assert_eq!(qemu.state(), state, "{backing:?}");
        drop(qemu);
        doors.same_once(&path, "capture");
    }
}

#[test]
fn monitor_of_one_that_stands() {
    monitor(State::Paused);
}

#[test]
fn monitor_of_one_that_runs() {
    monitor(State::Running);
}
