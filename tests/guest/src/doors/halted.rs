//! A QEMU that has a frozen guest's memory as its own. Its firmware does nothing but halt, so that
//! memory stays as it is even where the machine runs.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// What memory is to QEMU.
#[derive(Debug, Clone, Copy)]
pub(super) enum Backing {
    /// A mapping of the guest's own file that nothing is written through to.
    PrivateFile,
    /// A copy of it that is shared.
    SharedFile,
    /// A file without a name that is shared.
    Memfd,
    /// Nothing but the process's own memory.
    Anonymous,
}

impl Backing {
    pub(super) const ALL: [Self; 4] = [
        Self::PrivateFile,
        Self::SharedFile,
        Self::Memfd,
        Self::Anonymous,
    ];

    /// The backend, over a file if it is one of files.
    fn object(self, file: &Path) -> String {
        let of_file = |share: &str| {
            let file = file.display();
            format!("memory-backend-file,share={share},mem-path={file}")
        };
        match self {
            Self::PrivateFile => of_file("off"),
            Self::SharedFile => of_file("on"),
            Self::Memfd => "memory-backend-memfd,share=on".to_owned(),
            Self::Anonymous => "memory-backend-ram".to_owned(),
        }
    }
}

/// What a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Paused,
    Running,
}

/// Such a QEMU. It is killed when this goes out of scope.
pub(super) struct Halted {
    child: Child,
    socket: PathBuf,
}

impl Drop for Halted {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.socket);
    }
}

impl Halted {
    /// Starts one with the memory in `ram`; `folder` is for its files.
    pub(super) fn start(ram: &Path, folder: &Path, backing: Backing, state: State) -> Self {
        let firmware = folder.join("firmware");
        fs::write(&firmware, firmware_that_halts()).expect("firmware");
        let bytes = fs::metadata(ram).expect("memory").len();
        let mut file = ram.to_owned();
        if let Backing::SharedFile = backing {
            file = folder.join("shared");
            super::copy(ram, &file);
        }
        let object = format!("{},id=mem,size={bytes}", backing.object(&file));
        let socket = folder.join("qmp.sock");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-nodefaults"])
            .args(["-display", "none", "-accel", "tcg", "-cpu", "max"])
            .args(["-machine", "q35,memory-backend=mem", "-object", &object])
            .args(["-m", &format!("{}", bytes >> 20)])
            .arg("-bios")
            .arg(firmware)
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()));
        if let Backing::Memfd | Backing::Anonymous = backing {
            // QEMU itself puts it there before the machine starts.
            let loader = format!("loader,addr=0,force-raw=on,file={}", ram.display());
            command.args(["-device", &loader]);
        }
        if state == State::Paused {
            command.arg("-S");
        }
        let child = command.stdin(Stdio::null()).spawn().expect("QEMU starts");
        let qemu = Self { child, socket };
        assert_eq!(qemu.state(), state);
        qemu
    }

    /// The source's name.
    pub(super) fn source(&self) -> String {
        format!("qmp:{}", self.socket.display())
    }

    /// What QEMU says of itself.
    pub(super) fn state(&self) -> State {
        let mut stream = BufReader::new(self.connect());
        let mut ask = |command: &str| -> Value {
            writeln!(stream.get_mut(), r#"{{"execute":"{command}"}}"#).expect("QEMU listens");
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).expect("QEMU answers");
                let mut answer: Value = serde_json::from_str(&line).expect("JSON");
                if let Some(value) = answer.get_mut("return") {
                    return value.take();
                }
            }
        };
        ask("qmp_capabilities");
        match ask("query-status")["running"] {
            Value::Bool(true) => State::Running,
            Value::Bool(false) => State::Paused,
            ref other => panic!("running: {other}"),
        }
    }

    fn connect(&self) -> UnixStream {
        for _ in 0..600 {
            if let Ok(stream) = UnixStream::connect(&self.socket) {
                let patience = Some(Duration::from_secs(60));
                stream.set_read_timeout(patience).expect("a timeout");
                return stream;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("nobody listens at {}", self.socket.display());
    }
}

/// As small as firmware can be.
fn firmware_that_halts() -> Vec<u8> {
    // hlt
    let mut firmware = vec![0xf4; 64 << 10];
    // Where a CPU starts: cli; hlt; and jmp back to hlt.
    let start = firmware.len() - 16;
    firmware[start..start + 4].copy_from_slice(&[0xfa, 0xf4, 0xeb, 0xfd]);
    firmware
}
