//! Variables of the library's types, wherever a program has them.

use btf_layout::{Btf, Error, Type, TypeId};
use rustc_hash::FxHashMap;

/// How deep structs and arrays may nest.
const MAX_DEPTH: u32 = 16;

/// How many members, elements and variables one search may look at.
const MAX_STEPS: u32 = 1 << 20;

/// An object of a wanted type in a section or struct.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// The way there, from the variable on: `state.tasks[2].alloc`.
    pub symbol: String,
    /// Bytes from the start of the section or type.
    pub offset: u64,
    /// Which of the wanted names its struct has.
    pub name: &'static str,
    /// Its struct.
    pub ty: TypeId,
    /// Whether it is a pointer to such a struct.
    pub is_pointer: bool,
}

/// The objects whose struct or union has one of these names in the variables
/// of a section, or in any other type, and pointers to such structs, by
/// ascending offset. The search ends at a bound that only hostile BTF
/// reaches.
///
/// # Errors
///
/// Malformed BTF.
pub fn instances(
    btf: &Btf,
    within: TypeId,
    names: &[&'static str],
) -> Result<Vec<Instance>, Error> {
    let mut search = Search {
        btf,
        names,
        has_any: FxHashMap::default(),
        found: Vec::new(),
        steps: MAX_STEPS,
    };
    match btf.resolve(within)? {
        (_, Type::Datasec { vars, .. }) => {
            for var in vars {
                let var = var?;
                if let Type::Var { name, target, .. } = btf.get(var.var)? {
                    search.object(target, name, var.offset.into(), 0)?;
                }
            }
        }
        _ => search.object(within, "", 0, 0)?,
    }
    search.found.sort_by_key(|instance| instance.offset);
    Ok(search.found)
}

struct Search<'b> {
    btf: &'b Btf,
    names: &'b [&'static str],
    /// Whether there is anything wanted in a type.
    has_any: FxHashMap<TypeId, bool>,
    found: Vec<Instance>,
    steps: u32,
}

impl Search<'_> {
    fn wanted(&self, name: &str) -> Option<&'static str> {
        self.names.iter().find(|&&wanted| wanted == name).copied()
    }

    fn take(&mut self, symbol: &str, offset: u64, name: &'static str, ty: TypeId, pointer: bool) {
        self.found.push(Instance {
            symbol: symbol.to_owned(),
            offset,
            name,
            ty,
            is_pointer: pointer,
        });
    }

    fn object(&mut self, ty: TypeId, symbol: &str, at: u64, depth: u32) -> Result<(), Error> {
        if self.steps == 0 || depth > MAX_DEPTH || !self.contains(ty, depth)? {
            return Ok(());
        }
        self.steps -= 1;
        let (id, resolved) = self.btf.resolve(ty)?;
        match resolved {
            Type::Record { name, .. } => {
                if let Some(name) = self.wanted(name) {
                    self.take(symbol, at, name, id, false);
                }
                for member in self.btf.record_by_id(id)?.members() {
                    let (name, member) = member?;
                    let symbol = match name {
                        "" => symbol.to_owned(),
                        name if symbol.is_empty() => name.to_owned(),
                        name => format!("{symbol}.{name}"),
                    };
                    let at = at.saturating_add(member.offset);
                    self.object(member.ty, &symbol, at, depth + 1)?;
                }
            }
            Type::Array { element, len, .. } => {
                let size = self.btf.size_of(element)?;
                for index in 0..len {
                    if self.steps == 0 {
                        break;
                    }
                    let at = at.saturating_add(u64::from(index).saturating_mul(size));
                    self.object(element, &format!("{symbol}[{index}]"), at, depth + 1)?;
                }
            }
            Type::Ptr { target } => {
                if let Ok((id, Type::Record { name, .. })) = self.btf.resolve(target)
                    && let Some(name) = self.wanted(name)
                {
                    self.take(symbol, at, name, id, true);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a type has anything wanted in it, so that large arrays of
    /// other things are not gone through.
    fn contains(&mut self, ty: TypeId, depth: u32) -> Result<bool, Error> {
        let (id, resolved) = self.btf.resolve(ty)?;
        if let Some(&known) = self.has_any.get(&id) {
            return Ok(known);
        }
        if depth > MAX_DEPTH {
            return Ok(false);
        }
        let has = match resolved {
            Type::Record { name, .. } if self.wanted(name).is_some() => true,
            Type::Record { .. } => {
                let mut has = false;
                for member in self.btf.record_by_id(id)?.members() {
                    self.steps = self.steps.saturating_sub(1);
                    has |= self.steps > 0 && self.contains(member?.1.ty, depth + 1)?;
                }
                has
            }
            Type::Array { element, len, .. } => len > 0 && self.contains(element, depth + 1)?,
            Type::Ptr { target } => match self.btf.resolve(target) {
                Ok((_, Type::Record { name, .. })) => self.wanted(name).is_some(),
                _ => false,
            },
            _ => false,
        };
        self.has_any.insert(id, has);
        Ok(has)
    }
}
