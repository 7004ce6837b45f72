//! Of which type the payload of an allocator's slots is.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use bpfmaps::{Code, MapInfo, Progs, Refers};
use btf_layout::{Btf, Kind, Type, TypeId};
use sdt_alloc::DataLayout;
use sdt_alloc::code::{Program, Reference, Site, Stored, analyse};

use super::slots::is_in_use;
use super::{Found, Survey};
use crate::Options;
use crate::context::Context;
use crate::follow::{ObjectType, Scanner};
use crate::object::Object;
use crate::walk::Causes;

/// Slots are aligned to no more than this.
const MAX_ALIGN: u64 = 4096;

/// The type of an allocator's payloads, and how it was found out.
#[derive(Default)]
pub(crate) struct Payload {
    pub(crate) ty: Option<Rc<ObjectType>>,
    pub(crate) from: Option<String>,
    /// What it may be, where that is not certain.
    pub(crate) candidates: Vec<String>,
}

impl Payload {
    fn new(ty: Rc<ObjectType>, from: String) -> Self {
        Self {
            ty: Some(ty),
            from: Some(from),
            candidates: Vec::new(),
        }
    }

    /// Whether everything that tells of it was already asked.
    fn is_settled(&self) -> bool {
        self.ty.is_some() || self.from.is_some()
    }

    /// Not one of them for certain, for this reason.
    fn contradiction(why: &str, candidates: BTreeSet<String>) -> Self {
        Self {
            ty: None,
            from: Some(why.to_owned()),
            candidates: candidates.into_iter().collect(),
        }
    }
}

impl Survey<'_> {
    /// Finds the types, the surest way first.
    pub(super) fn type_payloads(
        &mut self,
        context: &Context<'_>,
        maps: &[MapInfo],
        options: &Options,
    ) {
        let mut scanner = Scanner::new(options.follow);
        self.by_option(&scanner, &options.types);
        for map in maps {
            scanner.map(context, self, map);
        }
        for (&id, surveyed) in &self.arenas {
            if let Some(globals) = &surveyed.globals {
                let read = globals.read(&surveyed.arena);
                let object = Object::new(&globals.shape, read.bytes());
                scanner.variables(self, id, &globals.btf, &object);
            }
        }
        self.scan_payloads(&mut scanner);
        self.by_pointers(&scanner);
        self.by_code(context, &scanner);
        let kernel = context.accessor.vmlinux_btf().ok();
        for found in &mut self.allocators {
            if !found.payload.is_settled() {
                found.payload = by_size(&scanner, found, kernel.as_deref());
            }
        }
        // What is known now may tell of what is left.
        self.scan_payloads(&mut scanner);
        self.by_pointers(&scanner);
        self.attribute_reached(&scanner);
        self.is_cut = scanner.is_cut();
    }

    fn by_option(&mut self, scanner: &Scanner, types: &[(String, String)]) {
        for found in &mut self.allocators {
            let given = types.iter().find(|(symbol, _)| *symbol == found.symbol);
            let Some((_, name)) = given else {
                continue;
            };
            let bare = name.strip_prefix("struct ").unwrap_or(name);
            let id = found.btf.find(Kind::Struct, bare);
            let id = id.or_else(|| found.btf.find(Kind::Typedef, bare));
            match id.and_then(|id| scanner.object_type(&found.btf, id)) {
                Some(ty) => found.payload = Payload::new(ty, "--type".to_owned()),
                None => {
                    let text = format!("{}: its BTF has no struct {name}", found.symbol);
                    self.failed.push((found.map, text));
                }
            }
        }
    }

    /// Looks for pointers in payloads whose type is known.
    fn scan_payloads(&self, scanner: &mut Scanner) {
        for surveyed in self.arenas.values() {
            for of in surveyed.slots.iter().filter(|of| is_in_use(&of.slot)) {
                let found = self.allocators.get(of.allocator);
                if let Some(found) = found
                    && let Some(ty) = &found.payload.ty
                {
                    scanner.known(self, found.arena, of.slot.payload, ty);
                }
            }
        }
    }

    /// By typed pointers to the slots, wherever they are.
    fn by_pointers(&mut self, scanner: &Scanner) {
        for (at, found) in self.allocators.iter_mut().enumerate() {
            if found.payload.ty.is_some() {
                continue;
            }
            let own = scanner.slots().filter(|pointer| {
                pointer.allocator == at
                    && pointer.offset == 0
                    && could_be_payload(&pointer.ty, found)
            });
            let mut types: BTreeMap<String, _> = BTreeMap::new();
            for pointer in own {
                types.insert(pointer.ty.shape.name.clone(), pointer);
            }
            found.payload = match types.len() {
                0 => continue,
                1 => {
                    let Some((_, pointer)) = types.pop_first() else {
                        continue;
                    };
                    let map = pointer.map.map(|map| format!(" in map {map}"));
                    let map = map.unwrap_or_default();
                    let from = format!("pointer {}{map}", pointer.place);
                    Payload::new(Rc::clone(&pointer.ty), from)
                }
                _ => Payload::contradiction(
                    "pointers of several types lead to its slots",
                    types.into_keys().collect(),
                ),
            };
        }
    }

    /// By the instructions of the programs that have the allocator.
    fn by_code(&mut self, context: &Context<'_>, scanner: &Scanner) {
        let Ok(progs) = context.progs().map(Rc::clone) else {
            return;
        };
        let kernel = context.accessor.vmlinux_btf().ok();
        let is_kernel = |name: &str, size: u64| {
            let of = |kernel: &Rc<Btf>| kernel.record(name).is_ok_and(|of| of.size() == size);
            kernel.as_ref().is_some_and(of)
        };
        let sections: BTreeSet<u32> = self.allocators.iter().map(|found| found.map).collect();
        let mut done: BTreeSet<*const Btf> = BTreeSet::new();
        for at in 0..self.allocators.len() {
            let Some(found) = self.allocators.get(at) else {
                continue;
            };
            let btf = Rc::clone(&found.btf);
            if found.payload.is_settled() || !done.insert(Rc::as_ptr(&btf)) {
                continue;
            }
            let (codes, failed) = codes(context, &progs, &btf, &sections);
            self.failed
                .extend(failed.into_iter().map(|why| (found.map, why)));
            let own: Vec<usize> = (0..self.allocators.len())
                .filter(|&at| {
                    let found = self.allocators.get(at);
                    found.is_some_and(|found| Rc::ptr_eq(&found.btf, &btf))
                })
                .collect();
            let verdicts = self.ask(&btf, &is_kernel, &codes, &own);
            for (&at, verdict) in own.iter().zip(verdicts) {
                let Some(found) = self.allocators.get_mut(at) else {
                    continue;
                };
                if found.payload.is_settled() {
                    continue;
                }
                let ty = verdict.ty.and_then(|ty| scanner.object_type(&btf, ty));
                match ty {
                    Some(ty) => found.payload = Payload::new(ty, verdict.from),
                    None if !verdict.candidates.is_empty() => {
                        let names = verdict.candidates.iter().map(|&ty| btf.type_name(ty));
                        found.payload = Payload::contradiction(&verdict.from, names.collect());
                    }
                    None => {}
                }
            }
        }
    }

    fn ask(
        &self,
        btf: &Btf,
        is_kernel: &dyn Fn(&str, u64) -> bool,
        codes: &[Code],
        own: &[usize],
    ) -> Vec<sdt_alloc::code::Verdict> {
        let functions: Vec<Vec<(u32, TypeId)>> = codes
            .iter()
            .map(|code| {
                code.functions
                    .iter()
                    .map(|of| (of.start, of.type_id))
                    .collect()
            })
            .collect();
        let references: Vec<Vec<(u32, Reference)>> = codes
            .iter()
            .map(|code| {
                code.refers
                    .iter()
                    .map(|&(at, to)| (at, reference(to)))
                    .collect()
            })
            .collect();
        let parts = codes.iter().zip(&functions).zip(&references);
        let programs: Vec<Program<'_>> = parts
            .map(|((code, functions), references)| Program {
                insns: &code.insns,
                functions,
                references,
            })
            .collect();
        let found = || own.iter().filter_map(|&at| self.allocators.get(at));
        let sites: Vec<Site> = found()
            .map(|found| Site {
                map: found.map,
                offset: u32::try_from(found.offset).unwrap_or(u32::MAX),
                payload_size: found.payload_size,
                payload_at: match found.data {
                    Some(DataLayout::Header { size }) => u32::try_from(size).unwrap_or(0),
                    Some(DataLayout::Trailer { .. }) | None => 0,
                },
            })
            .collect();
        let stored: Vec<Stored> = found()
            .enumerate()
            .flat_map(|(site, found)| {
                found.stored.iter().map(move |&(map, offset)| Stored {
                    map,
                    offset: u32::try_from(offset).unwrap_or(u32::MAX),
                    site,
                })
            })
            .collect();
        analyse(btf, is_kernel, &programs, &sites, &stored)
    }
}

/// The instructions of the programs with this BTF, and why others are missing.
fn codes(
    context: &Context<'_>,
    progs: &Progs,
    btf: &Rc<Btf>,
    sections: &BTreeSet<u32>,
) -> (Vec<Code>, Vec<String>) {
    let mut codes = Vec::new();
    let mut failed = Vec::new();
    let users = progs.progs.iter();
    let users = users.filter(|prog| prog.map_ids.iter().any(|map| sections.contains(map)));
    let btf_ids: BTreeSet<u32> = users.filter_map(|prog| prog.btf_id).collect();
    // Those that never name the section have the same types, and slots too.
    let has_types = |id: Option<u32>| id.is_some_and(|id| btf_ids.contains(&id));
    for prog in progs.progs.iter().filter(|prog| has_types(prog.btf_id)) {
        match context.accessor.code(prog) {
            Ok(Some(code)) if code.btf.as_ref().is_some_and(|of| Rc::ptr_eq(of, btf)) => {
                codes.push(code);
            }
            Ok(_) => {}
            Err(error) => failed.push(format!("program {}: {}", prog.id, Causes(&error))),
        }
    }
    (codes, failed)
}

fn reference(to: Refers) -> Reference {
    match to {
        Refers::Map(map) => Reference::Map(map),
        Refers::MapValue { map, offset } => Reference::Value { map, offset },
        Refers::Function(start) => Reference::Function(start),
    }
}

/// Whether a pointer's type can be that of a whole payload.
fn could_be_payload(ty: &ObjectType, found: &Found) -> bool {
    ty.is_record() && ty.size <= found.payload_size && !is_librarys(&ty.shape.name)
}

fn is_librarys(name: &str) -> bool {
    let bare = name.strip_prefix("struct ").unwrap_or(name);
    bare.starts_with("sdt_") || bare.starts_with("scx_alloc")
}

/// The only struct of the program's own that a slot could be cut for.
fn by_size(scanner: &Scanner, found: &Found, kernel: Option<&Btf>) -> Payload {
    let mut fitting = Vec::new();
    for id in found.btf.ids() {
        let Ok(Type::Record { name, size, .. }) = found.btf.get(id) else {
            continue;
        };
        let is_kernels = kernel.is_some_and(|kernel| kernel.find(Kind::Struct, name).is_some());
        if name.is_empty() || is_kernels || is_librarys(name) || !fits(found, size.into()) {
            continue;
        }
        fitting.push((id, name));
    }
    let only = match *fitting.as_slice() {
        [(id, _)] => scanner.object_type(&found.btf, id),
        _ => None,
    };
    match only {
        Some(ty) => Payload::new(ty, "size and name".to_owned()),
        None => Payload {
            ty: None,
            from: None,
            candidates: fitting.iter().map(|(_, name)| (*name).to_owned()).collect(),
        },
    }
}

/// Whether slots for payloads of `size` bytes are as long as those that there
/// are.
fn fits(found: &Found, size: u64) -> bool {
    let elem_size = found.allocator.pool.elem_size;
    let rounded = |own: u64, align: u64| {
        let bytes = size.checked_add(own);
        bytes.and_then(|bytes| bytes.checked_next_multiple_of(align)) == Some(elem_size)
    };
    match found.data {
        None => false,
        Some(DataLayout::Header { size: own }) => rounded(own, 8),
        Some(DataLayout::Trailer { size: own }) => {
            let aligns = std::iter::successors(Some(8), |align| Some(align * 2));
            let mut aligns = aligns.take_while(|&align| align <= MAX_ALIGN);
            aligns.any(|align| rounded(own, align))
        }
    }
}
