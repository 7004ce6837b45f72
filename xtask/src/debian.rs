//! Kernels as Debian packages them, fetched through apt and kept in the cache.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};

use crate::apt::{Apt, version};
use crate::install;
use crate::paths;

/// The suites that are asked for what the machine's own lists do not have, in this order.
const SUITES: [&str; 4] = ["bookworm", "trixie", "trixie-backports", "sid"];

/// The modules that guests load where they are not built in, each behind those that it needs.
/// Documents leave a guest by the virtio port; the network devices are for maps that hold some; the
/// last one hands VMCOREINFO to QEMU.
const MODULES: [&str; 10] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_console",
    "veth",
    "dummy",
    "tun",
    "qemu_fw_cfg",
];

/// The file in which a cached kernel lists the modules that were looked for.
const ASKED: &str = "modules/asked";

/// A wish for a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Series {
    /// Its name, also that of its folder in the cache.
    pub(crate) name: &'static str,
    /// The packages that would do, as a regular expression; the newest wins.
    packages: &'static str,
}

impl Series {
    /// Debian 12 names its own kernels by their interface, not by their version.
    pub(crate) const V6_1: Self = Self {
        name: "6.1",
        packages: r"linux-image-6\.1\.0-[0-9]+-cloud-amd64",
    };
    /// The kernel of most guests.
    pub(crate) const V6_12: Self = Self {
        name: "6.12",
        packages: r"linux-image-6\.12\.[0-9]+\+deb[0-9]+-cloud-amd64(-unsigned)?",
    };
    /// A kernel with `sched_ext`.
    pub(crate) const V6_18: Self = Self {
        name: "6.18",
        packages: r"linux-image-6\.18\.[0-9]+\+deb[0-9]+-cloud-amd64",
    };
    /// Here `linux-image` is an empty shell, and modules are in a package of their own.
    pub(crate) const V7_2: Self = Self {
        name: "7.2",
        packages: r"linux-binary-7\.2\.[0-9]+\+deb[0-9]+-cloud-amd64",
    };
}

/// A kernel that guests can boot.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// The package it came from.
    pub(crate) package: String,
    /// The compressed image.
    pub(crate) vmlinuz: PathBuf,
    /// The files of those modules that guests load and that it does not have built in, in the
    /// order in which to load them.
    pub(crate) modules: Vec<PathBuf>,
    /// How it was configured, if that is in its package.
    pub(crate) config: Option<PathBuf>,
}

impl Kernel {
    /// What is in a folder of the cache, if it is a kernel.
    fn open(folder: &Path) -> Option<Self> {
        let vmlinuz = folder.join("vmlinuz");
        let modules = folder.join("modules");
        let asked = fs::read_to_string(folder.join(ASKED)).ok()?;
        if !vmlinuz.is_file() || asked != MODULES.join(" ") {
            return None;
        }
        let modules = MODULES.map(|module| modules.join(module).with_extension("ko"));
        Some(Self {
            package: folder.file_name()?.to_string_lossy().into_owned(),
            vmlinuz,
            modules: modules.into_iter().filter(|path| path.is_file()).collect(),
            config: Some(folder.join("config")).filter(|path| path.is_file()),
        })
    }
}

/// The newest kernel of a series. A kernel that is in the cache is taken as it is, so that runs
/// without a network work and results can be compared; remove its folder to get a newer one.
///
/// # Errors
/// Fails, saying what was tried, if neither the machine's package sources nor other suites of the
/// same archive have the series.
pub(crate) fn kernel(series: Series) -> Result<Kernel> {
    let kernels = paths::cache("kernels")?;
    let folder = kernels.join(series.name);
    // Of two runs at once, the second one finds what the first one fetched.
    let lock = File::create(kernels.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    if let Some(kernel) = cached(&folder) {
        return Ok(kernel);
    }
    let mut tried = Vec::new();
    for source in sources() {
        match newest_into(source, series, &folder) {
            Ok(kernel) => return Ok(kernel),
            Err(error) => tried.push(format!("{source}: {error:#}")),
        }
    }
    bail!(
        "no package {} for a kernel {}; tried:\n  {}",
        series.packages,
        series.name,
        tried.join("\n  ")
    )
}

/// A place to look for a package.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// The machine's own lists, as they are.
    OwnLists,
    /// The same, brought up to date: containers have none, and packages of old ones are gone.
    OwnListsUpdated,
    /// Another suite.
    Suite(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnLists => f.write_str("the machine's own lists"),
            Self::OwnListsUpdated => f.write_str("the same after apt-get update"),
            Self::Suite(suite) => write!(f, "suite {suite}"),
        }
    }
}

fn sources() -> impl Iterator<Item = Source> {
    let own = [Source::OwnLists, Source::OwnListsUpdated];
    own.into_iter().chain(SUITES.map(Source::Suite))
}

fn newest_into(source: Source, series: Series, folder: &Path) -> Result<Kernel> {
    let apt = match source {
        Source::OwnLists => Apt::default(),
        Source::OwnListsUpdated => {
            let prefix = install::root_prefix();
            install::update(prefix.context("no right to run apt-get update")?);
            Apt::default()
        }
        Source::Suite(suite) => Apt::suite(suite)?,
    };
    let package = apt.newest(series.packages)?;
    let package = package.context("no such package")?;
    fetch(&apt, &package, folder)
}

fn cached(folder: &Path) -> Option<Kernel> {
    let packages = fs::read_dir(folder).ok()?.flatten();
    packages
        .filter_map(|entry| Kernel::open(&entry.path()))
        .max_by_key(|kernel| version(&kernel.package))
}

/// Takes the image, its configuration and a few modules out of packages; the rest of them is large and not needed.
fn fetch(apt: &Apt, package: &str, folder: &Path) -> Result<Kernel> {
    let work = folder.join("partial");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let contents = work.join("contents");
    apt.unpack(package, &contents)?;
    if let Some(rest) = package.strip_prefix("linux-binary-") {
        apt.unpack(&format!("linux-modules-{rest}"), &contents)?;
    }
    let files = files(&contents)?;
    let named = |wanted: &dyn Fn(&str) -> bool| {
        let mut files = files.iter();
        files.find(|path| {
            path.file_name()
                .is_some_and(|name| wanted(&name.to_string_lossy()))
        })
    };
    let whole = work.join("whole");
    fs::create_dir_all(whole.join("modules"))?;
    // `boot/vmlinuz-RELEASE` or `usr/lib/modules/RELEASE/vmlinuz`.
    let vmlinuz = named(&|name| name == "vmlinuz" || name.starts_with("vmlinuz-"));
    let vmlinuz = vmlinuz.with_context(|| format!("no vmlinuz in {package}"))?;
    fs::rename(vmlinuz, whole.join("vmlinuz"))?;
    let config = named(&|name| name == "config" || name.starts_with("config-"));
    if let Some(config) = config {
        fs::rename(config, whole.join("config"))?;
    }
    for module in MODULES {
        let (plain, packed) = (format!("{module}.ko"), format!("{module}.ko.xz"));
        let place = whole.join("modules").join(&plain);
        if let Some(file) = named(&|name| name == plain) {
            fs::rename(file, place)?;
        } else if let Some(file) = named(&|name| name == packed) {
            unpack_xz(file, &place)?;
        }
    }
    fs::write(whole.join(ASKED), MODULES.join(" "))?;
    let home = folder.join(package);
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::rename(whole, &home)?;
    fs::remove_dir_all(&work)?;
    Kernel::open(&home).with_context(|| format!("no kernel in {}", home.display()))
}

/// Every plain file below a folder.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn unpack_xz(packed: &Path, place: &Path) -> Result<()> {
    // Guests need busybox anyway.
    let busybox = install::find("busybox").context("no busybox in the path")?;
    let status = Command::new(busybox)
        .args(["xz", "-dc"])
        .stdin(File::open(packed)?)
        .stdout(Stdio::from(File::create(place)?))
        .status()?;
    ensure!(status.success(), "unpacking {}: {status}", packed.display());
    Ok(())
}
