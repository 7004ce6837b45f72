//! The task that shows what bpfreeze does: a guest is booted, filled and frozen, and its memory
//! looked at.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::check;
use crate::guest::{self, Wish};
use crate::initrd::Live;
use crate::variant::Variant;

/// The session: arguments after the program's name, `RAM` standing for the guest's memory.
const SESSION: &[&[&str]] = &[
    &["info", "RAM"],
    &["maps", "RAM"],
    &["dump", "RAM", "--map", "flows", "--limit", "5"],
    &["dump", "RAM", "--map", "sections.bss"],
    &[
        "dump",
        "RAM",
        "--map",
        "counts_pc",
        "--limit",
        "2",
        "--format",
        "json",
    ],
];

/// Runs the session on a frozen guest.
///
/// # Errors
/// Fails if the guest cannot be made or a command of the session fails.
pub(crate) fn demo() -> Result<()> {
    let wish = Wish {
        fresh: false,
        live: Live::Yes,
    };
    // First, because it installs what building needs.
    let guests = guest::prepare(&[Variant::La57], wish)?;
    let ram = guests.first()?.join("ram");
    let bpfreeze = check::bpfreeze()?;
    eprintln!(
        "\nThe guest is frozen. All that is left of it is RAM={}\n",
        ram.display()
    );
    for arguments in SESSION {
        show(&bpfreeze, arguments, &ram)?;
    }
    Ok(())
}

fn show(bpfreeze: &Path, arguments: &[&str], ram: &Path) -> Result<()> {
    eprintln!("$ bpfreeze {}", arguments.join(" ").replace("RAM", "$RAM"));
    let mut command = Command::new(bpfreeze);
    for &argument in arguments {
        match argument {
            "RAM" => command.arg(ram),
            other => command.arg(other),
        };
    }
    let status = command.status().context("starting bpfreeze")?;
    eprintln!();
    if !status.success() {
        bail!("bpfreeze {} failed: {status}", arguments.join(" "));
    }
    Ok(())
}
