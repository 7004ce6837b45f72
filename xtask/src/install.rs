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
    file("libelf-dev", "/usr/include/gelf.h"),
    file("zlib1g-dev", "/usr/include/zlib.h"),
    file("linux-libc-dev", "/usr/include/linux/bpf.h"),
];

/// What tests need besides that boot nothing.
const TEST: &[Package] = &[program("qemu-system-x86", "qemu-system-x86_64")];

/// What guests need besides.
const GUEST: &[Package] = &[
    program("busybox-static", "busybox"),
    program("bpftool", "bpftool"),
    program("dpkg", "dpkg-deb"),
    program("makedumpfile", "makedumpfile"),
];

/// What drgn is got by.
const DRGN: &[Package] = &[
    program("python3", "python3"),
    program("python3-pip", "pip3"),
];

/// What building published schedulers needs.
const SCHEDULERS: &[Package] = &[
    program("clang-19", "clang-19"),
    program("llvm-19", "llvm-strip-19"),
    program("pkg-config", "pkg-config"),
    program("protobuf-compiler", "protoc"),
    file("libelf-dev", "/usr/include/gelf.h"),
    file("zlib1g-dev", "/usr/include/zlib.h"),
    file("libseccomp-dev", "/usr/include/seccomp.h"),
    file("libssl-dev", "/usr/include/openssl/ssl.h"),
];

/// Makes sure that the workspace can be built.
///
/// # Errors
/// Fails with the command to run if packages are missing and there is no right to install them.
pub(crate) fn for_build() -> Result<()> {
    ensure(BUILD.iter())
}

/// Makes sure that the workspace can be built and what needs no guest can be tested.
///
/// # Errors
/// As [`for_build`].
pub(crate) fn for_tests() -> Result<()> {
    ensure(BUILD.iter().chain(TEST))
}

/// Makes sure that the workspace can be built and guests can be booted.
///
/// # Errors
/// As [`for_build`].
pub(crate) fn for_guests() -> Result<()> {
    ensure(BUILD.iter().chain(TEST).chain(GUEST))
}

/// Makes sure that drgn can be got.
///
/// # Errors
/// As [`for_build`].
pub(crate) fn for_drgn() -> Result<()> {
    ensure(DRGN.iter())
}

/// Makes sure that published schedulers can be built.
///
/// # Errors
/// As [`for_build`].
pub(crate) fn for_schedulers() -> Result<()> {
    ensure(SCHEDULERS.iter())
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
    let Some(prefix) = root_prefix() else {
        bail!(
            "no right to install packages; run: apt-get install --no-install-recommends {}",
            missing.join(" ")
        );
    };
    update(prefix);
    let mut install = prefixed(prefix, "env");
    // Named here, because sudo passes no environment on.
    install
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(missing);
    run(&mut install)
}

/// Brings the lists of packages up to date, as far as their sources answer: one that does not,
/// and is not needed, is no reason to fail.
pub(crate) fn update(prefix: &[&str]) {
    if let Err(error) = run(prefixed(prefix, "apt-get").args(["update", "--quiet"])) {
        eprintln!("going on with the lists of packages that there are: {error:#}");
    }
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

/// What makes a command run as root in this environment, if there is a way without a question.
pub(crate) fn root_prefix() -> Option<&'static [&'static str]> {
    if nix::unistd::geteuid().is_root() {
        return Some(&[]);
    }
    let sudo = Command::new("sudo")
        .args(["-n", "-E", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let may = sudo.is_ok_and(|status| status.success());
    may.then_some(&["sudo", "-n", "-E"])
}

fn prefixed(prefix: &[&str], program: &str) -> Command {
    match prefix {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{find, prefixed};

    #[test]
    fn commands_as_root() {
        let check = |prefix: &[&str], expected: &str| {
            let command = prefixed(prefix, "env");
            assert_eq!(format!("{command:?}"), expected);
        };
        check(&[], r#""env""#);
        check(&["sudo", "-n", "-E"], r#""sudo" "-n" "-E" "env""#);
    }

    #[test]
    fn programs_are_found() {
        assert!(find("sh").is_some());
        assert!(find("no program is called so").is_none());
    }
}
