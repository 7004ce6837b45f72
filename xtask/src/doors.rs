//! What is written of a guest's memory while its QEMU is still there, for the tests to read: dumps
//! of QEMU's own.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;

use crate::qemu::Qemu;
use crate::qmp::Qmp;
use crate::run::run;

/// The folder beside a guest's memory that they are in.
pub(crate) const FOLDER: &str = "doors";

/// A format that QEMU writes memory in. Debian's is built without lzo and snappy.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) enum Dump {
    /// An ELF core.
    Elf,
    /// A kdump file, compressed with zlib and flattened.
    Kdump,
    /// Plain memory.
    Raw,
}

impl Dump {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Elf, Self::Kdump, Self::Raw];

    /// The name of its file.
    fn file(self) -> &'static str {
        match self {
            Self::Elf => "elf",
            Self::Kdump => "kdump",
            Self::Raw => "raw",
        }
    }

    /// Lets QEMU, which stands in `folder`, write its guest's `memory` MiB.
    ///
    /// # Errors
    /// Fails with QEMU's words if it refuses.
    pub(crate) fn write(self, qmp: &mut Qmp, folder: &Path, memory: u64) -> Result<()> {
        fs::create_dir_all(folder.join(FOLDER))?;
        let file = format!("{FOLDER}/{}", self.file());
        let protocol = format!("file:{file}");
        let (command, arguments) = match self {
            Self::Raw => (
                "pmemsave",
                json!({"val": 0, "size": memory << 20, "filename": file}),
            ),
            Self::Elf => (
                "dump-guest-memory",
                json!({"paging": false, "protocol": protocol}),
            ),
            Self::Kdump => (
                "dump-guest-memory",
                json!({"paging": false, "protocol": protocol, "format": "kdump-zlib"}),
            ),
        };
        qmp.execute(command, &arguments)?;
        // These are as long as memory is, and most of it is zero.
        run(Command::new("fallocate")
            .arg("--dig-holes")
            .arg(folder.join(file)))
    }
}

/// Captures the guest of a QEMU that stands in `folder`, and keeps what bpfreeze said of it.
///
/// # Errors
/// Fails if bpfreeze does, or if the guest does not do what it did before.
pub(crate) fn capture(bpfreeze: &Path, qemu: &Qemu, folder: &Path, name: &str) -> Result<()> {
    let doors = folder.join(FOLDER);
    fs::create_dir_all(&doors)?;
    let said = File::create(doors.join(format!("{name}.txt")))?;
    // The monitor serves one at a time.
    let status = || qemu.qmp()?.execute("query-status", &json!({}));
    let before = status()?;
    run(Command::new(bpfreeze)
        .current_dir(folder)
        .args(["capture", "qmp:qmp.sock", "--verbose", "-o"])
        .arg(doors.join(format!("{name}.core.zst")))
        .stderr(said))?;
    let after = status()?;
    ensure!(before == after, "the guest was {before} and is {after}");
    Ok(())
}
