//! The capture in the repository, which shows a real dump on any machine, and the output that its
//! tests expect.

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::check;
use crate::guest::{self, Wish};
use crate::initrd::Live;
use crate::paths;
use crate::run::run;
use crate::variant::Variant;

/// Everybody who clones the repository gets it.
const MOST_BYTES: u64 = 4_000_000;

/// Captures a frozen guest, and writes anew what the tests expect of it.
///
/// # Errors
/// Fails if the guest cannot be made, or if its capture is too large.
pub(crate) fn sample() -> Result<()> {
    let wish = Wish {
        fresh: false,
        live: Live::Yes,
    };
    let guests = guest::prepare(&[Variant::ScxP2dq], wish)?;
    let sample = paths::workspace().join("sample/scx_p2dq.core.zst");
    run(Command::new(check::bpfreeze()?)
        .arg("capture")
        .arg(guests.first()?.join("ram"))
        .args(["--level", "19", "-o"])
        .arg(&sample))?;
    let bytes = fs::metadata(&sample)?.len();
    eprintln!("{}: {bytes} bytes", sample.display());
    ensure!(bytes < MOST_BYTES, "more than {MOST_BYTES} bytes");
    run(check::cargo(&[
        "test",
        "--quiet",
        "--package",
        "bpfreeze",
        "--test",
        "cli",
        "sample::",
    ])
    .env("UPDATE_EXPECT", "1"))
}
