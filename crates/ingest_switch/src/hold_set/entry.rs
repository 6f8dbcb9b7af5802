//! One source's part of the set: what it decided last, the hold that follows, and how far it is trusted.

use jiff::Timestamp;

use crate::flag::Notes;
use crate::hold::{Hold, Source};
use crate::observation::{Cause, Doubt, Observation, Warning};
use crate::scope::Scope;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    source: Source,
    pub(super) read: Read,
    /// What the source decided last; kept through doubt.
    decided: Option<Decided>,
    /// The hold that follows from it, while it lasts.
    pub(super) hold: Option<Hold>,
    pub(super) fresh: bool,
    /// What was last warned of, so as to warn once.
    cause: Option<Cause>,
}

/// How a source was last read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Read {
    /// Not in this run: its hold is remembered.
    NotYet,
    Alone,
    InGroup(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Decided {
    On,
    Off { scope: Scope, notes: Notes, since: Option<Timestamp> },
}

impl Entry {
    pub(super) fn new(source: Source) -> Self {
        Self { source, read: Read::Alone, decided: None, hold: None, fresh: true, cause: None }
    }

    /// A source whose hold of an earlier run counts as its last decision.
    pub(super) fn remembered(hold: Hold) -> Self {
        let Hold { source, scope, reason, actor, until, .. } = hold.clone();
        let notes = Notes { reason, actor, until, bad: None };
        let decided = Some(Decided::Off { scope, notes, since: None });
        Self { source, read: Read::NotYet, decided, hold: Some(hold), fresh: false, cause: None }
    }

    /// Whether a reading of all of `group` tells about this source too: the group has read it before, or
    /// nobody has read it yet and the group is named after its kind.
    pub(super) fn belongs_to(&self, group: &str) -> bool {
        match &self.read {
            Read::NotYet => self.source.kind() == group,
            Read::Alone => false,
            Read::InGroup(own) => own == group,
        }
    }

    pub(super) fn says_on(&self) -> bool {
        self.decided == Some(Decided::On)
    }

    /// Why the source is not understood in whole or in part, in a sentence.
    pub(super) fn doubt(&self) -> Option<String> {
        match self.cause {
            Some(Cause::Doubt(_) | Cause::Note(_)) => self.warning().map(|warning| warning.to_string()),
            Some(Cause::AlreadyOver(_)) | None => None,
        }
    }

    /// Follows the source and returns a warning when the cause for one is new.
    pub(super) fn take_up(&mut self, now: Timestamp, observation: Observation) -> Option<Warning> {
        let cause = match observation {
            Observation::NoOpinion => {
                (self.decided, self.hold, self.fresh) = (None, None, true);
                None
            }
            Observation::On(notes) => {
                (self.decided, self.hold, self.fresh) = (Some(Decided::On), None, true);
                notes.bad.map(Cause::Note)
            }
            Observation::Off { scope, notes, since } => self.hold_for(now, scope, notes, since),
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
        self.cause = cause;
        self.warning()
    }

    /// Begins, keeps or rewrites the hold; a hold that is over begins again only if rewritten.
    fn hold_for(
        &mut self,
        now: Timestamp,
        scope: Scope,
        notes: Notes,
        said_since: Option<Timestamp>,
    ) -> Option<Cause> {
        self.fresh = true;
        let bad = notes.bad.clone().map(Cause::Note);
        let decided = Decided::Off { scope: scope.clone(), notes: notes.clone(), since: said_since };
        if self.decided.as_ref() == Some(&decided) {
            let already_over = matches!(self.cause, Some(Cause::AlreadyOver(_)));
            return if already_over { self.cause.clone() } else { bad };
        }
        self.decided = Some(decided);
        let seen_since = || self.hold.as_ref().map_or(now, |hold| hold.since);
        let since = said_since.map_or_else(seen_since, |since| since.min(now));
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

    fn warning(&self) -> Option<Warning> {
        let last_decision_stands = self.decided.is_some() && !self.fresh;
        let warning = |cause| Warning { source: self.source.clone(), cause, last_decision_stands };
        self.cause.clone().map(warning)
    }
}
