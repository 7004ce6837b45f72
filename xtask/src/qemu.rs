//! One QEMU process with a guest whose RAM is a file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::qmp::Qmp;

/// What makes one machine differ from another.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// The type of the machine, which says where the hole below 4 GiB begins.
    pub(crate) kind: &'static str,
    /// The value of `-cpu`.
    pub(crate) cpu: &'static str,
    /// The value of `-smp`.
    pub(crate) smp: &'static str,
    /// RAM in MiB.
    pub(crate) memory: u64,
    /// Further devices.
    pub(crate) devices: &'static [&'static str],
    /// The kernel's command line.
    pub(crate) cmdline: String,
}

impl Machine {
    /// QEMU's arguments, apart from the names of files. They are relative to its folder.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self {
            kind,
            cpu,
            smp,
            memory,
            devices,
            cmdline,
        } = self;
        let words = format!(
            "-nodefaults -display none -no-reboot -accel tcg,thread=multi \
             -cpu {cpu} -smp {smp} -m {memory} -machine {kind},memory-backend=mem \
             -object memory-backend-file,id=mem,size={memory}M,mem-path=ram,share=on \
             -serial file:console -qmp unix:qmp.sock,server=on,wait=off -initrd initrd \
             -device virtio-serial-pci -chardev file,id=sent,path=sent \
             -device virtserialport,chardev=sent,name=sent"
        );
        let mut arguments: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let options = devices.iter().flat_map(|&device| ["-device", device]);
        arguments.extend(options.chain(["-append", cmdline]).map(str::to_owned));
        arguments
    }
}

/// A running guest. It is killed when this goes out of scope.
#[derive(Debug)]
pub(crate) struct Qemu {
    child: Child,
    folder: PathBuf,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Qemu {
    /// Boots a machine in a folder where the file `initrd` lies already.
    ///
    /// # Errors
    /// Fails if the RAM's file cannot be made or QEMU cannot be started.
    pub(crate) fn boot(machine: &Machine, vmlinuz: &Path, folder: &Path) -> Result<Self> {
        let ram = File::create(folder.join("ram"))?;
        ram.set_len(machine.memory << 20)?;
        let messages = File::create(folder.join("qemu.log"))?;
        // Its death signal reaches it even where our Drop does not run.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .current_dir(folder)
            .args(machine.arguments())
            .arg("-kernel")
            .arg(vmlinuz)
            .stdin(Stdio::null())
            .stdout(messages.try_clone()?)
            .stderr(messages)
            .spawn()
            .context("starting qemu-system-x86_64")?;
        Ok(Self {
            child,
            folder: folder.to_owned(),
        })
    }

    /// Waits until the guest says that it is ready.
    ///
    /// # Errors
    /// Fails with the end of the console if the guest says that it failed, if it ends, or if
    /// `patience` runs out.
    pub(crate) fn wait_ready(&mut self, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let console = self.read("console");
            if console.contains("bpfreeze-guest: ready") {
                return Ok(());
            }
            let tail = || {
                let lines: Vec<&str> = console.lines().collect();
                let from = lines.len().saturating_sub(30);
                lines.get(from..).unwrap_or_default().join("\n")
            };
            if console.contains("bpfreeze-guest: failed") {
                bail!("the guest failed:\n{}", tail());
            }
            if let Some(status) = self.child.try_wait()? {
                let log = self.read("qemu.log");
                bail!("the guest ended early ({status}):\n{log}\n{}", tail());
            }
            if start.elapsed() > patience {
                bail!("the guest is not ready after {patience:?}:\n{}", tail());
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The socket of its monitor.
    pub(crate) fn socket(&self) -> PathBuf {
        // The path may be longer than a socket's name can be, the process's folder is not.
        format!("/proc/{}/cwd/qmp.sock", self.child.id()).into()
    }

    /// A connection to its monitor.
    ///
    /// # Errors
    /// As [`Qmp::connect`].
    pub(crate) fn qmp(&self) -> Result<Qmp> {
        Qmp::connect(&self.socket())
    }

    fn read(&self, file: &str) -> String {
        let bytes = fs::read(self.folder.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
