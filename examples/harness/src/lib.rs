//! A guest in QEMU for a test: booted from a kernel and an initial RAM disk,
//! followed by what it writes to its console, and frozen through its monitor.
//!
//! Nothing of QEMU's arguments is for bpfreeze but the monitor's socket.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use freeze::Freeze;
use tempfile::TempDir;

/// A running guest. It ends when this is dropped.
#[derive(Debug)]
pub struct Guest {
    qemu: Child,
    /// With the console's output and the monitor's socket.
    folder: TempDir,
}

impl Guest {
    /// Boots it.
    ///
    /// # Errors
    ///
    /// If QEMU cannot be started.
    pub fn boot(kernel: &Path, initrd: &Path) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let qemu = Command::new("qemu-system-x86_64")
            .current_dir(&folder)
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args([
                "-accel",
                "tcg,thread=multi",
                "-cpu",
                "max",
                "-smp",
                "2",
                "-m",
                "512",
            ])
            .args(["-serial", "file:console"])
            .args(["-qmp", "unix:qmp.sock,server=on,wait=off"])
            .args(["-append", "console=ttyS0 no_timer_check quiet panic=-1"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd)
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { qemu, folder })
    }

    /// What it has written so far.
    #[must_use]
    pub fn console(&self) -> String {
        let bytes = fs::read(self.folder.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until it writes `text`.
    ///
    /// # Errors
    ///
    /// With all that it wrote, if it ends or time does before.
    pub fn wait_for(&mut self, text: &str, patience: Duration) -> io::Result<()> {
        let start = Instant::now();
        while !self.console().contains(text) {
            let ended = self.qemu.try_wait()?;
            if ended.is_some() || start.elapsed() > patience {
                let why = ended.map_or("time ran out".to_owned(), |status| status.to_string());
                let console = self.console();
                return Err(io::Error::other(format!("no `{text}`: {why}:\n{console}")));
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The way to its maps.
    ///
    /// # Errors
    ///
    /// If the monitor does not answer.
    pub fn freeze(&self) -> Result<Freeze, freeze::Error> {
        Freeze::qemu(&self.folder.path().join("qmp.sock"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}
