//! Symbols by address (`kallsyms_lookup`).

use guestmem::{Address, Kva};

use super::Kallsyms;

impl Kallsyms {
    /// The symbol that `at` lies in and how many bytes behind its start, as
    /// the kernel itself names it: of several symbols at one address, the
    /// first. `None` outside of what the table covers: the kernel's image, or
    /// only its text in kernels without `CONFIG_KALLSYMS_ALL`.
    #[must_use]
    pub fn symbol_at(&self, at: Kva) -> Option<(String, u64)> {
        if !self.covers(at) {
            return None;
        }
        let behind = self.first(|address| address > at);
        let address = self.addresses.get(behind.checked_sub(1)?)?;
        let first = self.first(|other| other >= address);
        Some((self.name(first)?, at.checked_offset_from(address)?))
    }

    /// Whether `at` is where the kernel looks for its own symbols
    /// (`is_ksym_addr`).
    fn covers(&self, at: Kva) -> bool {
        let ranges = [
            ("_stext", "_end"),
            ("_stext", "_etext"),
            ("_sinittext", "_einittext"),
        ];
        let bound = |wanted| {
            let mut usual = self.usual();
            usual.find_map(|(name, address)| (name == wanted).then_some(address))
        };
        ranges.into_iter().any(|(start, end)| {
            let (start, end) = (bound(start), bound(end));
            start.is_some_and(|start| start <= at) && end.is_some_and(|end| at < end)
        })
    }

    /// The index of the first symbol whose address `is_behind`; the table is
    /// sorted by address.
    fn first(&self, is_behind: impl Fn(Kva) -> bool) -> u32 {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.addresses.get(middle).is_none_or(&is_behind) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        low
    }
}
