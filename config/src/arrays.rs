//! What is wanted of arrays, by their names.
//!
//! ```yaml
//! arrays:
//!   - {name: md/data, scrub: {every: 7d, at: "02:00"}, spare_group: pool}
//!   - {name: md/*, degraded_wait: 10s, rebuild_limit: 100MiB}
//! ```
//!
//! Of the entries that match an array, the first that says something of a key counts for that key, as in `ssh_config(5)`: what is special stands above what is usual.
use crate::{
    error::Problem,
    schema::At,
    units::{Size, Span, TimeOfDay},
};
use lvol::{Patience, scope::Glob};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// The least limit of rebuilds that is one: less than a block each second would stand still.
const LIMIT_MIN: u64 = 64 << 10;
/// The shortest time between scrubs.
const EVERY_MIN: Duration = Duration::from_secs(1);
/// A day.
const DAY: Duration = Duration::from_secs(86_400);

/// What is wanted of the arrays of a name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Array {
    /// The array as a disk, or a glob: `md/data`, `md/*`.
    pub name: At<String>,
    /// How long it waits for members with which it last ran before it runs without them. Default: 30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub degraded_wait: Option<At<Span>>,
    /// Bytes a second of each member that a resync, rebuild or check may take; 0: no limit. Default: what RPC says, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild_limit: Option<At<Size>>,
    /// When its members are compared. Default: when somebody asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrub: Option<Scrub>,
    /// Arrays of one group give each other their spares. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spare_group: Option<At<String>>,
}

/// When members are compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scrub {
    /// From the start of one to the start of the next.
    pub every: At<Span>,
    /// The time of day (UTC) at which it starts, of the day that is nearest. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<At<TimeOfDay>>,
    /// Make them alike, not only count what differs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repair: bool,
}

/// What all entries together say of one array.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy<'a> {
    /// See [`Array::rebuild_limit`]: bytes a second.
    pub rebuild_limit: Option<u64>,
    /// See [`Array::scrub`].
    pub scrub: Option<&'a Scrub>,
    /// See [`Array::spare_group`].
    pub spare_group: Option<&'a str>,
}

impl Array {
    fn is_for(&self, name: &str) -> bool {
        Glob::new(&self.name).is_ok_and(|glob| glob.matches(name))
    }
}

/// What is said of the array of this name.
pub fn policy<'a>(arrays: &'a [Array], name: &str) -> Policy<'a> {
    let mut policy = Policy::default();
    for entry in arrays.iter().filter(|entry| entry.is_for(name)) {
        let limit = entry.rebuild_limit.as_deref().map(|size| size.0);
        policy.rebuild_limit = policy.rebuild_limit.or(limit);
        policy.scrub = policy.scrub.or(entry.scrub.as_ref());
        policy.spare_group = policy.spare_group.or(entry.spare_group.as_deref().map(String::as_str));
    }
    policy
}

/// How long arrays wait for members, for the engine.
pub fn patience(arrays: &[Array]) -> Patience {
    let one = |entry: &Array| {
        // Checked: each is a glob.
        let glob = Glob::new(&entry.name).ok()?;
        Some((glob, entry.degraded_wait.as_deref()?.0))
    };
    Patience::new(arrays.iter().filter_map(one))
}

/// What is wrong with the list.
pub(crate) fn check(arrays: &[Array]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |line: u64, column: u64, key: String, message: String| {
        problems.push(Problem {
            line,
            column,
            key,
            message,
        })
    };
    let mut names: BTreeMap<&str, u64> = BTreeMap::new();
    for (i, array) in arrays.iter().enumerate() {
        let key = |k: &str| format!("arrays[{i}].{k}");
        let (line, column) = (array.name.line, array.name.column);
        if let Err(why) = Glob::new(&array.name) {
            wrong(line, column, key("name"), why)
        }
        if let Some(first) = names.insert(&array.name, line) {
            let message = format!("line {first} is about {:?} already; expected one entry", *array.name);
            wrong(line, column, key("name"), message)
        }
        let Array {
            name,
            degraded_wait,
            rebuild_limit,
            scrub,
            spare_group,
        } = array;
        if degraded_wait.is_none() && rebuild_limit.is_none() && scrub.is_none() && spare_group.is_none() {
            let keys = "`degraded_wait`, `rebuild_limit`, `scrub` or `spare_group`";
            wrong(
                line,
                column,
                key("name"),
                format!("says nothing of {:?}; expected {keys}", **name),
            )
        }
        if let Some(limit) = rebuild_limit.filter(|limit| (1..LIMIT_MIN).contains(&limit.0)) {
            let message = format!(
                "{} a second is too little; expected at least 64KiB, or 0 for no limit",
                *limit
            );
            wrong(limit.line, limit.column, key("rebuild_limit"), message)
        }
        if let Some(Scrub { every, at, .. }) = scrub {
            if every.0 < EVERY_MIN {
                let message = format!("{} is too often; expected at least 1s", **every);
                wrong(every.line, every.column, key("scrub.every"), message)
            }
            let days = every.0 >= DAY && every.0.as_micros().is_multiple_of(DAY.as_micros());
            if let Some(at) = at.filter(|_| !days) {
                let message = format!(
                    "a time of day needs whole days between scrubs, as 7d, and not {}",
                    **every
                );
                wrong(at.line, at.column, key("scrub.at"), message)
            }
        }
        if let Some(group) = spare_group
            && (group.is_empty() || group.chars().any(|c| c.is_whitespace() || c.is_control()))
        {
            let message = format!("{:?} is not the name of a group; expected a word", **group);
            wrong(group.line, group.column, key("spare_group"), message)
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entry_that_says_something_counts_for_each_key() {
        let text = "arrays:\n  - {name: md/data, scrub: {every: 7d}}\n  - {name: md/*, rebuild_limit: 1MiB, spare_group: a}\n  \
                    - {name: \"md/d*\", rebuild_limit: 2MiB, scrub: {every: 1d, at: \"02:00\", repair: true}, degraded_wait: 5s}\n";
        let arrays = crate::parse(text).unwrap().arrays;
        let data = policy(&arrays, "md/data");
        assert_eq!(
            (data.rebuild_limit, data.spare_group, data.scrub.unwrap().every.0),
            (Some(1 << 20), Some("a"), DAY * 7)
        );
        let docs = policy(&arrays, "md/docs").scrub.unwrap();
        assert_eq!((docs.at.as_deref().copied(), docs.repair), ("02:00".parse().ok(), true));
        assert_eq!(policy(&arrays, "six"), Policy::default());
        let patience = patience(&arrays);
        let waits = ["md/docs", "md/home"].map(|name| patience.of([name]));
        assert_eq!(waits, [Duration::from_secs(5), Patience::USUAL]);
    }
}
