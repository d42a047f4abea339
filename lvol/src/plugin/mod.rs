//! Plug-ins: everything that knows something about disks, in one registry, with name, number, class and version of the interface it was written for.
//!
//! ```text
//!   built in (one list) ─┐
//!                        ├─► Registry ── given to the engine at birth ──► discovery, assembly, verbs, `ashlar plugin ls`
//!   the embedding program┘       └ add: refused with the reason if it does not fit
//! ```
//!
//! A registry is a value and not a global: two engines in one process may know different things. A program that wants one more plug-in depends on
//! `ashlar` and hands it to `ashlar::run` (docs/writing-a-format.md, `examples/toy-partitions`).
mod builtin;
mod report;

use crate::{
    format::Format,
    plan::{Code, Refusal, Verb},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::{fmt, sync::LazyLock};

pub use report::{ClassReport, PluginReport, Plugins, VerbReport};

/// What a plug-in does. The seven of EVMS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Class {
    /// Reaches devices: memory, files, block devices.
    DeviceManager = 1,
    /// Reads partition tables, and writes them.
    PartitionManager = 2,
    /// Puts disks together to groups and makes volumes of these.
    RegionManager = 3,
    /// Changes what a disk does, or what several are together, without a pool of extents.
    Feature = 4,
    /// Knows file systems and swap space when it sees them.
    FilesystemInterface = 5,
    /// Tells which machines are there.
    ClusterManager = 6,
    /// Lets one machine at a time change something.
    LockManager = 7,
}

impl Class {
    /// Every class, by number.
    pub const ALL: [Class; 7] = [
        Class::DeviceManager,
        Class::PartitionManager,
        Class::RegionManager,
        Class::Feature,
        Class::FilesystemInterface,
        Class::ClusterManager,
        Class::LockManager,
    ];

    /// In two words.
    pub const fn word(self) -> &'static str {
        match self {
            Class::DeviceManager => "device manager",
            Class::PartitionManager => "partition manager",
            Class::RegionManager => "region manager",
            Class::Feature => "feature",
            Class::FilesystemInterface => "filesystem interface",
            Class::ClusterManager => "cluster manager",
            Class::LockManager => "lock manager",
        }
    }

    /// The version of the interface that plug-ins of this class are called by. The compiler sees to it that the functions are there; this number
    /// says what they mean. The minor one counts what was added, the major one what means something else than before.
    pub const fn api(self) -> Api {
        Api::new(1, 0)
    }
}

/// A version of the interface of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Api {
    /// Something means something else than in the version before.
    pub major: u16,
    /// Something was added.
    pub minor: u16,
}

impl Api {
    /// `major.minor`.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    /// True if what was written for this version can be called by somebody who has `offered`.
    pub const fn fits(self, offered: Api) -> bool {
        self.major == offered.major && self.minor <= offered.minor
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Serialize for Api {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Api {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parts = text.split_once('.');
        let api = parts.and_then(|(major, minor)| Some(Api::new(major.parse().ok()?, minor.parse().ok()?)));
        api.ok_or_else(|| D::Error::custom(format!("{text:?} is no version of an interface, such as 1.0")))
    }
}

/// A plug-in's number: 16 bits of vendor, 4 of class, 12 that the vendor counts. It never changes its meaning, whatever becomes of names.
///
/// Vendor 0 is Ashlar's own tree; 0x0001 to 0x7fff are entered in docs/writing-a-format.md; 0x8000 and above are for whoever wants one, and only have to
/// be different in one program.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    /// # Panics
    /// If `number` has more than 12 bits: when the program is compiled, in a constant.
    pub const fn new(vendor: u16, class: Class, number: u16) -> Self {
        assert!(number <= 0xfff, "the number of a plug-in has 12 bits");
        Self((vendor as u32) << 16 | (class as u32) << 12 | number as u32)
    }

    /// Whose it is.
    pub const fn vendor(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// All of it.
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a plug-in does what it does.
#[derive(Clone, Copy)]
pub enum What {
    /// It recognises its own on disks and claims them. For partition managers, region managers and features.
    Format(&'static dyn Format),
    /// It builds devices from tables of the kind ([`bdev::Table::kind`]) that has its name. For device managers and features.
    Table,
    /// It knows these kinds of signatures (`spec::magic`), so that disks with one are left alone. For filesystem interfaces.
    Signatures(&'static [&'static str]),
}

/// A plug-in.
#[derive(Clone, Copy)]
pub struct Plugin {
    /// Its name, under which it claims disks: lower-case letters, digits and `_`.
    pub name: &'static str,
    /// Its number.
    pub id: Id,
    /// What it is.
    pub class: Class,
    /// The version of its class's interface that it was written for: a number that is written down when the plug-in is, and not [`Class::api`], which
    /// changes with the engine.
    pub api: Api,
    /// What it is for, in a line.
    pub about: &'static str,
    /// How it does it.
    pub what: What,
    /// Verbs it brings. Several may bring the same list.
    pub verbs: &'static [&'static dyn Verb],
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ({})", self.class.word(), self.name, self.id, self.api)
    }
}

/// Why a plug-in is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// Its name cannot be one.
    #[error("{0:?} cannot be the name of a plug-in: take lower-case letters, digits and _, beginning with a letter")]
    Name(&'static str),
    /// Somebody has this name.
    #[error("there is a plug-in {name:?} already, number {id}; give yours another name")]
    NameTaken {
        /// The name.
        name: &'static str,
        /// Who has it.
        id: Id,
    },
    /// Somebody has this number.
    #[error("plug-in {name:?} has the number {id}, which is that of {by:?}; vendors from 0x8000 are free to take")]
    IdTaken {
        /// Who wants it.
        name: &'static str,
        /// The number.
        id: Id,
        /// Who has it.
        by: &'static str,
    },
    /// Its number is of another class, or of this tree.
    #[error("plug-in {name:?}: {id} is not a number for a {} from outside; make it by Id::new with a vendor from 0x8000 and the plug-in's own class", class.word())]
    Id {
        /// Who.
        name: &'static str,
        /// The number.
        id: Id,
        /// What it is.
        class: Class,
    },
    /// It was written for another interface.
    #[error(
        "plug-in {name:?} was written for version {wants} of the interface of {}s, and this is version {offered}; \
         read what has changed in docs/writing-a-format.md, adapt it, and give the new number",
        class.word()
    )]
    Api {
        /// Who.
        name: &'static str,
        /// What it is.
        class: Class,
        /// For which it was written.
        wants: Api,
        /// What there is.
        offered: Api,
    },
    /// A class that does not do this.
    #[error("plug-in {name:?}: a {} does not {does}", class.word())]
    Class {
        /// Who.
        name: &'static str,
        /// What it is.
        class: Class,
        /// What it cannot do.
        does: &'static str,
    },
    /// Its format says that its name is another.
    #[error(
        "plug-in {name:?} has a format that calls itself {format:?}; claims are under the format's name, so they must be the same"
    )]
    Format {
        /// Who.
        name: &'static str,
        /// The format's name.
        format: &'static str,
    },
    /// There is a verb of this name.
    #[error("plug-in {name:?} brings a verb {verb:?}, and there is one; give it another name, for example {name}-…")]
    Verb {
        /// Who.
        name: &'static str,
        /// The verb.
        verb: &'static str,
    },
}

/// What there is, in the order of asking.
#[derive(Clone, Debug)]
pub struct Registry {
    plugins: Vec<Plugin>,
}

impl Default for Registry {
    /// What is built in.
    fn default() -> Self {
        Self::builtin().clone()
    }
}

impl Registry {
    /// What is built in.
    pub fn builtin() -> &'static Registry {
        static BUILTIN: LazyLock<Registry> = LazyLock::new(|| Registry {
            plugins: builtin::all(),
        });
        &BUILTIN
    }

    /// One more, from outside this tree.
    pub fn add(&mut self, plugin: Plugin) -> Result<(), PluginError> {
        let Plugin { name, id, class, .. } = plugin;
        self.check(&plugin)?;
        if id.vendor() == 0 {
            return Err(PluginError::Id { name, id, class });
        }
        self.plugins.push(plugin);
        Ok(())
    }

    /// Whether it fits to those that are there.
    fn check(&self, plugin: &Plugin) -> Result<(), PluginError> {
        let Plugin { name, id, class, .. } = *plugin;
        let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(letters) {
            return Err(PluginError::Name(name));
        }
        if id != Id::new(id.vendor(), class, (id.number() & 0xfff) as u16) {
            return Err(PluginError::Id { name, id, class });
        }
        let (wants, offered) = (plugin.api, class.api());
        if !wants.fits(offered) {
            return Err(PluginError::Api {
                name,
                class,
                wants,
                offered,
            });
        }
        let does = match (plugin.what, class) {
            (What::Format(format), Class::PartitionManager | Class::RegionManager | Class::Feature) => {
                let format = format.name();
                if format != name {
                    return Err(PluginError::Format { name, format });
                }
                None
            }
            (What::Format(_), _) => Some("claim disks"),
            (What::Table, Class::DeviceManager | Class::Feature) => None,
            (What::Table, _) => Some("build devices"),
            (What::Signatures(_), Class::FilesystemInterface) => None,
            (What::Signatures(_), _) => Some("know file systems"),
        };
        if let Some(does) = does {
            return Err(PluginError::Class { name, class, does });
        }
        for other in &self.plugins {
            if other.name == name {
                return Err(PluginError::NameTaken { name, id: other.id });
            }
            if other.id == id {
                let by = other.name;
                return Err(PluginError::IdTaken { name, id, by });
            }
            if std::ptr::eq(other.verbs, plugin.verbs) {
                continue;
            }
            for verb in plugin.verbs.iter().map(|verb| verb.name()) {
                if other.verbs.iter().any(|there| there.name() == verb) {
                    return Err(PluginError::Verb { name, verb });
                }
            }
        }
        Ok(())
    }

    /// All of them.
    pub fn plugins(&self) -> &[Plugin] {
        &self.plugins
    }

    /// The formats, in the order of asking: whoever says first that a disk is its own is proposed as the owner. Those that may lie beneath everything
    /// else come first ([`Format::is_beneath`]), then partition managers, GPT before MBR because its protective MBR is an MBR too. Members of groups come last: a partition table on one means that somebody has
    /// partitioned it since, or that it lies below, and [`judge`](crate::judge) says so.
    pub fn formats(&self) -> impl Iterator<Item = &'static dyn Format> {
        let of = |turn: u8| {
            self.plugins.iter().filter_map(move |plugin| match plugin.what {
                What::Format(format) if format.is_beneath() => (turn == 0).then_some(format),
                What::Format(format) if plugin.class == Class::PartitionManager => (turn == 1).then_some(format),
                What::Format(format) => (turn == 2).then_some(format),
                _ => None,
            })
        };
        of(0).chain(of(1)).chain(of(2))
    }

    /// The format of this name.
    pub fn format(&self, name: &str) -> Option<&'static dyn Format> {
        self.formats().find(|format| format.name() == name)
    }

    /// The verbs, each once.
    pub fn verbs(&self) -> Vec<&'static dyn Verb> {
        let mut verbs: Vec<&'static dyn Verb> = Vec::new();
        for (at, plugin) in self.plugins.iter().enumerate() {
            let brought = |other: &Plugin| std::ptr::eq(other.verbs, plugin.verbs);
            if !self.plugins[..at].iter().any(brought) {
                verbs.extend(plugin.verbs);
            }
        }
        verbs
    }

    /// The verb of this name.
    pub fn verb(&self, name: &str) -> Result<&'static dyn Verb, Refusal> {
        let verbs = self.plugins.iter().flat_map(|plugin| plugin.verbs);
        let found = verbs.copied().find(|verb| verb.name() == name);
        found.ok_or_else(|| {
            Refusal::new(Code::NoVerb, format!("there is no verb {name:?}")).but("`ashlar plan verbs` lists them")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        format::{Taste, Tasting},
        probe::Probe,
    };
    use std::collections::BTreeSet;

    struct Nothing(&'static str);
    impl Format for Nothing {
        fn name(&self) -> &'static str {
            self.0
        }
        fn taste<'a>(&'a self, _: &'a Probe<'a>) -> Tasting<'a> {
            Box::pin(async { Ok(Taste::No) })
        }
    }
    static TOY: Nothing = Nothing("toy");

    const GOOD: Plugin = Plugin {
        name: "toy",
        id: Id::new(0x8001, Class::PartitionManager, 1),
        class: Class::PartitionManager,
        api: Api::new(1, 0),
        about: "nothing",
        what: What::Format(&TOY),
        verbs: &[],
    };

    #[test]
    fn what_is_built_in_would_be_taken_one_by_one() {
        let mut registry = Registry { plugins: Vec::new() };
        for plugin in builtin::all() {
            registry.check(&plugin).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(plugin.id.vendor(), 0, "{plugin:?}");
            assert!(!plugin.about.is_empty() && !plugin.about.ends_with('.'), "{plugin:?}");
            registry.plugins.push(plugin);
        }
        let ids: BTreeSet<u32> = registry.plugins.iter().map(|plugin| plugin.id.number()).collect();
        assert_eq!(ids.len(), registry.plugins.len());
        let names: Vec<&str> = registry.verbs().iter().map(|verb| verb.name()).collect();
        let once: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(once.len(), names.len(), "{names:?}");
    }

    #[test]
    fn numbers_that_were_given_once_stay() {
        let number = |name: &str| {
            let all = Registry::builtin().plugins().iter();
            let found = all.clone().find(|plugin| plugin.name == name).map(|plugin| plugin.id);
            found.map(Id::number)
        };
        assert_eq!(number("file"), Some(0x1003));
        assert_eq!(number("gpt"), Some(0x2001));
        assert_eq!(number("atari"), Some(0x2008));
        assert_eq!(number("lvm2"), Some(0x3001));
        assert_eq!(number("link"), Some(0x4001));
        assert_eq!(number("crypt"), Some(0x4006));
        assert_eq!(number("swap"), Some(0x500f));
    }

    #[test]
    fn one_from_outside_is_asked_after_the_partition_tables_that_are_known_and_before_what_spans_disks() {
        let mut registry = Registry::default();
        registry.add(GOOD).unwrap();
        let order: Vec<&str> = registry.formats().map(|format| format.name()).collect();
        let toy = order.iter().position(|name| *name == "toy").unwrap();
        let (before, after) = order.split_at(toy);
        assert_eq!(
            before[..2],
            ["md", "gpt"],
            "what may lie beneath everything, then partition tables"
        );
        assert_eq!(before.last(), Some(&"atari"));
        assert_eq!(after, ["toy", "link", "lvm2"]);
        assert!(
            Registry::builtin().format("toy").is_none(),
            "the other registry is another value"
        );
    }

    #[test]
    fn one_that_does_not_fit_is_refused_with_the_reason() {
        let refused = |plugin: Plugin| {
            let mut registry = Registry::default();
            registry.add(GOOD).unwrap();
            registry.add(plugin).unwrap_err()
        };
        let other = Plugin {
            name: "other",
            id: Id::new(0x8001, Class::PartitionManager, 2),
            ..GOOD
        };
        let named = PluginError::Format {
            name: "other",
            format: "toy",
        };
        assert_eq!(refused(other), named);
        let name = "toy";
        assert_eq!(refused(GOOD), PluginError::NameTaken { name, id: GOOD.id });
        for name in ["", "Toy", "a b", "9p", "ä"] {
            assert_eq!(refused(Plugin { name, ..GOOD }), PluginError::Name(name));
        }
        let taken = Plugin {
            name: "other",
            id: GOOD.id,
            what: What::Format(&Nothing("other")),
            ..GOOD
        };
        assert!(matches!(refused(taken), PluginError::IdTaken { by: "toy", .. }));
        for id in [
            Id::new(0, Class::PartitionManager, 99),
            Id::new(0x8001, Class::Feature, 2),
        ] {
            let plugin = Plugin { id, ..taken };
            assert!(matches!(refused(plugin), PluginError::Id { .. }), "{id}");
        }
        for api in [Api::new(0, 9), Api::new(1, 1), Api::new(2, 0)] {
            let why = refused(Plugin { api, ..taken });
            assert!(matches!(why, PluginError::Api { .. }), "{why}");
            assert!(why.to_string().contains(&format!("version {api}")), "{why}");
        }
        for class in [Class::DeviceManager, Class::FilesystemInterface, Class::LockManager] {
            let id = Id::new(0x8001, class, 2);
            let why = refused(Plugin { class, id, ..taken });
            assert!(matches!(why, PluginError::Class { .. }), "{why}");
        }
        let verbs: &[&dyn Verb] = &[&crate::link::edit::LinkCreate];
        let verb = Plugin {
            id: Id::new(0x8001, Class::PartitionManager, 2),
            verbs,
            ..taken
        };
        let verb = refused(verb);
        assert_eq!(
            verb,
            PluginError::Verb {
                name: "other",
                verb: "link-create"
            }
        );
    }

    #[test]
    fn a_minor_version_may_be_behind_and_not_ahead() {
        let offered = Api::new(2, 3);
        for (wants, fits) in [
            ((2, 3), true),
            ((2, 0), true),
            ((2, 4), false),
            ((1, 3), false),
            ((3, 0), false),
        ] {
            assert_eq!(Api::new(wants.0, wants.1).fits(offered), fits, "{wants:?}");
        }
    }
}
