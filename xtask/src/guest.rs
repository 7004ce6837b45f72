//! Guests: booted, filled, frozen, and kept in the cache until one of their parts changes.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde_json::json;

use crate::debian::{self, Kernel, Series};
use crate::doors::{self, Dump};
use crate::initrd::{self, Contents, Live};
use crate::install;
use crate::paths;
use crate::qemu::{Machine, Qemu};
use crate::run::run;
use crate::variant::Variant;

/// How long a guest may take. With emulation, on a busy machine, minutes are normal.
const PATIENCE: Duration = Duration::from_secs(30 * 60);

/// How many guests boot side by side. Each has two busy CPUs.
const AT_ONCE: usize = 2;

/// The file with the fingerprint of what a guest was made of.
const STAMP: &str = "fingerprint";

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
    failed: Vec<Failed>,
    lock: Flock<File>,
}

/// A guest that could not be made, and why.
pub(crate) type Failed = (Variant, anyhow::Error);

impl Frozen {
    /// The folder that they are all in.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// The folder that a guest is in.
    pub(crate) fn folder(&self, variant: Variant) -> PathBuf {
        self.home.join(variant.name())
    }

    /// Their folders, in the order in which they were asked for.
    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Those that were asked for and could not be made.
    pub(crate) fn failed(&self) -> &[Failed] {
        &self.failed
    }

    /// The folder of the first.
    ///
    /// # Errors
    /// Fails if none was asked for.
    pub(crate) fn first(&self) -> Result<&Path> {
        let first = self.folders.first().context("no guest")?;
        Ok(first)
    }

    /// Removes guests, unless another run uses them.
    ///
    /// # Errors
    /// Fails if a folder cannot be removed.
    pub(crate) fn remove(self, variants: &[Variant]) -> Result<()> {
        if self.lock.relock(FlockArg::LockExclusiveNonblock).is_err() {
            return Ok(());
        }
        for &variant in variants {
            let folder = self.folder(variant);
            fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        Ok(())
    }
}

/// What a guest is made of, and where it comes to lie.
struct Parts {
    variant: Variant,
    machine: Machine,
    kernel: Kernel,
    initrd: Vec<u8>,
    /// The program, if it runs inside.
    bpfreeze: Option<PathBuf>,
    folder: PathBuf,
    /// Changes when any of them does.
    fingerprint: String,
}

/// Makes those guests that are missing or made of other parts.
///
/// # Errors
/// Fails if one of them cannot be built, booted or frozen.
pub(crate) fn prepare(variants: &[Variant], wish: Wish) -> Result<Frozen> {
    let mut frozen = attempt(variants, wish)?;
    match frozen.failed.pop() {
        None => Ok(frozen),
        Some((variant, error)) => Err(error.context(format!("guest {}", variant.name()))),
    }
}

/// The same, but a guest that cannot be made does not keep the others from being made.
///
/// # Errors
/// Fails if what goes into all guests cannot be built.
pub(crate) fn attempt(variants: &[Variant], wish: Wish) -> Result<Frozen> {
    install::for_guests()?;
    let home = paths::cache("guests")?;
    let contents = initrd::build(wish.live)?;
    let mut failed = Vec::new();
    let mut wanted = Vec::new();
    for &variant in variants {
        match Parts::new(variant, &contents, &home) {
            Ok(parts) => wanted.push(parts),
            Err(error) => failed.push((variant, error)),
        }
    }
    let lock = File::create(home.join("lock"))?;
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
        if !fresh && wanted.iter().all(Parts::is_made) {
            let folders = wanted.into_iter().map(|parts| parts.folder);
            return Ok(Frozen {
                folders: folders.collect(),
                home,
                failed,
                lock,
            });
        }
        if lock.relock(FlockArg::LockExclusiveNonblock).is_err() {
            eprintln!("waiting for another run that uses the guests");
            lock.relock(FlockArg::LockExclusive)?;
        }
        clean(&home)?;
        // The other run may have made them.
        let missing = wanted.iter().filter(|parts| fresh || !parts.is_made());
        let errors = make(missing.collect());
        wanted.retain(|parts| errors.iter().all(|(variant, _)| *variant != parts.variant));
        failed.extend(errors);
        fresh = false;
        // Between the two kinds of lock another run may come in, so look again.
        lock.relock(FlockArg::LockShared)?;
    }
}

/// What the example of a harness boots its guest from: a folder with `vmlinuz` and `initrd`.
///
/// # Errors
/// Fails if they cannot be built.
pub(crate) fn harness() -> Result<PathBuf> {
    install::for_guests()?;
    let kernel = debian::kernel(Series::V6_18)?;
    let folder = paths::target_dir().join("harness");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("initrd"), initrd::harness()?.pack(&kernel)?)?;
    fs::copy(&kernel.vmlinuz, folder.join("vmlinuz"))?;
    Ok(folder)
}

/// A guest that runs, in a folder of its own. Both go when this does.
#[derive(Debug)]
pub(crate) struct Running {
    qemu: Qemu,
    folder: PathBuf,
    _lock: Flock<File>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Running {
    /// The socket of its monitor.
    pub(crate) fn socket(&self) -> PathBuf {
        self.qemu.socket()
    }
}

/// Boots a guest and lets it run.
///
/// # Errors
/// Fails if it cannot be built or booted.
pub(crate) fn start(variant: Variant) -> Result<Running> {
    install::for_guests()?;
    let home = paths::cache("guests")?;
    let parts = Parts::new(variant, &initrd::build(Live::Yes)?, &home)?;
    let lock = File::create(home.join("lock"))?;
    let lock = Flock::lock(lock, FlockArg::LockShared).map_err(|(_, error)| error)?;
    let folder = home.join(format!("{}.{}.new", variant.name(), std::process::id()));
    fs::create_dir_all(&folder)?;
    Ok(Running {
        qemu: parts.boot(&folder)?,
        folder,
        _lock: lock,
    })
}

/// Boots guests, a few at a time, and returns those that failed.
fn make(missing: Vec<&Parts>) -> Vec<Failed> {
    let queue = Mutex::new(missing.into_iter());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        let mut failed = Vec::new();
        while let Some(parts) = next() {
            failed.extend(parts.make().err().map(|error| (parts.variant, error)));
        }
        failed
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let results = workers.into_iter().map(|worker| match worker.join() {
            Ok(failed) => failed,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.flatten().collect()
    })
}

impl Parts {
    fn new(variant: Variant, contents: &Contents, home: &Path) -> Result<Self> {
        let machine = variant.machine();
        let kernel = debian::kernel(variant.series())?;
        let initrd = match variant.scheduler() {
            Some(scheduler) => contents.with(scheduler, &kernel)?.pack(&kernel)?,
            None => contents.pack(&kernel)?,
        };
        Ok(Self {
            fingerprint: fingerprint(&machine, &kernel, &initrd, variant.dumps())?,
            folder: home.join(variant.name()),
            bpfreeze: contents.program("bpfreeze").map(Path::to_owned),
            variant,
            machine,
            kernel,
            initrd,
        })
    }

    /// Whether there is a guest of the same parts.
    fn is_made(&self) -> bool {
        let old = fs::read_to_string(self.folder.join(STAMP));
        self.folder.join("ram").is_file() && old.is_ok_and(|old| old == self.fingerprint)
    }

    fn make(&self) -> Result<()> {
        // The old guest stays until the new one is whole.
        let mut work = self.folder.clone().into_os_string();
        work.push(".new");
        let work = PathBuf::from(work);
        fs::create_dir_all(&work)?;
        self.freeze(&work)
            .with_context(|| format!("in {}", work.display()))?;
        fs::write(work.join(STAMP), &self.fingerprint)?;
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::rename(&work, &self.folder)?;
        Ok(())
    }

    /// Boots a guest, and waits for its words.
    fn boot(&self, folder: &Path) -> Result<Qemu> {
        let name = self.variant.name();
        eprintln!("guest {name}: booting {}", self.kernel.package);
        fs::write(folder.join("initrd"), &self.initrd)?;
        let mut qemu = Qemu::boot(&self.machine, &self.kernel.vmlinuz, folder)?;
        qemu.wait_ready(PATIENCE)?;
        Ok(qemu)
    }

    /// Boots a guest, takes what is to be had of it, and stops it for good.
    fn freeze(&self, folder: &Path) -> Result<()> {
        let start = Instant::now();
        let name = self.variant.name();
        let qemu = self.boot(folder)?;
        let capture = |name: &str| match &self.bpfreeze {
            Some(bpfreeze) => doors::capture(bpfreeze, &qemu, folder, name),
            None => Ok(()),
        };
        for at in 1..=self.variant.captures() {
            capture(&format!("running-{at}"))?;
        }
        let mut qmp = qemu.qmp()?;
        qmp.execute("stop", &json!({}))?;
        for dump in self.variant.dumps() {
            dump.write(&mut qmp, folder, self.machine.memory)?;
        }
        fs::write(folder.join("mtree.txt"), qmp.monitor("info mtree -f")?)?;
        fs::write(
            folder.join("registers.txt"),
            qmp.monitor("info registers -a")?,
        )?;
        drop(qmp);
        capture("paused")?;
        drop(qemu);
        for passed in ["initrd", "qmp.sock"] {
            fs::remove_file(folder.join(passed))?;
        }
        let out = folder.join("out");
        fs::create_dir_all(&out)?;
        let sent = folder.join("sent");
        // What is sent may be several archives.
        run(Command::new("tar")
            .args(["--ignore-zeros", "-xf"])
            .arg(&sent)
            .arg("-C")
            .arg(&out))?;
        fs::remove_file(sent)?;
        let seconds = start.elapsed().as_secs();
        eprintln!("guest {name}: frozen after {seconds} s");
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
fn fingerprint(
    machine: &Machine,
    kernel: &Kernel,
    initrd: &[u8],
    dumps: &[Dump],
) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    dumps.hash(&mut hasher);
    machine.arguments().hash(&mut hasher);
    fs::read(&kernel.vmlinuz)?.hash(&mut hasher);
    initrd.hash(&mut hasher);
    Ok(format!("{:016x}\n", hasher.finish()))
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
