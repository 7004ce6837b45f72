//! The table of what is read from which kernel: made from the results of the matrix, kept in the
//! README between two marks.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::matrix::Table;
use crate::paths;

const BEGIN: &str = "<!-- begin: cargo xtask test-matrix --write -->";
const END: &str = "<!-- end: cargo xtask test-matrix --write -->";

/// What the tests of one cell found, type by type, as they write it.
#[derive(Debug, Deserialize)]
pub(crate) struct Types {
    types: Vec<Row>,
}

#[derive(Debug, Deserialize)]
struct Row {
    #[serde(rename = "type")]
    kind: String,
    /// How many maps of the type had contents.
    filled: usize,
    support: Support,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Support {
    Read,
    Absent,
    Unread(String),
    Wrong(Vec<String>),
}

impl Types {
    /// The results of one cell.
    ///
    /// # Errors
    /// Fails if the file is not there or is something else.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("parsing {}", path.display()))
    }

    /// How many types there are of each outcome; those that are wrong by name.
    pub(crate) fn summary(&self) -> String {
        let count = |is: fn(&Support) -> bool| {
            let types = self.types.iter();
            types.filter(|row| is(&row.support)).count()
        };
        let mut text = format!(
            "{} read, {} not readable, {} not in this kernel",
            count(|support| matches!(support, Support::Read)),
            count(|support| matches!(support, Support::Unread(_))),
            count(|support| matches!(support, Support::Absent)),
        );
        let wrong = self.types.iter();
        let wrong = wrong.filter(|row| matches!(row.support, Support::Wrong(_)));
        let wrong: Vec<&str> = wrong.map(|row| row.kind.as_str()).collect();
        if !wrong.is_empty() {
            text.push_str(&format!(", {} wrong: {}", wrong.len(), wrong.join(" ")));
        }
        text
    }
}

/// The table in Markdown: a row for each type, a column for each cell.
///
/// # Errors
/// Fails if the columns have different rows, or if one of them says what it has no evidence for.
pub(crate) fn table(columns: &[(String, Types)]) -> Result<String> {
    let titles = columns.iter().map(|(title, _)| title.as_str());
    let titles: Vec<&str> = titles.collect();
    let mut text = format!("| type | {} |\n", titles.join(" | "));
    text.push_str(&format!("|---|{}\n", "---|".repeat(columns.len())));
    let (_, first) = columns.first().context("no cells")?;
    for (at, row) in first.types.iter().enumerate() {
        write!(text, "| `{}` |", row.kind)?;
        for (title, types) in columns {
            let cell = types.types.get(at).filter(|cell| cell.kind == row.kind);
            let cell = cell.with_context(|| format!("{title} says nothing of {}", row.kind))?;
            write!(text, " {} |", word(title, cell)?)?;
        }
        text.push('\n');
    }
    for (title, types) in columns {
        let (has, expected) = (types.types.len(), first.types.len());
        ensure!(has == expected, "{title} has {has} types, not {expected}");
    }
    Ok(text)
}

fn word<'a>(title: &str, row: &'a Row) -> Result<&'a str> {
    let kind = &row.kind;
    match (&row.support, row.filled) {
        (Support::Read, 1..) => Ok("read"),
        (Support::Unread(reason), 1..) => Ok(reason),
        (Support::Absent, 0) => Ok("–"),
        (Support::Wrong(lines), _) => bail!("{title}, {kind}: {}", lines.join("\n")),
        (support, filled) => bail!("{title}, {kind}: {support:?} with {filled} filled maps"),
    }
}

/// Puts the table into the README, or compares it with what is there.
///
/// # Errors
/// Fails if the README has no place for it, or has another.
pub(crate) fn update(table: &str, what: Table) -> Result<()> {
    let path = paths::workspace().join("README.md");
    let old = fs::read_to_string(&path)?;
    let new = replaced(&old, table).context("README.md has no marks around a support table")?;
    match what {
        Table::Write => Ok(fs::write(&path, new)?),
        Table::Check if old == new => Ok(()),
        Table::Check => bail!(
            "the support table of README.md is not what the matrix shows; \
             run: cargo xtask test-matrix --write"
        ),
    }
}

/// A text with another table between its marks.
fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{BEGIN, END, Types, replaced, table};

    fn column(title: &str, rows: &[(&str, usize, Value)]) -> (String, Types) {
        let rows = rows.iter().map(
            |(kind, filled, support)| json!({"type": kind, "filled": filled, "support": support}),
        );
        let types = json!({"types": rows.collect::<Vec<_>>()});
        (title.to_owned(), serde_json::from_value(types).unwrap())
    }

    #[test]
    fn a_cell_needs_evidence() {
        let check = |filled: usize, support: Value, expected: Option<&str>| {
            let made = table(&[column("6.1 live", &[("hash", filled, support)])]).ok();
            let expected = expected
                .map(|word| format!("| type | 6.1 live |\n|---|---|\n| `hash` | {word} |\n"));
            assert_eq!(made, expected);
        };
        check(1, json!("read"), Some("read"));
        check(0, json!("read"), None);
        check(0, json!("absent"), Some("–"));
        check(1, json!("absent"), None);
        check(2, json!({"unread": "no look-up"}), Some("no look-up"));
        check(0, json!({"unread": "no look-up"}), None);
        check(1, json!({"wrong": ["key 1"]}), None);
    }

    #[test]
    fn columns_have_the_same_rows() {
        let read = || json!("read");
        let one = column("a", &[("hash", 1, read())]);
        let other = column("b", &[("array", 1, read())]);
        let longer = column("c", &[("hash", 1, read()), ("array", 1, read())]);
        assert!(table(&[one, other]).is_err());
        assert!(table(&[column("a", &[("hash", 1, read())]), longer]).is_err());
    }

    #[test]
    fn the_table_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        let new = replaced(&text, "|t|\n").unwrap();
        assert_eq!(new, format!("a\n{BEGIN}\n\n|t|\n\n{END}\nb\n"));
        assert_eq!(replaced(&new, "|t|\n").unwrap(), new);
        assert_eq!(replaced("no marks", "|t|\n"), None);
    }
}
