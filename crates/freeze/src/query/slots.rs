//! The slots of an allocator in an arena.

use std::rc::Rc;

use serde_json::Value as Json;

use super::document::{Document, below, inside};
use super::error::QueryError;
use super::nearest::Listed;
use super::value::Value;

/// What an allocator gave out and got back, by index.
#[derive(Clone, Debug)]
pub struct Slots {
    allocator: String,
    slots: Vec<Slot>,
    gaps: Vec<String>,
}

impl Slots {
    /// Those of the allocator that is the one at `at` in a document.
    pub(crate) fn new(document: &Rc<Document>, at: usize, allocator: &str) -> Self {
        let place = format!("/allocators/{at}");
        let json = document.at(&place);
        let slots = json["slots"].as_array();
        let slots = slots.map(Vec::as_slice).unwrap_or_default();
        let slots = (0..slots.len()).map(|slot| Slot {
            document: Rc::clone(document),
            place: format!("{place}/slots/{slot}"),
            allocator: allocator.to_owned(),
        });
        let listed = json["gaps"].as_array();
        let listed = listed.map(Vec::as_slice).unwrap_or_default();
        let reason = |gap: &Json| gap["reason"].as_str().unwrap_or_default().to_owned();
        let more = json["unlisted_gaps"].as_u64();
        let more = more.map(|more| format!("{more} more"));
        let gaps = listed.iter().map(reason).chain(more).collect();
        Self {
            allocator: allocator.to_owned(),
            slots: slots.collect(),
            gaps,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the whole of the allocator's tree could be read.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.gaps.is_empty()
    }

    /// What could not be read of the allocator's tree, each as a line.
    #[must_use]
    pub fn gaps(&self) -> &[String] {
        &self.gaps
    }

    /// Each slot.
    pub fn iter(&self) -> std::slice::Iter<'_, Slot> {
        self.slots.iter()
    }

    /// The slot whose owner is this thread.
    ///
    /// # Errors
    ///
    /// If the thread has none, or several, or it may be among what could not
    /// be read.
    pub fn of_pid(&self, pid: i32) -> Result<&Slot, QueryError> {
        let what = || format!("slot of {} for pid {pid}", self.allocator);
        let mut owned = self.slots.iter().filter(|slot| slot.pid() == Some(pid));
        match (owned.next(), owned.next(), self.gaps.first()) {
            (Some(slot), None, _) => Ok(slot),
            (Some(first), Some(second), _) => {
                let which = [first, second].into_iter().chain(owned);
                Err(QueryError::Ambiguous {
                    what: what(),
                    which: Listed::first(which.map(|slot| format!("#{}", slot.idx()))),
                })
            }
            (None, _, Some(why)) => Err(QueryError::Unsure {
                what: what(),
                why: why.clone(),
            }),
            (None, _, None) => {
                let pids = self.slots.iter().filter_map(Slot::pid);
                Err(QueryError::Absent {
                    what: what(),
                    there: Listed::nearest(&pid.to_string(), pids.map(|pid| pid.to_string())),
                })
            }
        }
    }
}

impl<'a> IntoIterator for &'a Slots {
    type Item = &'a Slot;
    type IntoIter = std::slice::Iter<'a, Slot>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One slot.
#[derive(Clone)]
pub struct Slot {
    document: Rc<Document>,
    place: String,
    allocator: String,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} #{} = {}", self.allocator, self.idx(), self.json())
    }
}

impl Slot {
    /// The slot as it is in the JSON that bpfreeze prints.
    #[must_use]
    pub fn json(&self) -> &Json {
        self.document.at(&self.place)
    }

    /// Its position in the allocator's tree.
    #[must_use]
    pub fn idx(&self) -> u64 {
        self.json()["idx"].as_u64().unwrap_or_default()
    }

    /// `live`, `freed`, `torn`, `misplaced` or `unproved`.
    #[must_use]
    pub fn state(&self) -> &str {
        self.json()["state"].as_str().unwrap_or_default()
    }

    /// The thread that it was allocated for, if it is known.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        let pid = inside(self.json(), "/owner/pid").as_i64()?;
        i32::try_from(pid).ok()
    }

    /// The name of that thread, if it is known.
    #[must_use]
    pub fn comm(&self) -> Option<&str> {
        inside(self.json(), "/owner/comm").as_str()
    }

    /// What is in it.
    ///
    /// # Errors
    ///
    /// If it was freed, if its type is not known, or if it could not be read.
    pub fn payload(&self) -> Result<Value, QueryError> {
        let name = format!("{} #{}", self.allocator, self.idx());
        let payload = &self.json()["payload"];
        if payload["typed"].is_null() && payload["missing"].is_null() {
            return Err(QueryError::Kind {
                what: name,
                found: match payload.is_null() {
                    true => self.state().to_owned(),
                    false => "of a type that is not known".to_owned(),
                },
                wanted: "a payload".to_owned(),
            });
        }
        let place = below(&below(&self.place, "payload"), "typed");
        Ok(Value::new(&self.document, place, name))
    }

    /// The part of what is in it at `path`, as [`Value::field`] finds it.
    ///
    /// # Errors
    ///
    /// As [`payload`](Slot::payload) and [`Value::field`].
    pub fn field(&self, path: &str) -> Result<Value, QueryError> {
        self.payload()?.field(path)
    }
}
