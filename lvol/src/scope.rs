//! Which disks discovery looks into and uses, as LVM2's `devices/global_filter` has it: globs over a disk's name, its aliases and the path of its file.
//!
//! `exclude` wins over `include`; without an `include` every disk is in. What discovery has found lies on a disk that is in, so only `exclude` can
//! keep it out: `include: [data]` covers the partitions of `data`, `exclude: [datap2]` leaves one of them alone. In a glob `*` and `?` stand for characters
//! other than `/`, `[ab]` and `[!ab]` for one of some, and `**` between slashes for any folders. A disk that is left alone stays visible;
//! nothing is read from it and no change is made to it, but whoever serves it as a whole may.
use bdev::{NodeSpec, Table};
use glob::{MatchOptions, Pattern};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// As in a shell, but a leading dot is a character like any other.
const HOW: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Pattern);

impl Glob {
    /// Reads one; in words what is wrong with it.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty glob matches nothing".into());
        }
        let read = Pattern::new(text);
        read.map(Self)
            .map_err(|why| format!("{text:?} is no glob: {} at character {}", why.msg, why.pos + 1))
    }

    /// True for a name, or the path of a file, that it stands for.
    pub fn matches(&self, name: &str) -> bool {
        self.0.matches_with(name, HOW)
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// What discovery may look into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Disks that one of these matches; all without it.
    pub include: Option<Vec<Glob>>,
    /// But none that one of these matches.
    pub exclude: Vec<Glob>,
}

impl Scope {
    /// Why a disk is left alone, in a sentence that goes on from its name; nothing if it is not. `found`: by discovery, on a disk that is in.
    pub(crate) fn leaves(&self, spec: &NodeSpec, found: bool) -> Option<String> {
        if self.exclude.is_empty() && (found || self.include.is_none()) {
            return None;
        }
        let path = match &spec.table {
            Table::File { path, .. } => Some(path.to_string_lossy()),
            _ => None,
        };
        let names: Vec<&str> = [spec.name.as_str()]
            .into_iter()
            .chain(spec.aliases.iter().map(String::as_str))
            .chain(path.as_deref())
            .collect();
        let any = |glob: &&Glob| names.iter().any(|name| glob.matches(name));
        if let Some(glob) = self.exclude.iter().find(any) {
            return Some(format!("is left alone by discovery.exclude {:?}", glob.0.as_str()));
        }
        let include = self.include.as_ref().filter(|_| !found)?;
        let out = !include.iter().any(|glob| any(&glob));
        out.then(|| "is left alone: no glob of discovery.include matches it".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdev::table::Direct;

    fn disk(name: &str, path: &str) -> NodeSpec {
        let table = Table::File {
            path: path.into(),
            block_size: None,
            read_only: false,
            create_size: None,
            direct: Direct::Auto,
        };
        NodeSpec {
            aliases: vec![format!("alias-of-{name}")],
            ..NodeSpec::new(name, table)
        }
    }

    fn scope(include: Option<&[&str]>, exclude: &[&str]) -> Scope {
        let globs = |list: &[&str]| list.iter().map(|text| Glob::new(text).unwrap()).collect();
        Scope {
            include: include.map(globs),
            exclude: globs(exclude),
        }
    }

    #[test]
    fn exclude_wins_over_include_and_nothing_said_means_all() {
        let (a, b) = (disk("a", "/srv/a.img"), disk("b", "/srv/deep/b.img"));
        assert_eq!(Scope::default().leaves(&a, false), None);
        assert_eq!(scope(Some(&["?"]), &[]).leaves(&a, false), None);
        let why = scope(Some(&["?"]), &["[!b]"]).leaves(&a, false);
        assert_eq!(why.as_deref(), Some("is left alone by discovery.exclude \"[!b]\""));
        assert_eq!(scope(Some(&["?"]), &["[!b]"]).leaves(&b, false), None);
        let why = "is left alone: no glob of discovery.include matches it";
        assert_eq!(scope(Some(&["b*"]), &[]).leaves(&a, false).as_deref(), Some(why));
        assert_eq!(scope(Some(&[]), &[]).leaves(&a, false).as_deref(), Some(why));
    }

    #[test]
    fn aliases_and_paths_count_and_a_star_ends_at_a_slash() {
        let b = disk("b", "/srv/deep/b.img");
        for (glob, hit) in [
            ("alias-of-*", true),
            ("/srv/deep/*", true),
            ("/srv/**/*.img", true),
            ("/srv/*", false),
            ("*b.img", false),
            ("B", false),
        ] {
            assert_eq!(scope(None, &[glob]).leaves(&b, false).is_some(), hit, "{glob}");
        }
    }

    #[test]
    fn what_was_found_is_in_with_its_disk_and_can_be_kept_out_by_itself() {
        let part = disk("ap2", "");
        assert_eq!(scope(Some(&["a"]), &[]).leaves(&part, true), None);
        assert!(scope(Some(&["a"]), &["ap[2-9]"]).leaves(&part, true).is_some());
    }

    #[test]
    fn a_bad_glob_is_refused_with_the_place() {
        let why = Glob::new("disk[0-").unwrap_err();
        assert!(
            why.starts_with("\"disk[0-\" is no glob: ") && why.ends_with(" at character 5"),
            "{why}"
        );
        assert!(Glob::new("").is_err() && serde_json::from_str::<Scope>("{\"exclude\":[\"a**\"]}").is_err());
        let there = scope(Some(&["a"]), &["b*", "/dev/**/x"]);
        let back: Scope = serde_json::from_str(&serde_json::to_string(&there).unwrap()).unwrap();
        assert_eq!(back, there);
    }
}
