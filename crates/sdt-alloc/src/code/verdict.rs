//! What follows from what was seen.

use std::collections::BTreeSet;

use btf_layout::{Btf, Record, Type, TypeId};

use super::proto::{is_library, name_of};
use super::run::Seen;
use super::{Access, Site, Verdict};

/// How deep structs, unions and arrays may nest.
const MAX_DEPTH: u32 = 16;

/// How many members may be looked at for one allocator.
const MAX_MEMBERS: u32 = 1 << 20;

/// Of more structs than this, nobody looks which one is within another.
const MAX_CANDIDATES: usize = 64;

/// Fewer accesses fit nearly every struct.
const MIN_ACCESSES: usize = 4;

/// How many prototypes are named as the source.
const MAX_NAMED: usize = 3;

/// Judges by the types of a program.
pub(crate) struct Judge<'b> {
    btf: &'b Btf,
    is_kernel: &'b dyn Fn(&str, u64) -> bool,
}

impl<'b> Judge<'b> {
    pub(crate) fn new(btf: &'b Btf, is_kernel: &'b dyn Fn(&str, u64) -> bool) -> Self {
        Self { btf, is_kernel }
    }

    /// What is said of one allocator. Prototypes that name one struct are
    /// believed; where none names any, members tell if they fit one only.
    pub(crate) fn verdict(&self, seen: &Seen, site: usize, of: &Site) -> Verdict {
        let accesses = seen.accesses.iter();
        let accesses: BTreeSet<Access> = accesses
            .filter(|access| access.0 == site)
            .map(|access| access.1)
            .collect();
        let (candidates, from) = match self.named(seen, site, of) {
            // What was not seen may fit less.
            (named, _) if named.is_empty() && seen.is_complete => {
                let fitting = self.fitting(&accesses, of);
                let from = format!("the only struct that fits {} accesses", accesses.len());
                (fitting, from)
            }
            named => named,
        };
        let (ty, from) = match candidates.as_slice() {
            [] => (None, String::new()),
            [only] => (Some(*only), from),
            several => (None, format!("{} structs are possible", several.len())),
        };
        Verdict {
            ty,
            from,
            candidates: if ty.is_some() { Vec::new() } else { candidates },
            accesses,
            complete: seen.is_complete,
        }
    }

    /// Whether a payload may be such a struct at all.
    fn is_possible(&self, ty: TypeId, of: &Site) -> bool {
        let size = self.btf.size_of(ty).unwrap_or(u64::MAX);
        let is_foreign = |name: &str| {
            // Three underscores mark what programs know of a kernel's struct.
            is_library(name) || name.contains("___") || (self.is_kernel)(name, size)
        };
        size <= of.payload_size && !name_of(self.btf, ty).is_some_and(is_foreign)
    }

    /// The structs that prototypes name, and which prototypes do.
    fn named(&self, seen: &Seen, site: usize, of: &Site) -> (Vec<TypeId>, String) {
        let mut named = Vec::new();
        let mut texts = Vec::new();
        for ((at, ty), by) in &seen.named {
            if *at == site && self.is_possible(*ty, of) {
                named.push(*ty);
                texts.extend(by.iter().map(String::as_str));
            }
        }
        let few = named.len() <= MAX_CANDIDATES;
        let outer: Vec<TypeId> = named
            .iter()
            .copied()
            .filter(|&inner| !few || !named.iter().any(|&outer| self.begins_with(outer, inner)))
            .collect();
        // A prototype that names what the payload begins with says less.
        if outer.len() < named.len() {
            let kept = seen
                .named
                .iter()
                .filter(|((at, ty), _)| *at == site && outer.contains(ty));
            texts = kept
                .flat_map(|(_, by)| by.iter().map(String::as_str))
                .collect();
        }
        let more = match texts.len().checked_sub(MAX_NAMED) {
            Some(more @ 1..) => format!(" and {more} more"),
            _ => String::new(),
        };
        texts.truncate(MAX_NAMED);
        (outer, texts.join(", ") + &more)
    }

    /// Whether a struct's first member is another, or begins with it.
    fn begins_with(&self, outer: TypeId, inner: TypeId) -> bool {
        let same = |ty| {
            let [a, b] = [ty, inner].map(|ty| self.btf.resolve(ty).map(|(id, _)| id));
            matches!((a, b), (Ok(a), Ok(b)) if a == b)
        };
        let mut at = outer;
        for _ in 0..MAX_DEPTH {
            let first = self.btf.record_by_id(at).ok();
            let first = first.and_then(|record| record.members().next());
            let Some(Ok((_, first))) = first else {
                return false;
            };
            if same(first.ty) {
                return true;
            }
            at = first.ty;
        }
        false
    }

    /// The structs of the program's own whose members are what is accessed.
    fn fitting(&self, accesses: &BTreeSet<Access>, of: &Site) -> Vec<TypeId> {
        if accesses.len() < MIN_ACCESSES {
            return Vec::new();
        }
        let mut left = MAX_MEMBERS;
        let ids = self.btf.ids().filter(|&id| {
            matches!(self.btf.get(id), Ok(Type::Record { name, .. }) if !name.is_empty())
                && self.is_possible(id, of)
        });
        let fitting = ids.filter(|&id| {
            let Ok(record) = self.btf.record_by_id(id) else {
                return false;
            };
            let mut fits = |access: &Access| self.fits(&record, *access, 0, &mut left);
            accesses.iter().all(&mut fits)
        });
        let fitting = fitting.collect();
        // Others may not have been looked at.
        if left == 0 { Vec::new() } else { fitting }
    }

    /// Whether a record has such a member.
    fn fits(&self, record: &Record<'_>, (at, size): Access, depth: u32, left: &mut u32) -> bool {
        if depth > MAX_DEPTH || at.saturating_add(size.into()) > record.size() {
            return false;
        }
        for member in record.members() {
            let Ok((_, member)) = member else {
                return false;
            };
            let Some(fewer) = left.checked_sub(1) else {
                return false;
            };
            *left = fewer;
            let end = member.offset.saturating_add(member.size);
            let inside = (member.offset..end).contains(&at);
            let fits = match member.bits {
                // Whatever word the bits are taken from.
                Some(_) => at < end && at.saturating_add(size.into()) > member.offset,
                None => {
                    let within = at.saturating_sub(member.offset);
                    inside && self.fits_type(member.ty, (within, size), depth + 1, left)
                }
            };
            if fits {
                return true;
            }
        }
        false
    }

    fn fits_type(&self, ty: TypeId, (at, size): Access, depth: u32, left: &mut u32) -> bool {
        let Ok((id, resolved)) = self.btf.resolve(ty) else {
            return false;
        };
        match resolved {
            Type::Record { .. } => match self.btf.record_by_id(id) {
                Ok(record) => self.fits(&record, (at, size), depth, left),
                Err(_) => false,
            },
            Type::Array { element, .. } if depth <= MAX_DEPTH => {
                let each = self.btf.size_of(element).unwrap_or(0);
                let within = at.checked_rem(each);
                within.is_some_and(|at| self.fits_type(element, (at, size), depth + 1, left))
            }
            _ => at == 0 && self.btf.size_of(id) == Ok(size.into()),
        }
    }
}
