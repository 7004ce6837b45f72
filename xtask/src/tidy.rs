//! Rules of the workspace that no compiler checks: which crate may depend on which, how long a
//! file may be, and that each says at its top what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::paths;
use crate::run::capture;

/// Every library of ours, for those that stand above them all.
const ALL: &[&str] = &[
    "guestmem",
    "btf-layout",
    "pagewalk",
    "bpfreeze-kernel",
    "bpfreeze-arena",
    "bpfmaps",
    "sdt-alloc",
    "bpfreeze-render",
    "bpfreeze-qemu",
    "bpfreeze-freeze",
];

/// What each package may depend on, of ours. Arrows point down this table only.
const ARROWS: &[(&str, &[&str])] = &[
    ("guestmem", &[]),
    ("btf-layout", &[]),
    ("pagewalk", &["guestmem"]),
    ("bpfreeze-kernel", &["guestmem", "pagewalk", "btf-layout"]),
    ("bpfreeze-arena", &["guestmem", "btf-layout"]),
    (
        "bpfmaps",
        &[
            "guestmem",
            "btf-layout",
            "bpfreeze-arena",
            "pagewalk",
            "bpfreeze-kernel",
        ],
    ),
    ("sdt-alloc", &["guestmem", "btf-layout", "bpfreeze-arena"]),
    (
        "bpfreeze-render",
        &[
            "bpfmaps",
            "btf-layout",
            "bpfreeze-arena",
            "sdt-alloc",
            "guestmem",
        ],
    ),
    ("bpfreeze-qemu", &["guestmem"]),
    (
        "bpfreeze-freeze",
        &[
            "guestmem",
            "btf-layout",
            "bpfreeze-kernel",
            "bpfmaps",
            "bpfreeze-render",
            "bpfreeze-qemu",
        ],
    ),
    ("bpfreeze", ALL),
    ("benchmarks", ALL),
    ("guest-tests", ALL),
    ("example-vmm", &["bpfreeze-freeze"]),
    ("example-harness", &["bpfreeze-freeze"]),
    ("xtask", &[]),
    ("mapmaker", &[]),
];

/// Libraries that only some packages may name, so that they can be exchanged.
const ONLY: &[(&str, &[&str])] = &[
    ("btf-rs", &["btf-layout"]),
    ("clap", &["bpfreeze", "xtask"]),
    ("anyhow", &["bpfreeze", "xtask", "mapmaker"]),
    ("libbpf-rs", &["bpfmaps", "mapmaker"]),
    ("libbpf-sys", &["bpfmaps", "mapmaker"]),
];

/// A file may have so many lines at most.
const LONGEST: usize = 800;

/// A package as `cargo metadata` describes it.
#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or none.
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// Checks everything.
///
/// # Errors
/// Fails with one line for each breach.
pub(crate) fn check() -> Result<()> {
    let mut breaches = Vec::new();
    let root = paths::workspace();
    let metadata = capture(Command::new("cargo").current_dir(root).args([
        "metadata",
        "--no-deps",
        "--format-version",
        "1",
    ]))?;
    let metadata: Metadata = serde_json::from_str(&metadata).context("cargo metadata")?;
    arrows(&metadata.packages, &mut breaches);
    for folder in ["crates", "examples", "tests", "xtask", "fuzz"] {
        for file in sources(&root.join(folder)) {
            let text = fs::read_to_string(&file)?;
            let name = file.strip_prefix(root).unwrap_or(&file);
            breaches.extend(in_file(&name.to_string_lossy(), &text));
        }
    }
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("tidy:\n  {}", breaches.join("\n  "))
}

fn arrows(packages: &[Package], breaches: &mut Vec<String>) {
    let table: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let ours: BTreeSet<&str> = packages
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    for package in packages {
        let name = package.name.as_str();
        let Some(allowed) = table.get(name) else {
            breaches.push(format!(
                "{name} is not in the table of crates (xtask, tidy)"
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let on = dependency.name.as_str();
            if ours.contains(on) && !allowed.contains(&on) {
                breaches.push(format!("{name} may not depend on {on}"));
            }
            // Tests may take what they like from outside.
            let is_test = dependency.kind.as_deref() == Some("dev");
            let reserved = ONLY.iter().find(|(library, _)| *library == on);
            if let Some((_, who)) = reserved
                && !who.contains(&name)
                && !is_test
            {
                breaches.push(format!("{name} names {on}, which only {who:?} may"));
            }
        }
    }
}

/// What is wrong with one file.
fn in_file(name: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    if lines > LONGEST {
        return Some(format!("{name} has {lines} lines; {LONGEST} are the most"));
    }
    // Attributes of the file, such as `#![cfg(test)]`, may stand before the comment.
    let first = text
        .lines()
        .find(|line| !line.trim().is_empty() && !line.starts_with("#!["));
    match first {
        Some(line) if line.starts_with("//!") => None,
        _ => Some(format!("{name} does not start with a doc comment (//!)")),
    }
}

/// Every Rust file below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::{Dependency, Package, arrows, check, in_file};

    #[test]
    fn the_workspace_is_tidy() {
        check().unwrap();
    }

    #[test]
    fn breaches_are_found() {
        let depends = |name: &str, on: &str| Package {
            name: name.to_owned(),
            dependencies: vec![Dependency {
                name: on.to_owned(),
                kind: None,
            }],
        };
        let packages = [
            depends("guestmem", "pagewalk"),
            depends("pagewalk", "guestmem"),
            depends("stranger", "serde"),
            depends("bpfreeze-render", "clap"),
        ];
        let mut breaches = Vec::new();
        arrows(&packages, &mut breaches);
        assert_eq!(breaches.len(), 3, "{breaches:?}");
    }

    #[test]
    fn files_need_a_comment_and_an_end() {
        assert!(in_file("a", "//! It is.\nfn f() {}\n").is_none());
        assert!(in_file("a", "fn f() {}\n").is_some());
        assert!(in_file("a", &"//! Long.\n".repeat(801)).is_some());
    }
}
