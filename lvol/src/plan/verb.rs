//! Verbs: what can be done to disks, partitions, groups and volumes. One trait; plug-ins bring them, and the command line, RPC and whatever else asks
//! read what each takes from its description.
use super::{Code, Disks, Draft, Guess, Limit, Plan, Refusal, Stamp, draft, limit};
use crate::part;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{future::Future, pin::Pin};

/// What a verb is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Any disk: a device, a partition, a volume.
    Disk,
    /// A partition.
    Partition,
    /// A volume group.
    Group,
    /// A volume of a group, as `group/volume`.
    Volume,
    /// A drive link.
    Link,
    /// An array of Linux MD.
    Array,
    /// A name that is free: the verb makes something of that name.
    Name,
}

impl Kind {
    /// In a word or two.
    pub fn word(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Partition => "partition",
            Self::Group => "volume group",
            Self::Volume => "volume of a group",
            Self::Link => "drive link",
            Self::Array => "array",
            Self::Name => "free name",
        }
    }
}

/// What an object is; several at once, for a partition is a disk too.
pub fn kinds(disks: &dyn Disks, object: &str) -> Vec<Kind> {
    let mut kinds = Vec::new();
    if let Some(facts) = disks.facts(object) {
        kinds.push(Kind::Disk);
        if facts.partition.is_some() {
            kinds.push(Kind::Partition);
        }
    }
    kinds.extend(disks.other_kinds(object));
    if kinds.is_empty() {
        // One that is in a table but not served, such as an extended one, has no disk of its own.
        if part::edit::unserved(disks, object).is_some() {
            kinds.push(Kind::Partition);
        }
        kinds.push(Kind::Name);
    }
    kinds
}

/// What an option may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Words.
    Text,
    /// A list of words.
    List,
    /// A whole number.
    Number,
    /// A size: bytes as a number, or a text as LVM2 has it: `10g`, `512m`, `64k`, `8192s`.
    Size,
    /// A number of extents, or a share: `100`, `50%VG`, `100%FREE`, `+10`.
    Extents,
    /// Yes or no.
    Flag,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// Names of disks.
    Disks,
}

/// An option of a verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Opt {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    #[serde(rename = "type")]
    pub kind: Type,
    /// Whether it must be given.
    pub required: bool,
    /// What it is, and what happens without it.
    pub about: &'static str,
}

impl Opt {
    /// One that may be left out.
    pub const fn new(name: &'static str, kind: Type, about: &'static str) -> Self {
        Self {
            name,
            kind,
            required: false,
            about,
        }
    }

    /// One that must be given.
    pub const fn required(name: &'static str, kind: Type, about: &'static str) -> Self {
        Self {
            name,
            kind,
            required: true,
            about,
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The verb's name.
    pub verb: String,
    /// What it is done to.
    pub object: String,
    /// How.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
}

impl Request {
    /// `verb` to `object`, without options.
    pub fn new(verb: &str, object: &str) -> Self {
        Self {
            verb: verb.to_owned(),
            object: object.to_owned(),
            options: Map::new(),
        }
    }

    /// … with this option.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.options.insert(name.to_owned(), value.into());
        self
    }

    /// The options in the shape that the verb wants.
    pub fn options<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        serde_json::from_value(Value::Object(self.options.clone()))
            .map_err(|why| Refusal::new(Code::BadOption, format!("{}: {why}", self.verb)))
    }
}

/// A plan that is being made.
pub type Planning<'a> = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>;

/// Something that can be done.
pub trait Verb: Send + Sync {
    /// Its name: `lv-create`.
    fn name(&self) -> &'static str;
    /// What it does, in one sentence.
    fn about(&self) -> &'static str;
    /// What it is done to.
    fn kind(&self) -> Kind;
    /// What else it takes.
    fn options(&self) -> &'static [Opt];
    /// Options with which it would be tried on this object, to see whether it is possible at all.
    fn example(&self, disks: &dyn Disks, object: &str) -> Map<String, Value> {
        let _ = (disks, object);
        Map::new()
    }
    /// What its options may be on this object, as far as it knows: ranges, defaults, words. It is tried before it is told, so a guess may be too wide.
    fn guesses(&self, disks: &dyn Disks, object: &str) -> Vec<Guess> {
        let _ = (disks, object);
        Vec::new()
    }
    /// Drafts it, or says why not. Reads only.
    fn plan<'a, 'd: 'a>(&'a self, draft: &'a mut Draft<'d>, request: &'a Request) -> Planning<'a>;
}

/// Plans a request.
pub async fn plan(disks: &dyn Disks, request: &Request, stamp: &Stamp) -> Result<Plan, Refusal> {
    let verb = disks.registry().verb(&request.verb)?;
    let kinds = kinds(disks, &request.object);
    if !kinds.contains(&verb.kind()) {
        let object = &request.object;
        return Err(match kinds.as_slice() {
            [Kind::Name] => {
                let why = format!("there is no {} called {object:?}", verb.kind().word());
                Refusal::new(Code::NotFound, why).but("`ashlar disk ls` and `ashlar vg ls` list what there is")
            }
            _ if verb.kind() == Kind::Name => Refusal::new(Code::BadName, format!("{object:?} is there already")),
            _ => Refusal::new(Code::WrongKind, format!("{object:?} is no {}", verb.kind().word())),
        });
    }
    // A partition that is left alone is not changed through its disk either.
    if let Some(why) = disks.left_alone(&request.object) {
        return Err(draft::left_alone(&request.object, &why));
    }
    for option in request.options.keys() {
        if !verb.options().iter().any(|known| known.name == option) {
            let known: Vec<&str> = verb.options().iter().map(|known| known.name).collect();
            let why = format!("{} has no option {option:?}", request.verb);
            return Err(Refusal::new(Code::BadOption, why).but(format!("it takes {}", known.join(", "))));
        }
    }
    for option in verb.options().iter().filter(|option| option.required) {
        if !request.options.contains_key(option.name) {
            let why = format!("{} needs the option {:?}: {}", request.verb, option.name, option.about);
            return Err(Refusal::new(Code::BadOption, why));
        }
    }
    let mut draft = Draft::new(disks, request.clone(), stamp.clone());
    verb.plan(&mut draft, request).await?;
    draft.finish("write")
}

/// Whether a verb is possible on an object now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Can {
    /// The verb.
    pub verb: &'static str,
    /// The object.
    pub object: String,
    /// Whether it is possible.
    pub possible: bool,
    /// Why not.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub why: Option<Refusal>,
    /// Options with which it is.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, Value>,
    /// What its options may be: told when one verb is asked about, for each value is tried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
}

/// Tries a verb on an object, with the options that its description proposes. What comes of it is thrown away, so the answer is that of trying it.
pub async fn can(disks: &dyn Disks, verb: &'static dyn Verb, object: &str, stamp: &Stamp) -> Can {
    let request = Request {
        verb: verb.name().to_owned(),
        object: object.to_owned(),
        options: verb.example(disks, object),
    };
    let why = plan(disks, &request, stamp).await.err();
    Can {
        verb: verb.name(),
        object: request.object,
        possible: why.is_none(),
        why,
        options: request.options,
        limits: Vec::new(),
    }
}

/// The same, with what each option may be on this object now.
pub async fn can_how(disks: &dyn Disks, verb: &'static dyn Verb, object: &str, stamp: &Stamp) -> Can {
    let mut can = can(disks, verb, object, stamp).await;
    let tried = can.why.as_ref().map(|why| why.code);
    can.limits = limit::limits(disks, verb, object, stamp, tried).await;
    can
}
