//! The command line. Help, completions and manual pages all come from here.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::styling::{AnsiColor, Styles};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint, value_parser};
use clap_complete::Shell;
use guestmem::{Address, Gpa, Region};

use crate::manual::PAGES;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// A heading of the help and the manual pages, and what stands under it.
pub(crate) type Section = (&'static str, &'static str);

pub(crate) const EXAMPLES: Section = (
    "Examples",
    "  bpfreeze maps live                      the maps of the running kernel
  bpfreeze info guest.ram                 what a paused guest's memory holds
  bpfreeze dump guest.ram                 the contents of every map
  bpfreeze dump guest.ram --map stats     those of the maps named stats
  bpfreeze progs guest.ram                the programs, and the maps that they use
  bpfreeze capture qmp:vm.sock -o vm.core a running guest, paused for milliseconds
  bpfreeze dump guest.ram --format json -o maps.json",
);

pub(crate) const DUMP_EXAMPLES: Section = (
    "Examples",
    "  bpfreeze dump live --map 7 --map stats
  bpfreeze dump guest.ram --map bpf_bpf.bss
  bpfreeze dump guest.ram --limit 20 | less
  bpfreeze dump guest.ram --format jsonl | jq -c 'select(.key.typed == 1)'
  bpfreeze dump guest.ram --format bpftool --map stats | jq .",
);

pub(crate) const CAPTURE_EXAMPLES: Section = (
    "Examples",
    "  bpfreeze capture guest.ram -o guest.core.zst
  bpfreeze dump guest.core.zst            the same as of guest.ram
  bpfreeze capture qmp:vm.sock -o vm.core
  bpfreeze capture guest.ram --map stats -o stats.core
  bpfreeze capture guest.ram -o - | ssh host 'cat > guest.core'",
);

pub(crate) const EXIT_STATUS: Section = (
    "Exit status",
    "  0    complete
  1    failed
  2    wrong usage
  3    done, but something could not be read: the output says what and why
  141  the reader of the output went away first, as in `bpfreeze dump live | head`",
);

const SOURCE_HELP: &str = "\
Where the kernel is: `live`, the path of a memory image, or `qmp:SOCKET`

`live` is the running kernel. Its maps are read through bpf(2), which takes root \
(CAP_SYS_ADMIN); nothing of them is changed.

An image is a machine's physical memory: an ELF core or a kdump file, as `dump-guest-memory` in \
QEMU's monitor, `virsh dump --memory-only`, kdump and makedumpfile write them; what `bpfreeze \
capture` wrote; or the bytes themselves, as in the file behind QEMU's memory-backend-file (with \
share=on), what `pmemsave` writes, or the memory file of a Firecracker snapshot. Each of them may \
be packed by gzip or zstd: it is unpacked into a file without a name in TMPDIR or /var/tmp. Pause \
the machine first. Nothing else is needed: release, symbols and types are found in the image \
itself.

`qmp:SOCKET` is a virtual machine that QEMU runs, by the socket of its monitor \
(-qmp unix:SOCKET,server=on,wait=off). It is paused for some milliseconds, in which what is asked \
for is copied, and goes on; one that is paused already is read as it stands.

For a file that is called `live`, give `./live`.";

/// Shows everything that BPF programs keep in a kernel
///
/// bpfreeze lists and prints the maps of a kernel that stands still (the memory of a paused
/// virtual machine, with nothing asked of the guest) or of the running kernel, with the types
/// that BTF gives them.
#[derive(Debug, Parser)]
#[command(name = "bpfreeze", version, styles = STYLES, max_term_width = 100)]
#[command(after_help = sections(&[EXAMPLES, EXIT_STATUS]), disable_help_subcommand = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The command line of this process; ends it where that is wrong.
    pub(crate) fn of_process() -> Self {
        let cli = Self::parse();
        let (source, image) = match &cli.command {
            Command::Info(args) => (&args.source, &args.image),
            Command::Maps(args) => (&args.source, &args.image),
            Command::Dump(args) => (&args.source, &args.image),
            Command::Progs(args) => (&args.source, &args.image),
            Command::Capture(args) => (&args.source, &args.image),
            Command::Completions { .. } | Command::Man { .. } => return cli,
        };
        let refuse = |why| -> () {
            Self::command()
                .error(ErrorKind::ArgumentConflict, why)
                .exit()
        };
        match (&source.source, source.via) {
            // Its memory is searched as an image's is.
            (Source::Live, Some(Via::Kcore)) => {}
            (Source::Live, _) if *image != ImageArgs::default() => refuse(
                "--region, --vmcoreinfo, --root-table, --btf, --symbols and --qemu-pid are for images: \
                 `live` needs none of them",
            ),
            (Source::Live, _) | (_, None) => {}
            (_, Some(_)) => refuse("--via is for the running kernel, which is the source `live`"),
        }
        cli
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows which kernel a source holds, and how it was found
    ///
    /// Release, architecture, page tables, address randomisation, types, symbols and the numbers of
    /// maps and programs. For an image also what each of them was found by, and what was rejected.
    Info(Info),
    /// Lists the maps, one row each, and the programs that use them
    Maps(Maps),
    /// Prints the contents of maps
    ///
    /// Every map, or those given by --map. What cannot be read is listed with the reason, and the
    /// exit status is then 3.
    #[command(after_help = sections(&[DUMP_EXAMPLES, EXIT_STATUS]))]
    Dump(Dump),
    /// Lists the programs, one row each
    ///
    /// What they were loaded to be attached to, the maps that they use, and how often and how long
    /// they ran, which is counted while `kernel.bpf_stats_enabled` is on.
    Progs(Progs),
    /// Saves the memory that the maps and programs need
    ///
    /// A few thousand pages in an ELF core, out of which every command shows the same as out of
    /// SOURCE, and which other programs open as a crash dump that lacks most pages. Memory that is
    /// not in it reads as left out, never as zeros.
    #[command(after_help = sections(&[CAPTURE_EXAMPLES, EXIT_STATUS]))]
    Capture(Capture),
    /// Prints a completion script for a shell
    ///
    /// For bash: `bpfreeze completions bash > ~/.local/share/bash-completion/completions/bpfreeze`
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Prints a manual page
    ///
    /// bpfreeze(1), or the page of one command: `bpfreeze man dump | man -l -`
    Man {
        /// The command that the page is about [default: bpfreeze itself]
        #[arg(value_parser = PAGES, hide_possible_values = true)]
        command: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Info {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) format: InfoFormat,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Maps {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Dump {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Print only this map (repeatable)
    ///
    /// By id, or by name: then every map of that name. The kernel cuts names after 15 bytes; a
    /// longer one is taken for its first 15. A map of maps is followed by its inner maps.
    #[arg(long, short, value_name = "ID|NAME")]
    pub(crate) map: Vec<String>,
    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Print at most this many entries of each map
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) limit: Option<u64>,
    #[command(flatten)]
    pub(crate) allocators: AllocatorArgs,
    /// Follow pointers into arenas to at most this many objects
    ///
    /// An object is shown once, where the first pointer leads to it. 0 follows none: pointers are
    /// then bare addresses. [default: 1000000]
    #[arg(long, value_name = "N")]
    pub(crate) follow_objects: Option<u64>,
    /// Print the bytes of the pages of arenas
    ///
    /// In text those of pages that are not all zeros, in JSON those of all pages, as base64.
    /// bpftool's format has no place for them.
    #[arg(long)]
    pub(crate) arena_bytes: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

/// Which allocators in arenas, and which of their slots. Any of these without
/// --map leaves the maps out.
#[derive(Debug, Args)]
pub(crate) struct AllocatorArgs {
    /// Print only this allocator of an arena (repeatable)
    ///
    /// By the name of its variable, such as `scx_task_allocator`. Maps are left out unless --map
    /// names them.
    #[arg(long, value_name = "NAME")]
    pub(crate) allocator: Vec<String>,
    /// Print only the slots of this thread
    ///
    /// In all allocators whose slots have owners, or in that of --allocator.
    #[arg(long, value_name = "N")]
    pub(crate) pid: Option<i32>,
    /// Print only the slot that this address of an arena lies in
    ///
    /// And what the page serves that it lies in. A user address, as programs keep it.
    #[arg(long, value_name = "ADDRESS", value_parser = number)]
    pub(crate) addr: Option<u64>,
    /// Take this struct for the payload of an allocator's slots (repeatable)
    ///
    /// Example: `--type scx_task_allocator=task_ctx`. Else the program's own types and code tell it,
    /// where they can; the output says by what.
    #[arg(long = "type", value_name = "SYMBOL=STRUCT", value_parser = typed)]
    pub(crate) types: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Progs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// How to print it
    #[arg(long, short, value_enum, default_value_t)]
    pub(crate) format: ProgsFormat,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Capture {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Save the contents of this map only (repeatable)
    ///
    /// By id or name, as for `dump`, and with the inner maps of a map of maps. The lists of maps
    /// and programs are saved whole.
    #[arg(long, short, value_name = "ID|NAME")]
    pub(crate) map: Vec<String>,
    /// Which pages of arenas to save
    #[arg(
        long = "include",
        value_name = "arena=WHICH",
        value_enum,
        default_value_t
    )]
    pub(crate) arenas: Arenas,
    /// Write to this file; `-` is standard output
    ///
    /// It is packed if its name ends in `.zst`. It appears, whole, at the end: until then the
    /// capture is in a temporary file beside it, which goes away if the command fails.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: PathBuf,
    /// How hard to pack it, from 1 to 22
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(i32).range(1..=22))]
    pub(crate) level: i32,
    #[command(flatten)]
    pub(crate) image: ImageArgs,
}

/// What of arenas is saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arenas {
    /// Every page that exists
    #[default]
    #[value(name = "arena=whole")]
    Whole,
    /// The pages that allocators, variables and pointers lead to, and no others
    #[value(name = "arena=reached")]
    Reached,
    /// None: which there are is known all the same, and what was in them reads as left out
    #[value(name = "arena=no")]
    No,
}

impl From<Arenas> for freeze::capture::Arenas {
    fn from(arenas: Arenas) -> Self {
        match arenas {
            Arenas::Whole => Self::Whole,
            Arenas::Reached => Self::Reached,
            Arenas::No => Self::No,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    #[arg(help = SOURCE_HELP.lines().next(), long_help = SOURCE_HELP)]
    #[arg(value_parser = OsStringValueParser::new().map(Source::from))]
    #[arg(value_hint = ValueHint::FilePath)]
    pub(crate) source: Source,
    /// Through what to read the running kernel's memory
    ///
    /// Only for the source `live`.
    #[arg(long, value_enum)]
    pub(crate) via: Option<Via>,
    /// Say on stderr what is tried, what is found, and how long it takes
    #[arg(long, short)]
    pub(crate) verbose: bool,
}

// Flattened last: its heading holds for everything that follows.
/// What to take as given instead of finding it in the image.
#[derive(Debug, Args, Default, PartialEq, Eq)]
#[command(next_help_heading = "Options for memory images")]
pub(crate) struct ImageArgs {
    /// Where a part of the file lies in physical memory (repeatable)
    ///
    /// For raw memory. All numbers in bytes, decimal or 0x…. Without it, the whole file starts at
    /// address 0, and the usual hole below 4 GiB of larger machines is found by trying. Example, a
    /// q35 guest with 3 GiB: --region 0:0:0x80000000 --region 0x80000000:0x100000000:0x40000000
    #[arg(long, value_name = "FILE_OFFSET:GPA:LEN")]
    pub(crate) region: Vec<Region>,
    /// Physical address of the VMCOREINFO to believe
    ///
    /// An image can hold stale ones, from before a warm reboot. `bpfreeze info` lists them all.
    /// Given, no search takes place.
    #[arg(long, value_name = "GPA", value_parser = gpa)]
    pub(crate) vmcoreinfo: Option<Gpa>,
    /// Physical address of the kernel's root page table
    ///
    /// On x86-64 the value of CR3 while the kernel runs.
    #[arg(long, value_name = "GPA", value_parser = gpa)]
    pub(crate) root_table: Option<Gpa>,
    /// Take the kernel's types from this file instead of the image
    ///
    /// A copy of /sys/kernel/btf/vmlinux, or a vmlinux with a .BTF section.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) btf: Option<PathBuf>,
    /// Take the kernel's symbols from this file instead of the image
    ///
    /// A System.map, a copy of /proc/kallsyms, or a vmlinux.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) symbols: Option<PathBuf>,
    /// The process of the QEMU behind a QMP socket, where the socket does not tell
    ///
    /// As with libvirt, or where QEMU runs in another container.
    #[arg(long, value_name = "PID")]
    pub(crate) qemu_pid: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Write to this file instead of standard output
    ///
    /// It appears, whole, at the end: until then the output is in a temporary file beside it, which
    /// goes away if the command fails.
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) output: Option<PathBuf>,
    /// When to colour text
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: Color,
}

/// Which kernel to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The running one.
    Live,
    /// The one behind a QMP socket.
    Qmp(PathBuf),
    /// The one in a file.
    Path(PathBuf),
}

/// Through what the running kernel is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// bpf(2), and where that does not tell, the first of the next two that there is
    #[default]
    Auto,
    /// bpf(2), and a small BPF program that copies memory out
    Program,
    /// /proc/kcore alone: everything is found in memory, as in an image; nothing is asked of bpf(2)
    Kcore,
    /// bpf(2) alone
    Bpf,
}

impl AllocatorArgs {
    /// Whether only some allocators or slots are asked for.
    pub(crate) fn is_narrow(&self) -> bool {
        !self.allocator.is_empty() || self.pid.is_some() || self.addr.is_some()
    }
}

impl Source {
    /// The file or socket that it is.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Live => None,
            Self::Qmp(path) | Self::Path(path) => Some(path),
        }
    }
}

impl From<OsString> for Source {
    fn from(text: OsString) -> Self {
        if text == "live" {
            return Self::Live;
        }
        match text.to_str().and_then(|text| text.strip_prefix("qmp:")) {
            Some(socket) => Self::Qmp(PathBuf::from(socket)),
            None => Self::Path(PathBuf::from(text)),
        }
    }
}

impl fmt::Display for Source {
    /// As it stands on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Live => f.write_str("live"),
            Self::Qmp(socket) => write!(f, "qmp:{}", socket.display()),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// One JSON document a line: each map, then each of its entries
    Jsonl,
    /// What `bpftool -j map` prints
    Bpftool,
}

impl From<Format> for render::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
            Format::Jsonl => Self::Jsonl,
            Format::Bpftool => Self::Bpftool,
        }
    }
}

/// Without bpftool's: it tells much that only the running kernel knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgsFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
    /// One JSON document a line: each program
    Jsonl,
}

impl From<ProgsFormat> for render::Format {
    fn from(format: ProgsFormat) -> Self {
        match format {
            ProgsFormat::Text => Self::Text,
            ProgsFormat::Json => Self::Json,
            ProgsFormat::Jsonl => Self::Jsonl,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InfoFormat {
    /// For people
    #[default]
    Text,
    /// One JSON document
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Sections as clap prints its own.
fn sections(sections: &[Section]) -> String {
    let style = STYLES.get_header();
    let section = |(heading, text): &Section| format!("{style}{heading}:{style:#}\n{text}");
    sections
        .iter()
        .map(section)
        .collect::<Vec<_>>()
        .join("\n\n")
}

fn gpa(text: &str) -> Result<Gpa, String> {
    number(text).map(Gpa::new)
}

fn number(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    }
    .map_err(|error| format!("not an address, decimal or 0x…: {error}"))
}

fn typed(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((symbol, name)) if !symbol.is_empty() && !name.is_empty() => {
            Ok((symbol.to_owned(), name.to_owned()))
        }
        _ => Err("not SYMBOL=STRUCT, such as scx_task_allocator=task_ctx".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sources() {
        let check = |text: &str, source| assert_eq!(Source::from(OsString::from(text)), source);
        check("live", Source::Live);
        check("./live", Source::Path("./live".into()));
        check("vm.ram", Source::Path("vm.ram".into()));
        check("qmp:vm.sock", Source::Qmp("vm.sock".into()));
    }

    #[test]
    fn addresses() {
        let check = |text, address| assert_eq!(gpa(text).ok(), address, "{text}");
        check("0x1000", Some(Gpa::new(0x1000)));
        check("4096", Some(Gpa::new(0x1000)));
        check("1000h", None);
        check("", None);
        check("0x", None);
        check("-1", None);
    }
}
