//! What a schema cannot express: names that lead somewhere, sizes that fit blocks, uses that do not get in each other's way.
//!
//! Works on the file alone, without looking at any disk, so it says the same on every machine.
mod disks;
mod iscsi;
mod nvme;
mod volumes;

pub(crate) use disks::stands_on;

use crate::{
    error::Problem,
    schema::{At, Config},
};
use std::collections::{BTreeMap, BTreeSet};

/// Everything that is wrong with a configuration, in the order of the file. Empty if it can be applied.
pub fn check(config: &Config) -> Vec<Problem> {
    let mut checker = Checker {
        config,
        problems: Vec::new(),
        names: BTreeMap::new(),
        uses: BTreeMap::new(),
    };
    checker.reactors();
    checker.lvm2();
    checker.discovery();
    checker.audit();
    checker.problems.extend(crate::arrays::check(&config.arrays));
    checker.disks();
    checker.tables();
    checker.circles();
    checker.volumes();
    checker.iscsi();
    checker.nvme();
    checker.uses();
    let mut problems = checker.problems;
    problems.sort_by_key(|p| (p.line, p.column));
    problems
}

/// How a disk is used, and by whom.
struct Used<'a> {
    by: String,
    place: &'a At<String>,
    key: String,
    how: How,
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    /// By hosts, whole.
    Served,
    /// By hosts, its partitions.
    Partitions,
    /// By a table, whole.
    Whole,
    /// By a table, these bytes; the end may be unknown.
    Window(u64, Option<u64>),
}

struct Checker<'a> {
    config: &'a Config,
    problems: Vec<Problem>,
    /// Disks and tables, with the line of each.
    names: BTreeMap<&'a str, u64>,
    uses: BTreeMap<&'a str, Vec<Used<'a>>>,
}

impl<'a> Checker<'a> {
    fn wrong<T>(&mut self, at: &At<T>, key: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            line: at.line,
            column: at.column,
            key: key.into(),
            message: message.into(),
        });
    }

    fn lvm2(&mut self) {
        if let Some(id) = &self.config.lvm2.system_id
            && !spec::lvm2::vg::is_system_id(id)
        {
            self.wrong(
                id,
                "lvm2.system_id",
                format!(
                    "{:?} is no system id; expected letters, digits and _ . - with a letter or digit in front",
                    **id
                ),
            );
        }
    }

    fn discovery(&mut self) {
        let wanted = &self.config.discovery;
        for (key, list) in [("include", wanted.include.as_ref()), ("exclude", Some(&wanted.exclude))] {
            for (i, text) in list.into_iter().flatten().enumerate() {
                if let Err(why) = lvol::scope::Glob::new(text) {
                    self.wrong(text, format!("discovery.{key}[{i}]"), why);
                }
            }
        }
    }

    fn audit(&mut self) {
        let Some(limit) = &self.config.audit.limit else { return };
        if self.config.audit.file.is_none() {
            self.wrong(limit, "audit.limit", "there is no `file` that it could be the limit of");
        } else if limit.0 < 64 << 10 {
            self.wrong(
                limit,
                "audit.limit",
                format!("{} is too little; expected at least 64KiB", **limit),
            );
        }
    }

    fn reactors(&mut self) {
        let r = &self.config.reactors;
        if let (Some(count), Some(_)) = (&r.count, &r.cores) {
            self.wrong(
                count,
                "reactors.count",
                "`cores` says how many already; expected one of the two",
            );
        }
        if let Some(count) = &r.count
            && !(1..=256).contains(&**count)
        {
            self.wrong(
                count,
                "reactors.count",
                format!("{} reactors; expected 1 to 256", **count),
            );
        }
        if let Some(cores) = &r.cores {
            let unique: BTreeSet<_> = cores.iter().collect();
            if cores.is_empty() || unique.len() < cores.len() {
                self.wrong(
                    cores,
                    "reactors.cores",
                    "expected a list of different core numbers, at least one",
                );
            }
        }
        if let Some(memory) = &r.memory
            && memory.0 < 16 << 20
        {
            self.wrong(
                memory,
                "reactors.memory",
                format!("{} is too little; expected at least 16MiB", **memory),
            );
        }
    }
}
