//! Debian packages that the tasks need, installed where they are missing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::run::run;

/// A package and a file by which its presence shows.
struct Package {
    name: &'static str,
    witness: Witness,
}

enum Witness {
    /// A program in the search path.
    Program(&'static str),
    /// A file.
    File(&'static str),
}

const fn program(name: &'static str, program: &'static str) -> Package {
    Package {
        name,
        witness: Witness::Program(program),
    }
}

const fn file(name: &'static str, path: &'static str) -> Package {
    Package {
        name,
        witness: Witness::File(path),
    }
}

/// What building needs.
const BUILD: &[Package] = &[
    program("gcc", "cc"),
    program("make", "make"),
    program("pkg-config", "pkg-config"),
    program("clang-19", "clang-19"),
    file("libelf-dev", "/usr/lib/x86_64-linux-gnu/libelf.a"),
    file("zlib1g-dev", "/usr/lib/x86_64-linux-gnu/libz.a"),
    file("linux-libc-dev", "/usr/include/linux/bpf.h"),
];

/// What guests need besides.
const GUEST: &[Package] = &[
    program("qemu-system-x86", "qemu-system-x86_64"),
    program("busybox-static", "busybox"),
    program("bpftool", "bpftool"),
    program("dpkg", "dpkg-deb"),
];

/// Makes sure that the workspace can be built.
///
/// # Errors
/// Fails with the command to run if packages are missing and there is no right to install them.
pub(crate) fn for_build() -> Result<()> {
    ensure(BUILD.iter())
}

/// Makes sure that the workspace can be built and guests can be booted.
///
/// # Errors
/// As [`for_build`].
pub(crate) fn for_guests() -> Result<()> {
    ensure(BUILD.iter().chain(GUEST))
}

fn ensure<'a>(packages: impl Iterator<Item = &'a Package>) -> Result<()> {
    let missing: Vec<&str> = packages
        .filter(|package| !present(&package.witness))
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing packages: {}", missing.join(" "));
    let Some(mut update) = as_root("apt-get") else {
        bail!(
            "no right to install packages; run: apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    };
    run(update.args(["update", "--quiet"]))?;
    let Some(mut install) = as_root("apt-get") else {
        bail!("the right to install packages was lost");
    };
    install
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(missing);
    run(&mut install)
}

fn present(witness: &Witness) -> bool {
    match witness {
        Witness::Program(name) => find(name).is_some(),
        Witness::File(path) => Path::new(path).exists(),
    }
}

/// The path of a program; system folders that are not in everybody's search path count.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// A command that runs as root, if there is a way without a question.
pub(crate) fn as_root(program: &str) -> Option<Command> {
    if nix::unistd::geteuid().is_root() {
        return Some(Command::new(program));
    }
    let sudo = Command::new("sudo")
        .args(["-n", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    sudo.is_ok_and(|status| status.success()).then(|| {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    })
}
