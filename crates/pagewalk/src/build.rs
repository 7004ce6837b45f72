//! Page tables made by hand, for tests of whatever walks them.

use guestmem::{Address, Fake, Gpa, Kva, MemoryExt};

use crate::Format;
use crate::format::ENTRY_SIZE;

/// Tables that grow with what is mapped.
#[derive(Debug)]
pub struct Tables {
    /// The memory that the tables are in, for whatever else belongs there.
    pub ram: Fake<Gpa>,
    format: Format,
    root: Gpa,
    next_table: u64,
}

impl Tables {
    /// An empty root table at `root` of `ram`; further tables follow it.
    #[must_use]
    pub fn new(ram: Fake<Gpa>, root: Gpa, format: Format) -> Self {
        let mut tables = Self {
            ram,
            format,
            root,
            next_table: root.get(),
        };
        tables.table();
        tables
    }

    fn table(&mut self) -> Gpa {
        let gpa = Gpa::new(self.next_table);
        self.next_table += self.format.page_size();
        let size = usize::try_from(self.format.page_size()).unwrap_or(0);
        self.ram.write(gpa, &vec![0; size]);
        gpa
    }

    /// Maps the page or block at `level` (1 = PTE) that holds `va` to `gpa`.
    /// What is mapped already by a larger block must not be mapped again.
    pub fn map(&mut self, va: Kva, level: u8, gpa: Gpa) {
        let mut table = self.root;
        for at in (level..=self.format.levels()).rev() {
            let index = self.format.index(va.get(), at);
            let slot = Gpa::new(table.get() + index * ENTRY_SIZE);
            if at == level {
                self.ram.write_u64(slot, self.format.leaf(gpa, level));
                return;
            }
            let old = self.ram.load_u64(slot).unwrap_or(0);
            table = if old == 0 {
                let new = self.table();
                self.ram.write_u64(slot, self.format.table(new));
                new
            } else {
                Gpa::new(old & !(self.format.page_size() - 1))
            };
        }
    }
}
