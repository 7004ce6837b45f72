//! `info` for people: a label and a fact a line.

use std::io::{self, Write};

use clap::builder::styling::Style;

use super::{
    BtfInfo, CandidateInfo, Counts, Found, Info, KernelFacts, RegionInfo, SourceInfo, SymbolsInfo,
};

/// How many gaps in the list of maps are shown.
const SHOWN_GAPS: usize = 5;

/// How many letters of a list stand on a line.
const LINE: usize = 76;

type Rows = Vec<(&'static str, String)>;

impl Info {
    /// Prints it for people.
    pub(crate) fn print(&self, color: bool, out: &mut dyn Write) -> io::Result<()> {
        let style = if color {
            Style::new().bold()
        } else {
            Style::new()
        };
        for (label, text) in self.rows() {
            writeln!(out, "{style}{label:<14}{style:#}{text}")?;
        }
        Ok(())
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        self.source.rows(&mut rows);
        self.kernel.rows(&mut rows);
        if let Some(found) = &self.found {
            found.rows(&mut rows);
        }
        if let Some(btf) = &self.btf {
            rows.push(("BTF", btf.text()));
        }
        self.maps.rows("maps", &mut rows);
        self.progs.rows("programs", &mut rows);
        rows
    }
}

impl SourceInfo {
    fn rows(&self, rows: &mut Rows) {
        let mut text = match &self.file {
            Some(file) => format!("{file}, {}", self.what),
            None => self.what.clone(),
        };
        if let Some(bytes) = self.bytes {
            text = format!("{text} of {}", size(bytes));
        }
        rows.push(("source", text));
        // A file that simply starts at address 0 needs no words.
        let laid_out = self.regions.len() > 1 || self.regions.iter().any(|one| one.gpa != "0x0");
        for region in self.regions.iter().filter(|_| laid_out) {
            let RegionInfo {
                file_offset,
                gpa,
                bytes,
            } = region;
            let text = format!("{gpa}, {} from byte {file_offset:#x}", size(*bytes));
            rows.push(("  region", text));
        }
        for (name, text) in &self.facts {
            rows.push((name, text.clone()));
        }
    }
}

impl KernelFacts {
    fn rows(&self, rows: &mut Rows) {
        rows.push(("kernel", format!("Linux {}", self.release)));
        if let Some(version) = &self.version {
            rows.push(("version", version.clone()));
        }
        let levels = match self.paging_levels {
            Some(levels) => format!(", {levels} levels of page tables"),
            None => String::new(),
        };
        let page = size(self.page_size);
        rows.push((
            "architecture",
            format!("{}, pages of {page}{levels}", self.arch),
        ));
        let cpus = match self.possible_cpus {
            0 => "unknown".to_owned(),
            _ => format!("{} possible: {}", self.possible_cpus, self.cpus),
        };
        rows.push(("CPUs", cpus));
    }
}

impl Found {
    fn rows(&self, rows: &mut Rows) {
        rows.push(("root table", self.root_table.clone()));
        if let Some(slide) = &self.slide {
            rows.push(("KASLR slide", slide.clone()));
        }
        if let Some(phys_base) = &self.phys_base {
            rows.push(("phys_base", phys_base.clone()));
        }
        for candidate in &self.vmcoreinfo {
            rows.push(("VMCOREINFO", candidate.text()));
        }
        rows.push(("symbols", self.symbols.text()));
    }
}

impl CandidateInfo {
    fn text(&self) -> String {
        let Self { gpa, copy, .. } = self;
        let place = gpa.as_ref().map_or(String::new(), |gpa| format!("{gpa}, "));
        match &self.why {
            None => format!("{place}{copy}: proved"),
            Some(why) => format!("{place}{copy} of Linux {}: refused, {why}", self.release),
        }
    }
}

impl BtfInfo {
    fn text(&self) -> String {
        let types = grouped(self.types as u64);
        let bytes = match self.bytes {
            Some(bytes) => format!(" in {}", size(bytes)),
            None => String::new(),
        };
        let origin = match (self.by, &self.kva) {
            ("symbols", Some(kva)) => format!("at {kva} (__start_BTF)"),
            ("search", Some(kva)) => format!("at {kva} (found by its header)"),
            ("given", _) => "from the given file".to_owned(),
            _ => "from /sys/kernel/btf/vmlinux".to_owned(),
        };
        format!("{types} types{bytes}, {origin}")
    }
}

impl SymbolsInfo {
    fn text(&self) -> String {
        let mut parts = Vec::new();
        if let Some(count) = self.given {
            parts.push(format!("{} from the given file", grouped(count as u64)));
        }
        if let (Some(count), Some(encoding)) = (self.in_memory, &self.encoding) {
            parts.push(format!("{} in memory ({encoding})", grouped(count.into())));
        }
        if let Some(why) = &self.unusable {
            parts.push(format!("those in memory are unusable: {why}"));
        }
        parts.join("; ")
    }
}

impl Counts {
    fn rows(&self, label: &'static str, rows: &mut Rows) {
        let text = match self.count {
            Some(count) => {
                let types: Vec<_> = self
                    .by_type
                    .iter()
                    .map(|(name, count)| format!("{count} {name}"))
                    .collect();
                let colon = if types.is_empty() { "" } else { ": " };
                format!("{count}{colon}{}", types.join(", "))
            }
            None => "cannot be listed".to_owned(),
        };
        let mut label = label;
        for line in wrapped(&text) {
            rows.push((label, line));
            label = "";
        }
        for gap in self.gaps.iter().take(SHOWN_GAPS) {
            rows.push(("  missing", gap.clone()));
        }
        let listed = self.gaps.len().saturating_sub(SHOWN_GAPS) as u64;
        let more = listed.saturating_add(self.unlisted_gaps);
        if more > 0 {
            rows.push(("", format!("and {} more", grouped(more))));
        }
    }
}

/// A list in lines of a readable length.
fn wrapped(list: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for item in list.split_inclusive(", ") {
        match lines.last_mut() {
            Some(line) if line.is_empty() || line.len() + item.len() <= LINE => {
                line.push_str(item);
            }
            _ => lines.push(item.to_owned()),
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// Bytes as people say them; exact sizes stay exact.
pub(crate) fn size(bytes: u64) -> String {
    let units: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in units {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            };
        }
    }
    format!("{bytes} bytes")
}

/// 154,686.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_have_several_lines() {
        assert_eq!(wrapped("0"), ["0"]);
        let list = format!("2: {}, {}, c", "a".repeat(40), "b".repeat(40));
        let lines = [
            format!("2: {},", "a".repeat(40)),
            format!("{}, c", "b".repeat(40)),
        ];
        assert_eq!(wrapped(&list), lines);
    }

    #[test]
    fn numbers_for_people() {
        let check = |bytes, text| assert_eq!(size(bytes), text);
        check(0, "0 bytes");
        check(4096, "4 KiB");
        check(512 << 20, "512 MiB");
        check(5_452_595, "5.1 MiB");
        check(u64::MAX, "17179869183.9 GiB");
        assert_eq!(grouped(154_686), "154,686");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
