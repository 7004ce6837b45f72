//! Text for people.

mod allocators;
mod columns;
mod doc;
mod entries;
mod follow;
mod hexdump;
mod lines;
mod list;
mod object;
mod page;
mod paragraph;
mod row;
mod special;
mod state;
mod table;
mod value;

use std::io::{self, Write};
use std::mem;

use bpfmaps::{MapInfo, MapType, Maps, Walk};

use crate::context::Context;
use crate::page_bytes::PageBytes;
use crate::walk::{Causes, Described, Visited, visit};
use crate::{Error, Options, Outcome};
use entries::Entries;
use page::{Page, Role};

pub(crate) use list::{maps, progs};

/// How many gaps of a map are written out.
const MAX_GAPS: usize = 5;

/// A paragraph for each map, and at the end what is missing of them all.
pub(crate) fn dump(
    context: &Context<'_>,
    maps: &Maps,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Outcome, Error> {
    let mut page = Page::new(out, options.style, options.width);
    let mut outcome = Outcome::default();
    let mut incomplete: usize = 0;
    if let Some(text) = list::paused(options) {
        page.line(0, Role::Plain, &text)?;
        page.end_line()?;
    }
    for (index, info) in maps.maps.iter().enumerate() {
        if index > 0 {
            page.end_line()?;
        }
        let map = Described::new(context, info);
        title(&mut page, &map, maps, options)?;
        let survey = context.survey.as_ref();
        if let Some(text) = survey.and_then(|survey| allocators::account(survey, info.id)) {
            page.line(2, Role::Plain, &text)?;
        }
        if let Some(survey) = survey {
            allocators::globals(&mut page, survey, &context.follower, info.id)?;
        }
        let mut entries = Entries::new(&map, options.width);
        let visited = visit(context.accessor, &map, options.limit, |entry| {
            entries.push(&mut page, entry)
        })?;
        entries.finish(&mut page)?;
        let counted = entries.counted(visited.count);
        account(&mut page, &visited, options.limit, counted)?;
        incomplete += usize::from(visited.result.is_err() || visited.gaps() > 0);
        outcome.add(map, visited);
    }
    if let Some(survey) = &context.survey {
        let (follower, is_first) = (&context.follower, maps.maps.is_empty());
        allocators::write(&mut page, survey, follower, options, is_first)?;
    }
    follow::objects(&mut page, &context.follower)?;
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

/// The types of keys and values, or how many bytes they have.
fn sizes(map: &Described<'_>) -> Option<String> {
    let MapInfo {
        map_type,
        key_size,
        value_size,
        ..
    } = *map.info;
    let value = match &map.value {
        Some(shape) => shape.name.clone(),
        None => format!("{value_size} bytes"),
    };
    match &map.key {
        // The key of a storage is just how bpf(2) is told the owner.
        _ if is_storage(map_type) => Some(value),
        Some(key) if map.value.is_some() => Some(format!("{} → {value}", key.name)),
        None if map.value.is_some() => Some(value),
        _ if key_size == 0 && value_size == 0 => None,
        _ if key_size == 0 => Some(value),
        _ => Some(format!("{key_size} + {value}")),
    }
}

/// Whether each entry is told from others by its owner alone.
fn is_storage(map_type: MapType) -> bool {
    matches!(
        map_type,
        MapType::TASK_STORAGE
            | MapType::INODE_STORAGE
            | MapType::SK_STORAGE
            | MapType::CGRP_STORAGE
    )
}

fn title(
    page: &mut Page<'_>,
    map: &Described<'_>,
    maps: &Maps,
    options: &Options,
) -> io::Result<()> {
    let info = map.info;
    let name = format!("{} {}", info.id, info.name);
    page.word(Role::Title, name.trim_end())?;
    page.plain(&format!("   {}", info.map_type))?;
    if let Some(sizes) = sizes(map) {
        page.plain(&format!("   {sizes}"))?;
    }
    // What a ring or arena has room for is no entries; its state tells.
    let is_room = matches!(
        info.map_type,
        MapType::ARENA | MapType::RINGBUF | MapType::USER_RINGBUF
    );
    if info.max_entries > 0 && !is_room {
        let max = count(u64::from(info.max_entries), "entry", "entries");
        page.word(Role::Faint, &format!("   at most {max}"))?;
    }
    if info.frozen == Some(true) {
        page.word(Role::Faint, ", frozen")?;
    }
    if let Some(outer) = options.inner_of.get(&info.id) {
        let named = maps.maps.iter().find(|map| map.id == *outer);
        let name = named.map_or("", |map| map.name.as_str());
        let text = format!("   inner of {outer} {name}");
        page.word(Role::Faint, text.trim_end())?;
    }
    page.end_line()?;
    if let Some(error) = &map.btf_error {
        page.line(2, Role::Problem, &format!("no types: {}", Causes(error)))?;
    }
    match &map.state {
        Ok(Some(state)) => page.line(2, Role::Plain, &state::text(state))?,
        Ok(None) => {}
        Err(error) => page.line(
            2,
            Role::Problem,
            &format!("state not read: {}", Causes(error)),
        )?,
    }
    map.pages
        .as_ref()
        .map_or(Ok(()), |pages| bytes(page, pages))
}

/// The pages of an arena that are not all zeros.
fn bytes(page: &mut Page<'_>, pages: &PageBytes<'_>) -> io::Result<()> {
    if let Some(error) = pages.error() {
        let text = format!("pages not read: {}", Causes(error));
        return page.line(2, Role::Problem, &text);
    }
    let mut zeros = 0;
    pages.visit(|pgoff, read| match read {
        Ok(bytes) if bytes.iter().all(|&byte| byte == 0) => {
            zeros += 1;
            Ok(())
        }
        Ok(bytes) => {
            page.line(2, Role::Name, &format!("page {pgoff}"))?;
            hexdump::write(page, 4, bytes)
        }
        Err(fault) => {
            let text = format!("page {pgoff} not read: {fault}");
            page.line(2, Role::Problem, &text)
        }
    })?;
    if zeros > 0 {
        let text = format!("{} of zeros", count(zeros, "page", "pages"));
        page.line(2, Role::Faint, &text)?;
    }
    Ok(())
}

/// How many entries there were, and what is missing.
fn account(
    page: &mut Page<'_>,
    visited: &Visited,
    limit: Option<u64>,
    counted: Option<String>,
) -> io::Result<()> {
    if visited.limited {
        let limit = limit.unwrap_or(visited.count);
        page.line(2, Role::Faint, &format!("stopped at the limit of {limit}"))?;
    } else if let Some(text) = counted.filter(|_| visited.result.is_ok()) {
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
