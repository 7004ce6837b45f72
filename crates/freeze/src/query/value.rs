//! One value of a dump.

use std::fmt;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::document::{Document, below};
use super::error::QueryError;
use super::nearest::Listed;
use super::pointer::{Leads, Pointer, followed};

/// A value by its BTF type: of a variable, a key, an entry, a slot, or a part
/// of one.
///
/// Its form is that of the JSON that bpfreeze prints, which
/// [`json`](Value::json) gives: structs are objects, enums their names,
/// pointers hexadecimal strings. Displays as that JSON.
#[derive(Clone)]
pub struct Value {
    document: Rc<Document>,
    place: String,
    /// What errors call it.
    name: String,
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.json())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.json().fmt(f)
    }
}

impl Value {
    pub(crate) fn new(document: &Rc<Document>, place: String, name: String) -> Self {
        Self {
            document: Rc::clone(document),
            place,
            name,
        }
    }

    /// What errors call it, such as `.bss::table[3]`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value as it is in the JSON that bpfreeze prints. `null` is what
    /// could not be read, and nothing else is.
    #[must_use]
    pub fn json(&self) -> &Json {
        self.document.at(&self.place)
    }

    /// Whether all of it could be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !has_null(self.json())
    }

    /// The part at `path`, such as `a.b[3].c`; itself for an empty path.
    ///
    /// Pointers that were followed are gone through on the way: of
    /// `struct node *head`, `head.next.number` is a number, and so is
    /// `head[0].next.number`.
    ///
    /// # Errors
    ///
    /// If a step of the path is not there, or could not be read.
    pub fn field(&self, path: &str) -> Result<Self, QueryError> {
        let mut value = self.clone();
        let mut rest = path;
        while !rest.is_empty() {
            value = value.target()?;
            let (step, after) = value.step(rest)?;
            value = step;
            rest = after;
        }
        Ok(value)
    }

    /// The elements of an array, those that could not be read included.
    ///
    /// # Errors
    ///
    /// If it is no array.
    pub fn elements(&self) -> Result<Vec<Self>, QueryError> {
        let value = self.target()?;
        match value.json() {
            Json::Array(elements) => Ok((0..elements.len()).map(|at| value.index(at)).collect()),
            _ => Err(value.is_no("array")),
        }
    }

    /// What a pointer that was followed leads to; itself for every other
    /// value.
    ///
    /// # Errors
    ///
    /// If it leads to nothing that is there, or could be read.
    pub fn target(&self) -> Result<Self, QueryError> {
        let json = self.json();
        if let Some(pointer) = followed(json) {
            return self.led_to(pointer);
        }
        if json.is_null() {
            return Err(self.missing());
        }
        Ok(self.clone())
    }

    /// An unsigned number. An enum without a name for its value is one.
    ///
    /// # Errors
    ///
    /// If it is something else, or could not be read.
    pub fn as_u64(&self) -> Result<u64, QueryError> {
        self.plain("unsigned number", Json::as_u64)
    }

    /// A signed number.
    ///
    /// # Errors
    ///
    /// If it is something else, or could not be read.
    pub fn as_i64(&self) -> Result<i64, QueryError> {
        self.plain("signed number", Json::as_i64)
    }

    /// A number as a float.
    ///
    /// # Errors
    ///
    /// If it is something else, or could not be read.
    pub fn as_f64(&self) -> Result<f64, QueryError> {
        self.plain("number", Json::as_f64)
    }

    /// A `bool`.
    ///
    /// # Errors
    ///
    /// If it is something else, or could not be read.
    pub fn as_bool(&self) -> Result<bool, QueryError> {
        self.plain("bool", Json::as_bool)
    }

    /// A text, or the name of an enum's value.
    ///
    /// # Errors
    ///
    /// If it is something else, or could not be read.
    pub fn as_str(&self) -> Result<&str, QueryError> {
        match self.json() {
            Json::String(text) => Ok(text),
            Json::Null => Err(self.missing()),
            _ => Err(self.is_no("text")),
        }
    }

    /// The address in a pointer, whether it was followed or not.
    ///
    /// # Errors
    ///
    /// If it is no pointer, or could not be read.
    pub fn as_pointer(&self) -> Result<u64, QueryError> {
        self.plain("pointer", |json| {
            let text = match followed(json) {
                Some(pointer) => pointer.address.as_str(),
                None => json.as_str(),
            };
            u64::from_str_radix(text?.strip_prefix("0x")?, 16).ok()
        })
    }

    /// The value as any type that can be deserialized from its JSON.
    ///
    /// # Errors
    ///
    /// If it does not fit the type, or a part of it could not be read, whether
    /// the type has a place for that part or not.
    pub fn get<T: DeserializeOwned>(&self) -> Result<T, QueryError> {
        let value = self.target()?;
        if has_null(value.json()) {
            return Err(value.missing_part());
        }
        T::deserialize(value.json()).map_err(|error| QueryError::Kind {
            what: value.name.clone(),
            found: kind(value.json()),
            wanted: format!("what {} is read from: {error}", std::any::type_name::<T>()),
        })
    }

    fn plain<T>(
        &self,
        wanted: &str,
        take: impl FnOnce(&Json) -> Option<T>,
    ) -> Result<T, QueryError> {
        match self.json() {
            Json::Null => Err(self.missing()),
            json => take(json).ok_or_else(|| self.is_no(wanted)),
        }
    }

    fn is_no(&self, wanted: &str) -> QueryError {
        let article = match wanted.starts_with(['a', 'e', 'i', 'o', 'u']) {
            true => "an",
            false => "a",
        };
        QueryError::Kind {
            what: self.name.clone(),
            found: kind(self.json()),
            wanted: format!("{article} {wanted}"),
        }
    }

    fn missing(&self) -> QueryError {
        QueryError::Unreadable {
            what: self.name.clone(),
            why: self.document.why(&self.place),
        }
    }

    /// The error for the first part that could not be read.
    fn missing_part(&self) -> QueryError {
        let mut value = self.clone();
        loop {
            let first = match value.json() {
                Json::Object(members) => members
                    .iter()
                    .find(|(_, member)| has_null(member))
                    .map(|(name, _)| value.member(name)),
                Json::Array(elements) => {
                    elements.iter().position(has_null).map(|at| value.index(at))
                }
                _ => None,
            };
            match first {
                Some(part) => value = part,
                None => return value.missing(),
            }
        }
    }

    fn member(&self, name: &str) -> Self {
        let dot = match self.name.ends_with("::") {
            true => "",
            false => ".",
        };
        Self::new(
            &self.document,
            below(&self.place, name),
            format!("{}{dot}{name}", self.name),
        )
    }

    fn index(&self, at: usize) -> Self {
        Self::new(
            &self.document,
            below(&self.place, &at.to_string()),
            format!("{}[{at}]", self.name),
        )
    }

    /// The first step of `path`, and the rest of it.
    fn step<'p>(&self, path: &'p str) -> Result<(Self, &'p str), QueryError> {
        match path.strip_prefix('[') {
            Some(index) => self.indexed(path, index),
            None => self.named(path),
        }
    }

    fn indexed<'p>(&self, path: &'p str, index: &'p str) -> Result<(Self, &'p str), QueryError> {
        let parsed = index
            .split_once(']')
            .and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest)));
        let Some((at, rest)) = parsed else {
            return Err(QueryError::Kind {
                what: format!("`{path}`"),
                found: "no index".to_owned(),
                wanted: "like `[3]`".to_owned(),
            });
        };
        let rest = rest.strip_prefix('.').unwrap_or(rest);
        match self.json() {
            Json::Array(elements) if at < elements.len() => Ok((self.index(at), rest)),
            // One null ends an array of which the rest is missing.
            Json::Array(elements) if elements.last().is_some_and(Json::is_null) => {
                Err(self.index(elements.len() - 1).missing())
            }
            Json::Array(elements) => Err(QueryError::Absent {
                what: format!("element {at} in {}", self.name),
                there: Listed::first((0..elements.len()).map(|at| at.to_string())),
            }),
            // A pointer to one object is an array of one.
            Json::Object(_) if at == 0 => Ok((self.clone(), rest)),
            _ => Err(self.is_no("array")),
        }
    }

    /// The longest member whose name `path` starts with: names of variables
    /// may have dots.
    fn named<'p>(&self, path: &'p str) -> Result<(Self, &'p str), QueryError> {
        let Json::Object(members) = self.json() else {
            return Err(self.is_no("struct"));
        };
        let found = members
            .keys()
            .filter_map(|name| Some((name, after(path, name)?)));
        if let Some((name, rest)) = found.max_by_key(|(name, _)| name.len()) {
            return Ok((self.member(name), rest));
        }
        let name = path.split(['.', '[']).next().unwrap_or(path);
        Err(QueryError::Absent {
            what: format!("`{name}` in {}", self.name.trim_end_matches("::")),
            there: Listed::nearest(name, members.keys().cloned()),
        })
    }

    fn led_to(&self, pointer: Pointer<'_>) -> Result<Self, QueryError> {
        let to = |place| Ok(Self::new(&self.document, place, self.name.clone()));
        let fail = |why: String| {
            Err(QueryError::Unreadable {
                what: format!("what {} points to", self.name),
                why,
            })
        };
        match pointer.leads {
            Leads::To(member) => to(below(&self.place, member)),
            Leads::Ref => {
                let address = pointer.address.as_str().unwrap_or_default();
                let type_name = pointer.type_name.as_str().unwrap_or_default();
                match self.document.object(address, type_name) {
                    Some(place) => to(place.to_owned()),
                    None => fail(format!(
                        "the {type_name} at {address} is part of another object"
                    )),
                }
            }
            Leads::Slot(slot) => {
                let symbol = slot["allocator"].as_str().unwrap_or_default();
                // In front of a payload there is only the slot's own header.
                if slot["offset"].as_i64().is_some_and(|offset| offset > 0) {
                    return fail(format!("it is inside of a slot of {symbol}"));
                }
                match self.document.payload(symbol, &slot["idx"]) {
                    Some(place) if !self.document.at(&below(&place, "typed")).is_null() => {
                        to(below(&place, "typed"))
                    }
                    Some(_) => fail(format!("the type of what is in {symbol} is not known")),
                    None => fail(format!("it is slot {} of {symbol}", slot["idx"])),
                }
            }
            Leads::Nowhere(why) => fail(why.to_owned()),
        }
    }
}

/// What of `path` comes after its first step, if that is `name`.
pub(super) fn after<'p>(path: &'p str, name: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(name)?;
    match rest.strip_prefix('.') {
        Some(rest) if !rest.is_empty() => Some(rest),
        _ if rest.is_empty() || rest.starts_with('[') => Some(rest),
        _ => None,
    }
}

/// Whether a part of it could not be read. Values nest only as deep as
/// `render` lets them.
fn has_null(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Array(elements) => elements.iter().any(has_null),
        Json::Object(members) => members.values().any(has_null),
        _ => false,
    }
}

/// What a value is, in an error.
fn kind(json: &Json) -> String {
    match json {
        Json::Null => "unreadable".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Number(value) => value.to_string(),
        Json::String(text) => format!("`{}`", Listed::first([text.clone()]).names.concat()),
        Json::Array(elements) => format!("an array of {}", elements.len()),
        Json::Object(_) => match followed(json) {
            Some(pointer) => format!(
                "a pointer to {}",
                pointer.type_name.as_str().unwrap_or("something")
            ),
            None => "a struct".to_owned(),
        },
    }
}
