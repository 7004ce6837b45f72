//! Pointers that `render` followed, as its JSON has them.

use serde_json::Value as Json;

/// A pointer that was followed.
pub(super) struct Pointer<'a> {
    pub(super) address: &'a Json,
    pub(super) type_name: &'a Json,
    pub(super) leads: Leads<'a>,
}

pub(super) enum Leads<'a> {
    /// To what is in this member.
    To(&'static str),
    /// To an object that is shown elsewhere.
    Ref,
    /// Into a slot of an allocator.
    Slot(&'a Json),
    /// Nowhere, and why.
    Nowhere(&'a str),
}

/// What `render` writes for a pointer that it followed has only these members.
const POINTER: [&str; 12] = [
    "ptr", "kptr", "uptr", "type", "to", "typed", "object", "missing", "ref", "within", "slot",
    "why",
];

/// The pointer that this is, if it was followed.
pub(super) fn followed(json: &Json) -> Option<Pointer<'_>> {
    let members = json.as_object()?;
    let address = ["ptr", "kptr", "uptr"]
        .iter()
        .find_map(|name| members.get(*name))?;
    let has_only_these = members
        .keys()
        .all(|name| POINTER.contains(&name.as_str()) || name == "untrusted");
    if !has_only_these || !address.as_str()?.starts_with("0x") {
        return None;
    }
    let holds = |name: &str| members.contains_key(name);
    let leads = match ["to", "typed", "object"]
        .iter()
        .copied()
        .find(|name| holds(name))
    {
        Some(member) => Leads::To(member),
        None => match (members.get("why"), members.get("slot")) {
            (Some(why), _) => Leads::Nowhere(why.as_str().unwrap_or_default()),
            (None, Some(slot)) => Leads::Slot(slot),
            (None, None) if members.contains_key("ref") => Leads::Ref,
            (None, None) if address == "0x0" => Leads::Nowhere("it is null"),
            (None, None) => Leads::Nowhere("it was not followed"),
        },
    };
    Some(Pointer {
        address,
        type_name: members.get("type").unwrap_or(&Json::Null),
        leads,
    })
}
