//! A QEMU with firmware of our own, and a second monitor as a witness.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bpfreeze_qemu::{Options, Qemu};
use guestmem::{Gpa, Image, Memory, MemoryExt, Physical};
use serde_json::{Value, json};

/// How long anything may take on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Where the firmware counts for ever.
pub(crate) const COUNTER: Gpa = Gpa::at(0x500);

/// The pages on which it writes [`WRITTEN`] before that, one behind the other.
pub(crate) const TOUCHED: std::ops::Range<u64> = 0x2_0000..0x9_0000;
pub(crate) const WRITTEN: u16 = 0xcafe;

/// Firmware of 64 KiB, whose last 16 bytes are what an x86 CPU begins with.
fn firmware() -> Vec<u8> {
    #[rustfmt::skip]
    let code = [
        0xfa,                               // cli
        0x31, 0xdb,                         // xor bx, bx
        0xb8, 0x00, 0x20,                   // mov ax, 0x2000
        0x8e, 0xd8,                         // touch: mov ds, ax
        0xc7, 0x07, 0xfe, 0xca,             // mov word [bx], 0xcafe
        0x05, 0x00, 0x01,                   // add ax, 0x100
        0x3d, 0x00, 0x90,                   // cmp ax, 0x9000
        0x72, 0xf2,                         // jb touch
        0x8e, 0xdb,                         // mov ds, bx
        0x66, 0xff, 0x06, 0x00, 0x05,       // count: inc dword [0x500]
        0xeb, 0xf9,                         // jmp count
    ];
    let mut rom = vec![0; 64 << 10];
    rom[..code.len()].copy_from_slice(&code);
    rom[0xfff0..0xfff5].copy_from_slice(&[0xea, 0, 0, 0, 0xf0]); // jmp 0xf000:0
    rom
}

/// A running QEMU. It is killed when this goes out of scope.
pub(crate) struct Machine {
    child: Child,
    folder: tempfile::TempDir,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Machine {
    /// Starts QEMU with these arguments, among others. Files are relative to
    /// its folder, in which `prepare` can make some.
    pub(crate) fn with(arguments: &str, prepare: impl FnOnce(&std::path::Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("firmware"), firmware()).unwrap();
        prepare(folder.path());
        let log = fs::File::create(folder.path().join("log")).unwrap();
        // Its death signal reaches it even where our Drop does not run.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-nodefaults", "-display", "none", "-accel", "tcg"])
            .args(["-qmp", "unix:qmp.sock,server=on,wait=off"])
            .args(["-qmp", "unix:witness.sock,server=on,wait=off"])
            .args(arguments.split_whitespace())
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("setpriv (util-linux) starts");
        let mut machine = Self { child, folder };
        let start = Instant::now();
        while UnixStream::connect(machine.folder.path().join("witness.sock")).is_err() {
            if let Some(status) = machine.child.try_wait().unwrap() {
                let log = fs::read_to_string(machine.folder.path().join("log")).unwrap();
                panic!("{log}qemu-system-x86_64 ended ({status}); its package is qemu-system-x86");
            }
            assert!(start.elapsed() < PATIENCE, "QEMU does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        machine
    }

    /// Starts one with the firmware above.
    pub(crate) fn start(arguments: &str) -> Self {
        Self::with(&format!("-bios firmware {arguments}"), |_| {})
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("qmp.sock")
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn connect(&self) -> Qemu {
        let options = Options {
            pid: None,
            timeout: PATIENCE,
        };
        Qemu::connect(&self.socket(), &options).unwrap()
    }

    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn witness(&self) -> Witness {
        let stream = UnixStream::connect(self.folder.path().join("witness.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut witness = Witness {
            stream: BufReader::new(stream),
        };
        witness.message();
        witness.execute("qmp_capabilities", &json!({}));
        witness
    }

    /// What QEMU itself saves of guest memory.
    pub(crate) fn saved(&self, witness: &mut Witness, start: u64, len: u64) -> Vec<u8> {
        let arguments = json!({"val": start, "size": len, "filename": "saved"});
        witness.execute("pmemsave", &arguments);
        fs::read(self.folder.path().join("saved")).unwrap()
    }
}

/// A client of QEMU's other monitor.
pub(crate) struct Witness {
    stream: BufReader<UnixStream>,
}

impl Witness {
    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Value {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.stream.get_mut(), "{request}").unwrap();
        loop {
            let mut message = self.message();
            assert!(message.get("error").is_none(), "{command}: {message}");
            if let Some(answer) = message.get_mut("return") {
                return answer.take();
            }
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.execute("query-status", &json!({}))["running"] == true
    }

    /// Waits until the guest is (not) running.
    pub(crate) fn await_running(&mut self, running: bool) {
        until("the guest's state", || self.is_running() == running);
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what} does not come about");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The memory of an image that has one layout.
pub(crate) fn memory(image: &Image) -> Physical {
    assert_eq!(image.layouts().len(), 1);
    image.layouts()[0].clone()
}

pub(crate) fn read(memory: &Physical, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0x55; len];
    memory.read(Gpa::at(at), &mut bytes).unwrap();
    bytes
}

/// Waits until the firmware has done its work, and counts.
pub(crate) fn await_counting(memory: &Physical) {
    let before = memory.load_u32(COUNTER).unwrap();
    until("the guest's count", || {
        memory.load_u32(COUNTER).unwrap() != before
    });
}
