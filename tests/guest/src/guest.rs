//! A frozen guest: the files that it left, and bpfreeze run on its memory.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;

/// One variant's folder.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    folder: PathBuf,
}

impl Guest {
    /// The guest of this name.
    pub(crate) fn open(name: &str) -> Self {
        let folder = Self::home().join(name);
        assert!(
            folder.join("ram").is_file(),
            "no frozen guest in {}; run: cargo xtask test",
            folder.display()
        );
        Self { folder }
    }

    /// The folder that all guests are in.
    pub(crate) fn home() -> PathBuf {
        told("BPFREEZE_GUESTS").into()
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        let name = self.folder.file_name().expect("a folder with a name");
        name.to_string_lossy().into_owned()
    }

    /// The file with its memory.
    pub(crate) fn ram(&self) -> PathBuf {
        self.folder.join("ram")
    }

    /// What was written of its memory while its QEMU was there.
    pub(crate) fn door(&self, name: &str) -> PathBuf {
        self.folder.join("doors").join(name)
    }

    /// A short text that the guest left.
    pub(crate) fn text(&self, name: &str) -> String {
        let path = self.folder.join("out").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| missing(&path, &error))
    }

    /// QEMU's own account of what lies where in physical memory.
    pub(crate) fn memory_tree(&self) -> String {
        let path = self.folder.join("mtree.txt");
        fs::read_to_string(&path).unwrap_or_else(|error| missing(&path, &error))
    }

    /// A compressed document that the guest left.
    pub(crate) fn unpacked(&self, name: &str) -> Vec<u8> {
        let path = self.folder.join("out").join(format!("{name}.gz"));
        let file = File::open(&path).unwrap_or_else(|error| missing(&path, &error));
        let mut bytes = Vec::new();
        let read = GzDecoder::new(file).read_to_end(&mut bytes);
        read.unwrap_or_else(|error| missing(&path, &error));
        bytes
    }

    /// The same, as the type it has.
    pub(crate) fn document<T: DeserializeOwned>(&self, name: &str) -> T {
        parse(&self.unpacked(name), name)
    }

    /// What a witness wrote in the guest, with its exit status checked.
    pub(crate) fn witness(&self, name: &str) -> Vec<u8> {
        self.witness_with(name, &["0"])
    }

    /// The same of bpfreeze, which may have found gaps: its documents say where.
    pub(crate) fn witness_of_gaps(&self, name: &str) -> Vec<u8> {
        self.witness_with(name, &["0", "3"])
    }

    fn witness_with(&self, name: &str, good: &[&str]) -> Vec<u8> {
        let status = self.text(&format!("{name}.status"));
        let messages = self.text(&format!("{name}.err"));
        let is_good = good.contains(&status.trim());
        assert!(is_good, "{name}: {status} in the guest: {messages}");
        self.unpacked(&format!("{name}.out"))
    }

    /// Runs bpfreeze here. `RAM` stands for the guest's memory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let ram = self.ram();
        let arguments = arguments.iter().map(|&argument| match argument {
            "RAM" => ram.as_os_str(),
            other => other.as_ref(),
        });
        program().args(arguments).output().expect("bpfreeze starts")
    }

    /// Runs bpfreeze here and returns its output if it found everything.
    pub(crate) fn bpfreeze(&self, arguments: &[&str]) -> Vec<u8> {
        self.bpfreeze_with(arguments, &[0])
    }

    /// The same, but gaps are no failure: the documents say where they are.
    pub(crate) fn bpfreeze_of_gaps(&self, arguments: &[&str]) -> Vec<u8> {
        self.bpfreeze_with(arguments, &[0, 3])
    }

    fn bpfreeze_with(&self, arguments: &[&str], good: &[i32]) -> Vec<u8> {
        let output = self.run(arguments);
        assert!(
            output
                .status
                .code()
                .is_some_and(|code| good.contains(&code)),
            "bpfreeze {arguments:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    }

    /// The addresses of some symbols, as the guest's own kallsyms has them.
    pub(crate) fn symbols(&self) -> BTreeMap<String, u64> {
        let text = self.text("kallsyms.txt");
        let lines = text.lines().map(|line| {
            let mut words = line.split_whitespace();
            let address = words.next().expect("an address");
            let name = words.nth(1).expect("a name");
            let address = u64::from_str_radix(address, 16).expect("a hexadecimal address");
            (name.to_owned(), address)
        });
        lines.collect()
    }
}

/// The program under test, without arguments.
pub(crate) fn program() -> Command {
    Command::new(told("BPFREEZE_BIN"))
}

/// Parses a document.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8], name: &str) -> T {
    serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What `cargo xtask` tells by a variable of the environment.
pub(crate) fn told(variable: &str) -> std::ffi::OsString {
    env::var_os(variable).unwrap_or_else(|| panic!("{variable} is not set; run: cargo xtask test"))
}

fn missing(path: &Path, error: &std::io::Error) -> ! {
    panic!(
        "{}: {error}; the guest did not leave it; run: cargo xtask test",
        path.display()
    )
}
