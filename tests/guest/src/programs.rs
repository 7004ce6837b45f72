//! The list of programs against those that the map maker loaded.

use serde::Deserialize;
use serde_json::Value;

use crate::checks::agree;
use crate::guest::{Guest, parse};
use crate::pattern::{Terms, mismatches};
use crate::witnesses::Backend;

/// What `bpfreeze progs --format json` writes.
#[derive(Debug, Deserialize)]
struct Progs {
    progs: Vec<Value>,
    complete: bool,
}

#[derive(Debug, Deserialize)]
struct Truth {
    programs: Vec<Value>,
}

/// Every program that was loaded is listed, as it was loaded. Others may be there: bpftool's own
/// are freed some time after its end.
pub(crate) fn are_listed(guest: &Guest, backend: Backend) {
    let truth: Truth = guest.document("truth.json");
    assert!(!truth.programs.is_empty(), "no programs were loaded");
    let output = match backend {
        Backend::Guest => guest.bpfreeze(&["progs", "RAM", "--format", "json"]),
        Backend::Live | Backend::Kcore => guest.witness(&backend.witness("progs")),
    };
    let progs: Progs = parse(&output, "bpfreeze progs");
    assert!(progs.complete, "programs are missing in the list");
    let terms = Terms {
        ordered: false,
        more: true,
    };
    agree(mismatches(&truth.programs, &progs.progs, terms));
}
