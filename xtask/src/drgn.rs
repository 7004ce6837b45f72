//! drgn, another reader of cores, as its authors publish it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use nix::fcntl::{Flock, FlockArg};

use crate::install;
use crate::paths;
use crate::run::run;

/// What pip calls it. Other versions are other folders of the cache.
const PACKAGE: &str = "drgn==0.0.33";

/// The folder that Python finds it in, filled if it is not in the cache.
///
/// # Errors
/// Fails if pip is missing and cannot be installed, or does not get the package.
pub(crate) fn folder() -> Result<PathBuf> {
    let home = paths::cache("drgn")?;
    // Of two runs at once, the second one finds what the first one got.
    let lock = File::create(home.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
    let folder = home.join(PACKAGE);
    if !folder.is_dir() {
        install::for_drgn()?;
        let partial = home.join("partial");
        run(Command::new("python3")
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"])
            .args(["--only-binary", ":all:", PACKAGE, "--target"])
            .arg(&partial))?;
        fs::rename(partial, &folder)?;
    }
    Ok(folder)
}
