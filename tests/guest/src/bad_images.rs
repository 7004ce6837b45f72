//! Images that are not what they should be, made from copies of a real one: what the program
//! says, and how it ends.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use btf_layout::build::Builder;
use guestmem::{Address, Fake, Gpa, PhysicalMemory, RawImage};
use kernel::Encoding;
use kernel::build::Machine;
use serde_json::Value;
use tempfile::TempDir;

use crate::guest::{Guest, parse, program};

const PAGE: u64 = 4096;

/// The formats that list what is missing.
const FORMATS: [&str; 3] = ["text", "json", "jsonl"];

/// An image of its own, which goes away with this.
struct Image {
    _folder: TempDir,
    path: PathBuf,
}

impl Image {
    /// A file beside the guests, where there is room for one.
    fn new() -> Self {
        // What a killed test leaves, `cargo xtask` finds by this name.
        let folder = TempDir::with_prefix_in("copy-", Guest::home());
        let folder = folder.expect("a folder beside the guests");
        let path = folder.path().join("copy.ram");
        Self {
            _folder: folder,
            path,
        }
    }

    /// The memory of a guest whose file begins at physical 0 and has no gap, holes kept.
    fn copy() -> Self {
        let image = Self::new();
        let copied = Command::new("cp")
            .args(["--reflink=auto", "--sparse=auto"])
            .arg(Guest::open("la48").ram())
            .arg(&image.path)
            .status();
        assert!(copied.expect("cp starts").success());
        image
    }

    fn open(&self) -> File {
        File::options()
            .write(true)
            .open(&self.path)
            .expect("the copy")
    }

    fn cut(&self, len: u64) {
        self.open().set_len(len).expect("a shorter copy");
    }

    fn write(&self, at: u64, bytes: &[u8]) {
        self.open().write_all_at(bytes, at).expect("a written copy");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let (command, options) = arguments.split_first().expect("a command");
        let mut program = program();
        program.arg(command).arg(&self.path).args(options);
        program
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("bpfreeze starts")
    }

    /// Starts a dump and waits until it has begun to print. It is far longer than a pipe holds.
    fn begin_dump(&self, format: &str) -> Child {
        let mut child = self
            .command(&["dump", "--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bpfreeze starts");
        let mut first = [0; 1];
        let stdout = child.stdout.as_mut().expect("a pipe");
        stdout.read_exact(&mut first).expect("some output");
        child
    }

    /// `info`, which must find everything.
    fn info(&self) -> Value {
        let output = self.run(&["info", "--format", "json"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        parse(&output.stdout, "bpfreeze info")
    }

    /// Every command must fail with one or two lines that hold all of `parts`.
    #[track_caller]
    fn fails(&self, parts: &[&str]) {
        for command in ["info", "maps", "dump"] {
            let output = self.run(&[command]);
            failed(&output, parts);
        }
    }
}

#[track_caller]
fn failed(output: &Output, parts: &[&str]) {
    let messages = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{messages}");
    assert!(output.stdout.is_empty());
    assert!((1..=2).contains(&messages.lines().count()), "{messages}");
    for part in parts {
        assert!(messages.contains(part), "no {part:?} in {messages}");
    }
}

fn address(value: Option<&Value>) -> u64 {
    let text = value.and_then(Value::as_str).expect("an address");
    let (negative, digits) = match text.strip_prefix("-0x") {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix("0x").expect("a prefix")),
    };
    let number = u64::from_str_radix(digits, 16).expect("hexadecimal digits");
    match negative {
        true => number.wrapping_neg(),
        false => number,
    }
}

fn candidates(info: &Value) -> &[Value] {
    let candidates = info.pointer("/found/vmcoreinfo").and_then(Value::as_array);
    candidates.expect("candidates")
}

#[test]
fn cut_before_the_kernel() {
    let image = Image::copy();
    let info = image.info();
    let first = candidates(&info)
        .iter()
        .map(|one| address(one.get("gpa")))
        .min();
    image.cut(first.expect("VMCOREINFO"));
    image.fails(&["copy.ram: no Linux kernel in this image", "whole memory"]);
}

/// From a kernel that lacks its last pages to one whose maps are gone: nothing is left out in
/// silence, whatever the file still has.
#[test]
fn cut_behind_the_kernel() {
    let image = Image::copy();
    let len = fs::metadata(&image.path).expect("the copy").len();
    let whole = image.run(&["dump", "--format", "json"]).stdout;
    // Where the kernel and its maps lie differs from boot to boot, so the cuts go from fine to
    // coarse.
    for megabytes in (0..10).map(|shift| 1_u64 << shift) {
        image.cut(len - (megabytes << 20));
        loss(&image, &[], &whole);
    }
}

/// A part in the middle is missing. The maps need more memory than fits beside the kernel's own
/// in parts of this size: some part lacks maps and leaves the kernel whole.
#[test]
fn lacks_a_part() {
    const PART: u64 = 16 << 20;
    let image = Image::copy();
    let len = fs::metadata(&image.path).expect("the copy").len();
    let whole = image.run(&["dump", "--format", "json"]).stdout;
    let lost = (0..len / PART).find(|part| {
        let (start, end) = (part * PART, (part + 1) * PART);
        let sides = [(0, start), (end, len - end)];
        let regions: Vec<String> = sides
            .into_iter()
            .filter(|&(_, len)| len > 0)
            .map(|(at, len)| format!("--region={at}:{at}:{len}"))
            .collect();
        let regions: Vec<&str> = regions.iter().map(String::as_str).collect();
        loss(&image, &regions, &whole) == Loss::Parts
    });
    assert!(lost.is_some(), "no part is missed");
}

/// What is lost of a dump.
#[derive(Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    Parts,
    Kernel,
}

/// Dumps an image that lacks memory, and checks that this says so wherever it matters.
fn loss(image: &Image, options: &[&str], whole: &[u8]) -> Loss {
    let dump = |format| image.run(&[&["dump", "--format", format], options].concat());
    let output = dump("json");
    match output.status.code() {
        Some(1) => {
            failed(&output, &["copy.ram"]);
            Loss::Kernel
        }
        Some(3) => {
            let document: Value = parse(&output.stdout, "bpfreeze dump");
            let is_whole = |map: &Value| map.get("complete") == Some(&Value::Bool(true));
            let maps = document.get("maps").and_then(Value::as_array);
            let gaps = document.get("gaps").and_then(Value::as_array);
            let listed = gaps.is_some_and(|gaps| !gaps.is_empty());
            let all_whole = maps.expect("maps").iter().all(is_whole);
            assert!(listed || !all_whole, "nothing is missing");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("is not in the image"));
            // bpftool's format has no place for gaps, nor for some maps that have them.
            let tool = dump("bpftool");
            assert_eq!(tool.status.code(), Some(3));
            let said = String::from_utf8_lossy(&tool.stderr);
            assert!(said.contains("--format text"), "{said}");
            Loss::Parts
        }
        // Nothing that a dump needs was there.
        Some(0) => {
            assert!(output.stdout == whole, "what is missing matters");
            Loss::Nothing
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn shrinks_while_it_is_read() {
    for format in FORMATS {
        let image = Image::copy();
        let child = image.begin_dump(format);
        image.cut(0);
        let output = child.wait_with_output().expect("an end");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(3), "{format}: {output:?}");
        assert!(text.contains("the image file ended or failed"), "{format}");
        if format == "json" {
            // The first byte was read before.
            serde_json::from_str::<Value>(&format!("{{{text}")).expect("a whole document");
        }
    }
}

#[test]
fn the_reader_goes_away() {
    let image = Guest::open("la48");
    for format in FORMATS.into_iter().chain(["bpftool"]) {
        let mut child = Command::new(program().get_program())
            .args(["dump", "--format", format])
            .arg(image.ram())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("bpfreeze starts");
        let mut stdout = child.stdout.take().expect("a pipe");
        stdout.read_exact(&mut [0; 1]).expect("some output");
        drop(stdout);
        let output = child.wait_with_output().expect("an end");
        assert_eq!(output.status.code(), Some(141), "{format}");
        assert!(output.stderr.is_empty(), "{format}: {output:?}");
    }
}

#[test]
fn the_output_cannot_be_written() {
    let output = Guest::open("la48").run(&["dump", "RAM", "-o", "/dev/full"]);
    failed(&output, &["cannot write /dev/full", "No space left"]);
}

#[test]
fn no_map_of_this_name() {
    let guest = Guest::open("la48");
    let output = guest.run(&["dump", "RAM", "--map", "flaws"]);
    failed(
        &output,
        &["has no map named `flaws`", "flows (", "bpfreeze maps"],
    );
    let output = guest.run(&["dump", "RAM", "--map", "4000000000"]);
    failed(&output, &["has no map with id 4000000000"]);
}

#[test]
fn without_types() {
    let image = Image::copy();
    let info = image.info();
    // The kernel's image is mapped from here on, if it is not moved in physical memory.
    let linked = 0xffff_ffff_8000_0000_u64;
    let types = address(info.pointer("/btf/kva"));
    let moved = address(info.pointer("/found/phys_base"));
    let at = (types - linked).wrapping_add(moved);
    let mut header = [0; 24];
    let file = File::open(&image.path).expect("the copy");
    file.read_exact_at(&mut header, at).expect("the BTF");
    assert_eq!(header[..2], [0x9f, 0xeb], "BTF's magic number");
    image.write(at, &[0; 24]);
    image.fails(&["copy.ram: the BTF of Linux 6.", "--btf FILE"]);
}

/// What a machine that was rebooted may have: VMCOREINFO of the kernel before, whose page tables
/// are gone.
#[test]
fn a_note_that_another_kernel_left() {
    let other = Guest::open("la57");
    let note = other.text("vmcoreinfo.txt");
    let note = address(note.split_whitespace().next().map(Value::from).as_ref());
    let mut page = vec![0; usize::try_from(PAGE).expect("a page")];
    let ram = File::open(other.ram()).expect("the other guest");
    ram.read_exact_at(&mut page, note).expect("its note");

    let image = Image::copy();
    let memory = RawImage::open(&image.path).expect("the copy");
    let mut hole = 64 << 20;
    while let Some(data) = memory.next_data(Gpa::new(hole))
        && data.start.get() < hole + PAGE
    {
        hole = (data.start.get() + data.len).next_multiple_of(PAGE);
    }
    drop(memory);
    image.write(hole, &page);

    let info = image.info();
    let left = candidates(&info)
        .iter()
        .find(|one| address(one.get("gpa")) == hole);
    let left = left.unwrap_or_else(|| panic!("0x{hole:x} is not told: {info}"));
    assert_eq!(left.get("proved"), Some(&Value::Bool(false)), "{left}");
    let text = String::from_utf8(image.run(&["info"]).stdout).expect("text");
    assert!(text.contains("refused"), "{text}");
    let output = image.run(&["maps", "--vmcoreinfo", &hole.to_string()]);
    failed(&output, &["copy.ram"]);
}

/// Two kernels in one physical memory, as a crash kernel and the one before it. They are made by
/// hand: no two guests have their memory in different places.
#[test]
fn two_kernels() {
    let mut memory = Fake::new();
    for (first, release) in [(0, "6.12.1"), (0x800_0000, "6.1.0")] {
        let mut machine = Machine::new(memory, Gpa::new(first), 5, release);
        machine.btf(&Builder::new().finish());
        machine.cpus(&[(0, 0x1000)]);
        memory = machine.finish(Encoding::BaseRelative);
    }
    let image = Image::new();
    File::create(&image.path).expect("a new file");
    let mut from = Gpa::new(0);
    while let Some(run) = memory.next_data(from) {
        let bytes = guestmem::MemoryExt::read_up_to(&memory, run.start, run.len).bytes;
        image.write(run.start.get(), &bytes);
        let next = run.start.checked_add(run.len);
        from = next.expect("memory ends before addresses do");
    }
    image.fails(&[
        "2 kernels are in this image",
        "Linux 6.12.1",
        "Linux 6.1.0",
        "--vmcoreinfo",
    ]);
}
