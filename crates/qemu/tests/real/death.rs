//! A process of ours that dies while it has paused a guest.
//!
//! That process is this very program, told by an environment variable to be
//! the one that dies.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use bpfreeze_qemu::{Options, Qemu};

use crate::machine::{Machine, PATIENCE};

const SOCKET: &str = "BPFREEZE_TEST_SOCKET";
const END: &str = "BPFREEZE_TEST_END";
const PAUSED: &str = "the guest is paused";

/// The one that dies. Does nothing in the process of the tests themselves.
#[test]
fn victim() {
    let Some(socket) = env::var_os(SOCKET) else {
        return;
    };
    let options = Options {
        pid: None,
        timeout: PATIENCE,
    };
    let qemu = Qemu::connect(Path::new(&socket), &options).unwrap();
    let paused = qemu.pause().unwrap();
    writeln!(io::stdout(), "{PAUSED}").unwrap();
    match env::var(END).unwrap().as_str() {
        "wait" => loop {
            thread::park();
        },
        "panic" => panic!("while the guest is paused"),
        "abort" => std::process::abort(),
        "exit" => std::process::exit(7),
        "forget" => std::mem::forget(paused),
        "thread" => {
            // Another thread dies in the middle of this one's work.
            let _ = thread::spawn(|| std::process::exit(8)).join();
        }
        "resume" => {
            paused.resume().unwrap();
            drop(qemu);
            assert_eq!(children(), "");
        }
        other => panic!("{other}"),
    }
}

/// The processes that this thread has started, zombies among them.
fn children() -> String {
    std::fs::read_to_string("/proc/thread-self/children").unwrap()
}

/// Starts the victim in a process group of its own, and waits until it has
/// paused the guest.
fn start(socket: &Path, end: &str) -> (Child, impl Read + Send + use<>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "death::victim", "--nocapture"])
        .env(SOCKET, socket)
        .env(END, end)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains(PAUSED) {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "it said nothing");
    }
    (child, output)
}

/// How the process dies.
enum Death {
    /// By what it does itself.
    Itself(&'static str),
    /// By a signal to all of its process group.
    Signal(&'static str),
}

fn check(death: &Death) {
    let machine = Machine::start("-M q35 -m 64M");
    let mut witness = machine.witness();
    let end = match death {
        Death::Itself(end) => end,
        Death::Signal(_) => "wait",
    };
    let (mut child, mut output) = start(&machine.socket(), end);
    if let Death::Signal(signal) = death {
        assert!(!witness.is_running());
        let group = format!("-{}", child.id());
        let kill = Command::new("kill")
            .args(["-s", signal, "--", &group])
            .status();
        assert!(kill.unwrap().success());
    }
    output.read_to_end(&mut Vec::new()).unwrap();
    let status = child.wait().unwrap();
    match death {
        Death::Signal(_) => assert!(status.signal().is_some(), "{status}"),
        Death::Itself("forget" | "resume") => assert!(status.success(), "{status}"),
        Death::Itself(_) => assert!(!status.success(), "{status}"),
    }
    witness.await_running(true);
    // The guardian goes, and the next client is served.
    assert!(machine.connect().is_running().unwrap());
}

#[test]
fn by_sigkill() {
    check(&Death::Signal("KILL"));
}

#[test]
fn by_a_terminals_signals() {
    for signal in ["INT", "QUIT", "HUP", "TERM"] {
        check(&Death::Signal(signal));
    }
}

#[test]
fn by_its_own_fault() {
    for end in ["panic", "abort", "exit", "thread", "forget"] {
        check(&Death::Itself(end));
    }
}

#[test]
fn not_at_all() {
    check(&Death::Itself("resume"));
}

/// A guardian that waits for QEMU keeps nobody else waiting.
#[test]
fn what_it_printed_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"{\"QMP\": {}}\n").unwrap();
        let answers = [
            "{\"return\": {}, \"id\": 1}\n",
            "{\"return\": {\"running\": true, \"status\": \"running\"}, \"id\": 2}\n",
            "{\"return\": {}, \"id\": 3}\n",
        ];
        let mut lines = BufReader::new(stream.try_clone().unwrap()).split(b'\n');
        for answer in answers {
            lines.next().unwrap().unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
        // The guardian says that it is there; it is answered when all is seen.
        assert_eq!(lines.next().unwrap().unwrap(), [0xff]);
        (stream, lines)
    });
    let (mut child, mut output) = start(&socket, "wait");
    child.kill().unwrap();
    child.wait().unwrap();
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(output.read_to_end(&mut Vec::new())));
    end.recv_timeout(PATIENCE)
        .expect("the output ends")
        .unwrap();
    let (mut stream, mut lines) = peer.join().unwrap();
    let command = String::from_utf8(lines.next().unwrap().unwrap()).unwrap();
    let command: serde_json::Value = serde_json::from_str(&command).unwrap();
    assert_eq!(command["execute"], "cont");
    let answer = serde_json::json!({"return": {}, "id": command["id"]});
    stream.write_all(format!("{answer}\n").as_bytes()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(lines.next().is_none());
}
