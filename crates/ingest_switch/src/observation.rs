//! What one look at a source showed, and what an operator should know about it.

use std::fmt;

use jiff::Timestamp;

use crate::flag::{BadNote, Flag, Notes, OFF_WORDS, ON_WORDS};
use crate::hold::Source;
use crate::scope::Scope;

/// How much of what was found and not understood is quoted, in characters.
const GARBLED_LIMIT_CHARS: usize = 80;

/// What one look at a source showed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Observation {
    /// The source asks for nothing: it is not configured, or has withdrawn what it asked.
    NoOpinion,
    /// The source says in so many words that ingestion shall run.
    On(Notes),
    /// The source holds.
    Off {
        /// What it holds.
        scope: Scope,
        /// Why, who, until when.
        notes: Notes,
        /// Since when, if the source says so; a time to come counts as now.
        since: Option<Timestamp>,
    },
    /// The source cannot be understood now; what it decided last stands.
    Doubt(Doubt),
}

impl From<Flag> for Observation {
    /// A flag speaks about everything: its scope is [`Scope::ALL`].
    fn from(flag: Flag) -> Self {
        match flag {
            Flag::Blank => Self::Doubt(Doubt::Blank),
            Flag::On(notes) => Self::On(notes),
            Flag::Off(notes) => Self::Off { scope: Scope::ALL, notes, since: None },
            Flag::Unknown(word) => Self::Doubt(Doubt::Unknown(word)),
        }
    }
}

/// Why a source cannot be understood now.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// It holds no text, or only blank lines and comments.
    Blank,
    /// It does not exist.
    Missing,
    /// Its word is in neither list; the word, cut at 40 characters.
    Unknown(String),
    /// It exists but cannot be read; why.
    Unreadable(String),
    /// Reading it did not end within the time limit.
    Hanging,
    /// It was read and says something that is not understood; see [`Doubt::garbled`].
    Garbled(String),
}

impl Doubt {
    /// What was `found` is not understood; it is quoted up to 80 characters.
    #[must_use]
    pub fn garbled(found: &str) -> Self {
        Self::Garbled(found.chars().take(GARBLED_LIMIT_CHARS).collect())
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("it is blank"),
            Self::Missing => f.write_str("it does not exist"),
            Self::Unknown(word) => write!(
                f,
                "{word:?} is not understood (on: {}; off: {})",
                ON_WORDS.join(" "),
                OFF_WORDS.join(" ")
            ),
            Self::Unreadable(why) => write!(f, "it cannot be read: {why}"),
            Self::Hanging => f.write_str("reading it does not end"),
            Self::Garbled(found) => write!(f, "{found:?} is not understood"),
        }
    }
}

/// Something an operator should know about a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Warning {
    /// The source concerned; where a whole group cannot be read, the group's name.
    pub source: Source,
    /// What is wrong.
    pub cause: Cause,
    /// Whether an earlier decision of this source stands in.
    pub last_decision_stands: bool,
}

/// What is wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It cannot be understood.
    Doubt(Doubt),
    /// It is understood but for one of its lines.
    Note(BadNote),
    /// It asks for a hold that had ended before it was first seen.
    AlreadyOver(Timestamp),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, cause, last_decision_stands } = self;
        match cause {
            Cause::Doubt(doubt) => {
                let instead =
                    if *last_decision_stands { "its last decision stands" } else { "it has no say" };
                write!(f, "{source}: {doubt}; {instead}")
            }
            Cause::Note(note) => write!(f, "{source}: {note}"),
            Cause::AlreadyOver(until) => {
                write!(f, "{source}: it says off, but until {until} only, which has passed")
            }
        }
    }
}
