//! Published `sched_ext` schedulers, built from their packages and kept in the cache.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::install;
use crate::paths;
use crate::run::run;

/// A scheduler as it was published.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scheduler {
    /// Its name, also that of its package and its program.
    pub(crate) name: &'static str,
    version: &'static str,
}

/// The names by which its build calls programs that Debian installs under others.
const RENAMED: [(&str, &str); 2] = [("clang", "clang-19"), ("llvm-strip", "llvm-strip-19")];

impl Scheduler {
    /// Its allocator is of the first generation: each element begins with its own header.
    pub(crate) const RUSTY: Self = Self {
        name: "scx_rusty",
        version: "1.1.4",
    };
    /// Its allocator is of the third generation: each element ends with a trailer.
    pub(crate) const P2DQ: Self = Self {
        name: "scx_p2dq",
        version: "1.1.4",
    };

    /// The program, built if it is not in the cache.
    ///
    /// # Errors
    /// Fails if packages are missing and cannot be installed, or if it does not build.
    pub(crate) fn program(self) -> Result<PathBuf> {
        let Self { name, version } = self;
        let home = paths::cache("schedulers")?;
        // Of two runs at once, the second one finds what the first one built.
        let lock = File::create(home.join("lock"))?;
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let root = home.join(format!("{name}-{version}"));
        let program = root.join("bin").join(name);
        if !program.is_file() {
            install::for_schedulers()?;
            self.build(&home, &root)?;
        }
        Ok(program)
    }

    fn build(self, home: &Path, root: &Path) -> Result<()> {
        let mut folders = vec![renamed(&home.join("bin"))?];
        let path = std::env::var_os("PATH").unwrap_or_default();
        folders.extend(std::env::split_paths(&path));
        let mut cargo = Command::new("cargo");
        cargo
            .args(["install", "--locked", "--quiet", "--version", self.version])
            .args(["--root".as_ref(), root.as_os_str()])
            .arg(self.name)
            .env("PATH", std::env::join_paths(folders)?)
            // What schedulers have in common is built once.
            .env("CARGO_TARGET_DIR", paths::target_dir().join("schedulers"))
            // Building them costs more than all that they do in a guest.
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false");
        run(&mut cargo)
    }
}

/// A folder in which programs have the names that the build calls.
fn renamed(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    for (name, real) in RENAMED {
        let link = folder.join(name);
        if !link.exists() {
            let real = install::find(real).with_context(|| format!("no {real} in the path"))?;
            // A link that leads nowhere is no file, but is in the way.
            let _ = fs::remove_file(&link);
            symlink(real, link)?;
        }
    }
    Ok(folder.to_owned())
}
