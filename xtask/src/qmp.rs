//! QEMU's monitor protocol, as much of it as freezing a guest takes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// A connection that has finished its greetings.
#[derive(Debug)]
pub(crate) struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket that QEMU listens on.
    ///
    /// # Errors
    /// Fails if nobody listens there or speaks otherwise.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)
            .with_context(|| format!("connecting to {}", socket.display()))?;
        // A dump of all memory is one command.
        stream.set_read_timeout(Some(Duration::from_secs(300)))?;
        let mut qmp = Self {
            reader: BufReader::new(stream),
        };
        qmp.message().context("waiting for QEMU's greeting")?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Runs a command and returns what it answers.
    ///
    /// # Errors
    /// Fails with QEMU's words if it refuses.
    pub(crate) fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.reader.get_mut(), "{request}")?;
        loop {
            let mut answer = self.message()?;
            if let Some(error) = answer.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            // What is left are events.
        }
    }

    /// Runs a command of the monitor for people and returns its text.
    ///
    /// # Errors
    /// As [`Qmp::execute`].
    pub(crate) fn monitor(&mut self, line: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", &json!({"command-line": line}))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            bail!("QEMU closed its monitor");
        }
        serde_json::from_str(&line).with_context(|| format!("QEMU said {line:?}"))
    }
}
