//! A place in the kernel, by name.

use std::fmt;

/// A place in the kernel's code or data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// The function or variable.
    pub name: String,
    /// Bytes from its start.
    pub offset: u64,
    /// The module that it belongs to; none for the kernel itself, and for BPF
    /// programs, trampolines and the like.
    pub module: Option<String>,
}

impl fmt::Display for Symbol {
    /// As the kernel prints it in a trace: `name+0x1c [module]`, where BPF is
    /// no module: its programs say by their names that they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.name, self.offset)?;
        match self.module.as_deref() {
            None | Some("bpf") => Ok(()),
            Some(module) => write!(f, " [{module}]"),
        }
    }
}
