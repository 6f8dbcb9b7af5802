//! `pause`: places holds, and waits until the producer shows that they are effective.

use std::time::Duration;

use ingest_status::{Heartbeat, Timestamp};
use ingest_switch::{Scope, Target};
use market_ingest::control::PauseRequest;
use serde_json::json;
use tokio::time::Instant;

use crate::answer::{Answer, Exit, Failure};
use crate::arguments::{Pause, actor};
use crate::effect::{Change, Mark, Verb, is_closed};
use crate::overlap::{Overlap, overlap};
use crate::remote::{Remote, Seen, Written};
use crate::verify::{self, Verified};
use crate::words::ScopeWord;
use crate::{paint, shape};

/// Runs it.
pub(crate) async fn run(remote: &Remote, pause: Pause) -> Result<Answer, Failure> {
    let now = jiff::Timestamp::now().into();
    let until = pause.end.at(now).map_err(Failure::refused)?;
    let before = remote.observe().await?;
    if let Some(beat) = before.beat() {
        refuse_what_is_no_job(&pause.scopes, beat)?;
    }
    let request = PauseRequest {
        scopes: scopes(&pause.scopes),
        reason: Some(pause.reason),
        actor: actor(pause.actor),
        until,
    };
    let written = remote.pause(&request, now).await?;
    let since = Instant::now();
    let change = Change {
        verb: Verb::Pause,
        generation: written.generation,
        holds: written.holds.clone(),
        scopes: request.scopes.clone(),
        before: before.beat().filter(|_| written.news).map(Mark::of),
        closed_before: Vec::new(),
    };
    let outcome = if !before.is_alive() {
        Outcome::NobodyThere(before)
    } else if pause.wait.is_zero() {
        Outcome::NotWaitedFor(before)
    } else {
        Outcome::of(verify::wait(remote, &change, before, since, pause.wait).await)
    };
    Ok(answer(&request, &written, &change, &outcome))
}

/// The scopes that were named; all when none was.
pub(crate) fn scopes(words: &[ScopeWord]) -> Vec<Scope> {
    if words.is_empty() {
        return vec![Scope::ALL];
    }
    let mut scopes: Vec<Scope> = Vec::new();
    for word in words {
        if !scopes.contains(&word.scope) {
            scopes.push(word.scope.clone());
        }
    }
    scopes
}

/// A hold on a job that is not there, or on a symbol that is really a job's name, would quietly hold nothing.
fn refuse_what_is_no_job(words: &[ScopeWord], beat: &Heartbeat) -> Result<(), Failure> {
    let known = || beat.jobs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    let is_job = |name: &str| beat.jobs.keys().any(|job| job.eq_ignore_ascii_case(name));
    for word in words {
        match (word.scope.target(), &word.bare) {
            (Target::Job(name), _) if !beat.jobs.is_empty() && !is_job(name) => {
                return Err(Failure::refused(format!(
                    "the producer has no job {name:?}, so nothing was written; its jobs: {}",
                    known()
                )));
            }
            (Target::Symbol(name), Some(bare)) if is_job(name) => {
                let channel = word.scope.channel().map(|channel| format!("/{channel}")).unwrap_or_default();
                let job = name.to_ascii_lowercase();
                return Err(Failure::refused(format!(
                    "{bare:?} is the name of a job, so nothing was written; write job:{job}{channel} for that \
                     connection, or symbol:{name}{channel} for a symbol of this name"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What became of the hold.
enum Outcome {
    NobodyThere(Seen),
    NotWaitedFor(Seen),
    Effective(Verified),
    NotInTime(Verified),
    LeftMeanwhile(Verified),
}

impl Outcome {
    fn of(verified: Verified) -> Self {
        if verified.missing.is_empty() {
            Self::Effective(verified)
        } else if verified.left() {
            Self::LeftMeanwhile(verified)
        } else {
            Self::NotInTime(verified)
        }
    }

    fn seen(&self) -> &Seen {
        match self {
            Self::NobodyThere(seen) | Self::NotWaitedFor(seen) => seen,
            Self::Effective(verified) | Self::NotInTime(verified) | Self::LeftMeanwhile(verified) => {
                &verified.seen
            }
        }
    }

    fn verified(&self) -> Option<&Verified> {
        match self {
            Self::NobodyThere(_) | Self::NotWaitedFor(_) => None,
            Self::Effective(verified) | Self::NotInTime(verified) | Self::LeftMeanwhile(verified) => {
                Some(verified)
            }
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Effective(_) => Exit::Effective,
            Self::NotWaitedFor(_) | Self::NotInTime(_) => Exit::NotEffective,
            Self::NobodyThere(_) | Self::LeftMeanwhile(_) => Exit::NoProducer,
        }
    }
}

fn answer(request: &PauseRequest, written: &Written, change: &Change, outcome: &Outcome) -> Answer {
    let scopes = shape::words(&request.scopes);
    let what = match written.holds.as_slice() {
        [one] => format!("the hold {one} on {scopes}"),
        several => format!("the holds {} on {scopes}", several.join(", ")),
    };
    let stands = if written.news { "stands" } else { "stood already" };
    let verdict = outcome.seen().verdict();
    let mut text = match outcome {
        Outcome::Effective(verified) => {
            let took = verified.elapsed.as_secs_f64();
            format!(
                "{}: {what} {stands} and is effective, seen after {took:.2} s\n",
                paint::styled(paint::HELD, "paused")
            )
        }
        Outcome::NotInTime(verified) => {
            let waited = paint::span(verified.elapsed.as_secs_f64());
            let head = paint::styled(paint::BAD, "not effective");
            format!("{head}: {what} {stands}, but after {waited} the producer does not show its effect\n")
        }
        Outcome::NotWaitedFor(_) => {
            format!(
                "{}: {what} {stands}; it was not waited for\n",
                paint::styled(paint::HELD, "accepted, not verified")
            )
        }
        Outcome::NobodyThere(_) | Outcome::LeftMeanwhile(_) => {
            let head = paint::styled(paint::BAD, "no live producer");
            let sentence = paint::line(&verdict.sentence);
            format!("{head}: {sentence}\n{what} {stands} all the same: a producer that starts now obeys it\n")
        }
    };
    if let Some(until) = request.until {
        text.push_str(&format!("it ends by itself at {until}\n"));
    }
    if let Outcome::NotInTime(verified) = outcome {
        for missing in &verified.missing {
            text.push_str(&format!("  waiting for {}\n", paint::line(missing)));
        }
        text.push_str("look again with: ingestctl status\n");
    }
    let notices = if let Outcome::Effective(verified) = outcome {
        notices(&request.scopes, verified.seen.beat())
    } else {
        Vec::new()
    };
    if let Outcome::Effective(verified) | Outcome::NotInTime(verified) = outcome {
        jobs(&mut text, change, verified);
    }
    for notice in &notices {
        text.push_str(&format!("note: {}\n", paint::line(notice)));
    }
    let verified = outcome.verified();
    let json = json!({
        "scopes": request.scopes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "holds": written.holds,
        "generation": written.generation,
        "changed": written.news,
        "until": request.until.map(|until: Timestamp| until.to_string()),
        "effective": outcome.exit() == Exit::Effective,
        "waited_s": verified.map(|verified| verified.elapsed.as_secs_f64()),
        "waiting_for": verified.map(|verified| verified.missing.clone()).unwrap_or_default(),
        "jobs": verified.map(shape::closing),
        "notices": notices,
        "verdict": shape::verdict(&verdict),
    });
    Answer { exit: outcome.exit(), text, json }
}

/// What became of every job.
fn jobs(text: &mut String, change: &Change, verified: &Verified) {
    for (name, job) in verified.seen.beat().into_iter().flat_map(|beat| &beat.jobs) {
        let told = match verified.closed.get(name) {
            Some(&Duration::ZERO) => "closed, as it was before".to_owned(),
            Some(after) if is_closed(job) => format!("closed, seen after {:.2} s", after.as_secs_f64()),
            _ if job.paused_symbols.is_empty() && !change.closes(name) => {
                format!("goes on ({})", crate::effect::phase(job))
            }
            _ if !change.closes(name) => {
                let held = shape::some_of(&job.paused_symbols);
                format!("goes on ({}) without {held}", crate::effect::phase(job))
            }
            _ => format!("not closed ({})", crate::effect::phase(job)),
        };
        text.push_str(&format!("  job {}: {}\n", paint::line(name), paint::line(&told)));
    }
}

/// Holds that hold nothing now.
fn notices(scopes: &[Scope], beat: Option<&Heartbeat>) -> Vec<String> {
    let Some(beat) = beat else { return Vec::new() };
    let held = || beat.jobs.values().flat_map(|job| &job.paused_symbols);
    // A job at rest names no symbols, and a long list is cut.
    if beat.jobs.values().any(is_closed) || held().any(|symbol| symbol.starts_with("and ")) {
        return Vec::new();
    }
    let mut notices = Vec::new();
    for scope in scopes.iter().filter(|scope| matches!(scope.target(), Target::Symbol(_))) {
        // A symbol is named alone, or with the one channel that is held.
        let shown = |symbol: &String| {
            format!("symbol:{symbol}").parse().is_ok_and(|own: Scope| overlap(&own, scope) != Overlap::None)
        };
        if !held().any(shown) {
            notices.push(format!(
                "no job shows a symbol that {scope} covers, so unless a job takes every symbol (*) nothing is held by \
                 it now; it stands for when one does"
            ));
        }
    }
    notices
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::words;

    fn beat(jobs: serde_json::Value) -> Heartbeat {
        serde_json::from_value(json!({
            "status": "running", "ts": "2026-01-01T00:00:10Z", "ingest_enabled": true, "ingest_enabled_source": null,
            "last_symbol": null, "jobs": jobs,
        }))
        .unwrap()
    }

    fn job(paused_symbols: &[&str]) -> serde_json::Value {
        json!({
            "status": "running", "since": "2026-01-01T00:00:00Z", "phase": "live", "connected": true, "subscribed": 3,
            "messages": 0, "paused_symbols": paused_symbols,
        })
    }

    #[test]
    fn a_job_that_is_not_there_is_refused_where_the_jobs_are_known() {
        let known = beat(json!({ "iex": job(&[]), "crypto-us": job(&[]) }));
        let check =
            |word: &str, beat: &Heartbeat| refuse_what_is_no_job(&[words::scope(word).unwrap()], beat);
        for word in ["all", "job:iex", "job:IEX/quotes", "AAPL", "symbol:iex", "crypto*"] {
            assert_eq!(check(word, &known), Ok(()), "{word}");
        }
        let refused = check("job:sip", &known).unwrap_err();
        assert_eq!(refused.exit, Exit::Refused);
        assert!(refused.sentence.contains("its jobs: crypto-us, iex"), "{}", refused.sentence);
        let refused = check("iex/quotes", &known).unwrap_err();
        assert!(
            refused.sentence.contains("write job:iex/quotes for that connection"),
            "{}",
            refused.sentence
        );
        assert_eq!(check("job:sip", &beat(json!({}))), Ok(()));
    }

    #[test]
    fn a_hold_that_holds_nothing_now_is_noticed() {
        let scope = |text: &str| vec![text.parse::<Scope>().unwrap()];
        let beat = beat(json!({ "iex": job(&["AAPL"]) }));
        assert_eq!(notices(&scope("symbol:A*"), Some(&beat)), Vec::<String>::new());
        assert_eq!(notices(&scope("symbol:AAPL/quotes"), Some(&beat)), Vec::<String>::new());
        let part = self::beat(json!({ "iex": job(&["AAPL/quotes"]) }));
        assert_eq!(notices(&scope("symbol:AAPL/quotes"), Some(&part)), Vec::<String>::new());
        assert_eq!(notices(&scope("symbol:AAPL/trades"), Some(&part)).len(), 1);
        let long = self::beat(json!({ "iex": job(&["AAPL", "and 12 more"]) }));
        assert_eq!(notices(&scope("symbol:TSLA"), Some(&long)), Vec::<String>::new());
        assert_eq!(notices(&scope("all"), Some(&beat)), Vec::<String>::new());
        assert_eq!(notices(&scope("symbol:TSLA"), Some(&beat)).len(), 1);
    }

    #[test]
    fn no_word_is_all_and_no_scope_is_asked_twice() {
        assert_eq!(scopes(&[]), [Scope::ALL]);
        let words: Vec<ScopeWord> = ["aapl", "AAPL", "job:iex"].map(|w| words::scope(w).unwrap()).into();
        assert_eq!(scopes(&words).len(), 2);
    }
}
