//! One function, followed from its start on every way at once.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Reference;
use super::insn::{Insn, Op};
use super::run::{Cut, World};
use super::value::{Place, State, Value};

/// How many instructions of a function may be reached from several others.
const MAX_JOINS: usize = 1 << 14;

/// The source register of a call of one of the program's own functions.
const PSEUDO_CALL: u8 = 1;

/// A function under analysis.
pub(crate) struct Flow<'w, 'a> {
    world: &'w mut World<'a>,
    start: u32,
    end: u32,
    /// Where ways meet.
    joins: FxHashSet<u32>,
    /// What is known there.
    states: FxHashMap<u32, State>,
    /// Those that are to be gone on from.
    open: BTreeSet<u32>,
    /// What is known of the result; `None` if it does not return.
    result: Option<Value>,
}

impl<'w, 'a> Flow<'w, 'a> {
    /// Follows the instructions from `start` to `end`, and gives what the
    /// function returns.
    pub(crate) fn follow(
        world: &'w mut World<'a>,
        (start, end): (u32, u32),
        entry: State,
    ) -> Result<Option<Value>, Cut> {
        let mut flow = Self {
            world,
            start,
            end,
            joins: FxHashSet::default(),
            states: FxHashMap::default(),
            open: BTreeSet::new(),
            result: None,
        };
        flow.find_joins()?;
        flow.arrive(start, &entry);
        while let Some(at) = flow.open.pop_first() {
            if let Some(state) = flow.states.get(&at).cloned() {
                flow.walk(at, state)?;
            }
        }
        Ok(flow.result)
    }

    fn find_joins(&mut self) -> Result<(), Cut> {
        self.joins.insert(self.start);
        for at in self.start..self.end {
            self.world.step()?;
            let target = match self.insn(at).map(Insn::op) {
                Some(Op::Jump(by) | Op::Branch(by)) if by != 0 => self.target(at, by),
                _ => None,
            };
            self.joins.extend(target);
        }
        match self.joins.len() > MAX_JOINS {
            true => Err(Cut),
            false => Ok(()),
        }
    }

    fn insn(&self, at: u32) -> Option<Insn> {
        let at = usize::try_from(at).ok()?;
        self.world.program.insns.get(at).copied().map(Insn::parse)
    }

    /// Where a jump leads to, if that is in the function.
    fn target(&self, at: u32, by: i64) -> Option<u32> {
        let target = i64::from(at).checked_add(1)?.checked_add(by)?;
        let target = u32::try_from(target).ok()?;
        (self.start..self.end).contains(&target).then_some(target)
    }

    /// Comes to where ways meet, knowing `state`.
    fn arrive(&mut self, at: u32, state: &State) {
        let changed = match self.states.get_mut(&at) {
            Some(known) => known.join(state),
            None => {
                self.states.insert(at, state.clone());
                true
            }
        };
        if changed {
            self.open.insert(at);
        }
    }

    /// Follows instructions one by one, up to where ways meet.
    fn walk(&mut self, start: u32, mut state: State) -> Result<(), Cut> {
        let mut at = start;
        while at < self.end {
            if at != start && self.joins.contains(&at) {
                self.arrive(at, &state);
                break;
            }
            self.world.step()?;
            let Some(insn) = self.insn(at) else { break };
            match insn.op() {
                Op::Jump(0) => {}
                Op::Jump(by) => {
                    if let Some(target) = self.target(at, by) {
                        self.arrive(target, &state);
                    }
                    break;
                }
                Op::Branch(by) => {
                    if let Some(target) = self.target(at, by).filter(|_| by != 0) {
                        self.arrive(target, &state);
                    }
                }
                Op::Exit => {
                    let result = state.get(0);
                    self.result = Some(self.result.map_or(result, |known| known.join(result)));
                    break;
                }
                Op::Indirect => {
                    self.world.is_complete = false;
                    break;
                }
                Op::Call => match self.call(at, insn, &mut state) {
                    Some(result) => state.set(0, result),
                    // It has not returned yet.
                    None => break,
                },
                Op::Packet => state.clobber(),
                Op::Constant => {
                    let value = self.constant(at);
                    state.set(insn.dst, value);
                    at += 1;
                }
                op => self.simple(insn, op, &mut state),
            }
            at += 1;
        }
        Ok(())
    }

    fn constant(&mut self, at: u32) -> Value {
        match self.world.reference(at) {
            Some(Reference::Map(map)) => Value::Map { map, offset: 0 },
            Some(Reference::Value { map, offset }) => {
                let offset = i32::try_from(offset).ok();
                let place = offset.map(|offset| Place::Section { map, offset });
                place.map_or(Value::Unknown, Value::At)
            }
            Some(Reference::Function(start)) => {
                // Whoever is given it calls it with what it likes.
                self.world.enter(start, [Value::Unknown; 5]);
                Value::Unknown
            }
            None => self.number(at),
        }
    }

    /// A constant that refers to nothing.
    fn number(&self, at: u32) -> Value {
        let halves = [self.insn(at), self.insn(at.saturating_add(1))];
        match halves.map(|half| half.map(|insn| insn.imm)) {
            [Some(low @ 0..), Some(0)] => Value::Number(low),
            _ => Value::Unknown,
        }
    }

    /// What neither jumps nor calls.
    fn simple(&mut self, insn: Insn, op: Op, state: &mut State) {
        let Insn { dst, src, imm, .. } = insn;
        let (here, there) = (state.get(dst), state.get(src));
        let off = i32::from(insn.off);
        match op {
            Op::Move { wide: true } => state.set(dst, there),
            Op::Move { wide: false } => state.set(dst, there.lower_half()),
            Op::MoveImm { wide } => {
                let known = wide || imm >= 0;
                let value = if known {
                    Value::Number(imm)
                } else {
                    Value::Unknown
                };
                state.set(dst, value);
            }
            Op::Add { minus: false } => state.set(dst, here.add(there)),
            Op::Add { minus: true } => {
                let by = match there {
                    Value::Number(by) => by.checked_neg(),
                    _ => None,
                };
                state.set(dst, by.map_or(Value::Unknown, |by| here.on(by)));
            }
            Op::AddImm { minus } => {
                let by = if minus { imm.checked_neg() } else { Some(imm) };
                state.set(dst, by.map_or(Value::Unknown, |by| here.on(by)));
            }
            Op::Load { size } | Op::LoadAcquire { size } => {
                let loaded = self.load(there.on(off), size, state);
                state.set(dst, loaded);
            }
            Op::Store { size } => self.store(here.on(off), size, there, state),
            Op::StoreImm { size } => self.store(here.on(off), size, Value::Number(imm), state),
            Op::Atomic { size } => {
                self.store(here.on(off), size, Value::Unknown, state);
                if insn.fetches() {
                    state.set(src, Value::Unknown);
                }
            }
            Op::Exchange { size } => {
                let old = self.load(here.on(off), size, state);
                self.store(here.on(off), size, there, state);
                state.set(src, old);
            }
            Op::CompareExchange { size } => {
                let old = self.load(here.on(off), size, state);
                self.store(here.on(off), size, there, state);
                // It may stay as it was.
                if let Value::Frame(at) = here.on(off) {
                    state.write(at, size, there.join(old));
                }
                state.set(0, old);
            }
            _ => state.set(dst, Value::Unknown),
        }
    }

    fn load(&mut self, from: Value, size: u8, state: &State) -> Value {
        match from {
            Value::Frame(offset) if size == 8 => state.word(offset),
            Value::At(place) => {
                self.world.access(place, size);
                match size {
                    8 => self.world.kept(place),
                    _ => Value::Unknown,
                }
            }
            // No way that is gone leads here.
            number if number.is_number() => Value::Integer,
            _ => Value::Unknown,
        }
    }

    fn store(&mut self, to: Value, size: u8, value: Value, state: &mut State) {
        match to {
            Value::Frame(offset) => state.write(offset, size, value),
            Value::At(place) => {
                self.world.access(place, size);
                let whole = if size == 8 { value } else { Value::Unknown };
                self.world.keep(place, whole);
            }
            _ => {}
        }
    }

    /// What a call returns; `None` if it does not.
    fn call(&mut self, at: u32, insn: Insn, state: &mut State) -> Option<Value> {
        let arguments = state.arguments();
        let result = if insn.src == PSEUDO_CALL {
            match self.world.reference(at) {
                Some(Reference::Function(start)) => self.world.call(start, arguments),
                _ => {
                    self.world.is_complete = false;
                    Some(Value::Unknown)
                }
            }
        } else {
            Some(self.helper(insn, arguments, state))
        };
        for argument in arguments {
            if let Value::Frame(offset) = argument {
                state.forget(offset);
            }
        }
        state.clobber();
        result
    }

    /// What the kernel returns. Given a map, that is one of its values, if a
    /// pointer; given a key and a value in the frame too, it puts that there.
    fn helper(&mut self, insn: Insn, arguments: [Value; 5], state: &State) -> Value {
        let [Value::Map { map, offset: 0 }, key, value, ..] = arguments else {
            return Value::Unknown;
        };
        if insn.src != 0 {
            return Value::Unknown;
        }
        if let (Value::Frame(_), Value::Frame(from)) = (key, value) {
            for (offset, word) in state.words(from) {
                if matches!(word, Value::At(Place::Slot { .. })) {
                    let offset = offset.saturating_sub(from);
                    self.world.keep(Place::Element { map, offset }, word);
                }
            }
        }
        Value::At(Place::Element { map, offset: 0 })
    }
}
