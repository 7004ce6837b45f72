//! Where things are: the checkout, the build's output, the cache that outlives both.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The only target that is built for: the same for host and guest.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The root of the checkout.
pub(crate) fn workspace() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Where cargo puts what it builds.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace().join("target"),
        |dir| workspace().join(PathBuf::from(dir)),
    )
}

/// A folder of this project in the user's cache, made if it is missing.
///
/// # Errors
/// Fails if there is neither `XDG_CACHE_HOME` nor `HOME`, or the folder cannot be made.
pub(crate) fn cache(folder: &str) -> Result<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME is set")?;
    let path = base.join("bpfreeze").join(folder);
    fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
    Ok(path)
}
