//! One entry of a map.

use std::fmt;
use std::rc::Rc;

use serde_json::Value as Json;

use super::document::{Document, below, inside};
use super::error::QueryError;
use super::key;
use super::nearest::Listed;
use super::value::Value;

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
    pub(super) fn new(document: &Rc<Document>, place: String, name: String) -> Self {
        Self {
            document: Rc::clone(document),
            place,
            name,
        }
    }

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
