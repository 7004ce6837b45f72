//! Sockets behind which there is something else than a QEMU that is well.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use bpfreeze_qemu::{Error, Options, Qemu};

const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

/// What the client makes of a peer that is as `peer` makes it, by `talk`.
fn meet<T>(
    peer: impl FnOnce(UnixStream) + Send + 'static,
    talk: impl FnOnce(&Path, &Options) -> T,
) -> T {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let peer = thread::spawn(move || peer(listener.accept().unwrap().0));
    let options = Options {
        pid: None,
        timeout: Duration::from_secs(3),
    };
    let outcome = talk(&socket, &options);
    peer.join().unwrap();
    outcome
}

/// A peer that says `said` and then hears the other out.
fn saying(said: &str) -> impl FnOnce(UnixStream) + Send + use<> {
    let said = said.to_owned();
    move |mut stream| {
        // The other may have had enough of it.
        let _ = stream.write_all(said.as_bytes());
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// A peer that answers each command by its text; `None` ends the connection.
fn answering(
    mut answer: impl FnMut(&str, u64) -> Option<String> + Send + 'static,
) -> impl FnOnce(UnixStream) + Send {
    move |mut stream| {
        stream.write_all(GREETING.as_bytes()).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            let line = String::from_utf8_lossy(&line);
            let command: serde_json::Value = match serde_json::from_str(&line) {
                Ok(command) => command,
                Err(_) => continue,
            };
            let id = command["id"].as_u64().unwrap_or_default();
            let name = command["execute"].as_str().unwrap();
            let name = match command["arguments"]["command-line"].as_str() {
                Some(line) => line,
                None => name,
            };
            match answer(name, id) {
                Some(answer) => {
                    let _ = stream.write_all(answer.as_bytes());
                }
                None => return,
            }
        }
    }
}

fn returning(value: &str, id: u64) -> Option<String> {
    Some(format!("{{\"return\": {value}, \"id\": {id}}}\r\n"))
}

const RUNNING: &str = "{\"running\": true, \"status\": \"running\"}";

#[test]
fn peers_that_are_no_monitor() {
    let check = |said: &str, expected: &str| {
        let error = meet(saying(said), |socket, options| {
            Qemu::connect(socket, options).unwrap_err()
        });
        let text = error.to_string();
        let (_socket, text) = text.split_once("/s ").unwrap();
        assert!(text.starts_with(expected), "{text}");
    };
    check("", "says nothing: no QMP greeting within 3 s");
    check(
        "SSH-2.0-OpenSSH\r\n",
        "does not speak QMP: it said \"SSH-2.0-OpenSSH\"",
    );
    check("half a line", "does not speak QMP: it said \"half a line\"");
    check("{\"QM", "does not speak QMP: it said \"{\\\"QM\"");
    check(
        "\u{1}\u{2}\n",
        "does not speak QMP: it said \"\\u{1}\\u{2}\"",
    );
    // Lines without end end, too.
    check(&"x".repeat(20 << 20), "does not speak QMP: it said \"xxxx");
    check(&"[".repeat(1 << 20), "does not speak QMP: it said \"[[[[");
    check(
        &format!("{}\n", "[".repeat(1 << 20)),
        "does not speak QMP: it said \"[[[[",
    );
}

#[test]
fn monitors_that_fall_silent_or_away() {
    let check = |stop: fn(&str, u64) -> Option<String>, expected: &str| {
        let peer = answering(move |command, id| match command {
            "qmp_capabilities" => returning("{}", id),
            "query-status" => stop(command, id),
            other => panic!("{other}"),
        });
        let text = meet(peer, |socket, options| {
            let qemu = Qemu::connect(socket, options).unwrap();
            qemu.is_running().unwrap_err().to_string()
        });
        assert!(text.ends_with(expected), "{text}");
    };
    check(
        |_, _| None,
        "/s was closed before QEMU answered `query-status`",
    );
    check(
        |_, _| Some(String::new()),
        "QEMU did not answer `query-status` within 3 s",
    );
    check(
        |_, id| {
            Some(format!(
                "{{\"event\": \"x\"}}\n{{\"id\": {}, \"return\": 1}}\n",
                id + 1
            ))
        },
        "QEMU did not answer `query-status` within 3 s",
    );
    check(|_, id| returning("{}", id), "to `query-status`: \"{}\"");
    check(
        |_, id| Some(format!("{{\"id\": {id}}}\n")),
        "to `query-status`: \"{\\\"id\\\": 2}\"",
    );
    check(|_, _| Some("}\n".to_owned()), "to `query-status`: \"}\"");
    check(
        |_, id| {
            Some(format!(
                "{{\"error\": {{\"desc\": \"not now\"}}, \"id\": {id}}}\n"
            ))
        },
        "QEMU refuses `query-status`: not now",
    );
}

#[test]
fn monitors_that_tell_nonsense_of_memory() {
    let check = |mtree: &str, hva: fn(u64) -> String, expected: &str| {
        let mtree = format!("FlatView #0\n AS \"memory\", root: system\n{mtree}");
        let peer = answering(move |command, id| {
            let text = match command {
                "qmp_capabilities" => return returning("{}", id),
                "query-status" => return returning(RUNNING, id),
                "info mtree -f" => mtree.clone(),
                "info registers -a" => "CR3=00001000".to_owned(),
                other => match other.strip_prefix("gpa2hva 0x") {
                    Some(gpa) => hva(u64::from_str_radix(gpa, 16).unwrap()),
                    None => panic!("{other}"),
                },
            };
            returning(&serde_json::to_string(&text).unwrap(), id)
        });
        let text = meet(peer, |socket, options| {
            let qemu = Qemu::connect(socket, options).unwrap();
            qemu.image().unwrap_err().to_string()
        });
        assert!(text.starts_with(expected), "{text}");
    };
    let said: fn(u64) -> String = |hva| format!("Host virtual address for 0x0 (x) is {hva:#x}\r\n");
    let ram = " 0000-0fff (prio 0, ram): x\n";
    check(
        "",
        said,
        "cannot make sense of QEMU's answer to `info mtree -f`: \"FlatView",
    );
    check(
        ram,
        |_| "No memory is mapped".to_owned(),
        "cannot make sense of QEMU's answer to `gpa2hva 0x0`: \"No memory is mapped\"",
    );
    check(
        ram,
        |_| "Host virtual address for 0x0 (x) is 0x1000".to_owned(),
        "cannot make sense of QEMU's answer to `gpa2hva 0xfff`: \"0x1000, though 0x0 is at 0x1000\"",
    );
    // Addresses where this process, which listens, has nothing.
    check(ram, said, "process ");
    check(" 0-ffffffffffffffff (prio 0, ram): x\n", said, "process ");
    check(
        " 1000-1fff (prio 0, ram): x\n",
        |gpa| {
            format!(
                "Host virtual address for 0x0 (x) is {:#x}",
                gpa + (u64::MAX - 0x1fff)
            )
        },
        "process ",
    );
}

/// `stop` may be obeyed though its answer does not come.
#[test]
fn an_unanswered_stop_is_followed_by_cont() {
    let (heard, hear) = std::sync::mpsc::channel();
    let peer = answering(move |command, id| {
        heard.send(command.to_owned()).unwrap();
        match command {
            "qmp_capabilities" => returning("{}", id),
            "query-status" => returning(RUNNING, id),
            // The second is the guardian's.
            "cont" if id == 0 => None,
            _ => Some(String::new()),
        }
    });
    meet(peer, |socket, options| {
        let qemu = Qemu::connect(socket, options).unwrap();
        let paused = qemu.pause();
        assert!(matches!(paused, Err(Error::Timeout { .. })), "{paused:?}");
        drop(paused);
        drop(qemu);
    });
    let heard: Vec<_> = hear.iter().collect();
    let expected = ["qmp_capabilities", "query-status", "stop", "cont", "cont"];
    assert_eq!(heard, expected);
}

#[test]
fn a_refused_stop_is_an_error() {
    let peer = answering(|command, id| match command {
        "query-status" => returning(RUNNING, id),
        "stop" => Some(format!(
            "{{\"error\": {{\"desc\": \"There is a dump in process, please wait.\"}}, \"id\": {id}}}\n"
        )),
        _ => returning("{}", id),
    });
    meet(peer, |socket, options| {
        let qemu = Qemu::connect(socket, options).unwrap();
        let text = qemu.pause().unwrap_err().to_string();
        assert_eq!(
            text,
            "QEMU refuses `stop`: There is a dump in process, please wait."
        );
    });
}
