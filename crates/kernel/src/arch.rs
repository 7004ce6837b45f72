//! The architectures whose kernels can be read.

use std::fmt;

/// A kernel's architecture, named as Linux names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// `x86_64`.
    X86_64,
    /// `arm64`, which `uname -m` calls `aarch64`.
    Arm64,
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "aarch64",
        })
    }
}
