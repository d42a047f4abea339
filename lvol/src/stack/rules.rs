//! The table of rules: which kinds of things may stand on which, and in which order they do best.
//!
//! A stack is read from the bottom: a device, then partition tables, then what joins disks, then what changes a volume. Only rules whose breaking leaves data
//! wrong, lost or out of reach are *hard*, and hold for every wish; the others are advice, which `ashlar plan stack` gives and nobody else insists on: SPDK's
//! clients stack as they like.
use serde::Serialize;
use std::fmt;

/// Where in a stack something belongs, from the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// Reaches the world.
    Device,
    /// Divides a disk.
    Partition,
    /// Joins disks.
    Aggregate,
    /// Changes what a volume does.
    Volume,
}

/// The kind of rule. Programs may rely on these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// There is nothing of this name.
    Unknown,
    /// It stands on nothing, so it is the lowest or not there.
    BottomExclusive,
    /// Nothing stands on it.
    TopExclusive,
    /// One of its class is enough: no other of its name in the same stack.
    ClassExclusive,
    /// Nothing else may be in the stack.
    GlobalExclusive,
    /// Partition tables in partition tables: more than discovery follows.
    Depth,
    /// The order is not the best one.
    Order,
}

/// What the rules say of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The best order, lowest first; of no names in particular, that of all.
    pub order: Vec<String>,
    /// Their rows, in that order.
    pub rows: Vec<Feature>,
    /// Rules that the given order breaks.
    pub broken: Vec<Broken>,
}

impl Rule {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Rule::Unknown => "unknown",
            Rule::BottomExclusive => "bottom-exclusive",
            Rule::TopExclusive => "top-exclusive",
            Rule::ClassExclusive => "class-exclusive",
            Rule::GlobalExclusive => "global-exclusive",
            Rule::Depth => "depth",
            Rule::Order => "order",
        }
    }
}

/// One row: a kind of thing and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Its name: a plug-in's.
    pub name: &'static str,
    /// Where it belongs.
    pub layer: Layer,
    /// Among its layer: smaller is lower.
    pub weight: u8,
    /// Its exclusiveness, if it has one, and whether that is a hard rule.
    pub exclusive: Option<(Rule, bool)>,
    /// Why there.
    pub why: &'static str,
}

const fn row(name: &'static str, layer: Layer, weight: u8, why: &'static str) -> Feature {
    Feature {
        name,
        layer,
        weight,
        exclusive: None,
        why,
    }
}

const fn only(rule: Rule, hard: bool, feature: Feature) -> Feature {
    Feature {
        exclusive: Some((rule, hard)),
        ..feature
    }
}

/// Partitions in partitions in …: how deep discovery goes. Nobody who means well nests deeper.
pub const DEPTH_MAX: usize = 8;

const TABLES: &str =
    "a partition table divides a disk before it is joined with others, so that other systems can read it";

/// The rows, in the default order.
static ROWS: [Feature; 23] = [
    only(
        Rule::BottomExclusive,
        true,
        row("memory", Layer::Device, 0, "a device stands on nothing"),
    ),
    only(
        Rule::BottomExclusive,
        true,
        row("file", Layer::Device, 0, "a device stands on nothing"),
    ),
    only(
        Rule::GlobalExclusive,
        false,
        row(
            "null",
            Layer::Device,
            0,
            "it forgets what is written, so nothing that is to be kept can stand on it",
        ),
    ),
    row("gpt", Layer::Partition, 0, TABLES),
    row("mbr", Layer::Partition, 0, TABLES),
    row("apple", Layer::Partition, 0, TABLES),
    row("sun", Layer::Partition, 0, TABLES),
    row("sgi", Layer::Partition, 0, TABLES),
    row("amiga", Layer::Partition, 0, TABLES),
    row("atari", Layer::Partition, 0, TABLES),
    row(
        "bsd",
        Layer::Partition,
        10,
        "a BSD label lies in a partition of another table as a rule",
    ),
    row(
        "passthru",
        Layer::Partition,
        20,
        "another name for a disk belongs to the disk",
    ),
    row(
        "delay",
        Layer::Partition,
        30,
        "a slow disk is slow below everything, and what joins it with others has to cope",
    ),
    row(
        "error",
        Layer::Partition,
        40,
        "a failing disk fails below everything, and what joins it with others has to cope",
    ),
    row(
        "md",
        Layer::Aggregate,
        0,
        "redundancy goes below what divides and joins: one array for all volumes, and members of one size",
    ),
    row(
        "raid",
        Layer::Aggregate,
        5,
        "redundancy goes below what divides and joins",
    ),
    row(
        "link",
        Layer::Aggregate,
        7,
        "its children are found by themselves, whatever they are",
    ),
    row(
        "linear",
        Layer::Aggregate,
        10,
        "one address space first, chunks of it then",
    ),
    row(
        "stripe",
        Layer::Aggregate,
        20,
        "members of a stripe are alike; what makes them so is below",
    ),
    only(
        Rule::ClassExclusive,
        true,
        row(
            "lvm2",
            Layer::Aggregate,
            30,
            "nobody looks for physical volumes on the volumes of a group, so its volumes would not be found again",
        ),
    ),
    row("mapped", Layer::Aggregate, 40, "what a volume of a group is"),
    only(
        Rule::ClassExclusive,
        false,
        row(
            "crypt",
            Layer::Volume,
            0,
            "one key for all members, and each I/O is encrypted once before it is divided; twice hides nothing more",
        ),
    ),
    row(
        "stats",
        Layer::Volume,
        10,
        "it counts what hosts ask for and how long they wait for all of it",
    ),
];

/// A rule that a stack breaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    /// Which.
    pub rule: Rule,
    /// Whether every wish is held to it. The others are advice.
    pub hard: bool,
    /// What stands in the way, and the way out.
    pub reason: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.word(), self.reason)
    }
}

/// A table of rules.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    rows: &'a [Feature],
}

impl Default for Rules<'static> {
    fn default() -> Self {
        Self { rows: &ROWS }
    }
}

impl<'a> Rules<'a> {
    /// Other rows.
    pub fn of(rows: &'a [Feature]) -> Self {
        Self { rows }
    }

    /// Every row.
    pub fn rows(&self) -> &'a [Feature] {
        self.rows
    }

    /// The row of this name.
    pub fn get(&self, name: &str) -> Option<&'a Feature> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// These, lowest first, in the order that is best: by layer, then by weight; what is alike stays as it is.
    pub fn ordered<'n>(&self, names: &[&'n str]) -> Vec<&'n str> {
        let mut names = names.to_vec();
        let place = |name: &&str| self.get(name).map(|row| (row.layer, row.weight));
        names.sort_by_key(place);
        names
    }

    /// All of it for these features, lowest first; without any, the whole table.
    pub fn advice(&self, given: &[&str]) -> Advice {
        let order: Vec<&str> = match given.is_empty() {
            true => self.rows().iter().map(|row| row.name).collect(),
            false => self.ordered(given),
        };
        Advice {
            rows: order.iter().filter_map(|name| self.get(name)).copied().collect(),
            order: order.into_iter().map(str::to_owned).collect(),
            broken: self.check(given),
        }
    }

    /// Every rule that a stack, lowest first, breaks: the hard ones first.
    pub fn check(&self, stack: &[&str]) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut say = |rule, hard, reason: String| broken.push(Broken { rule, hard, reason });
        let mut tables = 0;
        for (at, name) in stack.iter().enumerate() {
            let Some(row) = self.get(name) else {
                let all: Vec<&str> = self.rows.iter().map(|row| row.name).collect();
                say(
                    Rule::Unknown,
                    true,
                    format!("there is no {name:?}; there are {}", all.join(", ")),
                );
                continue;
            };
            let Feature { why, .. } = row;
            match row.exclusive {
                Some((Rule::BottomExclusive, hard)) if at > 0 => {
                    let below = stack[at - 1];
                    say(
                        Rule::BottomExclusive,
                        hard,
                        format!("{name} cannot stand on {below}: {why}"),
                    );
                }
                Some((Rule::TopExclusive, hard)) if at + 1 < stack.len() => {
                    let above = stack[at + 1];
                    say(
                        Rule::TopExclusive,
                        hard,
                        format!("{above} cannot stand on {name}: {why}"),
                    );
                }
                Some((Rule::GlobalExclusive, hard)) if stack.len() > 1 => {
                    say(
                        Rule::GlobalExclusive,
                        hard,
                        format!("nothing else goes with {name}: {why}"),
                    );
                }
                Some((Rule::ClassExclusive, hard)) if stack[..at].contains(name) => {
                    say(Rule::ClassExclusive, hard, format!("{name} is there twice: {why}"));
                }
                _ => {}
            }
            // As discovery counts them: what claims a disk and makes others of it.
            let divides = row.layer == Layer::Partition && row.weight <= 10;
            tables += usize::from(divides);
            if divides && tables == DEPTH_MAX + 1 {
                let why = format!("{name} lies in {DEPTH_MAX} partition tables already, and discovery goes no deeper");
                say(Rule::Depth, true, why);
            }
        }
        let known: Vec<&str> = stack.iter().copied().filter(|name| self.get(name).is_some()).collect();
        let best = self.ordered(&known);
        if best != known {
            // The first that stands below something that belongs below it.
            let place = |name: &str| self.get(name).map(|row| (row.layer, row.weight));
            let pair = known.windows(2).find(|pair| place(pair[0]) > place(pair[1]));
            if let Some([low, high]) = pair.map(|pair| [pair[0], pair[1]]) {
                let why = self.get(low).map_or("", |row| row.why);
                let best = best.join(", ");
                say(
                    Rule::Order,
                    false,
                    format!("{low} does better above {high}: {why}; best is {best}"),
                );
            }
        }
        broken.sort_by_key(|one| (!one.hard, one.rule));
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the table says, asked in another way: every pair and every count by itself.
    fn oracle(rows: &[Feature], stack: &[&str]) -> Vec<(Rule, bool)> {
        let row = |name: &str| rows.iter().find(|row| row.name == name).copied();
        let mut broken = Vec::new();
        for (at, name) in stack.iter().enumerate() {
            let Some(Feature { exclusive, .. }) = row(name) else {
                broken.push((Rule::Unknown, true));
                continue;
            };
            let Some((rule, hard)) = exclusive else { continue };
            let twice = stack.iter().take(at).filter(|other| *other == name).count() > 0;
            let breaks = match rule {
                Rule::BottomExclusive => at != 0,
                Rule::TopExclusive => at != stack.len() - 1,
                Rule::GlobalExclusive => stack.len() != 1,
                _ => twice,
            };
            broken.extend(breaks.then_some((rule, hard)));
        }
        let pairs = (0..stack.len()).flat_map(|low| (low + 1..stack.len()).map(move |high| (low, high)));
        let wrong = pairs.filter_map(|(low, high)| Some((row(stack[low])?, row(stack[high])?)));
        if wrong
            .into_iter()
            .any(|(low, high)| (low.layer, low.weight) > (high.layer, high.weight))
        {
            broken.push((Rule::Order, false));
        }
        broken.sort_by_key(|(rule, hard)| (!*hard, *rule));
        broken
    }

    /// Every sequence of up to `length` of these, with repetition.
    fn stacks<'a>(names: &[&'a str], length: usize) -> Vec<Vec<&'a str>> {
        let mut all: Vec<Vec<&str>> = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..length {
            let until = all.len();
            for at in from..until {
                for name in names {
                    let mut longer = all[at].clone();
                    longer.push(name);
                    all.push(longer);
                }
            }
            from = until;
        }
        all
    }

    #[test]
    fn every_order_of_up_to_four_is_judged_as_the_table_says() {
        let rules = Rules::default();
        let names: Vec<&str> = rules.rows().iter().map(|row| row.name).collect();
        let mut judged = 0;
        for stack in stacks(&names, 4) {
            let broken: Vec<(Rule, bool)> = rules.check(&stack).iter().map(|one| (one.rule, one.hard)).collect();
            assert_eq!(broken, oracle(rules.rows(), &stack), "{stack:?}");
            judged += 1;
        }
        let rows = names.len();
        assert_eq!(judged, (0..=4).map(|deep| rows.pow(deep)).sum::<usize>());
    }

    #[test]
    fn every_attribute_is_judged_wherever_it_stands() {
        let rows = [
            only(Rule::BottomExclusive, true, row("bottom", Layer::Device, 0, "b")),
            only(Rule::GlobalExclusive, true, row("alone", Layer::Aggregate, 3, "a")),
            only(Rule::ClassExclusive, false, row("once", Layer::Aggregate, 1, "o")),
            row("plain", Layer::Aggregate, 1, "p"),
            only(Rule::TopExclusive, true, row("top", Layer::Volume, 9, "t")),
        ];
        let rules = Rules::of(&rows);
        for stack in stacks(&["bottom", "alone", "once", "plain", "top", "nobody"], 4) {
            let broken: Vec<(Rule, bool)> = rules.check(&stack).iter().map(|one| (one.rule, one.hard)).collect();
            assert_eq!(broken, oracle(&rows, &stack), "{stack:?}");
        }
    }

    #[test]
    fn the_default_order_breaks_nothing_that_any_order_keeps() {
        let rules = Rules::default();
        let names: Vec<&str> = rules.rows().iter().map(|row| row.name).collect();
        for (a, one) in names.iter().enumerate() {
            for (b, two) in names.iter().enumerate().skip(a) {
                for three in names.iter().skip(b) {
                    let set = [*one, *two, *three];
                    let default = rules.check(&rules.ordered(&set));
                    assert!(
                        default.iter().all(|broken| broken.rule != Rule::Order),
                        "{set:?}: {default:?}"
                    );
                    let [x, y, z] = set;
                    for other in [[x, y, z], [x, z, y], [y, x, z], [y, z, x], [z, x, y], [z, y, x]] {
                        let hard = |broken: &[Broken]| broken.iter().filter(|one| one.hard).count();
                        assert!(hard(&default) <= hard(&rules.check(&other)), "{set:?} and {other:?}");
                    }
                }
            }
        }
        assert_eq!(
            rules.ordered(&["crypt", "stats", "stripe", "file", "gpt", "lvm2"]),
            ["file", "gpt", "stripe", "lvm2", "crypt", "stats"]
        );
    }

    #[test]
    fn rows_stand_in_the_default_order_and_are_plug_ins() {
        let rules = Rules::default();
        let names: Vec<&str> = rules.rows().iter().map(|row| row.name).collect();
        assert_eq!(rules.ordered(&names), names);
        let registry = crate::Registry::builtin();
        for row in rules.rows() {
            assert!(
                registry.plugins().iter().any(|plugin| plugin.name == row.name),
                "{}",
                row.name
            );
        }
        let stacked = |plugin: &&crate::Plugin| plugin.class != crate::plugin::Class::FilesystemInterface;
        for plugin in registry.plugins().iter().filter(stacked) {
            assert!(rules.get(plugin.name).is_some(), "{} has no row", plugin.name);
        }
    }

    #[test]
    fn illegal_stacks_are_refused_by_the_name_of_the_rule() {
        let rules = Rules::default();
        let deep = ["file", "gpt", "gpt", "gpt", "mbr", "mbr", "bsd", "gpt", "gpt", "gpt"];
        assert!(rules.check(&deep[..9]).iter().all(|broken| !broken.hard));
        let bottom = Rule::BottomExclusive;
        let cases: [(&[&str], Rule); 33] = [
            (&["gpt", "file"], bottom),
            (&["mbr", "file"], bottom),
            (&["crypt", "file"], bottom),
            (&["stripe", "file"], bottom),
            (&["lvm2", "file"], bottom),
            (&["file", "file"], bottom),
            (&["memory", "file"], bottom),
            (&["file", "memory"], bottom),
            (&["file", "crypt", "memory"], bottom),
            (&["link", "memory", "stats"], bottom),
            (&["null", "memory"], bottom),
            (&["file", "gpt", "file"], bottom),
            (&["delay", "memory"], bottom),
            (&["error", "memory"], bottom),
            (&["linear", "memory"], bottom),
            (&["passthru", "file"], bottom),
            (&["stats", "file"], bottom),
            (&["lvm2", "lvm2"], Rule::ClassExclusive),
            (&["file", "lvm2", "lvm2"], Rule::ClassExclusive),
            (&["file", "lvm2", "crypt", "lvm2"], Rule::ClassExclusive),
            (&["file", "lvm2", "gpt", "lvm2"], Rule::ClassExclusive),
            (&["file", "lvm2", "stripe", "lvm2"], Rule::ClassExclusive),
            (&["file", "lvm2", "link", "lvm2"], Rule::ClassExclusive),
            (&["memory", "lvm2", "linear", "lvm2"], Rule::ClassExclusive),
            (&["memory", "gpt", "lvm2", "mbr", "lvm2"], Rule::ClassExclusive),
            (&["raid1"], Rule::Unknown),
            (&["file", "raid5"], Rule::Unknown),
            (&["file", "thin", "crypt"], Rule::Unknown),
            (&["file", "snapshot"], Rule::Unknown),
            (&["file", "GPT"], Rule::Unknown),
            (&[""], Rule::Unknown),
            (&["file", "bbr"], Rule::Unknown),
            (&deep, Rule::Depth),
        ];
        for (stack, rule) in cases {
            let broken = rules.check(stack);
            let first = broken.first().unwrap_or_else(|| panic!("{stack:?} is legal"));
            assert!(first.hard && first.rule == rule, "{stack:?}: {broken:?}");
            assert!(first.to_string().starts_with(&format!("{}: ", rule.word())), "{first}");
        }
    }

    #[test]
    fn advice_is_no_refusal() {
        let rules = Rules::default();
        for (stack, rule) in [
            (&["file", "crypt", "stripe"][..], Rule::Order),
            (&["file", "crypt", "crypt"], Rule::ClassExclusive),
            (&["null", "crypt"], Rule::GlobalExclusive),
            (&["memory", "stats", "error"], Rule::Order),
        ] {
            let broken = rules.check(stack);
            assert!(broken.iter().all(|one| !one.hard), "{stack:?}: {broken:?}");
            assert!(broken.iter().any(|one| one.rule == rule), "{stack:?}: {broken:?}");
        }
        assert_eq!(rules.check(&["file", "gpt", "lvm2", "crypt", "stats"]), []);
    }
}
