//! What there is instead of what was asked for, nearest first.

use std::collections::HashSet;
use std::fmt;

/// How many names are listed at most.
const LISTED: usize = 12;

/// How much of a name is shown.
const LONGEST: usize = 80;

/// Some of what there is, and how much more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Names, nearest first.
    pub names: Vec<String>,
    /// How many more there are.
    pub more: usize,
}

impl Listed {
    /// The first of `names`, in their order.
    pub(crate) fn first(names: impl IntoIterator<Item = String>) -> Self {
        let mut all = names.into_iter();
        let names = all.by_ref().take(LISTED).map(shortened).collect();
        Self {
            names,
            more: all.count(),
        }
    }

    /// Those of `names` that are nearest to `wanted`, each once.
    #[must_use]
    pub fn nearest(wanted: &str, names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        // The sort is stable: names that are equally far stay in order.
        names.sort_by_cached_key(|name| distance(name, wanted));
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Self::first(names)
    }
}

fn shortened(mut name: String) -> String {
    if let Some((end, _)) = name.char_indices().nth(LONGEST) {
        name.truncate(end);
        name.push('…');
    }
    name
}

/// How far `name` is from `wanted`; everything that is not near is equally far.
fn distance(name: &str, wanted: &str) -> usize {
    if !wanted.is_empty() && name.contains(wanted) {
        return 0;
    }
    // What is much longer is not near, and costs much to measure.
    if name.len() > wanted.len().saturating_mul(2).saturating_add(8) {
        return usize::MAX;
    }
    match strsim::osa_distance(name, wanted) {
        near if near <= wanted.chars().count().div_ceil(3) => near,
        _ => usize::MAX,
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nameless = |name: &str| match name {
            "" => "a nameless one".to_owned(),
            name => name.to_owned(),
        };
        match self.names.as_slice() {
            [] => f.write_str("is none at all"),
            [one] if self.more == 0 => write!(f, "is {}", nameless(one)),
            names => {
                let names: Vec<String> = names.iter().map(|name| nameless(name)).collect();
                write!(f, "are {}", names.join(", "))?;
                match self.more {
                    0 => Ok(()),
                    more => write!(f, " and {more} more"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_the_list_ends() {
        let check = |wanted: &str, names: &[&str], expected: &str| {
            let names = names.iter().map(|&name| name.to_owned());
            let listed = Listed::nearest(wanted, names);
            assert_eq!(listed.to_string(), expected, "{wanted}");
        };
        check("a", &[], "is none at all");
        check("a", &["bcd"], "is bcd");
        check(
            "stast",
            &["cpu", "", "stats"],
            "are stats, cpu, a nameless one",
        );
        check("nr_run", &["x", "nr_running", "y"], "are nr_running, x, y");
        let many: Vec<String> = (0..20).map(|n| format!("v{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(
            "v19",
            &many,
            "are v19, v1, v9, v10, v11, v12, v13, v14, v15, v16, v17, v18 and 8 more",
        );
        let long = "x".repeat(100);
        check("y", &[&long], &format!("is {}…", "x".repeat(80)));
    }
}
