//! Runs other programs.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command with its output on ours.
///
/// # Errors
/// Fails, naming the command, if it cannot be started or does not succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", line(command));
    let status = command
        .status()
        .with_context(|| format!("starting {}", line(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs a command and returns what it writes to its standard output.
///
/// # Errors
/// As [`run`], and if the output is not UTF-8. The error carries the command's messages.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {}", line(command)))?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} failed: {}\n{}",
            line(command),
            output.status,
            messages.trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("output of {}", line(command)))
}

/// The command as one would type it, its environment left out.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
