//! One map of a dump.

use std::fmt;
use std::rc::Rc;

use bpfmaps::MapInfo;
use render::Format;
use serde::Serialize;
use serde_json::Value as Json;

use super::document::Document;
use super::dump::Dump;
use super::entry::Entry;
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
        Entry::new(
            &self.document,
            place,
            format!("{}[{label}]", self.info.name),
        )
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
