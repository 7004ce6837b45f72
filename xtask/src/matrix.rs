//! The test matrix: every kernel by every backend.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::check::{self, Runner};
use crate::guest::{self, Frozen, Wish};
use crate::initrd::Live;
use crate::install;
use crate::paths;
use crate::run::run;
use crate::support::{self, Types};
use crate::variant::Variant;

/// A guest for each kernel.
const KERNELS: [Variant; 4] = [Variant::V6_1, Variant::La57, Variant::V6_18, Variant::V7_2];

/// A guest for each scheduler.
const SCHEDULERS: [Variant; 2] = [Variant::ScxRusty, Variant::ScxP2dq];

/// A way to the maps of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Backend {
    /// From its memory.
    Guest,
    /// In the guest, from the running kernel.
    Live,
}

impl Backend {
    const ALL: [Self; 2] = [Self::Guest, Self::Live];

    fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Live => "live",
        }
    }

    /// What the documentation calls it.
    fn title(self) -> &'static str {
        match self {
            Self::Guest => "frozen",
            Self::Live => "live",
        }
    }
}

/// One kernel, or one scheduler, by one backend. Its name is `KERNEL/BACKEND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    variant: Variant,
    backend: Backend,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.subject(), self.backend.name()))
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let cell = Self::all().find(|cell| cell.to_string() == name);
        cell.ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|cell| cell.to_string()).collect();
            format!("the cells are {}", names.join(" "))
        })
    }
}

impl Cell {
    fn of(variants: &[Variant]) -> impl Iterator<Item = Self> {
        let cells = |&variant: &Variant| Backend::ALL.map(|backend| Self { variant, backend });
        variants.iter().flat_map(cells)
    }

    fn all() -> impl Iterator<Item = Self> {
        Self::of(&KERNELS).chain(Self::of(&SCHEDULERS))
    }

    /// Those of published schedulers.
    pub(crate) fn of_schedulers() -> Vec<Self> {
        Self::of(&SCHEDULERS).collect()
    }

    /// What is read: a kernel whose maps were filled, or a scheduler.
    fn subject(self) -> &'static str {
        match self.variant.scheduler() {
            Some(scheduler) => scheduler.name,
            None => self.variant.series().name,
        }
    }

    /// What the names of its tests begin with.
    fn tests(self) -> String {
        let kernel = match self.variant {
            Variant::V6_1 => "matrix::v6_1",
            Variant::V6_18 => "matrix::v6_18",
            Variant::V7_2 => "matrix::v7_2",
            Variant::ScxRusty | Variant::ScxP2dq => {
                return format!("scx::matrix::{}::{}::", self.subject(), self.backend.name());
            }
            other => other.name(),
        };
        format!("tests::{kernel}::{}::", self.backend.name())
    }

    /// Where its tests write what they found.
    fn results(self) -> String {
        let ending = match self.variant.scheduler() {
            Some(_) => "txt",
            None => "json",
        };
        format!("{}-{}.{ending}", self.variant.name(), self.backend.name())
    }

    /// What its tests found, in a line.
    fn found(self, results: &Path) -> Result<String> {
        let results = results.join(self.results());
        match self.variant.scheduler() {
            Some(_) => Ok(fs::read_to_string(results)?.trim().to_owned()),
            None => Ok(Types::read(&results)?.summary()),
        }
    }
}

/// What to do about the support table of the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Fail if it says anything else than the runs.
    Check,
    /// Write it.
    Write,
}

/// What to do with guests that served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// They stay for the next run, or for a look.
    Keep,
    /// They are removed if all their cells passed, unless other tasks use them too.
    Remove,
}

/// How a cell ended.
struct Outcome {
    cell: Cell,
    result: Result<()>,
    time: Duration,
}

/// Runs cells, all if none is named; only then is the support table looked at.
///
/// # Errors
/// Fails if a cell does, or if the support table is not what the cells show.
pub(crate) fn run_cells(named: &[Cell], served: Served, table: Table) -> Result<()> {
    install::for_build()?;
    let all: Vec<Cell> = Cell::all().collect();
    let cells = match named {
        [] => all.as_slice(),
        some => some,
    };
    let wish = Wish {
        fresh: false,
        live: Live::Yes,
    };
    let frozen = guest::attempt(&variants(cells), wish)?;
    let results = paths::target_dir().join("matrix");
    if results.exists() {
        fs::remove_dir_all(&results)?;
    }
    fs::create_dir_all(&results)?;
    let bpfreeze = check::bpfreeze()?;
    let outcomes: Vec<Outcome> = cells
        .iter()
        .map(|&cell| {
            let start = Instant::now();
            Outcome {
                cell,
                result: one(cell, &frozen, &results, &bpfreeze),
                time: start.elapsed(),
            }
        })
        .collect();
    report(&outcomes, &frozen, &results);
    let failed = outcomes.iter().filter(|outcome| outcome.result.is_err());
    let failed: Vec<Cell> = failed.map(|outcome| outcome.cell).collect();
    if served == Served::Remove {
        let passed = variants(cells).into_iter().filter(|&variant| {
            !Variant::TESTED.contains(&variant) && failed.iter().all(|cell| cell.variant != variant)
        });
        frozen.remove(&passed.collect::<Vec<_>>())?;
    }
    if !failed.is_empty() {
        let count = cells.len();
        bail!("{} of {count} cells of the matrix failed", failed.len());
    }
    if named.is_empty() {
        let columns = Cell::of(&KERNELS).map(|cell| {
            let title = format!("{} {}", cell.variant.series().name, cell.backend.title());
            Ok((title, Types::read(&results.join(cell.results()))?))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        support::update(&support::table(&columns)?, table)?;
    }
    Ok(())
}

/// Boots the guests of `cargo xtask test` and of the matrix, so that both find them.
///
/// # Errors
/// Fails if one of them cannot be made.
pub(crate) fn boot_all(wish: Wish) -> Result<()> {
    let others = KERNELS.into_iter().chain(SCHEDULERS);
    let others = others.filter(|variant| !Variant::TESTED.contains(variant));
    let variants: Vec<Variant> = Variant::TESTED.into_iter().chain(others).collect();
    guest::prepare(&variants, wish).map(drop)
}

/// The guests of some cells, each once.
fn variants(cells: &[Cell]) -> Vec<Variant> {
    let mut variants: Vec<Variant> = cells.iter().map(|cell| cell.variant).collect();
    variants.dedup();
    variants
}

/// Runs the tests of one cell.
fn one(cell: Cell, frozen: &Frozen, results: &Path, bpfreeze: &Path) -> Result<()> {
    let mut failed = frozen.failed().iter();
    if let Some((_, error)) = failed.find(|(variant, _)| *variant == cell.variant) {
        bail!("no guest: {error:#}");
    }
    let mut tests: Command = Runner::here().command(&["--package", "guest-tests"]);
    tests
        .args(["--", &cell.tests()])
        .env("BPFREEZE_GUESTS", frozen.home())
        .env("BPFREEZE_RESULTS", results)
        .env("BPFREEZE_BIN", bpfreeze);
    run(&mut tests)?;
    let results = results.join(cell.results());
    // A runner that found no tests is content.
    let written = results.is_file().then_some(());
    written.with_context(|| format!("the tests of {cell} wrote no {}", results.display()))
}

#[expect(clippy::print_stdout, reason = "the result of the task")]
fn report(outcomes: &[Outcome], frozen: &Frozen, results: &Path) {
    println!("\n{:<15} {:<8} {:>5}  FOUND", "CELL", "RESULT", "TIME");
    for Outcome { cell, result, time } in outcomes {
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        let found = cell.found(results);
        let found = found.unwrap_or_else(|_| "nothing was told".to_owned());
        println!("{cell:<15} {word:<8} {:>3} s  {found}", time.as_secs());
    }
    for Outcome { cell, result, .. } in outcomes {
        if let Err(error) = result {
            println!("\n{cell}: {error:#}");
            let mut failed = frozen.failed().iter();
            if failed.all(|(variant, _)| *variant != cell.variant) {
                let image = frozen.folder(cell.variant).join("ram");
                println!("{cell}: the image is {}", image.display());
            }
        }
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::Cell;

    #[test]
    fn cells_have_names() {
        let check = |name: &str, tests: Option<&str>| {
            let cell = name.parse::<Cell>().ok();
            assert_eq!(cell.map(Cell::tests).as_deref(), tests, "{name}");
            if let Some(cell) = cell {
                assert_eq!(cell.to_string(), name);
            }
        };
        check("6.1/guest", Some("tests::matrix::v6_1::guest::"));
        check("6.12/live", Some("tests::la57::live::"));
        check("scx_p2dq/live", Some("scx::matrix::scx_p2dq::live::"));
        check("6.18", None);
        check("6.12", None);
        check("5.4/guest", None);
        assert_eq!(Cell::all().count(), 12);
    }
}
