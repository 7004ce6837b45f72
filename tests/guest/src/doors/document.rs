//! A dump's document, taken apart only as far as to leave out where it came from.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::guest::{parse, program};

/// So much of the texts is shown where they begin to differ.
const SHOWN: usize = 300;

/// The members of a document, as they were written.
pub(super) struct Document {
    pub(super) source: Value,
    rest: BTreeMap<String, Box<RawValue>>,
}

impl Document {
    /// The dump of a source. Gaps are no failure: they must be the same.
    #[track_caller]
    pub(super) fn of(source: &OsStr) -> Self {
        let mut command = program();
        command.arg("dump").arg(source).args(["--format", "json"]);
        let output = command.output().expect("bpfreeze starts");
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "bpfreeze dump {}: {}\n{}",
            source.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let mut rest: BTreeMap<String, Box<RawValue>> = parse(&output.stdout, "bpfreeze dump");
        let source = rest.remove("source").expect("a source");
        Self {
            source: parse(source.get().as_bytes(), "source"),
            rest,
        }
    }
}

/// Fails at the first difference.
#[track_caller]
pub(super) fn assert_same(name: &str, expected: &Document, found: &Document) {
    let names = |document: &Document| document.rest.keys().cloned().collect::<Vec<String>>();
    assert_eq!(names(expected), names(found), "{name}");
    for (member, text) in &expected.rest {
        let (expected, found) = (text.get().as_bytes(), found.rest[member].get().as_bytes());
        if expected == found {
            continue;
        }
        let pairs = expected.iter().zip(found);
        let same = pairs.take_while(|(one, other)| one == other).count();
        let around = |text: &[u8]| {
            let end = text.len().min(same + SHOWN);
            String::from_utf8_lossy(&text[same.saturating_sub(SHOWN)..end]).into_owned()
        };
        panic!(
            "{name}: {member} differs at byte {same}:\n{}\ninstead of\n{}",
            around(found),
            around(expected)
        );
    }
}
