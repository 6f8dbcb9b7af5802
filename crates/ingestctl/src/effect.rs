//! Whether a heartbeat shows that a change took effect, and if not, what it waits for.
//!
//! Pure: what was asked and what is seen are passed in. Invariant: an effect is never read out of a heartbeat that may
//! be older than the change, nor out of the generation alone: the heartbeat must show the hold itself, placed or gone,
//! and jobs that are wholly held must show that they are closed.

use ingest_status::{Heartbeat, HoldReport, JobReport, JobStatus};
use ingest_switch::{Scope, Target};
use market_ingest::config::feed_channels;

use crate::overlap::{Overlap, overlap};

/// Which way the change goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Holds were placed.
    Pause,
    /// Holds were released.
    Resume,
}

/// A change of the control document whose effect is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// Which way.
    pub(crate) verb: Verb,
    /// Generation of the control document that carries it.
    pub(crate) generation: i64,
    /// The holds placed or released, by id.
    pub(crate) holds: Vec<String>,
    /// What they cover or covered.
    pub(crate) scopes: Vec<Scope>,
    /// The heartbeat before the change, where only a newer one can show its effect.
    pub(crate) before: Option<Mark>,
    /// The jobs that were closed before the change.
    pub(crate) closed_before: Vec<String>,
}

/// Tells one heartbeat from the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    instance_id: String,
    seq: u64,
    ts: ingest_status::Timestamp,
}

impl Mark {
    /// The mark of a heartbeat.
    pub(crate) fn of(beat: &Heartbeat) -> Self {
        Self { instance_id: beat.instance_id.clone(), seq: beat.seq, ts: beat.ts }
    }
}

impl Change {
    /// What is missing for the effect to be complete; empty when it is.
    pub(crate) fn waits_for(&self, beat: &Heartbeat) -> Vec<String> {
        if self.before.as_ref() == Some(&Mark::of(beat)) {
            return vec!["a heartbeat newer than the change".to_owned()];
        }
        let mut missing = Vec::new();
        let shown = match self.verb {
            // A resume that the venue does not grant is no reason to doubt a pause.
            Verb::Pause => {
                let at_rest = beat.jobs.values().map(|job| job.at_rest_generation).min().flatten();
                at_rest.max(beat.effective_generation)
            }
            Verb::Resume => beat.effective_generation,
        };
        match shown {
            Some(effective) if effective >= self.generation => {}
            Some(effective) => {
                let taken_up = beat.observed_generation.is_some_and(|taken| taken >= self.generation);
                let stage = if taken_up { "taken up, not effective" } else { "not taken up" };
                missing.push(format!(
                    "generation {} of the control document ({stage}; {effective} is effective)",
                    self.generation
                ));
            }
            None => missing.push(format!(
                "generation {} of the control document (the heartbeat tells of none)",
                self.generation
            )),
        }
        for id in &self.holds {
            let stands = beat.holds.iter().any(|hold| is_control(hold, id));
            match self.verb {
                Verb::Pause if !stands => missing.push(format!("the hold {id} to stand")),
                Verb::Resume if stands => missing.push(format!("the hold {id} to go")),
                Verb::Pause | Verb::Resume => {}
            }
        }
        for (name, job) in &beat.jobs {
            match self.verb {
                Verb::Pause if self.closes(name) && !is_closed(job) => {
                    missing.push(format!("job {name} to close (it is {})", phase(job)));
                }
                // A job that is paused all the same is held by others, which is told elsewhere.
                Verb::Resume if self.opens(name) && !job.connected && !is_closed(job) => {
                    let why = job.reason.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
                    missing.push(format!("job {name} to connect (it is {}{why})", phase(job)));
                }
                Verb::Pause | Verb::Resume => {}
            }
        }
        missing
    }

    /// Whether a pause covers all of the job.
    pub(crate) fn closes(&self, job: &str) -> bool {
        self.scopes.iter().any(|scope| overlap(scope, &Scope::job(job)) == Overlap::Whole)
    }

    /// Whether a resume may be what lets the job run.
    fn opens(&self, job: &str) -> bool {
        self.closes(job) || self.closed_before.iter().any(|name| name == job)
    }

    /// The holds that still cover what was released: all of it, and some of it.
    pub(crate) fn still_held<'a>(&self, beat: &'a Heartbeat) -> (Vec<&'a HoldReport>, Vec<&'a HoldReport>) {
        let released = |hold: &HoldReport| self.holds.iter().any(|id| is_control(hold, id));
        let (mut whole, mut part) = (Vec::new(), Vec::new());
        for hold in beat.holds.iter().filter(|hold| !released(hold)) {
            let Ok(scope) = hold.scope.parse::<Scope>() else {
                // What cannot be placed is rather told than left out.
                part.push(hold);
                continue;
            };
            let lies = self.scopes.iter().map(|own| overlap(&scope, own));
            match lies.fold(Overlap::None, greater) {
                Overlap::Whole => whole.push(hold),
                Overlap::Part => part.push(hold),
                Overlap::None => {}
            }
        }
        // Several that cover a part each can come to the whole; whether they do, the jobs tell.
        if whole.is_empty() && self.scopes.iter().any(|scope| nothing_flows(beat, scope)) {
            whole = std::mem::take(&mut part);
        }
        (whole, part)
    }
}

/// Whether every job that can carry some of this shows that it does not.
fn nothing_flows(beat: &Heartbeat, scope: &Scope) -> bool {
    let carries = |name: &str| match scope.target() {
        Target::All => true,
        Target::Job(job) => job.eq_ignore_ascii_case(name),
        // A job that is not known by name may carry anything.
        Target::Symbol(symbol) => feed_channels(name, symbol).is_none_or(|channels| !channels.is_empty()),
    };
    let is_still = |job: &JobReport| {
        let named = |symbol: &str| job.paused_symbols.iter().any(|own| own.eq_ignore_ascii_case(symbol));
        let symbol_is_still = match (scope.target(), scope.channel()) {
            (Target::Symbol(symbol), None) => named(symbol),
            (Target::Symbol(symbol), Some(channel)) => named(symbol) || named(&format!("{symbol}/{channel}")),
            (Target::All | Target::Job(_), _) => false,
        };
        job.status == JobStatus::Paused || symbol_is_still
    };
    let mut jobs = beat.jobs.iter().filter(|(name, _)| carries(name)).peekable();
    jobs.peek().is_some() && jobs.all(|(_, job)| is_still(job))
}

/// Whether the job has no connection and wants none.
pub(crate) fn is_closed(job: &JobReport) -> bool {
    !job.connected && matches!(job.status, JobStatus::Paused | JobStatus::Stopped)
}

/// The job's status and phase in words.
pub(crate) fn phase(job: &JobReport) -> String {
    let status = status_word(job.status);
    if status == job.phase { status.to_owned() } else { format!("{status}, {}", job.phase) }
}

/// The word of a job's status.
pub(crate) fn status_word(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Starting => "starting",
        JobStatus::Running => "running",
        JobStatus::Paused => "paused",
        JobStatus::Stopped => "stopped",
        JobStatus::Failed => "failed",
    }
}

fn is_control(hold: &HoldReport, id: &str) -> bool {
    hold.source.strip_prefix("control:") == Some(id)
}

fn greater(one: Overlap, other: Overlap) -> Overlap {
    match (one, other) {
        (Overlap::Whole, _) | (_, Overlap::Whole) => Overlap::Whole,
        (Overlap::Part, _) | (_, Overlap::Part) => Overlap::Part,
        (Overlap::None, Overlap::None) => Overlap::None,
    }
}

#[cfg(test)]
mod tests;
