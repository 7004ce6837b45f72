//! Runs the program and looks at what it does.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Output};

/// The program, with nothing from the environment that changes what it prints.
pub(crate) fn bpfreeze<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpfreeze"));
    clean(&mut command).args(args);
    command
}

/// The program without the right to anything that needs a capability.
pub(crate) fn powerless<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return bpfreeze(args);
    }
    let mut command = Command::new("setpriv");
    clean(&mut command)
        .args(["--bounding-set=-all", "--inh-caps=-all"])
        .arg(env!("CARGO_BIN_EXE_bpfreeze"))
        .args(args);
    command
}

fn clean(command: &mut Command) -> &mut Command {
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLUMNS"] {
        command.env_remove(name);
    }
    command.env("LC_ALL", "C")
}

/// What a finished run printed, and its exit status.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` to its end.
pub(crate) fn run(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run::from(output)
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Run {
    /// Checks that the run failed with `status`, printed nothing, and said why
    /// in one or two lines that hold all of `parts`.
    #[track_caller]
    pub(crate) fn failed(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:?}");
        assert_eq!(self.stdout, "");
        assert!(self.stderr.starts_with("bpfreeze: "), "{self:?}");
        assert!(self.stderr.lines().count() <= 2, "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
    }
}
