//! All sources together: which holds stand, the one decision they make, and its edges.
//!
//! One rule replaces precedence: ingestion runs exactly when no hold covers it. Each source owns at
//! most one hold and releases only its own, so nobody's resume undoes somebody else's pause.
//!
//! Sources that are read at once, such as the holds of a control document, form a group: a reading of the
//! group tells about all of them, also about those that are gone from it.
//!
//! Invariants:
//! - an edge is reported by exactly the call that crosses it, never twice;
//! - doubt (a text that is gone, empty, unknown or out of reach) never changes a decision: what the
//!   source last decided stands, and where it decided nothing it has no opinion;
//! - a warning is reported when its cause changes, not each time it is seen again;
//! - a hold whose `until` has passed stays over until its source says something else.

mod entry;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use self::entry::{Entry, Read};
use crate::coverage::{Coverage, JobPlan};
use crate::hold::{Hold, Source};
use crate::observation::{Cause, Doubt, Observation, Warning};

/// What all sources together decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether ingestion shall run: something of some job is not held.
    pub enabled: bool,
    /// While disabled the source of the hold that [`Coverage::halted_by`] names; while enabled the source
    /// that said so in so many words (environment before file before others), if any did.
    pub source: Option<Source>,
    /// The holds that stand, oldest first.
    pub holds: Vec<Hold>,
    /// False while a last decision stands in for a source or a group that cannot be understood, and
    /// while one that exists cannot be read.
    pub flag_fresh: bool,
    /// One sentence for each source or group that is not understood now.
    pub doubts: Vec<String>,
    /// The generation of the group that has one, as last taken up.
    pub generation: Option<i64>,
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
        /// The hold whose release let it, or its state before it was narrowed.
        released: Hold,
        /// The reason given for the release, if its source gave one.
        reason: Option<String>,
        /// Who released it, if its source said.
        actor: Option<String>,
    },
}

/// What one look at one source changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// The edge that this call crossed.
    pub edge: Option<Edge>,
    /// The warning that this call raises.
    pub warning: Option<Warning>,
}

/// What one reading of a group changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupOutcome {
    /// The edge that this call crossed.
    pub edge: Option<Edge>,
    /// The warnings that this call raises.
    pub warnings: Vec<Warning>,
}

/// The holds of all sources, told the time and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HoldSet {
    jobs: Vec<JobPlan>,
    /// Sources with anything to remember.
    entries: BTreeMap<Source, Entry>,
    groups: BTreeMap<String, Group>,
    /// Whose hold is named as the one that halts; none while enabled.
    halted_by: Option<Source>,
    /// When `enabled` took its present value.
    since: Timestamp,
}

/// What is known of a group besides its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Group {
    /// Whether it has been read at all.
    read: bool,
    generation: Option<i64>,
    /// Why it cannot be read now; it was warned of.
    doubt: Option<Warning>,
}

/// A hold that went or changed, and the words with which its source released it.
type Release = (Hold, Option<String>, Option<String>);

/// What the steps of one call did to the holds.
#[derive(Default)]
struct Changes {
    placed: Vec<Hold>,
    released: Vec<Release>,
    warnings: Vec<Warning>,
}

impl HoldSet {
    /// A set without holds: enabled, since `now`.
    ///
    /// It is disabled while its holds cover all of every job; without `jobs` everything counts as one.
    #[must_use]
    pub fn new(now: Timestamp, jobs: Vec<JobPlan>) -> Self {
        let nameless = || vec![JobPlan { name: String::new(), pairs: Vec::new() }];
        let jobs = if jobs.is_empty() { nameless() } else { jobs };
        Self { jobs, entries: BTreeMap::new(), groups: BTreeMap::new(), halted_by: None, since: now }
    }

    /// Takes up a hold of an earlier run of this process, before its source is first observed; to be
    /// called for each, oldest first.
    ///
    /// It counts as that source's last decision: it stands until the source is understood, and keeps
    /// its `since` when the source still holds. It also ends when a group is read that is named after the
    /// kind of its source and no longer has it. A hold that is over at `now` is forgotten.
    pub fn remember(&mut self, now: Timestamp, hold: Hold) {
        if hold.is_over(now) {
            return;
        }
        let (enabled, since) = (self.enabled(), hold.since);
        self.entries.insert(hold.source.clone(), Entry::remembered(hold));
        self.judge();
        if enabled && !self.enabled() {
            self.since = since;
        }
    }

    /// Takes up what a look at `source` showed at `now`.
    ///
    /// Holds whose `until` has passed at `now` end first, whichever source they belong to.
    pub fn observe(&mut self, now: Timestamp, source: &Source, observation: Observation) -> Outcome {
        let mut changes = self.end_overdue(now);
        self.take_up(now, source, Read::Alone, observation, &mut changes);
        let edge = self.cross(now, &changes);
        Outcome { edge, warning: changes.warnings.pop() }
    }

    /// Takes up a reading of all of `group` at `now`: each source of it, and the generation it had.
    ///
    /// Sources that the group had before, and has no longer, have withdrawn. A source in doubt keeps what
    /// it last decided while the others are taken up. All are one step: at most one edge is crossed.
    pub fn observe_group(
        &mut self,
        now: Timestamp,
        group: &str,
        readings: Vec<(Source, Observation)>,
        generation: Option<i64>,
    ) -> GroupOutcome {
        let mut changes = self.end_overdue(now);
        self.groups.insert(group.to_owned(), Group { read: true, generation, doubt: None });
        let read: BTreeSet<&Source> = readings.iter().map(|(source, _)| source).collect();
        let gone = |(source, entry): &(&Source, &Entry)| entry.belongs_to(group) && !read.contains(source);
        let gone: Vec<_> = self.entries.iter().filter(gone).map(|(source, _)| source.clone()).collect();
        let gone = gone.into_iter().map(|source| (source, Observation::NoOpinion));
        for (source, observation) in gone.chain(readings) {
            self.take_up(now, &source, Read::InGroup(group.to_owned()), observation, &mut changes);
        }
        GroupOutcome { edge: self.cross(now, &changes), warnings: changes.warnings }
    }

    /// Notes at `now` that `group` cannot be read: everything that it last said stands.
    pub fn doubt_group(&mut self, now: Timestamp, group: &str, doubt: Doubt) -> GroupOutcome {
        let changes = self.end_overdue(now);
        let edge = self.cross(now, &changes);
        let has_sources = self.entries.values().any(|entry| entry.belongs_to(group));
        let entry = self.groups.entry(group.to_owned()).or_default();
        let last_decision_stands = entry.read || has_sources;
        let cause = Cause::Doubt(doubt);
        if entry.doubt.as_ref().is_some_and(|warned| warned.cause == cause) {
            return GroupOutcome { edge, warnings: Vec::new() };
        }
        let warning = Warning { source: Source::new(group), cause, last_decision_stands };
        entry.doubt = Some(warning.clone());
        GroupOutcome { edge, warnings: vec![warning] }
    }

    /// Ends the holds whose `until` has passed at `now`.
    pub fn expire(&mut self, now: Timestamp) -> Outcome {
        let changes = self.end_overdue(now);
        Outcome { edge: self.cross(now, &changes), warning: None }
    }

    /// When [`expire`](Self::expire) next has something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(|entry| entry.hold.as_ref()?.until).min()
    }

    /// Whether ingestion shall run, as of the last call.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.halted_by.is_none()
    }

    /// What all sources together decide, as of the last call.
    #[must_use]
    pub fn decision(&self) -> Decision {
        let source_doubts = self.entries.values().filter_map(Entry::doubt);
        let group_doubts = self.groups.values().filter_map(|group| group.doubt.as_ref());
        let doubts = group_doubts.map(ToString::to_string).chain(source_doubts).collect();
        let fresh = self.entries.values().all(|entry| entry.fresh);
        Decision {
            enabled: self.enabled(),
            source: self.halted_by.clone().or_else(|| self.said_on()),
            holds: self.holds(),
            flag_fresh: fresh && self.groups.values().all(|group| group.doubt.is_none()),
            doubts,
            generation: self.groups.values().filter_map(|group| group.generation).max(),
            since: self.since,
        }
    }

    /// The holds that stand, oldest first.
    fn holds(&self) -> Vec<Hold> {
        let mut holds: Vec<Hold> = self.entries.values().filter_map(|entry| entry.hold.clone()).collect();
        holds.sort_by_key(|hold| hold.since);
        holds
    }

    /// The first source, in order of kind, that says "run" in so many words.
    fn said_on(&self) -> Option<Source> {
        let says_on = self.entries.iter().filter(|(_, entry)| entry.says_on());
        let first = says_on.min_by_key(|(source, _)| match source.kind() {
            "env" => 0,
            "file" => 1,
            _ => 2,
        });
        first.map(|(source, _)| source.clone())
    }

    fn take_up(
        &mut self,
        now: Timestamp,
        source: &Source,
        read: Read,
        observation: Observation,
        changes: &mut Changes,
    ) {
        if observation == Observation::NoOpinion && !self.entries.contains_key(source) {
            return;
        }
        let speaks = observation != Observation::NoOpinion;
        let (reason, actor) = match &observation {
            Observation::On(notes) => (notes.reason.clone(), notes.actor.clone()),
            Observation::NoOpinion | Observation::Off { .. } | Observation::Doubt(_) => (None, None),
        };
        let entry = self.entries.entry(source.clone()).or_insert_with(|| Entry::new(source.clone()));
        entry.read = read;
        let before = entry.hold.clone();
        changes.warnings.extend(entry.take_up(now, observation));
        if before != entry.hold {
            changes.placed.extend(entry.hold.clone());
            changes.released.extend(before.map(|before| (before, reason, actor)));
        }
        if !speaks {
            self.entries.remove(source);
        }
    }

    /// Drops overdue holds, the one that lasted longest last.
    fn end_overdue(&mut self, now: Timestamp) -> Changes {
        let over = |entry: &mut Entry| entry.hold.take_if(|hold| hold.is_over(now));
        let mut over: Vec<_> = self.entries.values_mut().filter_map(over).collect();
        over.sort_by_key(|hold| hold.until);
        let released = over.into_iter().map(|hold| (hold, None, None)).collect();
        Changes { released, ..Changes::default() }
    }

    /// Judges anew what has changed, and tells the edge that this crosses.
    fn cross(&mut self, now: Timestamp, changes: &Changes) -> Option<Edge> {
        if changes.placed.is_empty() && changes.released.is_empty() {
            return None;
        }
        let before = self.halted_by.clone();
        self.judge();
        let edge = match (&before, &self.halted_by) {
            (None, Some(by)) => {
                let named = changes.placed.iter().find(|hold| hold.source == *by);
                named.or(changes.placed.last()).cloned().map(Edge::Halted)
            }
            (Some(by), None) => {
                let named = changes.released.iter().find(|(hold, ..)| hold.source == *by);
                named.or(changes.released.last()).cloned().map(|(released, reason, actor)| Edge::Resumed {
                    released,
                    reason,
                    actor,
                })
            }
            (None, None) | (Some(_), Some(_)) => None,
        };
        if edge.is_some() {
            self.since = now;
        }
        edge
    }

    fn judge(&mut self) {
        let coverage = Coverage::new(&self.holds());
        self.halted_by = coverage.halted_by(&self.jobs).map(|hold| hold.source.clone());
    }
}

#[cfg(test)]
mod tests;
