//! All sources together: which holds stand, the one decision they make, and its edges.
//!
//! One rule replaces precedence: ingestion runs exactly when no hold covers it. Each source owns at
//! most one hold and releases only its own, so nobody's resume undoes somebody else's pause.
//!
//! Invariants:
//! - an edge is reported by exactly the call that crosses it, never twice;
//! - doubt (a text that is gone, empty, unknown or out of reach) never changes a decision: what the
//!   source last decided stands, and where it decided nothing it has no opinion;
//! - a warning is reported when its cause changes, not each time it is seen again;
//! - a hold whose `until` has passed stays over until its source says something else.

use std::fmt;

use jiff::Timestamp;

use crate::flag::{BadNote, Flag, Notes, OFF_WORDS, ON_WORDS};
use crate::hold::{Hold, Scope, Source};

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
    },
    /// The source cannot be understood now; what it decided last stands.
    Doubt(Doubt),
}

impl From<Flag> for Observation {
    /// A flag speaks about everything: its scope is [`Scope::All`].
    fn from(flag: Flag) -> Self {
        match flag {
            Flag::Blank => Self::Doubt(Doubt::Blank),
            Flag::On(notes) => Self::On(notes),
            Flag::Off(notes) => Self::Off { scope: Scope::All, notes },
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
        }
    }
}

/// What all sources together decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether ingestion shall run: no hold covers everything.
    pub enabled: bool,
    /// While disabled the source of the oldest hold; while enabled the source that said so in so
    /// many words (environment before file before others), if any did.
    pub source: Option<Source>,
    /// The holds that stand, oldest first.
    pub holds: Vec<Hold>,
    /// False while a last decision stands in for a source that cannot be understood, and while a
    /// source that exists cannot be read.
    pub flag_fresh: bool,
    /// When `enabled` took its present value.
    pub since: Timestamp,
}

/// A change of [`Decision::enabled`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Edge {
    /// Ingestion shall stop; the hold that began it.
    Halted(Hold),
    /// Ingestion shall run again.
    Resumed {
        /// The last hold, now released.
        released: Hold,
        /// The reason given for the release, if its source gave one.
        reason: Option<String>,
        /// Who released it, if its source said.
        actor: Option<String>,
    },
}

/// Something an operator should know about a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Warning {
    /// The source concerned.
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

/// What one call changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The edge that this call crossed.
    pub edge: Option<Edge>,
    /// The warning that this call raises.
    pub warning: Option<Warning>,
}

/// The holds of all sources, told the time and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HoldSet {
    /// Sources with anything to remember, in the order in which they were first seen.
    entries: Vec<Entry>,
    /// When `enabled` took its present value.
    since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    source: Source,
    /// What the source decided last; kept through doubt.
    decided: Option<Decided>,
    /// The hold that follows from it, while it lasts.
    hold: Option<Hold>,
    fresh: bool,
    /// What was last warned of, so as to warn once.
    cause: Option<Cause>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Decided {
    On(Notes),
    Off { scope: Scope, notes: Notes },
}

impl HoldSet {
    /// A set without holds: enabled, since `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self { entries: Vec::new(), since: now }
    }

    /// Takes up a hold of an earlier run of this process, before its source is first observed.
    ///
    /// It counts as that source's last decision: it stands until the source is understood, and keeps
    /// its `since` when the source still holds. A hold that is over at `now` is forgotten.
    pub fn remember(&mut self, now: Timestamp, hold: Hold) {
        if hold.is_over(now) {
            return;
        }
        if self.enabled() {
            self.since = hold.since;
        }
        let notes =
            Notes { reason: hold.reason.clone(), actor: hold.actor.clone(), until: hold.until, bad: None };
        let entry = self.entry(&hold.source.clone());
        entry.decided = Some(Decided::Off { scope: hold.scope.clone(), notes });
        entry.hold = Some(hold);
        entry.fresh = false;
    }

    /// Takes up what a look at `source` showed at `now`.
    ///
    /// Holds whose `until` has passed at `now` end first, whichever source they belong to.
    pub fn observe(&mut self, now: Timestamp, source: &Source, observation: Observation) -> Outcome {
        let enabled_before = self.enabled();
        let ended = self.end_overdue(now);

        let entry = self.entry(source);
        let speaks = observation != Observation::NoOpinion;
        let (reason, actor) = match &observation {
            Observation::On(notes) => (notes.reason.clone(), notes.actor.clone()),
            Observation::NoOpinion | Observation::Off { .. } | Observation::Doubt(_) => (None, None),
        };
        let held = entry.hold.clone();
        let warning = entry.take_up(now, observation);
        let holding = entry.hold.clone();
        if !speaks {
            self.entries.retain(|entry| entry.source != *source);
        }

        let released = held.filter(|held| Some(held) != holding.as_ref());
        let edge = match (enabled_before, self.enabled()) {
            (true, false) => holding.map(Edge::Halted),
            (false, true) => match released {
                Some(released) => Some(Edge::Resumed { released, reason, actor }),
                None => ended.map(Edge::ended),
            },
            (true, true) | (false, false) => None,
        };
        self.cross(now, edge.is_some());
        Outcome { edge, warning }
    }

    /// Ends the holds whose `until` has passed at `now`.
    pub fn expire(&mut self, now: Timestamp) -> Outcome {
        let enabled_before = self.enabled();
        let ended = self.end_overdue(now);
        let edge = if enabled_before != self.enabled() { ended.map(Edge::ended) } else { None };
        self.cross(now, edge.is_some());
        Outcome { edge, warning: None }
    }

    /// When [`expire`](Self::expire) next has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.holds().filter_map(|hold| hold.until).min()
    }

    /// What all sources together decide, as of the last call.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let enabled = self.enabled();
        let mut holds: Vec<Hold> = self.holds().cloned().collect();
        holds.sort_by_key(|hold| hold.since);
        let source = if enabled {
            self.said_on()
        } else {
            holds.iter().find(|hold| hold.scope == Scope::All).map(|hold| hold.source.clone())
        };
        let flag_fresh = self.entries.iter().all(|entry| entry.fresh);
        Decision { enabled, source, holds, flag_fresh, since: self.since }
    }

    fn enabled(&self) -> bool {
        !self.holds().any(|hold| hold.scope == Scope::All)
    }

    fn holds(&self) -> impl Iterator<Item = &Hold> {
        self.entries.iter().filter_map(|entry| entry.hold.as_ref())
    }

    /// The first source, in order of kind, that says "run" in so many words.
    fn said_on(&self) -> Option<Source> {
        self.entries
            .iter()
            .filter(|entry| matches!(entry.decided, Some(Decided::On(_))))
            .min_by_key(|entry| match entry.source.kind() {
                "env" => 0,
                "file" => 1,
                _ => 2,
            })
            .map(|entry| entry.source.clone())
    }

    fn entry(&mut self, source: &Source) -> &mut Entry {
        let at = self.entries.iter().position(|entry| entry.source == *source);
        let at = at.unwrap_or_else(|| {
            self.entries.push(Entry::new(source.clone()));
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    /// Drops overdue holds and returns the one that lasted longest.
    fn end_overdue(&mut self, now: Timestamp) -> Option<Hold> {
        self.entries
            .iter_mut()
            .filter_map(|entry| entry.hold.take_if(|hold| hold.is_over(now)))
            .max_by_key(|hold| hold.until)
    }

    fn cross(&mut self, now: Timestamp, crossed: bool) {
        if crossed {
            self.since = now;
        }
    }
}

impl Edge {
    /// The edge of a hold that ended by itself.
    fn ended(released: Hold) -> Self {
        Self::Resumed { released, reason: None, actor: None }
    }
}

impl Entry {
    fn new(source: Source) -> Self {
        Self { source, decided: None, hold: None, fresh: true, cause: None }
    }

    /// Follows the source and returns a warning when the cause for one is new.
    fn take_up(&mut self, now: Timestamp, observation: Observation) -> Option<Warning> {
        let cause = match observation {
            Observation::NoOpinion => {
                (self.decided, self.hold, self.fresh) = (None, None, true);
                None
            }
            Observation::On(notes) => {
                let cause = notes.bad.clone().map(Cause::Note);
                (self.decided, self.hold, self.fresh) = (Some(Decided::On(notes)), None, true);
                cause
            }
            Observation::Off { scope, notes } => self.hold_for(now, scope, notes),
            Observation::Doubt(doubt) => {
                let stands = self.decided.is_some();
                let within_reach = matches!(doubt, Doubt::Blank | Doubt::Missing | Doubt::Unknown(_));
                self.fresh = within_reach && !stands;
                // A flag that nobody has written yet is no cause for alarm.
                let expected = matches!(doubt, Doubt::Blank | Doubt::Missing) && !stands;
                (!expected).then_some(Cause::Doubt(doubt))
            }
        };
        if self.cause == cause {
            return None;
        }
        self.cause.clone_from(&cause);
        let last_decision_stands = self.decided.is_some() && !self.fresh;
        cause.map(|cause| Warning { source: self.source.clone(), cause, last_decision_stands })
    }

    /// Begins, keeps or rewrites the hold; a hold that is over begins again only if rewritten.
    fn hold_for(&mut self, now: Timestamp, scope: Scope, notes: Notes) -> Option<Cause> {
        self.fresh = true;
        let bad = notes.bad.clone().map(Cause::Note);
        let decided = Decided::Off { scope: scope.clone(), notes: notes.clone() };
        if self.decided.as_ref() == Some(&decided) {
            let already_over = matches!(self.cause, Some(Cause::AlreadyOver(_)));
            return if already_over { self.cause.clone() } else { bad };
        }
        self.decided = Some(decided);
        let since = self.hold.as_ref().map_or(now, |hold| hold.since);
        let source = self.source.clone();
        let Notes { reason, actor, until, .. } = notes;
        let hold = Hold { source, scope, reason, actor, since, until };
        if let Some(until) = until.filter(|_| hold.is_over(now)) {
            self.hold = None;
            return Some(Cause::AlreadyOver(until));
        }
        self.hold = Some(hold);
        bad
    }
}

#[cfg(test)]
mod tests;
