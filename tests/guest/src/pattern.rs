//! Matches the entries of a map with patterns of them.

use serde_json::Value;

use crate::typed::{Floats, contradictions, short};

/// In which order entries come, and whether all of them are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The first pattern is of the first entry, and so on.
    pub(crate) ordered: bool,
    /// There may be entries beyond the patterns.
    pub(crate) more: bool,
}

/// What keeps entries from being those of the patterns, one each; no line means that they are.
pub(crate) fn mismatches(patterns: &[Value], entries: &[Value], terms: Terms) -> Vec<String> {
    let (mut lines, left) = match terms.ordered {
        true => in_order(patterns, entries),
        false => in_any_order(patterns, entries),
    };
    if !terms.more {
        let left = left.into_iter();
        lines.extend(left.map(|entry| format!("nothing like this was put in: {}", short(entry))));
    }
    lines
}

/// The contradictions, and the entries that no pattern is about.
type Outcome<'a> = (Vec<String>, Vec<&'a Value>);

fn in_order<'a>(patterns: &[Value], entries: &'a [Value]) -> Outcome<'a> {
    let mut lines = Vec::new();
    for (at, pattern) in patterns.iter().enumerate() {
        match entries.get(at) {
            Some(entry) => lines.extend(differences(&format!("entry {at}"), pattern, entry)),
            None => lines.push(format!("entry {at} is not there: {}", short(pattern))),
        }
    }
    let left = entries.get(patterns.len()..).unwrap_or_default();
    (lines, left.iter().collect())
}

fn in_any_order<'a>(patterns: &[Value], entries: &'a [Value]) -> Outcome<'a> {
    let mut owners = Owners {
        patterns,
        entries,
        of: vec![None; entries.len()],
    };
    let homeless: Vec<usize> = (0..patterns.len())
        .filter(|&pattern| !owners.place(pattern, &mut vec![false; entries.len()]))
        .collect();
    let free = owners.of.iter().zip(entries);
    let left: Vec<&Value> = free
        .filter(|(owner, _)| owner.is_none())
        .map(|(_, entry)| entry)
        .collect();
    let mut lines = Vec::new();
    for pattern in homeless {
        let head = format!("pattern {pattern}");
        let pattern = &patterns[pattern];
        let nearest = left.iter().map(|entry| differences(&head, pattern, entry));
        match nearest.min_by_key(Vec::len) {
            Some(nearest) => lines.extend(nearest),
            None => lines.push(format!("{head} is not there: {}", short(pattern))),
        }
    }
    (lines, left)
}

fn differences(head: &str, pattern: &Value, entry: &Value) -> Vec<String> {
    contradictions(head, pattern, entry, Floats::Near)
}

/// Which pattern each entry belongs to.
struct Owners<'a> {
    patterns: &'a [Value],
    entries: &'a [Value],
    of: Vec<Option<usize>>,
}

impl Owners<'_> {
    /// Finds an entry for a pattern, moving others where a pattern fits several entries.
    /// `tried` has the entries that this search has come by.
    fn place(&mut self, pattern: usize, tried: &mut Vec<bool>) -> bool {
        let count = self.entries.len();
        // Most lists are nearly in order.
        for entry in (0..count).map(|step| (pattern + step) % count) {
            if tried[entry]
                || !differences("", &self.patterns[pattern], &self.entries[entry]).is_empty()
            {
                continue;
            }
            tried[entry] = true;
            let is_free = match self.of[entry] {
                None => true,
                Some(other) => self.place(other, tried),
            };
            if is_free {
                self.of[entry] = Some(pattern);
                return true;
            }
        }
        false
    }
}

/// A pattern with more put over it: members are merged, all else is replaced.
pub(crate) fn merged(pattern: &Value, more: &Value) -> Value {
    match (pattern, more) {
        (Value::Object(members), Value::Object(more)) => {
            let mut members = members.clone();
            for (name, more) in more {
                let member = members.entry(name).or_insert(Value::Null);
                *member = merged(member, more);
            }
            Value::Object(members)
        }
        _ => more.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Terms, merged, mismatches};

    const ANY: Terms = Terms {
        ordered: false,
        more: false,
    };
    const IN_ORDER: Terms = Terms {
        ordered: true,
        more: false,
    };
    const SOME: Terms = Terms {
        ordered: false,
        more: true,
    };

    fn check(terms: Terms, patterns: Value, entries: Value, count: usize) {
        let lists = [patterns, entries].map(|list| list.as_array().unwrap().clone());
        let [patterns, entries] = lists;
        let found = mismatches(&patterns, &entries, terms);
        assert_eq!(found.len(), count, "{found:?}");
    }

    #[test]
    fn entries_are_matched_one_to_one() {
        check(ANY, json!([]), json!([]), 0);
        check(
            ANY,
            json!([{"a": 1}, {"a": 2}]),
            json!([{"a": 2}, {"a": 1, "b": 5}]),
            0,
        );
        // Two alike need two.
        check(
            ANY,
            json!([{"a": 1}, {"a": 1}]),
            json!([{"a": 1}, {"a": 1}]),
            0,
        );
        check(ANY, json!([{"a": 1}, {"a": 1}]), json!([{"a": 1}]), 1);
        check(ANY, json!([{"a": 1}]), json!([{"a": 1}, {"a": 1}]), 1);
        // The wrong value: one that is expected, one that is not.
        check(ANY, json!([{"a": 1}]), json!([{"a": 2}]), 2);
        check(
            ANY,
            json!([{"a": {"b": [1, 2]}}]),
            json!([{"a": {"b": [1, 2, 3]}}]),
            2,
        );
        check(
            ANY,
            json!([{"a": {"b": [1, {"c": 2}]}}]),
            json!([{"a": {"b": [1, {"c": 2, "d": 3}]}}]),
            0,
        );
    }

    #[test]
    fn patterns_make_way_for_narrower_ones() {
        // The wide one fits both entries, and takes first the only one that the narrow one fits.
        let wide_first = json!([{"a": 1}, {"a": 1, "b": 2}]);
        check(
            ANY,
            wide_first,
            json!([{"a": 1, "b": 2}, {"a": 1, "b": 3}]),
            0,
        );
        let chain = json!([{}, {"a": 1}, {"a": 1, "b": 2}]);
        check(ANY, chain, json!([{"a": 1, "b": 2}, {"a": 1}, {"c": 0}]), 0);
    }

    #[test]
    fn order_and_further_entries() {
        check(IN_ORDER, json!([1, 2]), json!([1, 2]), 0);
        check(IN_ORDER, json!([1, 2]), json!([2, 1]), 2);
        check(IN_ORDER, json!([1, 2]), json!([1]), 1);
        check(IN_ORDER, json!([1]), json!([1, 2]), 1);
        check(SOME, json!([2]), json!([1, 2, 3]), 0);
        check(SOME, json!([4]), json!([1, 2, 3]), 1);
        check(SOME, json!([4]), json!([]), 1);
    }

    #[test]
    fn what_only_one_backend_says_is_put_over_the_rest() {
        let pattern = json!({"index": 1, "refers": {"kind": "map", "id": 3}});
        let more = json!({"refers": {"name": "x"}, "value": [1]});
        let both =
            json!({"index": 1, "refers": {"kind": "map", "id": 3, "name": "x"}, "value": [1]});
        assert_eq!(merged(&pattern, &more), both);
        assert_eq!(merged(&pattern, &json!({})), pattern);
    }
}
