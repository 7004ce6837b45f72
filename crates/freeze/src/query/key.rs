//! Keys, as they are asked for and as entries have them.

use serde_json::{Number, Value as Json};

use super::document::inside;

/// What an entry is looked for by.
pub(super) enum Key {
    /// The key by its type.
    Typed(Json),
    /// Its bytes, in hexadecimal digits.
    Bytes(String),
}

impl Key {
    /// Whether this entry has the key.
    pub(super) fn is_of(&self, entry: &Json) -> bool {
        let hex = inside(entry, "/key/hex").as_str();
        let wanted = match self {
            Self::Bytes(bytes) => return hex == Some(bytes),
            Self::Typed(wanted) => wanted,
        };
        let is_key = match (inside(entry, "/key/typed"), hex) {
            (Json::Null, Some(hex)) => is_number_in(wanted, hex),
            (typed, _) => !typed.is_null() && same(typed, wanted),
        };
        let position = ["index", "stack", "record", "element"];
        is_key
            || position.iter().any(|name| same(&entry[name], wanted))
            || name_of_owner(entry).is_some_and(|owner| same(owner, wanted))
    }
}

/// What an entry is called: its key, index, or owner.
pub(super) fn label(entry: &Json) -> String {
    let position = ["index", "stack", "record", "element"];
    let named = position.iter().map(|name| &entry[name]);
    let named = [inside(entry, "/key/typed")]
        .into_iter()
        .chain(named)
        .chain(name_of_owner(entry));
    let label = named.into_iter().find(|json| !json.is_null());
    match (label, inside(entry, "/key/hex").as_str()) {
        (Some(label), _) => label.to_string(),
        (None, Some(hex)) => hex.to_owned(),
        (None, None) => "?".to_owned(),
    }
}

/// The number by which people know what an entry belongs to.
fn name_of_owner(entry: &Json) -> Option<&Json> {
    let owner = &entry["owner"];
    let name = match owner["kind"].as_str()? {
        "task" => "pid",
        "cgroup" => "id",
        "inode" => "ino",
        "socket" => "cookie",
        _ => return None,
    };
    owner.get(name)
}

/// Whether two values are equal, numbers by what they count.
fn same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => match (whole(one), whole(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one.as_f64() == other.as_f64(),
        },
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(name, one)| other.get(name).is_some_and(|other| same(one, other)))
        }
        (Json::Null, _) | (_, Json::Null) => false,
        (one, other) => one == other,
    }
}

fn whole(number: &Number) -> Option<i128> {
    let unsigned = number.as_u64().map(i128::from);
    unsigned.or_else(|| number.as_i64().map(i128::from))
}

/// Whether a number has these little-endian bytes.
fn is_number_in(wanted: &Json, hex: &str) -> bool {
    let (Json::Number(wanted), Some(bytes)) = (wanted, unhex(hex)) else {
        return false;
    };
    let Some(number) = whole(wanted) else {
        return false;
    };
    let fits = match bytes.len() {
        len @ 1..=8 => {
            let bits = len * 8;
            let least = -(1_i128 << (bits - 1));
            (least..1_i128 << bits).contains(&number)
        }
        _ => false,
    };
    fits && number.to_le_bytes().starts_with(&bytes)
}

/// Two digits for each byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that two digits each stand for.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
