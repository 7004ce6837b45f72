//! Text for people.

mod columns;
mod doc;
mod entries;
mod hexdump;
mod page;
mod table;
mod value;

use std::io::{self, Write};
use std::mem;

use bpfmaps::{BpfMapAccessor, KernelInfo, MapInfo, Maps, Walk};

use crate::walk::{Causes, Described, Visited, visit};
use crate::{Error, Options, Outcome};
use entries::Entries;
use page::{Page, Role};
use table::{Align, Cell, Column, Row, Table};

/// How many gaps of a map are written out.
const MAX_GAPS: usize = 5;

/// A paragraph for each map, and at the end what is missing of them all.
pub(crate) fn dump(
    accessor: &dyn BpfMapAccessor,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let mut page = Page::new(out, options.style, options.width);
    let mut outcome = Outcome::default();
    let mut incomplete: usize = 0;
    for (index, info) in maps.maps.iter().enumerate() {
        if index > 0 {
            page.end_line()?;
        }
        let map = Described::new(accessor, info);
        title(&mut page, &map)?;
        let mut entries = Entries::new(&map, options.width);
        let visited = visit(accessor, info, options.limit, |entry| {
            entries.push(&mut page, entry)
        })?;
        entries.finish(&mut page)?;
        let is_section = entries.is_section();
        account(&mut page, &visited, options.limit, is_section)?;
        incomplete += usize::from(match &visited.result {
            Ok(walk) => gap_count(walk) > 0,
            Err(_) => true,
        });
        outcome.add(map, visited);
    }
    listing(&mut page, &maps.walk)?;
    if incomplete > 0 && maps.maps.len() > 1 {
        let text = format!(
            "incomplete: {} of {} maps, {} in all",
            incomplete,
            maps.maps.len(),
            count(outcome.gaps, "gap", "gaps")
        );
        page.end_line()?;
        page.line(0, Role::Problem, &text)?;
    }
    Ok(outcome)
}

/// A row for each map.
pub(crate) fn maps(
    kernel: &KernelInfo,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut page = Page::new(out, options.style, options.width);
    page.word(
        Role::Title,
        &format!("Linux {} {}", kernel.release, kernel.arch),
    )?;
    let cpus = count(kernel.possible_cpus.0.len() as u64, "CPU", "CPUs");
    let listed = count(maps.maps.len() as u64, "map", "maps");
    page.plain(&format!(", {cpus}, {listed}"))?;
    page.end_line()?;
    let mut table = Table::new(
        [
            ("ID", Align::Right),
            ("TYPE", Align::Left),
            ("NAME", Align::Left),
            ("KEY", Align::Right),
            ("VALUE", Align::Right),
            ("MAX", Align::Right),
            ("MEMORY", Align::Right),
            ("FLAGS", Align::Left),
        ]
        .map(|(title, align)| Column {
            title: title.into(),
            align,
            likely: 0,
        })
        .into(),
        1,
    );
    for info in &maps.maps {
        table.push(&mut page, map_row(info))?;
    }
    table.settle(&mut page)?;
    listing(&mut page, &maps.walk)?;
    Ok(())
}

fn map_row(info: &MapInfo) -> Row {
    let mut flags = match info.flags {
        0 => String::new(),
        flags => format!("{flags:#x}"),
    };
    if info.frozen == Some(true) {
        flags.push_str(if flags.is_empty() {
            "frozen"
        } else {
            " frozen"
        });
    }
    // Maps without keys have no size to tell.
    let size = |size: u32| match size {
        0 => "-".to_owned(),
        size => size.to_string(),
    };
    let cells = [
        (Role::Title, info.id.to_string()),
        (Role::Plain, info.map_type.to_string()),
        (Role::Name, info.name.clone()),
        (Role::Plain, size(info.key_size)),
        (Role::Plain, size(info.value_size)),
        (Role::Plain, info.max_entries.to_string()),
        (Role::Plain, info.memory.map_or("-".to_owned(), bytes)),
        (Role::Plain, flags),
    ];
    Row {
        cells: cells.map(|(role, text)| Cell { role, text }).into(),
        note: None,
    }
}

/// A number of bytes in the largest unit that it fills.
fn bytes(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, unit) in units {
        if bytes >> shift > 0 {
            let tenths = (bytes >> (shift - 10)).saturating_mul(10) >> 10;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} B")
}

fn title(page: &mut Page<'_>, map: &Described<'_>) -> io::Result<()> {
    let info = map.info;
    let name = format!("{} {}", info.id, info.name);
    page.word(Role::Title, name.trim_end())?;
    page.plain(&format!("   {}", info.map_type))?;
    let key = map.key.as_ref().map(|shape| shape.name.as_str());
    let value = map.value.as_ref().map(|shape| shape.name.as_str());
    let sizes = || format!("{} + {} bytes", info.key_size, info.value_size);
    page.plain("   ")?;
    match (key, value) {
        (Some(key), Some(value)) => page.plain(&format!("{key} → {value}"))?,
        (None, Some(value)) => page.plain(value)?,
        _ => page.plain(&sizes())?,
    }
    let max = count(u64::from(info.max_entries), "entry", "entries");
    page.word(Role::Faint, &format!("   at most {max}"))?;
    if info.frozen == Some(true) {
        page.word(Role::Faint, ", frozen")?;
    }
    page.end_line()?;
    match &map.btf_error {
        Some(error) => page.line(2, Role::Problem, &format!("no types: {}", Causes(error))),
        None => Ok(()),
    }
}

/// How many entries there were, and what is missing.
fn account(
    page: &mut Page<'_>,
    visited: &Visited,
    limit: Option<u64>,
    is_section: bool,
) -> io::Result<()> {
    if visited.limited {
        let limit = limit.unwrap_or(visited.count);
        page.line(2, Role::Faint, &format!("stopped at the limit of {limit}"))?;
    } else if !(is_section && visited.count == 1 || visited.result.is_err()) {
        let text = match visited.count {
            0 => "no entries".to_owned(),
            entries => count(entries, "entry", "entries"),
        };
        page.line(2, Role::Faint, &text)?;
    }
    match mem::take(&mut page.left_out) {
        0 => {}
        left_out => {
            let elements = count(left_out, "element", "elements");
            let text = format!("{elements} of long arrays not shown: --format json shows all");
            page.line(2, Role::Faint, &text)?;
        }
    }
    match &visited.result {
        Ok(walk) => gaps(page, 2, "incomplete", walk),
        Err(error) => page.line(2, Role::Problem, &format!("not read: {}", Causes(error))),
    }
}

fn listing(page: &mut Page<'_>, walk: &Walk) -> io::Result<()> {
    gaps(page, 0, "the list of maps is incomplete", walk)
}

fn gaps(page: &mut Page<'_>, indent: usize, what: &str, walk: &Walk) -> io::Result<()> {
    let total = gap_count(walk);
    let mut listed = walk.gaps.iter();
    match (total, listed.next()) {
        (0, _) => Ok(()),
        (1, Some(gap)) => page.line(indent, Role::Problem, &format!("{what}: {gap}")),
        (total, first) => {
            let text = format!("{what}: {}", count(total, "gap", "gaps"));
            page.line(indent, Role::Problem, &text)?;
            let shown = first.into_iter().chain(listed).take(MAX_GAPS);
            for gap in shown {
                page.line(indent + 2, Role::Problem, &gap.to_string())?;
            }
            match total.saturating_sub(MAX_GAPS as u64) {
                0 => Ok(()),
                more => page.line(indent + 2, Role::Problem, &format!("and {more} more")),
            }
        }
    }
}

fn gap_count(walk: &Walk) -> u64 {
    (walk.gaps.len() as u64).saturating_add(walk.unlisted_gaps)
}

fn count(number: u64, one: &str, many: &str) -> String {
    match number {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}
