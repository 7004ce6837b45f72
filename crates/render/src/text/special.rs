//! Special fields, in short.

use std::ops::ControlFlow;

use bpfmaps::special::{
    Callback, CpuPointee, FieldKind, Pointed, Pointee, Special, TaskWork, Timer, Work,
};
use guestmem::Kva;

use super::doc::{Doc, Item, List, ListKind};
use super::object;
use super::page::Role;
use super::value::value;
use crate::special::{Followed, SpecialField};

/// How many objects of a list or tree are shown.
const MAX_OBJECTS: u64 = 64;

/// What the field holds.
pub(super) fn special(field: &SpecialField<'_>) -> Doc<'static> {
    let plain = |text: String| Doc::word(Role::Plain, text);
    let faint = |text: &'static str| Doc::word(Role::Faint, text);
    match field.read() {
        Special::Missing => Doc::word(Role::Problem, "missing"),
        Special::SpinLock { held: true } => plain("locked".to_owned()),
        Special::SpinLock { held: false } => faint("unlocked"),
        Special::Refcount { count } => plain(count.to_string()),
        Special::Timer(timer) => called(&timer, timer_text),
        Special::Workqueue(work) => called(&work, work_text),
        Special::TaskWork(work) => called(&work, task_work_text),
        Special::Kptr(pointed) | Special::Uptr(pointed) => pointer(field, &pointed),
        Special::PercpuKptr(pointed) => each_cpu(field, &pointed),
        Special::List | Special::Tree => nodes(field),
        Special::Node { linked: true } => plain("linked".to_owned()),
        Special::Node { linked: false } => faint("not linked"),
        _ => Doc::word(
            Role::Faint,
            format!("{} (not shown by bpf(2))", field.field.kind),
        ),
    }
}

fn called<T>(pointed: &Pointed<T>, text: fn(&T) -> String) -> Doc<'static> {
    match pointed {
        Pointed::Null => Doc::word(Role::Faint, "not set up"),
        Pointed::At { found, .. } => match found {
            Ok(found) => Doc::word(Role::Plain, text(found)),
            Err(gap) => Doc::word(Role::Problem, gap.to_string()),
        },
    }
}

fn timer_text(timer: &Timer) -> String {
    let Timer {
        armed,
        expires_ns,
        clock,
        ..
    } = timer;
    let callback = callback(timer.callback.as_ref());
    match armed {
        true => format!("armed{callback} at {expires_ns} ns ({clock})"),
        false => format!("idle{callback}"),
    }
}

fn work_text(work: &Work) -> String {
    let callback = callback(work.callback.as_ref());
    match work.pending {
        true => format!("pending{callback}"),
        false => format!("idle{callback}"),
    }
}

fn task_work_text(work: &TaskWork) -> String {
    format!("{}{}", work.state, callback(work.callback.as_ref()))
}

/// ` for` the function.
fn callback(callback: Option<&Callback>) -> String {
    match callback {
        Some(Callback {
            name: Some(name), ..
        }) => format!(" for {name}"),
        Some(Callback { address, .. }) => format!(" for {address}"),
        None => String::new(),
    }
}

fn pointer(field: &SpecialField<'_>, pointed: &Pointed<Pointee>) -> Doc<'static> {
    match pointed {
        Pointed::Null => null(),
        Pointed::At { address, found } => match found {
            Ok(pointee) => field.follow(pointee, *address, |followed| {
                described(*address, &pointee.type_name, &followed)
            }),
            Err(gap) => unread(*address, gap.reason.to_string()),
        },
    }
}

fn null() -> Doc<'static> {
    Doc::word(Role::Faint, "NULL")
}

fn unread(address: Kva, why: String) -> Doc<'static> {
    labelled(address.to_string(), Doc::word(Role::Problem, why))
}

/// An address, a type and the object there.
fn described(address: Kva, type_name: &str, followed: &Followed<'_>) -> Doc<'static> {
    let name = format!("{address} {type_name}");
    match followed {
        Followed::Named(object) => labelled(
            address.to_string(),
            Doc::word(Role::Text, object::text(object)),
        ),
        Followed::Typed(object) => labelled(name, value(object).into_owned()),
        Followed::Large => Doc::word(Role::Address, name),
        Followed::Above => labelled(name, Doc::word(Role::Faint, "(above)")),
        Followed::Deep => labelled(name, Doc::word(Role::Problem, "… in too long a chain")),
    }
}

fn labelled(label: String, doc: Doc<'static>) -> Doc<'static> {
    list(vec![Item {
        label: label.into(),
        doc,
    }])
}

fn list(items: Vec<Item<'static>>) -> Doc<'static> {
    Doc::List(List {
        kind: ListKind::Labelled,
        items,
        grid: None,
        left_out: 0,
    })
}

fn each_cpu(field: &SpecialField<'_>, pointed: &Pointed<Vec<CpuPointee>>) -> Doc<'static> {
    let (address, found) = match pointed {
        Pointed::Null => return null(),
        Pointed::At { address, found } => (*address, found),
    };
    let each = match found {
        Ok(each) => each,
        Err(gap) => return unread(address, gap.reason.to_string()),
    };
    let items = each.iter().map(|one| Item {
        label: format!("cpu {}", one.cpu).into(),
        doc: match &one.found {
            Ok(pointee) => field.follow(pointee, one.address, |followed| {
                described(one.address, &pointee.type_name, &followed)
            }),
            Err(gap) => unread(one.address, gap.reason.to_string()),
        },
    });
    list(items.collect())
}

/// The objects of a list or tree, the first of many.
fn nodes(field: &SpecialField<'_>) -> Doc<'static> {
    let mut items = Vec::new();
    let mut count: u64 = 0;
    let walk = field.nodes(&mut |at, name, followed| {
        if count < MAX_OBJECTS {
            let doc = described(at, name, &followed);
            let label = format!("[{count}]").into();
            items.push(Item { label, doc });
        }
        count = count.saturating_add(1);
        ControlFlow::Continue(())
    });
    let left_out = count.saturating_sub(MAX_OBJECTS);
    let mut note = |role, text: String| {
        items.push(Item {
            label: "".into(),
            doc: Doc::word(role, text),
        });
    };
    if left_out > 0 {
        note(Role::Faint, format!("… {left_out} more"));
    }
    if let Some(gap) = walk.gaps.first() {
        note(Role::Problem, format!("… incomplete: {gap}"));
    }
    match (items.is_empty(), field.field.kind) {
        (false, _) => Doc::List(List {
            kind: ListKind::Labelled,
            items,
            grid: None,
            left_out,
        }),
        (true, FieldKind::RbRoot) => Doc::word(Role::Faint, "empty tree"),
        (true, _) => Doc::word(Role::Faint, "empty list"),
    }
}
