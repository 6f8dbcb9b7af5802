//! Pieces that several commands print: verdicts, holds, lists of symbols, and their JSON.

use ingest_status::{Heartbeat, HoldReport, Timestamp, Verdict};
use ingest_switch::Scope;
use serde_json::{Value, json};

use crate::effect::status_word;
use crate::paint::{self, Table, cell};
use crate::verify::Verified;

/// So many symbols are shown of a long list.
const SHOWN: usize = 8;

/// A verdict as JSON.
pub(crate) fn verdict(verdict: &Verdict) -> Value {
    json!({
        "word": verdict.standing.as_str(),
        "tradeable": verdict.tradeable,
        "age_s": verdict.age_s,
        "sentence": verdict.sentence,
    })
}

/// A verdict as the first line: its word, and its sentence.
pub(crate) fn verdict_line(verdict: &Verdict) -> String {
    let word = verdict.standing.as_str();
    let sentence = paint::line(&verdict.sentence);
    let painted = paint::styled(paint::of(verdict.standing), word);
    match sentence.strip_prefix(word) {
        Some(rest) => format!("{painted}{rest}\n"),
        None => format!("{painted}: {sentence}\n"),
    }
}

/// Several scopes in a sentence.
pub(crate) fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Holds that were released, as the beginning of a sentence.
pub(crate) fn released(holds: &[String]) -> String {
    match holds {
        [one] => format!("the hold {} is released", paint::line(one)),
        several => format!("the holds {} are released", paint::line(&several.join(", "))),
    }
}

/// The first of a list of symbols, and how many more there are.
pub(crate) fn some_of(symbols: &[String]) -> String {
    let shown = symbols.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(" ");
    match symbols.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A table of holds, each with who, why, since and until when.
pub(crate) fn holds<'a>(holds: impl IntoIterator<Item = &'a HoldReport>, now: Timestamp) -> Table {
    let mut table = Table::new(&["SOURCE", "SCOPE", "BY", "SINCE", "UNTIL", "REASON"]);
    for hold in holds {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        table.row([
            (paint::HELD, hold.source.clone()),
            cell(hold.scope.clone()),
            cell(or_dash(&hold.actor)),
            cell(paint::time(hold.since, now)),
            cell(hold.until.map_or_else(|| "-".to_owned(), |until| paint::time(until, now))),
            cell(or_dash(&hold.reason)),
        ]);
    }
    table
}

/// A table of jobs.
pub(crate) fn jobs(beat: &Heartbeat, now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "JOB",
        "STATUS",
        "PHASE",
        "SINCE",
        "SUBSCRIBED",
        "LAST EVENT",
        "MESSAGES",
        "HELD",
        "REASON",
    ]);
    for (name, job) in &beat.jobs {
        let style = match (job.status, job.connected) {
            (ingest_status::JobStatus::Failed, _) => paint::BAD,
            (_, true) => paint::GOOD,
            _ => paint::HELD,
        };
        let held = if job.paused_symbols.is_empty() { "-".to_owned() } else { some_of(&job.paused_symbols) };
        table.row([
            cell(name.clone()),
            (style, status_word(job.status).to_owned()),
            cell(job.phase.clone()),
            cell(format!("{} ago", paint::span(now.seconds_since(job.since)))),
            cell(job.subscribed.to_string()),
            cell(job.last_event_ts.map_or_else(|| "-".to_owned(), |at| paint::time(at, now))),
            cell(job.messages.to_string()),
            cell(held),
            cell(job.reason.clone().unwrap_or_else(|| "-".to_owned())),
        ]);
    }
    table
}

/// What became of each job, as JSON.
pub(crate) fn closing(verified: &Verified) -> Value {
    let jobs = verified.seen.beat().map(|beat| &beat.jobs);
    let told = jobs.into_iter().flatten().map(|(name, job)| {
        let after = verified.closed.get(name).map(std::time::Duration::as_secs_f64);
        let state = json!({
            "status": status_word(job.status),
            "phase": job.phase,
            "connected": job.connected,
            "closed_after_s": after,
            "paused_symbols": job.paused_symbols,
        });
        (name.clone(), state)
    });
    Value::Object(told.collect())
}
