//! Lists of maps and of programs: a row each.

use std::fmt::Write as _;
use std::io::{self, Write};

use bpfmaps::{Attach, KernelInfo, MapInfo, Maps, ProgInfo, Progs};

use super::page::{Page, Role};
use super::table::{Align, Cell, Column, Grid, Row};
use super::{count, gaps, listing};
use crate::context::{Context, prog_name};
use crate::walk::Causes;
use crate::{Error, Options, Outcome};

/// A row for each map.
pub(crate) fn maps(
    context: &Context<'_>,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let mut page = Page::new(out, options.style, options.width);
    let listed = count(maps.maps.len() as u64, "map", "maps");
    heading(&mut page, context.accessor.kernel(), &listed, options)?;
    let columns = [
        ("ID", Align::Right),
        ("TYPE", Align::Left),
        ("NAME", Align::Left),
        ("KEY", Align::Right),
        ("VALUE", Align::Right),
        ("MAX", Align::Right),
        ("MEMORY", Align::Right),
        ("FLAGS", Align::Left),
        ("USED BY", Align::Left),
    ];
    let rows = maps.maps.iter().map(|info| map_row(context, info));
    table(&mut page, columns, rows.collect())?;
    listing(&mut page, &maps.walk)?;
    match context.progs() {
        Ok(progs) => gaps(&mut page, 0, PROGS_INCOMPLETE, &progs.walk)?,
        Err(error) => {
            let text = format!("the programs could not be listed: {}", Causes(error));
            page.line(0, Role::Problem, &text)?;
        }
    }
    Ok(Outcome::default())
}

/// How far rows are moved in.
const INDENT: usize = 1;

/// How many ids of maps a program's row has.
const MAX_IDS: usize = 8;

const PROGS_INCOMPLETE: &str = "the list of programs is incomplete";

/// A row for each program.
pub(crate) fn progs(
    kernel: &KernelInfo,
    progs: &Progs,
    options: &Options,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut page = Page::new(out, options.style, options.width);
    let listed = count(progs.progs.len() as u64, "program", "programs");
    heading(&mut page, kernel, &listed, options)?;
    let columns = [
        ("ID", Align::Right),
        ("TYPE", Align::Left),
        ("NAME", Align::Left),
        ("TAG", Align::Left),
        ("ATTACH", Align::Left),
        ("RUNS", Align::Right),
        ("TIME", Align::Right),
        ("MAPS", Align::Left),
    ];
    table(
        &mut page,
        columns,
        progs.progs.iter().map(prog_row).collect(),
    )?;
    gaps(&mut page, 0, PROGS_INCOMPLETE, &progs.walk)?;
    Ok(())
}

/// Which kernel it is, and how much of it is listed.
fn heading(
    page: &mut Page<'_>,
    kernel: &KernelInfo,
    listed: &str,
    options: &Options,
) -> io::Result<()> {
    let name = format!("Linux {} {}", kernel.release, kernel.arch);
    page.word(Role::Title, &name)?;
    let cpus = count(kernel.possible_cpus.0.len() as u64, "CPU", "CPUs");
    page.plain(&format!(", {cpus}, {listed}"))?;
    if let Some(text) = paused(options) {
        page.plain(&format!(", {text}"))?;
    }
    page.end_line()
}

/// How long the machine stood still, if it did for this.
pub(crate) fn paused(options: &Options) -> Option<String> {
    let paused = options.source.paused?;
    let ns = u64::try_from(paused.as_nanos()).unwrap_or(u64::MAX);
    Some(format!("paused {}", duration(ns)))
}

/// All rows, as wide as the widest of them needs.
fn table<const N: usize>(
    page: &mut Page<'_>,
    columns: [(&'static str, Align); N],
    rows: Vec<Row>,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = columns.map(|(title, align)| Column {
        title: title.into(),
        align,
        likely: 0,
    });
    page.space(INDENT)?;
    Grid::new(columns.into(), rows).write(page, INDENT)?;
    page.end_line()
}

fn row<const N: usize>(cells: [(Role, String); N]) -> Row {
    Row {
        cells: cells.map(|(role, text)| Cell { role, text }).into(),
        note: None,
    }
}

fn prog_row(prog: &ProgInfo) -> Row {
    let (count, time) = match prog.runs {
        Some((count, time)) => (count.to_string(), duration(time)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let tag: String = prog.tag.iter().map(|byte| format!("{byte:02x}")).collect();
    let ids = prog.map_ids.iter().take(MAX_IDS);
    let mut ids = ids.map(u32::to_string).collect::<Vec<_>>().join(",");
    if let Some(more @ 1..) = prog.map_ids.len().checked_sub(MAX_IDS) {
        let _ = write!(ids, " and {more} more");
    }
    row([
        (Role::Title, prog.id.to_string()),
        (Role::Plain, prog.prog_type.to_string()),
        (Role::Name, prog_name(prog).to_owned()),
        (Role::Plain, tag),
        (Role::Plain, attach(&prog.attach)),
        (Role::Plain, count),
        (Role::Plain, time),
        (Role::Plain, ids),
    ])
}

fn attach(attach: &Attach) -> String {
    let parts = [&attach.attach_type, &attach.function, &attach.struct_ops];
    let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join(" "),
    }
}

/// Nanoseconds in the largest unit that they fill.
fn duration(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "µs")];
    for (unit, name) in units {
        if ns >= unit {
            let tenths = u128::from(ns) * 10 / u128::from(unit);
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{ns} ns")
}

/// The first of the programs that use a map, and how many more there are.
fn used_by(context: &Context<'_>, map: u32) -> String {
    let Ok(users) = context.used_by(map) else {
        return "?".to_owned();
    };
    match users.as_slice() {
        [] => String::new(),
        [only] => prog_name(only).to_owned(),
        [one, other] => format!("{}, {}", prog_name(one), prog_name(other)),
        [first, more @ ..] => format!("{} and {} more", prog_name(first), more.len()),
    }
}

fn map_row(context: &Context<'_>, info: &MapInfo) -> Row {
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
    // Maps without keys have no size to tell, storages no number.
    let size = |size: u32| match size {
        0 => "-".to_owned(),
        size => size.to_string(),
    };
    row([
        (Role::Title, info.id.to_string()),
        (Role::Plain, info.map_type.to_string()),
        (Role::Name, info.name.clone()),
        (Role::Plain, size(info.key_size)),
        (Role::Plain, size(info.value_size)),
        (Role::Plain, size(info.max_entries)),
        (Role::Plain, info.memory.map_or("-".to_owned(), bytes)),
        (Role::Plain, flags),
        (Role::Plain, used_by(context, info.id)),
    ])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_for_people() {
        let check = |ns, text| assert_eq!(duration(ns), text);
        check(0, "0 ns");
        check(1999, "1.9 µs");
        check(12_345_678, "12.3 ms");
        check(u64::MAX, "18446744073.7 s");
    }
}
