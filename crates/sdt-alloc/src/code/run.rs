//! All functions of all programs, until nothing new is learnt.

use std::collections::{BTreeMap, BTreeSet};

use btf_layout::{Btf, TypeId};
use rustc_hash::FxHashMap;

use super::flow::Flow;
use super::insn::ARGUMENTS;
use super::proto::Prototype;
use super::value::{Place, State, Value};
use super::{Access, Program, Reference, Site, Stored};

/// How often an instruction is followed, all in all: each of the registers
/// and words of the frame may lose what is known of it a few times, but hardly
/// any ever does.
const MAX_VISITS: u64 = 1024;

/// How many instructions are followed at most, counted as often as they are.
const MAX_STEPS: u64 = 1 << 24;

/// How often all programs are gone through with what was found in memory the
/// last time: pointers that lead to pointers that lead to slots.
const MAX_ROUNDS: u32 = 4;

/// The analysis was cut short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// For each allocator, the structs that prototypes name, and which do.
    pub(crate) named: BTreeMap<(usize, TypeId), BTreeSet<String>>,
    /// The accesses to the slots of each allocator.
    pub(crate) accesses: BTreeSet<(usize, Access)>,
    /// Whether everything was followed.
    pub(crate) is_complete: bool,
    /// What was put where.
    kept: FxHashMap<Place, Value>,
}

/// A function of the program that is gone through.
#[derive(Debug)]
struct Function {
    start: u32,
    end: u32,
    prototype: Prototype,
    /// What is known of its arguments; `None` until it is called.
    entry: Option<[Value; ARGUMENTS]>,
    /// What is known of its result; `None` until it returns.
    result: Option<Value>,
}

/// What functions share.
pub(crate) struct World<'a> {
    pub(crate) program: &'a Program<'a>,
    pub(crate) is_complete: bool,
    sites: &'a [Site],
    stored: &'a [Stored],
    functions: Vec<Function>,
    /// What was put where, in the round before.
    before: &'a FxHashMap<Place, Value>,
    seen: &'a mut Seen,
    steps: &'a mut u64,
    /// Whether something about a function was learnt.
    learnt: bool,
    /// Whether all is learnt, and what is seen is to be noted.
    is_noting: bool,
}

/// Goes through all programs.
pub(crate) fn run(btf: &Btf, programs: &[Program<'_>], sites: &[Site], stored: &[Stored]) -> Seen {
    let insns: u64 = programs.iter().map(|of| of.insns.len() as u64).sum();
    let mut steps = insns.saturating_mul(MAX_VISITS).min(MAX_STEPS);
    let mut before = FxHashMap::default();
    let mut seen = Seen::default();
    for round in 1..=MAX_ROUNDS {
        seen = Seen {
            is_complete: true,
            ..Seen::default()
        };
        for program in programs {
            let mut world = World {
                program,
                is_complete: true,
                sites,
                stored,
                functions: functions(btf, program),
                before: &before,
                seen: &mut seen,
                steps: &mut steps,
                learnt: true,
                is_noting: false,
            };
            let whole = world.all().is_ok() && world.is_complete;
            seen.is_complete &= whole;
        }
        if seen.kept == before {
            break;
        }
        seen.is_complete &= round < MAX_ROUNDS;
        before.clone_from(&seen.kept);
    }
    seen
}

fn functions(btf: &Btf, program: &Program<'_>) -> Vec<Function> {
    let count = u32::try_from(program.insns.len()).unwrap_or(u32::MAX);
    let mut starts: Vec<(u32, Option<TypeId>)> = program
        .functions
        .iter()
        .map(|&(start, ty)| (start, Some(ty)))
        .collect();
    if starts.is_empty() {
        starts.push((0, None));
    }
    let ends = starts.iter().skip(1).map(|next| next.0).chain([count]);
    let functions = starts.iter().zip(ends).map(|(&(start, ty), end)| Function {
        start,
        end: end.min(count),
        prototype: ty.map_or_else(Prototype::default, |ty| Prototype::of(btf, ty)),
        entry: None,
        result: None,
    });
    functions.collect()
}

impl World<'_> {
    /// Goes through the functions until nothing is learnt, and once more to
    /// note what is seen: before, less is known than there is.
    fn all(&mut self) -> Result<(), Cut> {
        if let Some(main) = self.functions.first_mut() {
            main.entry = Some([Value::Unknown; ARGUMENTS]);
        }
        while self.learnt {
            self.learnt = false;
            for index in 0..self.functions.len() {
                self.function(index)?;
            }
        }
        self.is_noting = true;
        for index in 0..self.functions.len() {
            self.function(index)?;
        }
        for function in &self.functions {
            if let Some(Value::At(Place::Slot { site, offset: 0 })) = function.result
                && let Some(ty) = function.prototype.returns
            {
                let text = format!("the prototype of {}", function.prototype.name);
                let named = self.seen.named.entry((site, ty)).or_default();
                named.insert(text);
            }
        }
        Ok(())
    }

    fn function(&mut self, index: usize) -> Result<(), Cut> {
        self.step()?;
        let Some(function) = self.functions.get(index) else {
            return Ok(());
        };
        let Some(entry) = function.entry else {
            return Ok(());
        };
        let range = (function.start, function.end);
        let result = Flow::follow(self, range, State::entry(entry))?;
        // A frame is gone with its function.
        let Some(mut result) = result.map(outside) else {
            return Ok(());
        };
        if let Some(function) = self.functions.get_mut(index) {
            result = function.result.map_or(result, |known| known.join(result));
            self.learnt |= function.result != Some(result);
            function.result = Some(result);
        }
        Ok(())
    }

    /// One instruction more.
    pub(crate) fn step(&mut self) -> Result<(), Cut> {
        *self.steps = self.steps.checked_sub(1).ok_or(Cut)?;
        Ok(())
    }

    /// What the instruction refers to.
    pub(crate) fn reference(&self, at: u32) -> Option<Reference> {
        let references = self.program.references;
        let found = references.binary_search_by_key(&at, |reference| reference.0);
        Some(references.get(found.ok()?)?.1)
    }

    fn find(&self, start: u32) -> Option<usize> {
        self.functions
            .binary_search_by_key(&start, |function| function.start)
            .ok()
    }

    /// A function is called with these arguments.
    pub(crate) fn enter(&mut self, start: u32, arguments: [Value; ARGUMENTS]) {
        let found = self.find(start);
        let Some(function) = found.and_then(|index| self.functions.get_mut(index)) else {
            self.is_complete = false;
            return;
        };
        let mut entry = arguments.map(outside);
        if let Some(known) = function.entry {
            for (to, known) in entry.iter_mut().zip(known) {
                *to = known.join(*to);
            }
        }
        if function.entry != Some(entry) {
            function.entry = Some(entry);
            self.learnt = true;
        }
    }

    /// A function is called: what it returns, `None` if it does not (yet).
    pub(crate) fn call(&mut self, start: u32, arguments: [Value; ARGUMENTS]) -> Option<Value> {
        let Some(function) = self.find(start).and_then(|index| self.functions.get(index)) else {
            self.is_complete = false;
            return Some(Value::Unknown);
        };
        let prototype = &function.prototype;
        if prototype.allocates {
            let [allocator, ..] = arguments;
            return Some(self.given_out(allocator));
        }
        let result = function.result;
        for (argument, ty) in arguments.iter().zip(prototype.parameters) {
            if self.is_noting
                && let (Value::At(Place::Slot { site, offset: 0 }), Some(ty)) = (argument, ty)
            {
                let text = format!("a parameter of {}", prototype.name);
                self.seen.named.entry((*site, ty)).or_default().insert(text);
            }
        }
        self.enter(start, arguments);
        result
    }

    /// What an allocator at this address gives out.
    fn given_out(&self, allocator: Value) -> Value {
        let is = |site: &&Site| {
            i32::try_from(site.offset).is_ok_and(|offset| {
                let map = site.map;
                allocator == Value::At(Place::Section { map, offset })
            })
        };
        let site = self.sites.iter().position(|site| is(&site));
        site.map_or(Value::Unknown, |site| self.pointer(site))
    }

    /// The library's pointer to a slot.
    fn pointer(&self, site: usize) -> Value {
        let before = self
            .sites
            .get(site)
            .map(|site| i32::try_from(site.payload_at));
        match before {
            Some(Ok(before)) => Value::At(Place::Slot {
                site,
                offset: before.saturating_neg(),
            }),
            _ => Value::Unknown,
        }
    }

    /// Something is read or written.
    pub(crate) fn access(&mut self, place: Place, size: u8) {
        if self.is_noting
            && let Place::Slot { site, offset } = place
            && let Ok(offset) = u64::try_from(offset)
        {
            self.seen.accesses.insert((site, (offset, size)));
        }
    }

    /// What is kept in a place: only slots matter.
    pub(crate) fn kept(&self, place: Place) -> Value {
        if let Place::Element { map, offset } = place {
            let is =
                |stored: &&Stored| stored.map == map && i32::try_from(stored.offset) == Ok(offset);
            if let Some(stored) = self.stored.iter().find(is) {
                return self.pointer(stored.site);
            }
        }
        match self.before.get(&place) {
            Some(&value @ Value::At(Place::Slot { .. })) => value,
            _ => Value::Unknown,
        }
    }

    /// Something is put into a place.
    pub(crate) fn keep(&mut self, place: Place, value: Value) {
        if !self.is_noting {
            return;
        }
        let value = outside(value);
        let kept = &mut self.seen.kept;
        let kept = kept.entry(place).or_insert(value);
        *kept = kept.join(value);
    }
}

/// What is left of a value in another function.
fn outside(value: Value) -> Value {
    match value {
        Value::Frame(_) => Value::Unknown,
        value => value,
    }
}
