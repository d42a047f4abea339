//! Why a change is not possible: a code for programs, a sentence for people, and the way out.
use serde::{Deserialize, Serialize};
use std::fmt;

/// The kind of obstacle. Programs may rely on these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// There is no such verb.
    NoVerb,
    /// There is no such object.
    NotFound,
    /// The verb is for objects of another kind.
    WrongKind,
    /// An option is unknown, missing, of another type or out of range.
    BadOption,
    /// The name is taken, or is none.
    BadName,
    /// Not enough room, or none in the right place.
    NoSpace,
    /// Somebody uses it.
    InUse,
    /// Something is on the disk that would be lost.
    NotBlank,
    /// It belongs to another host, another owner or a lock manager.
    Foreign,
    /// Members are missing.
    Incomplete,
    /// Nobody can tell which copy is right.
    Ambiguous,
    /// The configuration says that it is left alone.
    LeftAlone,
    /// It cannot be written to.
    ReadOnly,
    /// The format cannot express it.
    Unsupported,
    /// What is on the disk is damaged.
    Damaged,
    /// A disk could not be read.
    Unreadable,
    /// Nothing would change.
    Nothing,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// What kind of obstacle it is.
    pub code: Code,
    /// What stands in the way, naming the thing.
    pub reason: String,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
}

impl Refusal {
    /// No, because of `reason`.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            way_out: None,
        }
    }

    /// … and what can be done about it.
    pub fn but(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way_out {
            Some(way_out) => write!(f, "{}; {way_out}", self.reason),
            None => f.write_str(&self.reason),
        }
    }
}
