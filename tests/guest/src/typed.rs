//! Compares JSON with what the map maker expects of it.

use serde_json::Value;

/// How floating-point numbers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floats {
    /// Bit by bit: they were stored and read.
    Exact,
    /// To a millionth: they were reckoned, here and there.
    Near,
}

/// Where `actual` does not say what `expected` does. Null in `expected` says nothing; members
/// that `expected` does not name are free.
pub(crate) fn contradictions(
    path: &str,
    expected: &Value,
    actual: &Value,
    floats: Floats,
) -> Vec<String> {
    match (expected, actual) {
        (Value::Null, _) => Vec::new(),
        (Value::Object(members), _) => members
            .iter()
            .flat_map(|(name, expected)| {
                let path = format!("{path}.{name}");
                match member(actual, name) {
                    Some(actual) => contradictions(&path, expected, actual, floats),
                    None => vec![format!("{path}: missing in {}", short(actual))],
                }
            })
            .collect(),
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            let pairs = expected.iter().zip(actual).enumerate();
            pairs
                .flat_map(|(at, (expected, actual))| {
                    contradictions(&format!("{path}[{at}]"), expected, actual, floats)
                })
                .collect()
        }
        _ if same(expected, actual, floats) => Vec::new(),
        _ => vec![format!(
            "{path}: {} is shown as {}",
            short(expected),
            short(actual)
        )],
    }
}

/// A member by name, also one of a member without a name or of a data section.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let Value::Object(members) = value else {
        return None;
    };
    members.get(name).or_else(|| {
        let nested = members
            .iter()
            .filter(|(name, _)| name.is_empty() || name.starts_with(['.', '(']));
        nested
            .into_iter()
            .find_map(|(_, value)| member(value, name))
    })
}

/// Whether two scalars are the same. Wide integers may be text, in either notation, but two texts
/// of plain digits are no numbers: bytes are written so.
fn same(expected: &Value, actual: &Value, floats: Floats) -> bool {
    if expected == actual {
        return true;
    }
    if let (Some(expected), Some(actual)) = (expected.as_f64(), actual.as_f64())
        && (expected.fract() != 0.0 || actual.fract() != 0.0 || expected.abs() > 1.0e30)
    {
        return match floats {
            Floats::Exact => expected.to_bits() == actual.to_bits(),
            Floats::Near => (expected - actual).abs() <= 1.0e-6 * expected.abs().max(actual.abs()),
        };
    }
    if let (Value::String(expected), Value::String(actual)) = (expected, actual)
        && expected.starts_with("0x") == actual.starts_with("0x")
    {
        return false;
    }
    match (integer(expected), integer(actual)) {
        (Some(expected), Some(actual)) => expected == actual,
        _ => false,
    }
}

/// An integer as its 128 bits and its sign.
fn integer(value: &Value) -> Option<(bool, u128)> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.as_str()),
    };
    let magnitude = match digits.strip_prefix("0x") {
        Some(digits) => u128::from_str_radix(digits, 16).ok()?,
        None => digits.strip_suffix(".0").unwrap_or(digits).parse().ok()?,
    };
    Some((negative && magnitude != 0, magnitude))
}

/// The beginning of a value's text.
pub(crate) fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[test]
fn contradictions_are_found() {
    use serde_json::json;
    let check_as = |floats, expected: Value, actual: Value, count: usize| {
        let found = contradictions("", &expected, &actual, floats);
        assert_eq!(found.len(), count, "{found:?}");
    };
    let check = |expected, actual, count| check_as(Floats::Exact, expected, actual, count);
    check(
        json!({"a": 1, "b": null}),
        json!({"a": 1, "b": 2, "c": 3}),
        0,
    );
    check(json!({"a": 1}), json!({"": {"a": 1}}), 0);
    check(json!({"a": 1}), json!({"a": 2}), 1);
    check(json!({"a": 1}), json!({"b": 1}), 1);
    check(json!([1, 2]), json!([1]), 1);
    check(
        json!("18446744073709551616"),
        json!("0x10000000000000000"),
        0,
    );
    check(json!(-1), json!("-1"), 0);
    check(json!(0.5), json!(0.25), 1);
    check(json!(1.0), json!(1), 0);
    check(json!(0.1), json!(0.100_000_000_1), 1);
    check_as(Floats::Near, json!(0.1), json!(0.100_000_000_1), 0);
    check_as(Floats::Near, json!(0.1), json!(0.1001), 1);
    check(json!(16), json!("0x10"), 0);
    check(json!("0010"), json!("10"), 1);
    check(json!("RED"), json!("BLUE"), 1);
}
