//! Kernels as Debian packages them, fetched through apt and kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::install;
use crate::paths;
use crate::run::{capture, run};

/// A kernel that guests can boot.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// The package it came from.
    pub(crate) package: String,
    /// The compressed image.
    pub(crate) vmlinuz: PathBuf,
}

/// Where packages come from.
#[derive(Debug, Default)]
struct Apt {
    /// Options for every call. None means the machine's own lists and sources.
    options: Vec<String>,
}

impl Apt {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for option in &self.options {
            command.args(["-o", option]);
        }
        command
    }

    /// The package of the series' newest kernel, unless the lists know none.
    fn newest(&self, series: &str) -> Result<Option<String>> {
        let pattern = format!(
            r"^linux-image-{}\.[0-9]+\+deb[0-9]+-cloud-amd64(-unsigned)?$",
            series.replace('.', r"\.")
        );
        let mut search = self.command("apt-cache");
        search.args(["search", "--names-only", &pattern]);
        let found = capture(&mut search)?;
        let names = found.lines().filter_map(|line| line.split(' ').next());
        Ok(names.max_by_key(|name| version(name)).map(str::to_owned))
    }

    /// Fetches a package's file into a folder.
    fn download(&self, package: &str, folder: &Path) -> Result<()> {
        let mut download = self.command("apt-get");
        download
            .args(["-o", "APT::Sandbox::User=root", "--quiet", "download"])
            .arg(package)
            .current_dir(folder);
        run(&mut download)
    }
}

/// The numbers in a package's name, for comparison.
fn version(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

/// The newest kernel of a series such as `6.12`. A kernel that is in the cache is taken as it
/// is, so that runs without a network work and results can be compared; remove its folder to
/// get a newer one.
///
/// # Errors
/// Fails if the machine's package sources do not have the series.
pub(crate) fn kernel(series: &str) -> Result<Kernel> {
    let kernels = paths::cache("kernels")?;
    let folder = kernels.join(series);
    // Of two runs at once, the second one finds what the first one fetched.
    let lock = File::create(kernels.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    if let Some(kernel) = cached(&folder) {
        return Ok(kernel);
    }
    let apt = Apt::default();
    if let Err(error) = newest_into(&apt, series, &folder) {
        // A machine without package lists, as containers are, or with old ones, whose packages
        // are gone from the mirror.
        let prefix = install::root_prefix();
        let prefix = prefix.with_context(|| format!("{error:#}; run: apt-get update"))?;
        eprintln!("{error:#}");
        install::update(prefix);
        newest_into(&apt, series, &folder)?;
    }
    cached(&folder).with_context(|| format!("no kernel in {}", folder.display()))
}

fn newest_into(apt: &Apt, series: &str, folder: &Path) -> Result<()> {
    let Some(package) = apt.newest(series)? else {
        bail!("the package sources of this machine have no cloud kernel of the {series} series");
    };
    fetch(apt, &package, folder)
}

fn cached(folder: &Path) -> Option<Kernel> {
    let packages = fs::read_dir(folder).ok()?.flatten();
    packages
        .map(|entry| Kernel {
            package: entry.file_name().to_string_lossy().into_owned(),
            vmlinuz: entry.path().join("vmlinuz"),
        })
        .filter(|kernel| kernel.vmlinuz.is_file())
        .max_by_key(|kernel| version(&kernel.package))
}

/// Takes the image out of a package; the rest of it is large and not needed.
fn fetch(apt: &Apt, package: &str, folder: &Path) -> Result<()> {
    let work = folder.join("partial");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    apt.download(package, &work)?;
    let mut entries = fs::read_dir(&work)?.flatten().map(|entry| entry.path());
    let file = entries
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded nothing")?;
    let contents = work.join("contents");
    run(Command::new("dpkg-deb").arg("-x").args([&file, &contents]))?;
    let vmlinuz = find_vmlinuz(&contents).with_context(|| format!("no vmlinuz in {package}"))?;
    let home = folder.join(package);
    fs::create_dir_all(&home)?;
    fs::rename(vmlinuz, home.join("vmlinuz"))?;
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// Packages have it as `boot/vmlinuz-RELEASE` or as `usr/lib/modules/RELEASE/vmlinuz`.
fn find_vmlinuz(contents: &Path) -> Option<PathBuf> {
    let list = |path: PathBuf| fs::read_dir(path).into_iter().flatten().flatten();
    let in_boot = list(contents.join("boot")).map(|entry| entry.path());
    let in_modules =
        list(contents.join("usr/lib/modules")).map(|entry| entry.path().join("vmlinuz"));
    in_boot.chain(in_modules).find(|path| {
        path.is_file()
            && path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"))
    })
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions_compare_as_numbers() {
        let older = "linux-image-6.12.9+deb12-cloud-amd64";
        let newer = "linux-image-6.12.117+deb12-cloud-amd64-unsigned";
        assert!(version(older) < version(newer));
    }
}
