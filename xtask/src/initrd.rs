//! The initial RAM disk: all that a guest ever has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::artifacts;
use crate::cpio::Archive;
use crate::debian::Kernel;
use crate::install;
use crate::paths;
use crate::run::capture;
use crate::scheduler::Scheduler;

/// Where the kernel looks for the first program.
const INIT_PLACE: &str = "init";

/// The first program of a guest that brings no other.
const INIT: &str = include_str!("init.sh");

/// What to put in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// bpfreeze itself, to be run inside.
    Yes,
    /// Everything but bpfreeze: for working on it while it does not build.
    No,
}

/// What all guests have: the place of each file, and the file.
#[derive(Debug, Clone)]
pub(crate) struct Contents(Vec<(String, PathBuf)>);

/// Builds the programs.
///
/// # Errors
/// Fails if something cannot be built or found.
pub(crate) fn build(live: Live) -> Result<Contents> {
    let mut programs: Vec<(String, PathBuf)> = Vec::new();
    let mut add = |place: String, path: PathBuf| programs.push((place, path));
    for name in ["busybox", "bpftool"] {
        let path = install::find(name).with_context(|| format!("no {name} in the path"))?;
        add(format!("bin/{name}"), path);
    }
    add("bin/mapmaker".to_owned(), artifacts::program("mapmaker")?);
    if live == Live::Yes {
        add("bin/bpfreeze".to_owned(), artifacts::program("bpfreeze")?);
    }
    for library in libraries(&programs)? {
        programs.push((library.trim_start_matches('/').to_owned(), library.into()));
    }
    for object in artifacts::bpf_objects()? {
        let name = object.file_name().context("an object without a name")?;
        programs.push((format!("bpf/{}", name.to_string_lossy()), object.clone()));
    }
    Ok(Contents(programs))
}

/// What the guest of the example of a harness has.
///
/// # Errors
/// Fails if something cannot be built or found.
pub(crate) fn harness() -> Result<Contents> {
    let source = paths::workspace().join("examples/harness/guest");
    let busybox = install::find("busybox").context("no busybox in the path")?;
    let mut files = vec![
        ("bin/busybox".to_owned(), busybox),
        ("bin/loader".to_owned(), artifacts::program("mapmaker")?),
    ];
    for library in libraries(&files)? {
        files.push((library.trim_start_matches('/').to_owned(), library.into()));
    }
    let object = artifacts::bpf_object(&source.join("two_queues.bpf.c"))?;
    files.push(("two_queues.bpf.o".to_owned(), object));
    files.push((INIT_PLACE.to_owned(), source.join("init.sh")));
    Ok(Contents(files))
}

/// The libraries that programs are linked with, as the loader finds them here.
fn libraries(programs: &[(String, PathBuf)]) -> Result<BTreeSet<String>> {
    let mut libraries = BTreeSet::new();
    for (_, path) in programs {
        // Fails for static programs, which need none.
        let Ok(list) = capture(Command::new("ldd").arg(path)) else {
            continue;
        };
        let paths = list.split_whitespace().filter(|word| word.starts_with('/'));
        libraries.extend(paths.map(str::to_owned));
    }
    Ok(libraries)
}

impl Contents {
    /// These, and a scheduler with what it looks for.
    ///
    /// # Errors
    /// Fails if the scheduler cannot be built, or the kernel came without its configuration.
    pub(crate) fn with(&self, scheduler: Scheduler, kernel: &Kernel) -> Result<Self> {
        let program = (format!("bin/{}", scheduler.name), scheduler.program()?);
        let mut files = self.0.clone();
        let there: BTreeSet<&String> = self.0.iter().map(|(place, _)| place).collect();
        for library in libraries(std::slice::from_ref(&program))? {
            let place = library.trim_start_matches('/').to_owned();
            if !there.contains(&place) {
                files.push((place, library.into()));
            }
        }
        files.push(program);
        let config = kernel.config.clone().with_context(|| {
            let package = &kernel.package;
            format!("no configuration of {package} in the cache; remove it there, to fetch it anew")
        })?;
        files.push(("boot/config".to_owned(), config));
        let script = paths::workspace().join("xtask/src/scx.sh");
        files.push(("scx.sh".to_owned(), script));
        Ok(Self(files))
    }

    /// The file of a program that guests have.
    pub(crate) fn program(&self, name: &str) -> Option<&Path> {
        let mut files = self.0.iter();
        let found = files.find(|(place, _)| place.strip_prefix("bin/") == Some(name));
        found.map(|(_, file)| file.as_path())
    }

    /// The archive for a guest with this kernel.
    ///
    /// # Errors
    /// Fails if a file cannot be read.
    pub(crate) fn pack(&self, kernel: &Kernel) -> Result<Vec<u8>> {
        let mut archive = Archive::new(Vec::new());
        let mut folders =
            BTreeSet::from(["dev", "proc", "sys", "out", "tmp", "modules"].map(str::to_owned));
        for (place, _) in &self.0 {
            let parents = Path::new(place).ancestors().skip(1);
            let parents = parents.filter(|path| !path.as_os_str().is_empty());
            folders.extend(parents.map(|path| path.to_string_lossy().into_owned()));
        }
        // Parents sort before what is in them.
        for folder in &folders {
            archive.folder(folder)?;
        }
        archive.device("dev/console", 5, 1)?;
        if !self.0.iter().any(|(place, _)| place == INIT_PLACE) {
            archive.program(INIT_PLACE, INIT.as_bytes())?;
        }
        // Numbered, because they are loaded in the order of their names.
        let modules = kernel.modules.iter().enumerate();
        let modules = modules.map(|(at, path)| (format!("modules/{at}.ko"), path.clone()));
        for (place, path) in self.0.iter().cloned().chain(modules) {
            let data = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            archive.program(&place, &data)?;
        }
        Ok(archive.finish()?)
    }
}
