//! Pointers that were followed, and the objects that wait behind the maps.

use std::borrow::Cow;
use std::{io, mem};

use bpfmaps::Bytes;

use super::doc::{Doc, Item, List, ListKind};
use super::page::{Page, Role};
use super::value::value;
use super::{count, object};
use crate::allocators::Owner;
use crate::follow::{Follower, InSlot, Met, ObjectType, Pointer, Read, Site};
use crate::hex::Hex;
use crate::object::Object;

/// What stands before the object that a pointer leads to.
const ARROW: &str = "→ ";

/// A value under its name, which an object that is pointed to shares its line
/// with.
pub(super) fn item<'a>(label: Cow<'a, str>, doc: Doc<'a>) -> Item<'a> {
    match doc {
        Doc::List(mut list) if list.grid.is_none() && list.left_out == 0 => {
            match list.items.as_mut_slice() {
                [only] if only.label.starts_with(ARROW) => Item {
                    label: format!("{label} {}", only.label).into(),
                    doc: mem::replace(&mut only.doc, Doc::word(Role::Plain, "")),
                },
                _ => Item {
                    label,
                    doc: Doc::List(list),
                },
            }
        }
        doc => Item { label, doc },
    }
}

/// A pointer, and what it leads to.
pub(super) fn pointer(pointer: &Pointer, from: &Site<'_>) -> Doc<'static> {
    let Pointer {
        value: at,
        type_name,
        met,
    } = pointer;
    let place = |is_above: &bool| match is_above {
        true => "(above)",
        false => "(below)",
    };
    let address = |text: String| Doc::word(Role::Address, text);
    match met {
        Met::Here(reached) => {
            let site = reached.site(from);
            let label = format!("{ARROW}{type_name} at {at:#x}");
            labelled(label, target(&reached.ty, &reached.read, &site))
        }
        Met::Elsewhere { is_above } => {
            address(format!("→ {type_name} at {at:#x} {}", place(is_above)))
        }
        Met::Within {
            at: start,
            type_name: outer,
            offset,
            is_above,
        } => {
            let place = place(is_above);
            let offset = match offset {
                0 => String::new(),
                offset => format!("+{offset:#x}"),
            };
            address(format!(
                "→ {type_name} in {outer} at {start}{offset} {place}"
            ))
        }
        Met::Slot(slot) => Doc::word(Role::Name, format!("→ {}", in_slot(slot, from))),
        Met::Named(named) => labelled(
            format!("{at:#x}"),
            Doc::word(Role::Text, object::text(named)),
        ),
        Met::Not(why) => labelled(
            format!("{at:#x}"),
            Doc::word(Role::Faint, format!("({why})")),
        ),
    }
}

/// `tasks #41+0x10   pid 812 (stress)`.
fn in_slot(place: &InSlot, from: &Site<'_>) -> String {
    let InSlot { of, offset } = place;
    let survey = from.survey();
    let found = survey.and_then(|survey| survey.allocators.get(of.allocator));
    let name = found.map_or("", |found| &found.symbol);
    let mut text = format!("{name} #{}", of.slot.idx);
    match *offset {
        0 => {}
        // The header of a slot stands for the slot.
        _ if of.payload_at(*offset) == Some(of.slot.data) => {}
        offset if offset < 0 => text += &format!("-{:#x}", offset.unsigned_abs()),
        offset => text += &format!("+{offset:#x}"),
    }
    let claim = survey.and_then(|survey| survey.claims.get(of.claim?));
    match claim.map(|claim| &claim.owner) {
        Some(Owner::Object(owner)) => text + "   " + &object::text(owner),
        Some(Owner::Key(key)) => format!("{text}   key {}", Hex(key)),
        None => text,
    }
}

fn labelled(label: String, doc: Doc<'static>) -> Doc<'static> {
    Doc::List(List {
        kind: ListKind::Labelled,
        items: vec![Item {
            label: label.into(),
            doc,
        }],
        grid: None,
        left_out: 0,
    })
}

/// An object, and what is missing of it.
fn target(ty: &ObjectType, read: &Read, site: &Site<'_>) -> Doc<'static> {
    let why = read.cut.as_ref().map(|cut| cut.why.as_str());
    if let Some(why) = why.filter(|_| read.bytes.is_empty()) {
        return Doc::word(Role::Problem, format!("({why})"));
    }
    let bytes = Bytes {
        present: &read.bytes,
        len: ty.size,
        fault: None,
    };
    let doc = value(&Object::new(&ty.shape, bytes).following(site)).into_owned();
    let Some(why) = why else {
        return doc;
    };
    let missing = ty.size.saturating_sub(read.bytes.len() as u64);
    let note = format!("({missing} of {} bytes missing: {why})", ty.size);
    Doc::List(List {
        kind: ListKind::Labelled,
        items: [doc, Doc::word(Role::Problem, note)]
            .map(|doc| Item {
                label: "".into(),
                doc,
            })
            .into(),
        grid: None,
        left_out: 0,
    })
}

/// The objects that are shown nowhere else, and what became of all pointers.
pub(super) fn objects(page: &mut Page<'_>, follower: &Follower<'_>) -> io::Result<()> {
    if follower.has_queued() {
        page.end_line()?;
        page.word(Role::Title, "objects")?;
        page.plain("   that pointers lead to")?;
        page.end_line()?;
    }
    while let Some(queued) = follower.next() {
        page.space(2)?;
        page.word(Role::Address, &queued.at.to_string())?;
        page.plain(&format!(" {}", queued.ty.shape.name))?;
        page.word(Role::Faint, " →")?;
        let arenas = [queued.arena];
        let site = follower.flat_site(&queued.ty.btf, &arenas);
        target(&queued.ty, &queued.read, &site).write_below(page, 2, 1)?;
        page.end_line()?;
    }
    if follower.has_followed() {
        page.end_line()?;
        summary(page, follower)?;
    }
    Ok(())
}

/// How much was followed, and what of it leads nowhere.
fn summary(page: &mut Page<'_>, follower: &Follower<'_>) -> io::Result<()> {
    let (spent, counts) = (follower.spent(), follower.counts());
    let objects = count(spent.objects, "object", "objects");
    let mut text = format!("pointers: {objects}, {} bytes", spent.bytes);
    for (number, what) in [
        (counts.dangling, "to missing pages"),
        (counts.foreign, "into other arenas"),
    ] {
        if number > 0 {
            text += &format!("; {number} {what}");
        }
    }
    page.line(0, Role::Faint, &text)?;
    if follower.is_cut() {
        let left_out = count(counts.left_out, "pointer", "pointers");
        let text = format!("the budget is spent: {left_out} not followed (--follow-objects)");
        page.line(0, Role::Problem, &text)?;
    }
    Ok(())
}
