//! The variables of BPF programs, by name.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use bpfmaps::{MapInfo, MapType};
use btf_layout::{Btf, Type, TypeId};

use super::document::Document;
use super::dump::{Dump, is_named};
use super::error::QueryError;
use super::nearest::Listed;
use super::value::{Value, after};

/// One variable.
#[derive(Clone, Debug)]
struct Variable {
    map: MapInfo,
    name: String,
    /// What its section's document calls it.
    label: String,
    /// The name with its place in the section, if another one there has the
    /// same: those of functions, and of files.
    placed: Option<String>,
}

/// Every variable.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    found: Vec<Variable>,
    /// Why some may be missing.
    unread: Option<String>,
}

impl Variables {
    /// Those of all programs that still have maps.
    pub(crate) fn of(dump: &Dump) -> Self {
        let mut variables = Self::default();
        for info in dump.maps() {
            match info.map_type {
                MapType::ARENA => variables.add_arena(dump, info),
                _ => variables.add_section(dump, info),
            }
        }
        if let Some(gap) = dump.gaps().first() {
            variables.note(gap.clone());
        }
        variables
    }

    fn note(&mut self, why: String) {
        self.unread.get_or_insert(why);
    }

    /// Those in a data section's type, if the map is one.
    fn add_section(&mut self, dump: &Dump, info: &MapInfo) {
        if info.btf_value_type_id == 0 {
            return;
        }
        let places = match dump.accessor().btf(info) {
            Ok(Some(btf)) => places(&btf, TypeId(info.btf_value_type_id)),
            Ok(None) => return,
            Err(error) => return self.note(format!("the types of map `{}`: {error}", info.name)),
        };
        let mut count: HashMap<String, usize> = HashMap::new();
        for (name, _) in &places {
            *count.entry(name.clone()).or_default() += 1;
        }
        let mut seen = HashSet::new();
        for (name, offset) in places {
            let placed = format!("{name}@{offset}");
            let is_first = seen.insert(name.clone());
            self.found.push(Variable {
                map: info.clone(),
                label: match is_first {
                    true => name.clone(),
                    false => placed.clone(),
                },
                placed: count.get(&name).filter(|&&count| count > 1).map(|_| placed),
                name,
            });
        }
    }

    /// Those in an arena, which its document shows.
    fn add_arena(&mut self, dump: &Dump, info: &MapInfo) {
        let view = match dump.map(&info.id.to_string()) {
            Ok(view) => view,
            Err(error) => return self.note(error.to_string()),
        };
        if let Some(gap) = view.gaps().first() {
            self.note(format!("map `{}`: {gap}", info.name));
        }
        let shown = view.document().at(ARENA).as_object();
        let named = shown.into_iter().flat_map(|shown| shown.keys());
        self.found.extend(named.map(|label| {
            let placed = label.rsplit_once('@');
            Variable {
                map: info.clone(),
                name: placed.map_or(label.as_str(), |(name, _)| name).to_owned(),
                label: label.clone(),
                placed: placed.map(|_| label.clone()),
            }
        }));
    }

    /// The map of the variable that `name` or `map::name` means, and where it
    /// is in its section, with the path that may follow the name.
    pub(crate) fn find(&self, text: &str) -> Result<(&MapInfo, String), QueryError> {
        let (map, name) = match text.split_once("::") {
            Some((map, name)) => (Some(map), name),
            None => (None, text),
        };
        let in_map = |info: &MapInfo| {
            map.is_none_or(|map| is_named(info, map) || map.parse() == Ok(info.id))
        };
        let in_map = self.found.iter().filter(|var| in_map(&var.map));
        let mut found: Vec<(&Variable, &str)> = in_map
            .filter_map(|var| Some((var, var.rest(name)?)))
            .collect();
        // Names of variables may have dots, as paths have.
        let shortest = found.iter().map(|(_, rest)| rest.len()).min();
        found.retain(|(_, rest)| Some(rest.len()) == shortest);
        match (found.as_slice(), &self.unread) {
            ([(var, _)], _) => {
                let rest = var.rest_with_dot(name);
                Ok((&var.map, format!("{}{rest}", var.label)))
            }
            ([], Some(why)) => Err(QueryError::Unsure {
                what: format!("variable `{text}`"),
                why: why.clone(),
            }),
            ([], None) => Err(QueryError::Absent {
                what: format!("variable `{text}`"),
                there: Listed::nearest(name, self.found.iter().map(|var| var.name.clone())),
            }),
            (several, _) => Err(QueryError::Ambiguous {
                what: format!("variable `{text}`"),
                which: Listed::first(several.iter().map(|(var, _)| {
                    let name = var.placed.as_ref().unwrap_or(&var.name);
                    // Names of maps may be ambiguous, too.
                    let is_same = |other: &Variable| {
                        other.map.name == var.map.name && other.map.id != var.map.id
                    };
                    match several.iter().any(|(other, _)| is_same(other)) {
                        true => format!("`{}::{name}`", var.map.id),
                        false => format!("`{}::{name}`", var.map.name),
                    }
                })),
            }),
        }
    }
}

impl Variable {
    /// What of `path` follows the variable, if it begins with it.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let placed = self.placed.as_ref();
        placed
            .and_then(|placed| after(path, placed))
            .or_else(|| after(path, &self.name))
    }

    /// The same with what is between, for a path that begins with it.
    fn rest_with_dot<'p>(&self, path: &'p str) -> &'p str {
        let placed = self.placed.as_ref();
        let placed = placed.and_then(|placed| path.strip_prefix(placed.as_str()));
        placed
            .or_else(|| path.strip_prefix(self.name.as_str()))
            .unwrap_or_default()
    }
}

/// Where a document of one arena has its variables.
const ARENA: &str = "/maps/0/arena/globals/typed";

/// Where a document of one data section has its.
const DATA: &str = "/maps/0/entries/0/value/typed";

/// The variable at `path`, out of the document of its map.
pub(crate) fn variable(
    info: &MapInfo,
    document: &Rc<Document>,
    path: &str,
) -> Result<Value, QueryError> {
    let place = match info.map_type {
        MapType::ARENA => ARENA,
        _ => DATA,
    };
    let section = Value::new(document, place.to_owned(), format!("{}::", info.name));
    if section.json().is_null() {
        let gap = document.at("/maps/0/gaps/0/reason").as_str();
        let error = document.at("/maps/0/error").as_str();
        let none = "the map is no data section, and has no variables";
        return Err(QueryError::Unreadable {
            what: format!("{}::{path}", info.name),
            why: gap.or(error).unwrap_or(none).to_owned(),
        });
    }
    section.field(path)
}

/// A section's variables with their offsets; none if the type is none. What is
/// broken in it, the section's document says.
fn places(btf: &Btf, id: TypeId) -> Vec<(String, u32)> {
    let Ok(Type::Datasec { vars, .. }) = btf.get(id) else {
        return Vec::new();
    };
    let places = vars.filter_map(|var| {
        let var = var.ok()?;
        match btf.get(var.var).ok()? {
            Type::Var { name, .. } => Some((name.to_owned(), var.offset)),
            _ => None,
        }
    });
    places.collect()
}
