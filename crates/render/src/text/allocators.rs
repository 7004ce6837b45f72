//! Allocators in arenas: a line for each, and a paragraph for each slot.

use std::io;

use bpfmaps::Bytes;
use sdt_alloc::{DataLayout, State};

use super::doc::{Doc, Item, List, ListKind};
use super::entries::missing_text;
use super::page::{Page, Role};
use super::value::value;
use super::{count, hexdump, object};
use crate::Options;
use crate::allocators::{Claim, Found, Owner, PayloadBytes, Purpose, SlotRef, Survey, is_in_use};
use crate::follow::Follower;
use crate::hex::Hex;
use crate::object::Object;

/// How far slots are moved in below their allocator.
const INDENT: usize = 2;

/// How many equal fields are folded into a word at least.
const MIN_EQUAL: usize = 2;

/// How many things of one sort that are wrong are written out.
const MAX_LISTED: usize = 5;

/// How many structs are named that a payload may be.
const MAX_CANDIDATES: usize = 5;

/// The allocators that are asked for, with their slots.
pub(super) fn write(
    page: &mut Page<'_>,
    survey: &Survey<'_>,
    follower: &Follower<'_>,
    options: &Options,
    mut is_first: bool,
) -> io::Result<()> {
    if let Some(place) = survey.whereabouts(&options.wanted) {
        let serves = place.serves.map_or("which does not exist", Purpose::phrase);
        let text = format!("arena {}, page {}, {serves}", place.arena, place.pgoff);
        page.line(0, Role::Plain, &text)?;
        is_first = false;
    }
    for at in survey.wanted(&options.wanted) {
        let Some(found) = survey.allocators.get(at) else {
            continue;
        };
        if !std::mem::take(&mut is_first) {
            page.end_line()?;
        }
        title(page, found)?;
        let slots = survey.slots_wanted(at, &options.wanted);
        let shown = match options.limit {
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
            None => usize::MAX,
        };
        let mut above = None;
        for of in slots.iter().take(shown) {
            slot(page, (survey, follower), found, of, &mut above)?;
        }
        if slots.len() > shown {
            page.line(
                INDENT,
                Role::Faint,
                &format!("stopped at the limit of {shown}"),
            )?;
        }
        if !options.wanted.is_slot() {
            complaints(page, survey, found)?;
        }
    }
    for (map, why) in &survey.failed {
        let text = format!("map {map} was not searched for allocators: {why}");
        page.line(0, Role::Problem, &text)?;
    }
    let stray: Vec<&Claim> = survey.claims_of(&survey.stray).collect();
    homeless(page, 0, &stray)
}

fn title(page: &mut Page<'_>, found: &Found) -> io::Result<()> {
    page.word(Role::Title, &found.symbol)?;
    let counts = &found.counts;
    let mut text = format!(
        "   arena {}   {}-byte slots, {} live",
        found.arena, found.allocator.pool.elem_size, counts.live
    );
    for (number, what) in [
        (counts.freed, "freed"),
        (counts.torn, "torn"),
        (counts.misplaced, "misplaced"),
        (counts.unproved, "unproved"),
        (counts.deferred, "waiting to be freed"),
    ] {
        if number > 0 {
            text.push_str(&format!(", {number} {what}"));
        }
    }
    if found.is_owned() {
        match counts.unowned {
            0 => text.push_str(", all with owners"),
            unowned => text.push_str(&format!(", {unowned} without owner")),
        }
    }
    page.plain(&text)?;
    if let (Some(ty), Some(from)) = (&found.payload.ty, &found.payload.from) {
        page.plain(&format!("   {} ({from})", ty.shape.name))?;
    }
    page.end_line()?;
    if let [first, ..] = found.payload.candidates.as_slice()
        && counts.in_use() > 0
    {
        let all = &found.payload.candidates;
        let named = all.get(..MAX_CANDIDATES).unwrap_or(all).join(", ");
        let more = match all.len().saturating_sub(MAX_CANDIDATES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!(
            "payload of no certain type: it may be {named}{more}; say --type {}={first}",
            found.symbol
        );
        page.line(INDENT, Role::Faint, &text)?;
    }
    if found.levels.is_none() {
        page.line(INDENT, Role::Faint, "not set up")?;
    }
    match found.data {
        None if counts.in_use() > 0 => page.line(
            INDENT,
            Role::Faint,
            "where its slots carry their ids cannot be told from so few",
        ),
        Some(DataLayout::Header { .. } | DataLayout::Trailer { .. }) | None => Ok(()),
    }
}

/// The last slot that was shown whole: its index, and its fields as text.
type Above = Option<(u32, Vec<(String, String)>)>;

fn slot(
    page: &mut Page<'_>,
    (survey, follower): (&Survey<'_>, &Follower<'_>),
    found: &Found,
    of: &SlotRef,
    above: &mut Above,
) -> io::Result<()> {
    let slot = &of.slot;
    let payload = survey.payload(of);
    // A slot that was given back and wiped says nothing.
    if !is_in_use(slot) && payload.is_none() {
        return Ok(());
    }
    page.space(INDENT)?;
    page.word(Role::Title, &format!("#{}", slot.idx))?;
    if let Some(generation) = slot.generation {
        page.word(Role::Faint, &format!(" gen {generation}"))?;
    }
    if let Some(claim) = of.claim.and_then(|claim| survey.claims.get(claim)) {
        page.space(3)?;
        owner(page, claim)?;
    }
    match slot.state {
        State::Live => {}
        State::Freed => page.word(Role::Faint, "   freed")?,
        State::Torn => page.word(Role::Problem, "   torn: without readable memory")?,
        State::Misplaced { found } => {
            page.word(Role::Problem, &format!("   misplaced: its id is #{found}"))?;
        }
        State::Unproved => page.word(Role::Faint, "   unproved")?,
    }
    if of.deferred {
        page.word(Role::Faint, "   waiting to be freed")?;
    }
    page.word(Role::Faint, &format!("   at {}", slot.payload))?;
    page.end_line()?;
    match payload {
        Some(payload) => contents(page, follower, found, of, &payload, above),
        None => Ok(()),
    }
}

fn owner(page: &mut Page<'_>, claim: &Claim) -> io::Result<()> {
    match &claim.owner {
        Owner::Object(owner) => object::write(page, owner),
        Owner::Key(key) => page.plain(&format!("key {} of map {}", Hex(key), claim.map)),
    }
}

/// The payload: only what is not zero, and not as in a slot above.
fn contents(
    page: &mut Page<'_>,
    follower: &Follower<'_>,
    found: &Found,
    of: &SlotRef,
    payload: &PayloadBytes,
    above: &mut Above,
) -> io::Result<()> {
    let indent = INDENT + 4;
    let bytes = Bytes {
        present: &payload.bytes,
        len: of.slot.payload_size,
        fault: payload.fault,
    };
    match &found.payload.ty {
        Some(ty) => {
            let arenas = [found.arena];
            let site = follower.site(&ty.btf, &arenas);
            let object = Object::new(&ty.shape, bytes).following(&site);
            page.space(indent)?;
            match value(&object) {
                Doc::List(list) if list.kind == ListKind::Fields => {
                    let list = fold(list, of.slot.idx, above)?;
                    list.write_block(page, indent)?;
                }
                doc => doc.write_below(page, indent, 0)?,
            }
            page.end_line()?;
        }
        None if payload.bytes.iter().all(|&byte| byte == 0) => {
            page.line(indent, Role::Faint, "all zero")?;
        }
        None => hexdump::write(page, indent, &payload.bytes)?,
    }
    match payload.fault {
        Some(fault) => page.line(indent, Role::Problem, &fault.to_string()),
        None => Ok(()),
    }
}

/// Leaves out the fields that are as in a slot above, if most are.
fn fold<'a>(list: List<'a>, idx: u32, above: &mut Above) -> io::Result<List<'a>> {
    let mut texts = Vec::with_capacity(list.items.len());
    for item in &list.items {
        texts.push((item.label.to_string(), item.doc.flat()?));
    }
    let known = above.as_ref().map_or(&[][..], |(_, known)| known);
    let is_known: Vec<bool> = texts.iter().map(|text| known.contains(text)).collect();
    let equal = is_known.iter().filter(|&&is_known| is_known).count();
    let whole = match above {
        Some((whole, _)) if equal * 2 >= texts.len() && equal >= MIN_EQUAL => *whole,
        _ => {
            *above = Some((idx, texts));
            return Ok(list);
        }
    };
    let items = list.items.into_iter().zip(is_known);
    let kept = items
        .filter(|(_, is_known)| !is_known)
        .map(|(item, _)| item);
    let note = Item {
        label: "".into(),
        doc: Doc::word(Role::Faint, format!("… the rest as in #{whole}")),
    };
    Ok(List {
        items: kept.chain([note]).collect(),
        ..list
    })
}

/// What is wrong with an allocator.
fn complaints(page: &mut Page<'_>, survey: &Survey<'_>, found: &Found) -> io::Result<()> {
    let without: Vec<&Claim> = survey.claims_of(&found.without_slot).collect();
    homeless(page, INDENT, &without)?;
    match found.counts.inconsistent_descs {
        0 => {}
        wrong => {
            let what = count(wrong, "descriptor", "descriptors");
            let text = format!("{what} whose nr_free is not what the bitmap says");
            page.line(INDENT, Role::Problem, &text)?;
        }
    }
    for problem in found.problems.iter().take(MAX_LISTED) {
        page.line(INDENT, Role::Problem, &format!("incomplete: {problem}"))?;
    }
    let listed = found.problems.len().min(MAX_LISTED) as u64;
    let all = (found.problems.len() as u64).saturating_add(found.counts.unlisted_problems);
    match all.saturating_sub(listed) {
        0 => Ok(()),
        more => page.line(INDENT, Role::Problem, &format!("and {more} more")),
    }
}

/// Owners that lead to no slot.
fn homeless(page: &mut Page<'_>, indent: usize, claims: &[&Claim]) -> io::Result<()> {
    if claims.is_empty() {
        return Ok(());
    }
    let owners = count(claims.len() as u64, "owner", "owners");
    page.line(
        indent,
        Role::Problem,
        &format!("{owners} without a live slot:"),
    )?;
    for claim in claims.iter().take(MAX_LISTED) {
        page.space(indent + 2)?;
        owner(page, claim)?;
        let pointers = claim.pointers.iter().map(ToString::to_string);
        let pointers: Vec<String> = pointers.collect();
        page.plain(&format!(
            "   of map {} → {}",
            claim.map,
            pointers.join(", ")
        ))?;
        page.end_line()?;
    }
    match claims.len().saturating_sub(MAX_LISTED) {
        0 => Ok(()),
        more => page.line(indent + 2, Role::Faint, &format!("and {more} more")),
    }
}

/// The variables that programs keep in an arena.
pub(super) fn globals(
    page: &mut Page<'_>,
    survey: &Survey<'_>,
    follower: &Follower<'_>,
    arena: u32,
) -> io::Result<()> {
    let surveyed = survey.arenas.get(&arena);
    let Some((surveyed, globals)) =
        surveyed.and_then(|surveyed| Some((surveyed, surveyed.globals.as_ref()?)))
    else {
        return Ok(());
    };
    let read = globals.read(&surveyed.arena);
    let arenas = [arena];
    follower.show(arena, globals.at, &globals.btf, globals.ty);
    let site = follower.site(&globals.btf, &arenas);
    let object = Object::new(&globals.shape, read.bytes()).following(&site);
    page.line(
        INDENT,
        Role::Plain,
        &format!("variables at {}:", globals.at),
    )?;
    page.space(INDENT * 2)?;
    match value(&object) {
        Doc::List(list) => list.write_block(page, INDENT * 2)?,
        doc => doc.write(page, false)?,
    }
    page.end_line()?;
    match missing_text(read.bytes()) {
        Some(text) => page.line(INDENT * 2, Role::Problem, &text),
        None => Ok(()),
    }
}

/// What the pages of an arena serve, in a line.
pub(super) fn account(survey: &Survey<'_>, arena: u32) -> Option<String> {
    let account = &survey.arenas.get(&arena)?.account;
    let parts = Purpose::ALL.map(|purpose| (account.pages(purpose), purpose.name()));
    let parts: Vec<String> = parts
        .iter()
        .filter(|(pages, _)| *pages > 0)
        .map(|(pages, name)| format!("{pages} {name}"))
        .collect();
    (!parts.is_empty()).then(|| format!("pages serve: {}", parts.join(", ")))
}
