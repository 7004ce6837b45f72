//! The variables of BPF programs, by name.

use std::rc::Rc;

use bpfmaps::{MapInfo, MapType};
use btf_layout::{Btf, Type, TypeId};

use super::document::Document;
use super::dump::{Dump, is_named};
use super::error::QueryError;
use super::nearest::Listed;
use super::value::{Value, after};

/// Every variable.
#[derive(Debug, Default)]
pub(crate) struct Variables {
    /// The map that each is in, and its name.
    found: Vec<(MapInfo, String)>,
    /// Why some may be missing.
    unread: Option<String>,
}

impl Variables {
    /// Those of all programs that still have maps.
    pub(crate) fn of(dump: &Dump) -> Self {
        let mut variables = Self::default();
        for info in dump.maps() {
            let names = match info.map_type {
                MapType::ARENA => variables.of_arena(dump, info),
                _ => variables.of_section(dump, info),
            };
            let named = names.into_iter().map(|name| (info.clone(), name));
            variables.found.extend(named);
        }
        if let Some(gap) = dump.gaps().first() {
            variables.note(gap.clone());
        }
        variables
    }

    fn note(&mut self, why: String) {
        self.unread.get_or_insert(why);
    }

    /// The names in a data section's type, if the map is one.
    fn of_section(&mut self, dump: &Dump, info: &MapInfo) -> Vec<String> {
        if info.btf_value_type_id == 0 {
            return Vec::new();
        }
        match dump.accessor().btf(info) {
            Ok(Some(btf)) => names(&btf, TypeId(info.btf_value_type_id)),
            Ok(None) => Vec::new(),
            Err(error) => {
                self.note(format!("the types of map `{}`: {error}", info.name));
                Vec::new()
            }
        }
    }

    /// The names of the variables in an arena, which its document shows.
    fn of_arena(&mut self, dump: &Dump, info: &MapInfo) -> Vec<String> {
        let view = match dump.map(&info.id.to_string()) {
            Ok(view) => view,
            Err(error) => {
                self.note(error.to_string());
                return Vec::new();
            }
        };
        if let Some(gap) = view.gaps().first() {
            self.note(format!("map `{}`: {gap}", info.name));
        }
        let shown = view.document().at(ARENA).as_object();
        shown
            .map(|shown| shown.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// The variable that `name` or `map::name` means, which a path may follow;
    /// and the name with the path.
    pub(crate) fn find<'t>(&self, text: &'t str) -> Result<(&MapInfo, &'t str), QueryError> {
        let (map, name) = match text.split_once("::") {
            Some((map, name)) => (Some(map), name),
            None => (None, text),
        };
        let in_map = |info: &MapInfo| {
            map.is_none_or(|map| is_named(info, map) || map.parse() == Ok(info.id))
        };
        let found = self.found.iter();
        let found = found.filter(|(info, var)| after(name, var).is_some() && in_map(info));
        let mut found: Vec<&(MapInfo, String)> = found.collect();
        // Names of variables may have dots, as paths have.
        let longest = found.iter().map(|(_, var)| var.len()).max();
        found.retain(|(_, var)| Some(var.len()) == longest);
        match (found.as_slice(), &self.unread) {
            ([(info, _)], _) => Ok((info, name)),
            ([], Some(why)) => Err(QueryError::Unsure {
                what: format!("variable `{text}`"),
                why: why.clone(),
            }),
            ([], None) => Err(QueryError::Absent {
                what: format!("variable `{text}`"),
                there: Listed::nearest(name, self.found.iter().map(|(_, var)| var.clone())),
            }),
            (several, _) => Err(QueryError::Ambiguous {
                what: format!("variable `{text}`"),
                which: Listed::first(several.iter().map(|(info, var)| {
                    let mut same = several.iter().filter(|(other, _)| other.name == info.name);
                    match same.nth(1) {
                        // Names of maps are ambiguous, too.
                        Some(_) => format!("`{}::{}`", info.id, var),
                        None => format!("`{}::{}`", info.name, var),
                    }
                })),
            }),
        }
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

/// The names of a section's variables; none if the type is none. What is
/// broken in it, the section's document says.
fn names(btf: &Btf, id: TypeId) -> Vec<String> {
    let Ok(Type::Datasec { vars, .. }) = btf.get(id) else {
        return Vec::new();
    };
    let names = vars.filter_map(|var| match btf.get(var.ok()?.var).ok()? {
        Type::Var { name, .. } => Some(name.to_owned()),
        _ => None,
    });
    names.collect()
}
