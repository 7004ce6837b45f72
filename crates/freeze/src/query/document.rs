//! A dump in memory that values are looked up in.

use std::cell::OnceCell;
use std::collections::HashMap;

use serde_json::Value as Json;

/// A document of `render`, and where in it the objects are that pointers lead
/// to. Places are JSON pointers.
#[derive(Debug)]
pub(crate) struct Document {
    json: Json,
    /// By address and type.
    objects: OnceCell<HashMap<(String, String), String>>,
}

impl Document {
    pub(crate) fn new(json: Json) -> Self {
        Self {
            json,
            objects: OnceCell::new(),
        }
    }

    /// What is at a place; `Null` is also what is nowhere.
    pub(crate) fn at(&self, place: &str) -> &Json {
        inside(&self.json, place)
    }

    /// Where the object of this type and address is shown.
    pub(crate) fn object(&self, addr: &str, type_name: &str) -> Option<&str> {
        let objects = self.objects.get_or_init(|| {
            let mut found = HashMap::new();
            collect(&self.json, &mut String::new(), &mut found);
            found
        });
        let key = (addr.to_owned(), type_name.to_owned());
        objects.get(&key).map(String::as_str)
    }

    /// Where the payload of an allocator's slot is.
    pub(crate) fn payload(&self, symbol: &str, idx: &Json) -> Option<String> {
        let allocators = self.at("/allocators").as_array()?.iter().enumerate();
        let mut named = allocators.filter(|(_, allocator)| allocator["symbol"] == symbol);
        let (at, allocator) = named.next()?;
        // Of two allocators of the same name neither is meant for sure.
        if named.next().is_some() {
            return None;
        }
        let slots = allocator["slots"].as_array()?;
        let slot = slots.iter().position(|slot| slot["idx"] == *idx)?;
        Some(format!("/allocators/{at}/slots/{slot}/payload"))
    }

    /// Why there is nothing at `place`: the reason that the nearest thing
    /// around it states.
    pub(crate) fn why(&self, place: &str) -> String {
        let mut around = place;
        while let Some((outer, _)) = around.rsplit_once('/') {
            around = outer;
            let json = self.at(around);
            let missing = &json["missing"];
            let stated = [&missing["why"], missing, &json["why"], &json["error"]];
            if let Some(why) = stated.iter().find_map(|why| why.as_str()) {
                return why.to_owned();
            }
        }
        "it is missing from the dump".to_owned()
    }
}

/// What is at a place in `json`; `Null` also is what is nowhere.
pub(crate) fn inside<'a>(json: &'a Json, place: &str) -> &'a Json {
    json.pointer(place).unwrap_or(&Json::Null)
}

/// A place one step further in.
pub(crate) fn below(place: &str, step: &str) -> String {
    let step = step.replace('~', "~0").replace('/', "~1");
    format!("{place}/{step}")
}

/// Notes where objects are. Documents nest only as deep as `render` lets
/// them.
fn collect(json: &Json, place: &mut String, found: &mut HashMap<(String, String), String>) {
    let len = place.len();
    let mut note = |at: &Json, type_name: &Json, member: &str| {
        if let (Some(at), Some(type_name)) = (at.as_str(), type_name.as_str()) {
            let key = (at.to_owned(), type_name.to_owned());
            found.entry(key).or_insert_with(|| below(place, member));
        }
    };
    match json {
        Json::Object(members) => {
            if members.contains_key("to") {
                note(&json["ptr"], &json["type"], "to");
            }
            if members.contains_key("typed") && members.contains_key("arena") {
                note(&json["addr"], &json["type"], "typed");
            }
            for (name, member) in members {
                *place = below(place, name);
                collect(member, place, found);
                place.truncate(len);
            }
        }
        Json::Array(elements) => {
            for (at, element) in elements.iter().enumerate() {
                *place = below(place, &at.to_string());
                collect(element, place, found);
                place.truncate(len);
            }
        }
        _ => {}
    }
}
