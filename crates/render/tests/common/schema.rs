//! The schema that the repository publishes.

use jsonschema::Validator;
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../../schema/bpfreeze-1.schema.json");

/// The schema itself, or one of its definitions.
pub(crate) fn schema(definition: Option<&str>) -> Validator {
    let mut schema: Value = serde_json::from_str(SCHEMA).unwrap();
    jsonschema::meta::validate(&schema).unwrap();
    if let Some(name) = definition {
        let definitions = schema["$defs"].take();
        schema = json!({"$defs": definitions, "$ref": format!("#/$defs/{name}")});
    }
    jsonschema::validator_for(&schema).unwrap()
}

/// Checks that `text` is what the schema says.
#[track_caller]
pub(crate) fn check(schema: &Validator, text: &str) {
    let value: Value = serde_json::from_str(text).unwrap();
    let errors: Vec<String> = schema
        .iter_errors(&value)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?} in {text}");
}
