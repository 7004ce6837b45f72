//! QMP, as much of it as it takes to freeze a guest: one command at a time,
//! every wait with an end.

use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, UnixAddr, getsockopt, setsockopt, sockopt,
};
use nix::sys::stat::Mode;
use nix::sys::time::TimeVal;
use serde_json::{Value, json};

use crate::Error;
use crate::error::start;

/// The longest message that is taken: no answer that we ask for is near it.
const LONGEST: usize = 16 << 20;

/// Waits that the system takes for what they are: none is endless.
const WAITS: (Duration, Duration) = (Duration::from_micros(1), Duration::from_secs(1 << 30));

/// Ends a command that a process did not live to finish: QMP forgets what
/// precedes this byte, which no JSON has.
pub(crate) const RESYNCHRONISE: &[u8] = b"\xff\n";

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub(crate) struct Client {
    stream: UnixStream,
    socket: PathBuf,
    timeout: Duration,
    /// What has arrived and is not yet taken.
    arrived: Vec<u8>,
    /// The number of the last command.
    number: u64,
    /// How often QEMU said that the guest runs again.
    resumed: u64,
}

/// Why there is no next message.
enum Silence {
    Late,
    Closed,
    TooLong,
    Broken(io::Error),
}

impl Client {
    /// Connects, and is greeted.
    pub(crate) fn connect(socket: &Path, timeout: Duration) -> Result<Self, Error> {
        let timeout = timeout.clamp(WAITS.0, WAITS.1);
        let stream = stream(socket, timeout).map_err(|errno| Error::Connect {
            socket: socket.to_owned(),
            source: errno.into(),
        })?;
        let mut client = Self {
            stream,
            socket: socket.to_owned(),
            timeout,
            arrived: Vec::new(),
            number: 0,
            resumed: 0,
        };
        client.greeting()?;
        client.execute("qmp_capabilities", None)?;
        Ok(client)
    }

    fn greeting(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let said = match self.line(deadline) {
            Ok(line) => match serde_json::from_slice::<Value>(&line) {
                Ok(greeting) if greeting.get("QMP").is_some() => return Ok(()),
                _ => start(&line),
            },
            Err(Silence::Late) if self.arrived.is_empty() => {
                return Err(Error::NoGreeting {
                    socket: self.socket.clone(),
                    timeout: self.timeout,
                });
            }
            Err(Silence::Late | Silence::TooLong) => start(&self.arrived),
            Err(silence) => return Err(self.silent("the greeting", silence)),
        };
        Err(Error::NotQmp {
            socket: self.socket.clone(),
            said,
        })
    }

    /// Runs a command and returns what it answers.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Option<Value>,
    ) -> Result<Value, Error> {
        let deadline = Instant::now() + self.timeout;
        self.number += 1;
        // As people say it: an error tells of `info mtree -f`, not of the door it went through.
        let line = arguments.as_ref().and_then(|all| all.get("command-line"));
        let spoken = line.and_then(Value::as_str).unwrap_or(command).to_owned();
        let request = match arguments {
            Some(arguments) => {
                json!({"execute": command, "arguments": arguments, "id": self.number})
            }
            None => json!({"execute": command, "id": self.number}),
        };
        let sent = self.stream.write_all(format!("{request}\n").as_bytes());
        sent.map_err(|source| self.silent(&spoken, Silence::from(source)))?;
        loop {
            let line = match self.line(deadline) {
                Ok(line) => line,
                Err(silence) => return Err(self.silent(&spoken, silence)),
            };
            let not_understood = || Error::Answer {
                command: spoken.clone(),
                answer: start(&line),
            };
            let mut message: Value =
                serde_json::from_slice(&line).map_err(|_no_json| not_understood())?;
            if message.get("event").and_then(Value::as_str) == Some("RESUME") {
                self.resumed += 1;
            }
            // Events have no number, late answers another one.
            if message.get("id").and_then(Value::as_u64) != Some(self.number) {
                continue;
            }
            if let Some(error) = message.get("error") {
                let words = error.get("desc").and_then(Value::as_str);
                return Err(Error::Refused {
                    command: spoken,
                    words: words.unwrap_or("it does not say why").to_owned(),
                });
            }
            let value = message.get_mut("return").map(Value::take);
            return value.ok_or_else(not_understood);
        }
    }

    /// Runs a command of the monitor for people and returns its text.
    pub(crate) fn monitor(&mut self, line: &str) -> Result<String, Error> {
        let answer = self.execute("human-monitor-command", Some(json!({"command-line": line})))?;
        match answer {
            Value::String(text) => Ok(text),
            other => Err(Error::Answer {
                command: line.to_owned(),
                answer: start(other.to_string().as_bytes()),
            }),
        }
    }

    /// How often QEMU said so far that the guest runs again.
    pub(crate) fn resumed(&self) -> u64 {
        self.resumed
    }

    /// The process that listens, if it can be told.
    pub(crate) fn pid(&self) -> Option<i32> {
        let peer = getsockopt(&self.stream, sockopt::PeerCredentials).ok()?;
        // 0 stands for a process that cannot be seen from here.
        Some(peer.pid()).filter(|&pid| pid > 0)
    }

    /// The socket's path.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The next line, without its end.
    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>, Silence> {
        let mut searched = 0;
        loop {
            let new = self.arrived.get(searched..).unwrap_or_default();
            if let Some(end) = new.iter().position(|&byte| byte == b'\n') {
                let rest = self.arrived.split_off(searched + end + 1);
                return Ok(mem::replace(&mut self.arrived, rest));
            }
            searched = self.arrived.len();
            if searched > LONGEST {
                return Err(Silence::TooLong);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Silence::Late);
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut more = [0; 64 << 10];
            match self.stream.read(&mut more) {
                Ok(0) => return Err(Silence::Closed),
                Ok(got) => {
                    let more = more.get(..got).unwrap_or_default();
                    self.arrived.extend_from_slice(more);
                }
                // A process that was stopped and goes on hears this, too.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn silent(&self, command: &str, silence: Silence) -> Error {
        let command = command.to_owned();
        let socket = self.socket.clone();
        match silence {
            Silence::Late => Error::Timeout {
                command,
                timeout: self.timeout,
            },
            Silence::Closed => Error::Closed { socket, command },
            Silence::TooLong => Error::Answer {
                command,
                answer: start(&self.arrived),
            },
            Silence::Broken(source) => Error::Connection {
                socket,
                command,
                source,
            },
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl From<io::Error> for Silence {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, WouldBlock};
        match error.kind() {
            WouldBlock | TimedOut => Self::Late,
            BrokenPipe | ConnectionReset => Self::Closed,
            _ => Self::Broken(error),
        }
    }
}

/// A stream that is connected to `socket`, however long that path is.
fn stream(socket: &Path, timeout: Duration) -> Result<UnixStream, Errno> {
    let fd = socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    let wait = TimeVal::new(seconds, timeout.subsec_micros().into());
    // It holds for connecting, too, which waits where many others do.
    setsockopt(&fd, sockopt::SendTimeout, &wait)?;
    let mut held: Option<OwnedFd> = None;
    let address = match UnixAddr::new(socket) {
        Err(Errno::ENAMETOOLONG) => {
            let place = open(socket, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let place = held.insert(place).as_raw_fd();
            UnixAddr::new(format!("/proc/self/fd/{place}").as_str())?
        }
        address => address?,
    };
    loop {
        match socket::connect(fd.as_raw_fd(), &address) {
            Ok(()) => return Ok(fd.into()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
