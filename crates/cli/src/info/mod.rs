//! What `info` tells: which kernel a source holds, and how it was found.

mod text;

pub(crate) use self::text::{grouped, size};

use std::collections::BTreeMap;
use std::fmt::Display;

use anyhow::Result;
use bpfmaps::{Cpus, KernelInfo, Maps, Progs, Walk};
use btf_layout::Btf;
use guestmem::{Image, Regions};
use kernel::{BtfSource, Candidate, Kernel, Verdict};
use serde::Serialize;

use crate::args::Source;

/// What the JSON of this program calls itself.
const SCHEMA: &str = "bpfreeze/1";

/// The whole of it, as JSON has it. Addresses are text.
#[derive(Debug, Serialize)]
pub(crate) struct Info {
    schema: &'static str,
    source: SourceInfo,
    kernel: KernelFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    btf: Option<BtfInfo>,
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<Found>,
    maps: Counts,
    progs: Counts,
}

#[derive(Debug, Serialize)]
struct SourceInfo {
    kind: &'static str,
    /// What it is, for people.
    #[serde(skip)]
    what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// The RAM of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    regions: Vec<RegionInfo>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    facts: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct RegionInfo {
    file_offset: u64,
    gpa: String,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct KernelFacts {
    release: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    arch: String,
    page_size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    paging_levels: Option<u8>,
    possible_cpus: usize,
    cpus: String,
}

/// How the kernel of an image was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    slide: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys_base: Option<String>,
    root_table: String,
    vmcoreinfo: Vec<CandidateInfo>,
    symbols: SymbolsInfo,
}

#[derive(Debug, Serialize)]
struct CandidateInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    gpa: Option<String>,
    copy: String,
    release: String,
    proved: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Serialize)]
struct BtfInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    types: usize,
    /// `symbols`, `search`, `given` or `sysfs`.
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kva: Option<String>,
}

#[derive(Debug, Serialize)]
struct SymbolsInfo {
    #[serde(skip_serializing_if = "Option::is_none")]
    given: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_memory: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unusable: Option<String>,
}

/// How many maps or programs there are.
#[derive(Debug, Default, Serialize)]
struct Counts {
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
    by_type: BTreeMap<String, usize>,
    complete: bool,
    gaps: Vec<String>,
    unlisted_gaps: u64,
}

impl Info {
    /// What there is to tell of the running kernel, except its maps and
    /// programs.
    pub(crate) fn live(kernel: &KernelInfo, btf: Option<&Btf>) -> Self {
        Self {
            schema: SCHEMA,
            source: SourceInfo::live(),
            kernel: KernelFacts {
                release: kernel.release.clone(),
                version: None,
                arch: kernel.arch.to_string(),
                page_size: kernel.page_size,
                paging_levels: kernel.paging_levels,
                possible_cpus: kernel.possible_cpus.0.len(),
                cpus: kernel.possible_cpus.to_string(),
            },
            btf: btf.map(BtfInfo::live),
            found: None,
            maps: Counts::default(),
            progs: Counts::default(),
        }
    }

    /// What there is to tell of an image, except its maps and programs.
    pub(crate) fn image(kernel: &Kernel, image: &Image, source: &Source) -> Self {
        let cpus = kernel
            .per_cpu()
            .map(|per_cpu| Cpus(per_cpu.cpus().collect()));
        let cpus = cpus.unwrap_or_default();
        Self {
            schema: SCHEMA,
            source: SourceInfo::image(image, kernel.layout(), source),
            kernel: KernelFacts {
                release: kernel.release().to_owned(),
                version: Some(kernel.version().to_owned()),
                arch: kernel.arch().to_string(),
                page_size: kernel.page_size(),
                paging_levels: Some(kernel.levels()),
                possible_cpus: cpus.0.len(),
                cpus: cpus.to_string(),
            },
            btf: Some(BtfInfo::image(kernel)),
            found: Some(Found::new(kernel)),
            maps: Counts::default(),
            progs: Counts::default(),
        }
    }

    /// Adds maps and programs, or why they cannot be listed.
    pub(crate) fn with_lists(mut self, maps: Result<Maps>, progs: Result<Progs>) -> Self {
        self.maps = match maps {
            Ok(maps) => Counts::new(maps.maps.iter().map(|map| map.map_type), &maps.walk),
            Err(error) => Counts::unknown(&error),
        };
        self.progs = match progs {
            Ok(progs) => Counts::new(progs.progs.iter().map(|prog| prog.prog_type), &progs.walk),
            Err(error) => Counts::unknown(&error),
        };
        self
    }

    /// Adds why neither can be listed.
    pub(crate) fn without_lists(mut self, error: &anyhow::Error) -> Self {
        self.maps = Counts::unknown(error);
        self.progs = Counts::unknown(error);
        self
    }

    /// Whether every map and program could be listed.
    pub(crate) fn is_complete(&self) -> bool {
        self.maps.complete && self.progs.complete
    }
}

impl SourceInfo {
    fn live() -> Self {
        Self {
            kind: "live",
            what: "the running kernel".to_owned(),
            file: None,
            bytes: None,
            regions: Vec::new(),
            facts: BTreeMap::new(),
        }
    }

    fn image(image: &Image, layout: usize, source: &Source) -> Self {
        let regions = image.regions(layout).map(Regions::as_slice);
        let regions = regions.unwrap_or_default().iter().map(|region| RegionInfo {
            file_offset: region.file_offset,
            gpa: region.gpa.to_string(),
            bytes: region.len,
        });
        let memory = image.layouts().get(layout);
        Self {
            kind: image.format().name(),
            what: image.format().to_string(),
            file: source
                .path()
                .map(|path| path.to_string_lossy().into_owned()),
            bytes: memory.map(|memory| memory.size()),
            regions: regions.collect(),
            facts: image.facts().iter().cloned().collect(),
        }
    }
}

impl Found {
    fn new(kernel: &Kernel) -> Self {
        let kallsyms = kernel.symbols().kallsyms();
        Self {
            slide: kernel.slide().map(|slide| format!("{slide:#x}")),
            phys_base: kernel.phys_base().map(signed_hex),
            root_table: kernel.root().to_string(),
            vmcoreinfo: kernel.candidates().iter().map(CandidateInfo::new).collect(),
            symbols: SymbolsInfo {
                given: kernel.symbols().given().map(kernel::GivenSymbols::count),
                in_memory: kallsyms.map(kernel::Kallsyms::count),
                encoding: kallsyms.map(|table| table.encoding().to_string()),
                unusable: kernel.kallsyms_error().map(ToString::to_string),
            },
        }
    }
}

impl CandidateInfo {
    fn new(candidate: &Candidate) -> Self {
        let why = match &candidate.verdict {
            Verdict::Proved { .. } => None,
            Verdict::Refused(refusal) => Some(refusal.to_string()),
        };
        Self {
            gpa: candidate.gpa.as_ref().map(ToString::to_string),
            copy: candidate.copy.to_string(),
            release: candidate.release.clone(),
            proved: why.is_none(),
            why,
        }
    }
}

impl BtfInfo {
    fn live(btf: &Btf) -> Self {
        Self {
            bytes: None,
            types: btf.ids().count(),
            by: "sysfs",
            kva: None,
        }
    }

    fn image(kernel: &Kernel) -> Self {
        let (by, kva) = match kernel.btf_source() {
            BtfSource::Symbols { start } => ("symbols", Some(start.to_string())),
            BtfSource::Search { start } => ("search", Some(start.to_string())),
            BtfSource::Given => ("given", None),
        };
        Self {
            bytes: Some(kernel.btf_size()),
            types: kernel.btf().ids().count(),
            by,
            kva,
        }
    }
}

impl Counts {
    fn new(types: impl ExactSizeIterator<Item = impl Display>, walk: &Walk) -> Self {
        let count = Some(types.len());
        let mut by_type = BTreeMap::new();
        for of_type in types {
            *by_type.entry(of_type.to_string()).or_default() += 1;
        }
        Self {
            count,
            by_type,
            complete: walk.is_complete(),
            gaps: walk.gaps.iter().map(ToString::to_string).collect(),
            unlisted_gaps: walk.unlisted_gaps,
        }
    }

    fn unknown(error: &anyhow::Error) -> Self {
        Self {
            gaps: vec![format!("{error:#}")],
            ..Self::default()
        }
    }
}

fn signed_hex(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "" };
    format!("{sign}{:#x}", value.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_keep_their_sign() {
        assert_eq!(signed_hex(-35_651_584), "-0x2200000");
        assert_eq!(signed_hex(0x200_0000), "0x2000000");
    }
}
