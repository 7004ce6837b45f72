//! One map of a dump, and its entries.

use std::fmt;
use std::rc::Rc;

use bpfmaps::MapInfo;
use render::Format;
use serde::Serialize;
use serde_json::Value as Json;

use super::document::{Document, below, inside};
use super::dump::Dump;
use super::error::QueryError;
use super::key::{self, Key};
use super::nearest::Listed;
use super::value::Value;
use super::vars::variable;

/// One map with what it holds.
pub struct MapView<'d> {
    dump: &'d Dump,
    info: &'d MapInfo,
    document: Rc<Document>,
}

impl fmt::Debug for MapView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapView")
            .field("info", self.info)
            .field("entries", &self.len())
            .finish_non_exhaustive()
    }
}

impl<'d> MapView<'d> {
    pub(super) fn new(dump: &'d Dump, info: &'d MapInfo, document: Rc<Document>) -> Self {
        Self {
            dump,
            info,
            document,
        }
    }

    pub(super) fn document(&self) -> &Document {
        &self.document
    }

    /// Its description.
    #[must_use]
    pub fn info(&self) -> &'d MapInfo {
        self.info
    }

    /// The map as it is in the JSON that bpfreeze prints.
    #[must_use]
    pub fn value(&self) -> &Json {
        self.document.at("/maps/0")
    }

    /// This map alone, as text for people.
    ///
    /// # Errors
    ///
    /// None that the kernel's state could bring about.
    pub fn text(&self) -> Result<String, render::Error> {
        self.dump.string_of(Format::Text, self.info)
    }

    /// This map alone, as a JSON document.
    ///
    /// # Errors
    ///
    /// None that the kernel's state could bring about.
    pub fn json(&self) -> Result<String, render::Error> {
        self.dump.string_of(Format::Json, self.info)
    }

    /// How many entries there are, as far as they could be read.
    #[must_use]
    pub fn len(&self) -> usize {
        self.json_entries().len()
    }

    /// Whether there is no entry that could be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether everything that the map holds could be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.value()["complete"] == true
    }

    /// What could not be read, each as a line; empty if
    /// [`is_complete`](MapView::is_complete).
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        let map = self.value();
        let errors = ["error", "state_error", "btf_error"].iter();
        let errors = errors.filter_map(|name| Some(map[name].as_str()?.to_owned()));
        let listed = map["gaps"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let listed = listed.iter().map(|gap| {
            let reason = gap["reason"].as_str().unwrap_or_default();
            let at = ["kva", "index", "key", "at"]
                .iter()
                .find_map(|at| match &gap[at] {
                    Json::Null => None,
                    Json::String(text) => Some(format!("{at} {text}: ")),
                    other => Some(format!("{at} {other}: ")),
                });
            format!("{}{reason}", at.unwrap_or_default())
        });
        let more = map["unlisted_gaps"].as_u64();
        let more = more.map(|more| format!("{more} more"));
        errors.chain(listed).chain(more).collect()
    }

    fn json_entries(&self) -> &[Json] {
        let entries = self.value()["entries"].as_array();
        entries.map(Vec::as_slice).unwrap_or_default()
    }

    /// The entries, in the order in which the kernel has them.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.len()).map(|at| self.at(at))
    }

    fn at(&self, at: usize) -> Entry {
        let place = format!("/maps/0/entries/{at}");
        let label = key::label(self.document.at(&place));
        Entry {
            document: Rc::clone(&self.document),
            place,
            name: format!("{}[{label}]", self.info.name),
        }
    }

    /// The entry for this key.
    ///
    /// A key is anything that serializes as the key's type looks in JSON: a
    /// number, a text for an array of characters or an enum, a struct or
    /// `serde_json::json!({…})` with all members for a struct. Of a storage it
    /// is what the entry belongs to: the pid of a thread, the id of a cgroup,
    /// the number of an inode, the cookie of a socket. Of arrays, queues and
    /// stacks it is the index. Where the key has no type, a number means its
    /// bytes.
    ///
    /// # Errors
    ///
    /// If there is no such entry, or several; if it may be among what could
    /// not be read.
    pub fn entry(&self, key: impl Serialize) -> Result<Entry, QueryError> {
        let json = serde_json::to_value(key).map_err(|error| QueryError::Kind {
            what: format!("the key for map `{}`", self.info.name),
            found: format!("not serializable ({error})"),
            wanted: "a key".to_owned(),
        })?;
        let what = json.to_string();
        self.only_one(&Key::Typed(json), &what)
    }

    /// The entry whose key has these bytes.
    ///
    /// # Errors
    ///
    /// As [`entry`](MapView::entry).
    pub fn entry_bytes(&self, key: &[u8]) -> Result<Entry, QueryError> {
        let hex = key::hex(key);
        self.only_one(&Key::Bytes(hex.clone()), &hex)
    }

    /// The entry for this key; `None` if the map is complete and has none.
    ///
    /// # Errors
    ///
    /// As [`entry`](MapView::entry), absence aside.
    pub fn find(&self, key: impl Serialize) -> Result<Option<Entry>, QueryError> {
        match self.entry(key) {
            Ok(entry) => Ok(Some(entry)),
            Err(QueryError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn only_one(&self, key: &Key, text: &str) -> Result<Entry, QueryError> {
        let what = || format!("entry {text} in map `{}`", self.info.name);
        let entries = self.json_entries();
        let mut found = (0..entries.len()).filter(|&at| {
            let entry = entries.get(at);
            entry.is_some_and(|entry| key.is_of(entry))
        });
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(self.at(at)),
            (Some(first), Some(second)) => {
                let which = [first, second].into_iter().chain(found);
                Err(QueryError::Ambiguous {
                    what: what(),
                    which: Listed::first(which.map(|at| format!("the {} of `entries`", nth(at)))),
                })
            }
            (None, _) => match self.gaps().first() {
                Some(gap) => Err(QueryError::Unsure {
                    what: what(),
                    why: gap.clone(),
                }),
                None => Err(QueryError::Absent {
                    what: what(),
                    there: Listed::nearest(text, entries.iter().map(key::label)),
                }),
            },
        }
    }

    /// The variable of this data section or arena; a path into it may follow,
    /// as [`Value::field`] takes it.
    ///
    /// # Errors
    ///
    /// If it has none of this name, or holds none.
    pub fn var(&self, name: &str) -> Result<Value, QueryError> {
        variable(self.info, &self.document, name)
    }
}

/// `1st`, `2nd`, … for an index.
fn nth(at: usize) -> String {
    let number = at.saturating_add(1);
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// One entry of a map.
#[derive(Clone)]
pub struct Entry {
    document: Rc<Document>,
    place: String,
    name: String,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.name, self.json())
    }
}

impl Entry {
    /// The entry as it is in the JSON that bpfreeze prints: with `key`,
    /// `value`, `percpu`, `owner`, `refers`, as the map's type has them.
    #[must_use]
    pub fn json(&self) -> &Json {
        self.document.at(&self.place)
    }

    /// The key.
    ///
    /// # Errors
    ///
    /// If entries of this map have none, or it has no type.
    pub fn key(&self) -> Result<Value, QueryError> {
        self.typed("key", format!("the key of {}", self.name))
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// If there is one for each CPU ([`cpu`](Entry::cpu)), or none, or it has
    /// no type, or nothing of it could be read.
    pub fn value(&self) -> Result<Value, QueryError> {
        self.typed("value", self.name.clone())
    }

    /// The part of the value at `path`, as [`Value::field`] finds it.
    ///
    /// # Errors
    ///
    /// As [`value`](Entry::value) and [`Value::field`].
    pub fn field(&self, path: &str) -> Result<Value, QueryError> {
        self.value()?.field(path)
    }

    /// The bytes of the value that could be read.
    ///
    /// # Errors
    ///
    /// If there is no value, or not all of it could be read.
    pub fn bytes(&self) -> Result<Vec<u8>, QueryError> {
        let value = &self.json()["value"];
        let bytes = value["hex"].as_str().and_then(key::unhex);
        match (bytes, inside(value, "/missing/why").as_str()) {
            (Some(bytes), None) => Ok(bytes),
            (_, Some(why)) => Err(QueryError::Unreadable {
                what: self.name.clone(),
                why: why.to_owned(),
            }),
            (None, None) => Err(self.lacks("value")),
        }
    }

    /// What it belongs to, in storages: `pid` and `comm` of a thread, and so
    /// on.
    ///
    /// # Errors
    ///
    /// If it belongs to nothing.
    pub fn owner(&self) -> Result<Value, QueryError> {
        self.object("owner")
    }

    /// What it refers to, in maps of maps, programs, devices and sockets.
    ///
    /// # Errors
    ///
    /// If it refers to nothing.
    pub fn refers(&self) -> Result<Value, QueryError> {
        self.object("refers")
    }

    fn object(&self, member: &str) -> Result<Value, QueryError> {
        match self.json()[member].is_null() {
            true => Err(self.lacks(member)),
            false => Ok(Value::new(
                &self.document,
                below(&self.place, member),
                format!("the {member} of {}", self.name),
            )),
        }
    }

    /// The value of this CPU.
    ///
    /// # Errors
    ///
    /// If there is not one for each CPU, or none for this one, or it could not
    /// be read.
    pub fn cpu(&self, cpu: u32) -> Result<Value, QueryError> {
        let of_cpu = self
            .percpu()?
            .into_iter()
            .find(|(number, _)| *number == cpu);
        match of_cpu {
            Some((_, value)) => value.target(),
            None => Err(QueryError::Absent {
                what: format!("CPU {cpu} in {}", self.name),
                there: Listed::nearest(
                    &cpu.to_string(),
                    self.percpu()?.into_iter().map(|(cpu, _)| cpu.to_string()),
                ),
            }),
        }
    }

    /// The value of each CPU with the CPU's number. Of what could not be read
    /// every use is an error.
    ///
    /// # Errors
    ///
    /// If there is not one for each CPU.
    pub fn percpu(&self) -> Result<Vec<(u32, Value)>, QueryError> {
        let Some(values) = self.json()["percpu"].as_array() else {
            return Err(self.lacks("value for each CPU"));
        };
        let place = below(&self.place, "percpu");
        let each = values.iter().enumerate().filter_map(|(at, json)| {
            let cpu = u32::try_from(json["cpu"].as_u64()?).ok()?;
            let value = Value::new(
                &self.document,
                format!("{place}/{at}/value/typed"),
                format!("{} on CPU {cpu}", self.name),
            );
            Some((cpu, value))
        });
        Ok(each.collect())
    }

    /// The sum over all CPUs of the number at `path`; of the value itself for
    /// an empty path.
    ///
    /// # Errors
    ///
    /// If that of any CPU is no unsigned number or could not be read, or the
    /// sum is more than 64 bits hold.
    pub fn sum(&self, path: &str) -> Result<u64, QueryError> {
        let mut sum = 0_u64;
        for (_, value) in self.percpu()? {
            let value = value.field(path)?;
            sum = sum
                .checked_add(value.as_u64()?)
                .ok_or_else(|| QueryError::Kind {
                    what: format!("the sum of {path} in {}", self.name),
                    found: "more than 64 bits".to_owned(),
                    wanted: "an unsigned number".to_owned(),
                })?;
        }
        Ok(sum)
    }

    fn typed(&self, member: &'static str, name: String) -> Result<Value, QueryError> {
        let json = &self.json()[member];
        if json.is_null() {
            return Err(self.lacks(member));
        }
        if json["typed"].is_null() && json["missing"].is_null() {
            return Err(QueryError::Kind {
                what: name,
                found: "of a type that is not known".to_owned(),
                wanted: format!("a {member} to look into"),
            });
        }
        let place = below(&below(&self.place, member), "typed");
        Ok(Value::new(&self.document, place, name))
    }

    fn lacks(&self, what: &str) -> QueryError {
        let members = self.json().as_object();
        let members: Option<Vec<String>> = members.map(|members| members.keys().cloned().collect());
        QueryError::Absent {
            what: format!("{what} in {}", self.name),
            there: Listed::first(members.unwrap_or_default()),
        }
    }
}
