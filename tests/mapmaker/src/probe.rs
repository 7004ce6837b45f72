//! What the running kernel has, by its own BTF.

use anyhow::Result;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Enum, Enum64, Func, Struct};

/// The running kernel's BTF.
#[derive(Debug)]
pub(crate) struct Kernel(Btf<'static>);

impl Kernel {
    /// The one that runs.
    ///
    /// # Errors
    /// Fails if it has no BTF.
    pub(crate) fn running() -> Result<Self> {
        Ok(Self(Btf::from_vmlinux()?))
    }

    /// Whether an enum has an enumerator.
    pub(crate) fn enumerator(&self, kind: &str, name: &str) -> bool {
        let narrow = self.0.type_by_name::<Enum<'_>>(kind);
        let wide = self.0.type_by_name::<Enum64<'_>>(kind);
        narrow.is_some_and(|kind| kind.iter().any(|one| one.name.is_some_and(|n| n == name)))
            || wide.is_some_and(|kind| kind.iter().any(|one| one.name.is_some_and(|n| n == name)))
    }

    /// Whether there is a map type, such as `ARENA`.
    pub(crate) fn map_type(&self, name: &str) -> bool {
        self.enumerator("bpf_map_type", &format!("BPF_MAP_TYPE_{name}"))
    }

    /// Whether there is a function.
    pub(crate) fn function(&self, name: &str) -> bool {
        self.0.type_by_name::<Func<'_>>(name).is_some()
    }

    /// Whether there is a struct with such a member.
    pub(crate) fn member(&self, kind: &str, name: &str) -> bool {
        let kind = self.0.type_by_name::<Struct<'_>>(kind);
        kind.is_some_and(|kind| kind.iter().any(|one| one.name.is_some_and(|n| n == name)))
    }
}
