//! Guests: booted, filled, frozen, and kept in the cache until one of their parts changes.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::ValueEnum;
use nix::errno::Errno;
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

/// The file with the fingerprint of what a guest was made of.
const STAMP: &str = "fingerprint";

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

/// Frozen guests. While this exists, no other run replaces them.
#[derive(Debug)]
pub(crate) struct Frozen {
    home: PathBuf,
    folders: Vec<PathBuf>,
    _lock: Flock<File>,
}

impl Frozen {
    /// The folder that they are all in.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Their folders, in the order in which they were asked for.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// The folder of the first.
    ///
    /// # Errors
    /// Fails if none was asked for.
    pub(crate) fn first(&self) -> Result<&Path> {
        let first = self.folders.first().context("no guest")?;
        Ok(first)
    }
}

/// What is common to the guests of a run.
struct Parts {
    kernel: Kernel,
    initrd: Vec<u8>,
    home: PathBuf,
}

/// Makes those guests that are missing or made of other parts, side by side.
///
/// # Errors
/// Fails if one of them cannot be built, booted or frozen.
pub(crate) fn prepare(variants: &[Variant], wish: Wish) -> Result<Frozen> {
    install::for_guests()?;
    let parts = Parts {
        kernel: debian::kernel(SERIES)?,
        initrd: initrd::build(wish.live)?,
        home: paths::cache("guests")?,
    };
    let lock = File::create(parts.home.join("lock"))?;
    let lock = match Flock::lock(lock, FlockArg::LockSharedNonblock) {
        Ok(lock) => lock,
        Err((lock, Errno::EWOULDBLOCK)) => {
            eprintln!("waiting for another run that boots guests");
            Flock::lock(lock, FlockArg::LockShared).map_err(|(_, error)| error)?
        }
        Err((_, error)) => return Err(error).context("locking the guests"),
    };
    let mut fresh = wish.fresh;
    loop {
        if !fresh && parts.missing(variants)?.is_empty() {
            return Ok(Frozen {
                folders: variants.iter().map(|&one| parts.folder(one)).collect(),
                home: parts.home,
                _lock: lock,
            });
        }
        if lock.relock(FlockArg::LockExclusiveNonblock).is_err() {
            eprintln!("waiting for another run that uses the guests");
            lock.relock(FlockArg::LockExclusive)?;
        }
        clean(&parts.home)?;
        // The other run may have made them.
        match fresh {
            true => make(&parts, variants)?,
            false => make(&parts, &parts.missing(variants)?)?,
        }
        fresh = false;
        // Between the two kinds of lock another run may come in, so look again.
        lock.relock(FlockArg::LockShared)?;
    }
}

fn make(parts: &Parts, variants: &[Variant]) -> Result<()> {
    thread::scope(|scope| {
        let runs: Vec<_> = variants
            .iter()
            .map(|&variant| {
                scope.spawn(move || {
                    let made = parts.make(variant);
                    made.with_context(|| format!("guest {}", variant.name()))
                })
            })
            .collect();
        runs.into_iter().try_for_each(|run| match run.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}

impl Parts {
    fn folder(&self, variant: Variant) -> PathBuf {
        self.home.join(variant.name())
    }

    /// Those of which there is no guest of the same parts.
    fn missing(&self, variants: &[Variant]) -> Result<Vec<Variant>> {
        let mut missing = Vec::new();
        for &variant in variants {
            let folder = self.folder(variant);
            let print = fingerprint(&variant.machine(), &self.kernel, &self.initrd)?;
            let old = fs::read_to_string(folder.join(STAMP));
            if !(folder.join("ram").is_file() && old.is_ok_and(|old| old == print)) {
                missing.push(variant);
            }
        }
        Ok(missing)
    }

    fn make(&self, variant: Variant) -> Result<()> {
        let machine = variant.machine();
        let print = fingerprint(&machine, &self.kernel, &self.initrd)?;
        let home = self.folder(variant);
        // The old guest stays until the new one is whole.
        let work = home.with_extension("new");
        fs::create_dir_all(&work)?;
        freeze(variant, &machine, &self.kernel, &self.initrd, &work)?;
        fs::write(work.join(STAMP), print)?;
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        fs::rename(&work, &home)?;
        Ok(())
    }
}

/// Removes what runs left that were killed: half-made guests, and the copies of the tests.
fn clean(home: &Path) -> Result<()> {
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".new") || name.starts_with("copy-") {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::clean;

    #[test]
    fn only_leftovers_are_removed() {
        let home = tempfile::tempdir().unwrap();
        for name in ["la57", "la57.new", "copy-1"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        clean(home.path()).unwrap();
        let left: Vec<_> = fs::read_dir(home.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["la57"]);
    }
}
