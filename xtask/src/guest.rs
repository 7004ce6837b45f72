//! Guests: booted, filled, frozen, and kept in the cache until one of their parts changes.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::debian::{self, Kernel};
use crate::initrd::{self, Live};
use crate::install;
use crate::paths;
use crate::qemu::{Machine, Qemu};
use crate::run::run;

/// The kernel series of all guests.
const SERIES: &str = "6.12";

/// The maps that bpfreeze dumps inside in bpftool's format: one of each shape.
const FORMATS: &str = "h,flows,counts_pc,flow_slots,count_slots_pc,flows_lru,sections.bss";

/// How long a guest may take. With emulation, on a busy machine, minutes are normal.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// The kinds of guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Variant {
    /// 1 GiB, five levels of page tables.
    La57,
    /// 1 GiB, four levels of page tables, one CPU that is there but never brought up.
    La48,
    /// 4 GiB, half of it above the gap below 4 GiB.
    High,
    /// Large maps for the benchmarks, and a race of bpfreeze against bpftool inside.
    Bench,
}

impl Variant {
    /// The guests that the tests read.
    pub(crate) const TESTED: [Self; 3] = [Self::La57, Self::La48, Self::High];

    /// Its name, also that of its folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::La57 => "la57",
            Self::La48 => "la48",
            Self::High => "high",
            Self::Bench => "bench",
        }
    }

    fn machine(self) -> Machine {
        let (plan, witnesses) = match self {
            Self::La57 => ("full", "all"),
            Self::La48 | Self::High => ("full", "small"),
            Self::Bench => ("bench", "race"),
        };
        let more = match self {
            Self::La48 => " maxcpus=2",
            _ => "",
        };
        Machine {
            cpu: match self {
                Self::La48 => "max,-la57",
                _ => "max",
            },
            smp: match self {
                Self::La48 => "3",
                _ => "2",
            },
            memory: match self {
                Self::High => 4096,
                _ => 1024,
            },
            cmdline: format!(
                "console=ttyS0 quiet panic=-1 guest.plan={plan} guest.seed=1 \
                 guest.witnesses={witnesses} guest.formats={FORMATS}{more}"
            ),
        }
    }
}

/// What a run of guests is asked to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Boot even if a frozen guest of the same parts is there.
    pub(crate) fresh: bool,
    /// Whether bpfreeze itself runs inside.
    pub(crate) live: Live,
}

/// Makes guests, side by side, and returns their folders in the same order.
///
/// # Errors
/// Fails if one of them cannot be built, booted or frozen.
pub(crate) fn prepare(variants: &[Variant], wish: Wish) -> Result<Vec<PathBuf>> {
    install::for_guests()?;
    let kernel = debian::kernel(SERIES)?;
    let initrd = initrd::build(wish.live)?;
    thread::scope(|scope| {
        let runs: Vec<_> = variants
            .iter()
            .map(|&variant| {
                let (kernel, initrd) = (&kernel, &initrd);
                scope.spawn(move || {
                    one(variant, kernel, initrd, wish)
                        .with_context(|| format!("guest {}", variant.name()))
                })
            })
            .collect();
        runs.into_iter()
            .map(|run| match run.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

/// The folder of a guest.
///
/// # Errors
/// Fails if there is no cache folder.
pub(crate) fn folder(variant: Variant) -> Result<PathBuf> {
    Ok(paths::cache("guests")?.join(variant.name()))
}

fn one(variant: Variant, kernel: &Kernel, initrd: &[u8], wish: Wish) -> Result<PathBuf> {
    let home = folder(variant)?;
    let lock = File::create(home.with_extension("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let machine = variant.machine();
    let print = fingerprint(&machine, kernel, initrd)?;
    let stamp = home.join("fingerprint");
    if !wish.fresh && fs::read_to_string(&stamp).is_ok_and(|old| old == print) {
        eprintln!("guest {}: unchanged, {}", variant.name(), home.display());
        return Ok(home);
    }
    // The old guest stays until the new one is whole.
    let work = home.with_extension("new");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    freeze(variant, &machine, kernel, initrd, &work)?;
    fs::write(work.join("fingerprint"), print)?;
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::rename(&work, &home)?;
    Ok(home)
}

/// Changes when anything that goes into a guest does.
fn fingerprint(machine: &Machine, kernel: &Kernel, initrd: &[u8]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    machine.arguments().hash(&mut hasher);
    fs::read(&kernel.vmlinuz)?.hash(&mut hasher);
    initrd.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
}

/// Boots a guest, waits for its words, and stops it for good.
fn freeze(
    variant: Variant,
    machine: &Machine,
    kernel: &Kernel,
    initrd: &[u8],
    folder: &Path,
) -> Result<()> {
    let start = Instant::now();
    eprintln!("guest {}: booting {}", variant.name(), kernel.package);
    fs::write(folder.join("initrd"), initrd)?;
    let mut qemu = Qemu::boot(machine, &kernel.vmlinuz, folder)?;
    qemu.wait_ready(PATIENCE)?;
    let mut qmp = qemu.qmp()?;
    qmp.execute("stop", &json!({}))?;
    fs::write(folder.join("mtree.txt"), qmp.monitor("info mtree -f")?)?;
    fs::write(
        folder.join("registers.txt"),
        qmp.monitor("info registers -a")?,
    )?;
    drop(qemu);
    for passed in ["initrd", "qmp.sock"] {
        fs::remove_file(folder.join(passed))?;
    }
    let out = folder.join("out");
    fs::create_dir_all(&out)?;
    let sent = folder.join("sent");
    run(Command::new("tar")
        .arg("-xf")
        .arg(&sent)
        .arg("-C")
        .arg(&out))?;
    fs::remove_file(sent)?;
    let seconds = start.elapsed().as_secs();
    eprintln!("guest {}: frozen after {seconds} s", variant.name());
    Ok(())
}
