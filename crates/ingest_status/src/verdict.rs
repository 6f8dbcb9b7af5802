//! The verdict on a heartbeat: may its data be traded on, and if not, why.
//!
//! Order matters: what cannot be read is `stale`; a clean stop is `stopped` whatever its age; a
//! time in the future or too old is `stale` whatever the document claims; only then is `paused`
//! believed. `live` needs a fresh document that says it is really ingesting.

use crate::{ConditionStatus, Heartbeat, Status, Timestamp};

/// A heartbeat may be this many seconds ahead of the reader's clock before it is disbelieved.
const SKEW_LIMIT_S: f64 = 5.0;
/// Used when the document does not say how often it is written.
const DEFAULT_INTERVAL_S: f64 = 15.0;

/// What a reader got when it asked the store for the heartbeat.
#[derive(Clone, Debug)]
pub enum Observed<'a> {
    /// The store answered that there is no such document.
    Missing,
    /// There is one and it could not be understood; the text says why.
    Unparsable(&'a str),
    /// There is one.
    Document(&'a Heartbeat),
}

/// When a heartbeat counts as late or stale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thresholds {
    /// Late after 2 intervals + 2 s, stale after 3 intervals, by the published `interval_s`.
    Interval,
    /// The reference's fixed 30 s for displays.
    Display,
    /// The reference's fixed 120 s for the execution gate.
    Execution,
}

impl Thresholds {
    /// `(late, stale)` in seconds of age.
    fn limits_s(self, interval_s: f64) -> (f64, f64) {
        match self {
            Self::Interval => (2.0 * interval_s + 2.0, 3.0 * interval_s),
            Self::Display => (30.0, 30.0),
            Self::Execution => (120.0, 120.0),
        }
    }
}

/// The six words of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Fresh, and ingesting.
    Live,
    /// Alive, but the document is overdue or says that data is not flowing.
    Late,
    /// Paused on purpose, and alive.
    Paused,
    /// Too old, from the future, or not to be understood.
    Stale,
    /// No document.
    Missing,
    /// Ended cleanly.
    Stopped,
}

impl Standing {
    /// The word as documents and command lines print it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Late => "late",
            Self::Paused => "paused",
            Self::Stale => "stale",
            Self::Missing => "missing",
            Self::Stopped => "stopped",
        }
    }
}

/// What a consumer needs to know about a producer.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The word.
    pub standing: Standing,
    /// True for [`Standing::Live`] only.
    pub tradeable: bool,
    /// Age of the heartbeat in seconds; negative when it lies in the future; none without one.
    pub age_s: Option<f64>,
    /// One sentence for people.
    pub sentence: String,
}

/// Judges a heartbeat as of `now`.
///
/// `now` is the store's time of the read where the store has a clock (then the age is taken from
/// `updated_at`, free of skew between machines), else the reader's own clock.
#[must_use]
pub fn judge(observed: Observed<'_>, now: Timestamp, thresholds: Thresholds) -> Verdict {
    let beat = match observed {
        Observed::Missing => {
            return verdict(Standing::Missing, None, "there is no heartbeat".into());
        }
        Observed::Unparsable(why) => {
            let sentence = format!("the heartbeat cannot be understood: {why}");
            return verdict(Standing::Stale, None, sentence);
        }
        Observed::Document(beat) => beat,
    };
    let age_s = now.seconds_since(beat.updated_at.unwrap_or(beat.ts));
    let (standing, sentence) = judge_document(beat, age_s, thresholds);
    verdict(standing, Some(age_s), sentence)
}

fn judge_document(beat: &Heartbeat, age_s: f64, thresholds: Thresholds) -> (Standing, String) {
    let interval_s = beat.interval_s.filter(|s| s.is_finite() && *s > 0.0).unwrap_or(DEFAULT_INTERVAL_S);
    let (late_s, stale_s) = thresholds.limits_s(interval_s);

    if let Some(stopped_at) = beat.stopped_at {
        return (Standing::Stopped, format!("stopped cleanly at {stopped_at}"));
    }
    if age_s < -SKEW_LIMIT_S {
        let ahead = -age_s;
        return (Standing::Stale, format!("the heartbeat lies {ahead:.1} s in the future; a clock is wrong"));
    }
    if age_s > stale_s {
        let claim = match beat.status {
            Status::Running => "running",
            Status::Paused => "paused",
        };
        return (
            Standing::Stale,
            format!("last heard of {age_s:.1} s ago (limit {stale_s:.1} s), then {claim}"),
        );
    }
    if beat.status == Status::Paused {
        return (Standing::Paused, paused_sentence(beat));
    }
    if age_s > late_s {
        return (Standing::Late, format!("last heard of {age_s:.1} s ago, expected every {interval_s:.1} s"));
    }
    if !beat.ingest_enabled {
        return (Standing::Late, "a pause is under way".into());
    }
    for kind in ["Ingesting", "DataFresh"] {
        if let Some(c) = beat.condition(kind)
            && c.status == ConditionStatus::False
        {
            let detail = if c.message.is_empty() { &c.reason } else { &c.message };
            return (Standing::Late, format!("alive, but not {kind}: {detail}"));
        }
    }
    (Standing::Live, format!("live, heard of {age_s:.1} s ago"))
}

fn paused_sentence(beat: &Heartbeat) -> String {
    let source = beat.ingest_enabled_source.as_deref().unwrap_or("an unnamed source");
    let mut sentence = format!("paused by {source}");
    if let Some(hold) = beat.holds.iter().find(|h| h.source == source) {
        if let Some(actor) = &hold.actor {
            sentence.push_str(&format!(" ({actor})"));
        }
        if let Some(reason) = &hold.reason {
            sentence.push_str(&format!(": {reason}"));
        }
    }
    sentence
}

fn verdict(standing: Standing, age_s: Option<f64>, sentence: String) -> Verdict {
    Verdict { standing, tradeable: standing == Standing::Live, age_s, sentence }
}

#[cfg(test)]
mod tests;
