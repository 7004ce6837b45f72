//! Builds what goes into a guest: BPF objects and programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::paths::{self, TARGET};
use crate::run::run;

/// Compiles every BPF object of the map maker and returns their paths.
///
/// # Errors
/// Fails if clang does.
pub(crate) fn bpf_objects() -> Result<Vec<PathBuf>> {
    let source = paths::workspace().join("tests/mapmaker/bpf");
    let mut objects = Vec::new();
    for entry in fs::read_dir(&source).context("the sources of BPF objects")? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.ends_with(".bpf.c")) {
            objects.push(bpf_object(&path)?);
        }
    }
    objects.sort();
    Ok(objects)
}

/// Compiles one BPF object and returns its path.
///
/// # Errors
/// Fails if clang does.
pub(crate) fn bpf_object(source: &Path) -> Result<PathBuf> {
    let out = paths::target_dir().join("bpf");
    fs::create_dir_all(&out)?;
    let name = Path::new(source.file_name().context("a source without a name")?);
    let object = out.join(name.with_extension("o"));
    compile(source, &object)?;
    Ok(object)
}

fn compile(source: &Path, object: &Path) -> Result<()> {
    let mut clang = Command::new("clang-19");
    clang
        .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-Wall", "-Werror"])
        // Debian keeps asm/types.h apart for each architecture.
        .args(["-idirafter", "/usr/include/x86_64-linux-gnu", "-c"])
        .arg(source)
        .arg("-o")
        .arg(object);
    run(&mut clang)
}

/// Builds the program of a package, to run here and in the guest.
///
/// It is linked with shared libraries: Debian 13's archive of libelf cannot be linked at all,
/// because it lacks a part of its own (`eu_search_tree_init`).
///
/// # Errors
/// Fails if cargo does.
pub(crate) fn program(package: &str) -> Result<PathBuf> {
    let target_dir = paths::target_dir().join("guest");
    let mut cargo = Command::new("cargo");
    cargo
        .current_dir(paths::workspace())
        .args(["build", "--quiet", "--release"])
        .args(["--package", package, "--target", TARGET, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    run(&mut cargo)?;
    Ok(target_dir.join(TARGET).join("release").join(package))
}
